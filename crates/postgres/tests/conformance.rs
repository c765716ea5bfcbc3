//! The suite of every backend, on a database of its own each time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::sync::Arc;

use edgeward_core::record::Standing;
use edgeward_postgres::PostgresStore;
use edgeward_store::StoreError;
use edgeward_store::conformance::{self, Seeds};
use edgeward_store::durable::{
    Agents as _, Enrollments as _, KeyPurpose, KeyRows as _, KeyStatus, Redeemed, Sealed,
    SecretStatus, SigningKeyRow,
};
use support::Database;

async fn fresh() -> (Arc<PostgresStore>, Database) {
    let database = Database::fresh().await;
    (database.open("node-1").await, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn agents_and_enrollments() {
    conformance::agents_and_enrollments(fresh().await.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys() {
    conformance::keys(fresh().await.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn standings() {
    conformance::standings(fresh().await.0).await;
}

#[tokio::test]
async fn events() {
    conformance::events(&*fresh().await.0).await;
}

#[tokio::test]
async fn continuity() {
    conformance::continuity(&*fresh().await.0).await;
    conformance::continuity_shared_first(&*fresh().await.0).await;
}

async fn enroll(store: &PostgresStore, code: u64, again: bool, version: u32) -> Redeemed {
    let mut row = Seeds::enrollment(code, "owner");
    let agent = Seeds::agent(1, version);
    row.agent = again.then_some(agent.id);
    store.start_enrollment(row, Seeds::started(code)).await.unwrap();
    let event = Seeds::completed(code);
    store.redeem_code(&Seeds::code(code), agent, Some(1), event, Seeds::now()).await.unwrap()
}

#[tokio::test]
async fn an_agent_that_was_blocked_is_so_after_it_is_enrolled_anew() {
    let (store, database) = fresh().await;
    let id = Seeds::agent(1, 1).id;
    assert_eq!(enroll(&store, 1, false, 1).await, Redeemed::Done { epoch: 1 });
    database.sql(
        "UPDATE cogo.agent_devices SET status = 'blocked', legacy = true,
             rate = '{\"per_sec\":3,\"burst\":4}';
         UPDATE cogo.agent_tokens SET status = 'compromised'",
    );
    assert_eq!(enroll(&store, 2, true, 2).await, Redeemed::Done { epoch: 2 });
    let agent = store.agent(id).await.unwrap().unwrap();
    assert_eq!((agent.standing, agent.legacy), (Standing::Blocked, false));
    assert_eq!(agent.rate.map(|rate| (rate.per_sec, rate.burst)), Some((3, 4)));
    let statuses: Vec<_> = agent.secrets.iter().map(|secret| secret.status).collect();
    assert_eq!(statuses, [SecretStatus::Active, SecretStatus::Compromised]);
}

#[tokio::test]
async fn a_retired_agent_takes_no_place_among_its_owners() {
    let (store, database) = fresh().await;
    assert_eq!(enroll(&store, 1, false, 1).await, Redeemed::Done { epoch: 1 });
    database.sql("UPDATE cogo.agent_devices SET status = 'retired'");
    let row = Seeds::enrollment(2, "owner");
    assert_eq!(store.count_agents(&row.owner).await, Ok(0));
    store.start_enrollment(row, Seeds::started(2)).await.unwrap();
    let (agent, event) = (Seeds::agent(2, 1), Seeds::completed(2));
    let answer = store.redeem_code(&Seeds::code(2), agent, Some(1), event, Seeds::now()).await;
    assert_eq!(answer, Ok(Redeemed::Done { epoch: 1 }));
}

#[tokio::test]
async fn every_event_names_its_node() {
    let (store, database) = fresh().await;
    enroll(&store, 1, false, 1).await;
    assert_eq!(database.sql("SELECT node FROM cogo.bus_events"), "node-1\nnode-1");
}

#[tokio::test]
async fn an_owners_own_text_comes_back_whatever_is_in_it() {
    let (store, _database) = fresh().await;
    let mut row = Seeds::enrollment(1, "owner");
    let odd = serde_json::json!({"\0": ["\u{1a}0", "a\0b"], "big": 1e300, "small": -0.25});
    row.grant.metadata = odd.as_object().unwrap().clone();
    row.grant.allowed_cidrs = ["10.1.2.3/8", "10.1.2.3/32", "2001:db8::1/64", "::/0"]
        .map(|net| net.parse().unwrap())
        .into();
    let expected = row.grant.clone();
    store.start_enrollment(row, Seeds::started(1)).await.unwrap();
    let (agent, event) = (Seeds::agent(1, 1), Seeds::completed(1));
    let id = agent.id;
    store.redeem_code(&Seeds::code(1), agent, None, event, Seeds::now()).await.unwrap();
    let agent = store.agent(id).await.unwrap().unwrap();
    assert_eq!(agent.metadata, expected.metadata);
    assert_eq!(agent.allowed_cidrs, expected.allowed_cidrs);
}

#[tokio::test]
async fn without_its_event_nothing_stands() {
    let (store, database) = fresh().await;
    store.start_enrollment(Seeds::enrollment(1, "owner"), Seeds::started(1)).await.unwrap();
    database.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'no event today'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON cogo.bus_events EXECUTE FUNCTION refuse()",
    );
    let (code, agent, now) = (Seeds::code(1), Seeds::agent(1, 1), Seeds::now());
    let redeem = || store.redeem_code(&code, agent.clone(), None, Seeds::completed(1), now);
    let refused = redeem().await;
    assert!(
        matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("no event today"))
    );
    assert_eq!(store.agent(agent.id).await, Ok(None));
    assert_eq!(store.next_secret_version(agent.id).await, Ok(1));
    assert!(store.live_enrollment(&code, now).await.unwrap().is_some());

    let another = Seeds::enrollment(2, "owner");
    assert!(store.start_enrollment(another, Seeds::started(2)).await.is_err());
    assert!(store.live_enrollment(&Seeds::code(2), now).await.unwrap().is_none());

    let key = SigningKeyRow {
        kid: "kid".into(),
        purpose: KeyPurpose::Agent,
        alg: "EdDSA".into(),
        status: KeyStatus::Active,
        sealed: Sealed(vec![1]),
        public_jwk: serde_json::json!({}),
        created_at: now,
    };
    assert!(store.keep_first_signing_key(key, &[Seeds::started(3)]).await.is_err());
    assert_eq!(store.signing_keys(KeyPurpose::Agent).await, Ok(Vec::new()));
    assert_eq!(database.sql("SELECT count(*) FROM cogo.changes"), "0");

    database.sql("DROP TRIGGER refuse ON cogo.bus_events");
    assert_eq!(redeem().await, Ok(Redeemed::Done { epoch: 1 }));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_corrupt_and_names_its_column() {
    let (store, database) = fresh().await;
    enroll(&store, 1, false, 1).await;
    let id = Seeds::agent(1, 1).id;
    for (damage, column) in [
        ("scopes = '{\"a b\"}'", "scopes"),
        ("metadata = '[]'", "metadata"),
        ("public_key = '{}'", "public_key"),
        ("created_at = 'infinity'", "created_at"),
        ("user_id = 'a b'", "user_id"),
    ] {
        database.sql(&format!(
            "CREATE TABLE kept AS SELECT * FROM cogo.agent_devices;
             UPDATE cogo.agent_devices SET {damage}"
        ));
        let answer = store.agent(id).await;
        assert!(
            matches!(&answer, Err(StoreError::Corrupt(why)) if why.contains(column)),
            "{damage}: {answer:?}"
        );
        database.sql(
            "UPDATE cogo.agent_devices AS d SET scopes = k.scopes, metadata = k.metadata,
                 public_key = k.public_key, created_at = k.created_at, user_id = k.user_id
             FROM kept AS k;
             DROP TABLE kept",
        );
    }
    assert!(store.agent(id).await.unwrap().is_some());
}
