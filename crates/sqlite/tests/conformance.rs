//! The suite of every backend, on a file of its own each time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::sync::Arc;

use edgeward_core::record::Standing;
use edgeward_sqlite::SqliteStore;
use edgeward_store::StoreError;
use edgeward_store::conformance::{self, Seeds};
use edgeward_store::durable::{
    Agents, Enrollments, KeyPurpose, KeyRows, KeyStatus, Redeemed, Sealed, SecretStatus,
    SigningKeyRow,
};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

async fn fresh() -> (Arc<SqliteStore>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("edge.db"), "node-1").await.unwrap();
    (Arc::new(store), folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn agents_and_enrollments() {
    let (store, _folder) = fresh().await;
    conformance::agents_and_enrollments(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys() {
    let (store, _folder) = fresh().await;
    conformance::keys(store).await;
}

#[tokio::test]
async fn events() {
    let (store, _folder) = fresh().await;
    conformance::events(&*store).await;
}

#[tokio::test]
async fn continuity() {
    let (store, _folder) = fresh().await;
    conformance::continuity(&*store).await;
}

#[tokio::test]
async fn continuity_shared_first() {
    let (store, _folder) = fresh().await;
    conformance::continuity_shared_first(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn standings() {
    let (store, _folder) = fresh().await;
    conformance::standings(store).await;
}

/// Another connection to the file, for what no trait can do yet.
async fn run(folder: &TempDir, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(folder.path().join("edge.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

async fn enroll(store: &SqliteStore, code: u64, again: bool, version: u32) -> Redeemed {
    let mut row = Seeds::enrollment(code, "owner");
    let agent = Seeds::agent(1, version);
    row.agent = again.then_some(agent.id);
    store.start_enrollment(row, Seeds::started(code)).await.unwrap();
    let event = Seeds::completed(code);
    store.redeem_code(&Seeds::code(code), agent, Some(1), event, Seeds::now()).await.unwrap()
}

#[tokio::test]
async fn an_agent_that_was_blocked_is_so_after_it_is_enrolled_anew() {
    let (store, folder) = fresh().await;
    let id = Seeds::agent(1, 1).id;
    assert_eq!(enroll(&store, 1, false, 1).await, Redeemed::Done { epoch: 1 });
    let changes = "UPDATE agent_devices SET status = 'blocked', legacy = 1,
                       rate = '{\"per_sec\":3,\"burst\":4}';
                   UPDATE agent_tokens SET status = 'compromised'";
    run(&folder, changes).await;
    assert_eq!(enroll(&store, 2, true, 2).await, Redeemed::Done { epoch: 2 });
    let agent = store.agent(id).await.unwrap().unwrap();
    assert_eq!((agent.standing, agent.legacy), (Standing::Blocked, false));
    assert_eq!(agent.rate.map(|rate| (rate.per_sec, rate.burst)), Some((3, 4)));
    let statuses: Vec<_> = agent.secrets.iter().map(|secret| secret.status).collect();
    assert_eq!(statuses, [SecretStatus::Active, SecretStatus::Compromised]);
}

#[tokio::test]
async fn a_retired_agent_takes_no_place_among_its_owners() {
    let (store, folder) = fresh().await;
    assert_eq!(enroll(&store, 1, false, 1).await, Redeemed::Done { epoch: 1 });
    run(&folder, "UPDATE agent_devices SET status = 'retired'").await;
    let row = Seeds::enrollment(2, "owner");
    assert_eq!(store.count_agents(&row.owner).await, Ok(0));
    store.start_enrollment(row, Seeds::started(2)).await.unwrap();
    let (agent, event) = (Seeds::agent(2, 1), Seeds::completed(2));
    let answer = store.redeem_code(&Seeds::code(2), agent, Some(1), event, Seeds::now()).await;
    assert_eq!(answer, Ok(Redeemed::Done { epoch: 1 }));
}

#[tokio::test]
async fn every_event_names_its_node() {
    let (store, folder) = fresh().await;
    enroll(&store, 1, false, 1).await;
    let options = SqliteConnectOptions::new().filename(folder.path().join("edge.db"));
    let mut connection = options.connect().await.unwrap();
    let nodes: Vec<String> =
        sqlx::query_scalar("SELECT node FROM bus_events").fetch_all(&mut connection).await.unwrap();
    assert_eq!(nodes, ["node-1", "node-1"]);
}

#[tokio::test]
async fn without_its_event_nothing_stands() {
    let (store, folder) = fresh().await;
    store.start_enrollment(Seeds::enrollment(1, "owner"), Seeds::started(1)).await.unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON bus_events
                  BEGIN SELECT RAISE(ABORT, 'no event today'); END";
    run(&folder, refuse).await;
    let (code, agent, now) = (Seeds::code(1), Seeds::agent(1, 1), Seeds::now());
    let redeem = || store.redeem_code(&code, agent.clone(), None, Seeds::completed(1), now);
    assert!(matches!(redeem().await, Err(StoreError::Unavailable(_))));
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

    run(&folder, "DROP TRIGGER refuse").await;
    assert_eq!(redeem().await, Ok(Redeemed::Done { epoch: 1 }));
}
