//! Several nodes over one database.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use edgeward_core::record::Standing;
use edgeward_core::time::WallMs;
use edgeward_postgres::{Listen, PostgresOptions, PostgresStore};
use edgeward_store::StoreError;
use edgeward_store::conformance::Seeds;
use edgeward_store::durable::{
    Agents as _, Continuity as _, Enrollments as _, KeyPurpose, KeyRows as _, KeyStatus, LastRun,
    Redeemed, Sealed, SecretStatus, SigningKeyRow, Standings as _,
};
use edgeward_store::fleet::{ChangeId, Changed, Changes as _, Followed, Joined, Nodes as _};
use support::{Database, changes, node_row, open, options, until};

const DEADLINE: Duration = Duration::from_secs(60);

async fn enroll(store: &PostgresStore, code: u64, again: bool, version: u32) {
    let mut row = Seeds::enrollment(code, "owner");
    let number = if again { code - 1 } else { code };
    let agent = Seeds::agent(number, version);
    row.agent = again.then_some(agent.id);
    store.start_enrollment(row, Seeds::started(code)).await.unwrap();
    let told = Seeds::completed(code);
    let answer = store.redeem_code(&Seeds::code(code), agent, None, told, Seeds::now()).await;
    assert!(matches!(answer, Ok(Redeemed::Done { .. })), "{answer:?}");
}

#[tokio::test]
async fn each_change_is_noted_once_and_what_changes_nothing_is_not() {
    let database = Database::fresh().await;
    let store = database.open("node-1").await;
    assert_eq!(store.newest_change().await, Ok(ChangeId(0)));
    assert_eq!(changes(&store, ChangeId(0), 10).await, []);
    let id = Seeds::agent(1, 1).id;
    enroll(&store, 1, false, 1).await;
    enroll(&store, 2, true, 2).await;
    for standing in [Standing::Active, Standing::Blocked, Standing::Blocked] {
        store.set_standing(id, standing, Seeds::started(1)).await.unwrap();
    }
    let (code, other, told) = (Seeds::code(1), Seeds::agent(9, 1), Seeds::completed(1));
    let gone = store.redeem_code(&code, other, None, told, Seeds::now()).await;
    assert_eq!(gone, Ok(Redeemed::Gone));
    for kid in ["one", "two"] {
        let key = SigningKeyRow {
            kid: kid.into(),
            purpose: KeyPurpose::Agent,
            alg: "EdDSA".into(),
            status: KeyStatus::Active,
            sealed: Sealed(vec![1]),
            public_jwk: serde_json::json!({}),
            created_at: Seeds::now(),
        };
        store.keep_first_signing_key(key, &[]).await.unwrap();
    }
    let noted = changes(&store, ChangeId(0), 10).await;
    let what: Vec<_> = noted.iter().map(|(_, changed)| *changed).collect();
    // A new agent is nothing that anybody could have read before.
    assert_eq!(what, [Changed::Agent(id), Changed::Agent(id), Changed::Keys]);
    let newest = store.newest_change().await.unwrap();
    assert_eq!(noted[2].0, newest);
    assert_eq!(changes(&store, noted[0].0, 1).await, noted[1..2]);
    assert_eq!(changes(&store, newest, 10).await, []);
}

/// While one transaction holds a place in the log, no other gets a later one that would be seen before
/// it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_later_place_is_never_seen_before_an_earlier_one() {
    let database = Database::fresh().await;
    let (first, second) = (database.open("node-1").await, database.open("node-2").await);
    for number in 1..=2 {
        enroll(&first, number, false, 1).await;
    }
    let [slow, quick] = [1, 2].map(|number| Seeds::agent(number, 1).id);
    database.sql(&format!(
        "CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
         CREATE TRIGGER stand_still AFTER INSERT ON cogo.changes FOR EACH ROW
             WHEN (new.agent_id = '{slow}') EXECUTE FUNCTION stand_still()"
    ));
    let mut gate = database.connect().await;
    sqlx::query("SELECT pg_advisory_lock(42)").execute(&mut gate).await.unwrap();
    let waiting = || {
        database.sql(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
    };
    let block = |store: &Arc<PostgresStore>, id| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            store.set_standing(id, Standing::Blocked, Seeds::started(1)).await.unwrap()
        })
    };
    let early = block(&first, slow);
    until(|| waiting() == "1").await;
    let late = block(&second, quick);
    until(|| waiting() == "2" || late.is_finished()).await;
    assert!(!late.is_finished(), "it went past one that is under way");
    sqlx::query("SELECT pg_advisory_unlock(42)").execute(&mut gate).await.unwrap();
    early.await.unwrap();
    late.await.unwrap();
    let noted = changes(&first, ChangeId(0), 10).await;
    let what: Vec<_> = noted.iter().map(|(_, changed)| *changed).collect();
    assert_eq!(what, [Changed::Agent(slow), Changed::Agent(quick)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_asks_again_and_again_misses_none() {
    let database = Database::fresh().await;
    let mut writers = Vec::new();
    for writer in 0..6_u64 {
        let store = database.open(&format!("node-{writer}")).await;
        writers.push(tokio::spawn(async move {
            for number in (1..=25).map(|number| writer * 1000 + number) {
                enroll(&store, number, false, 1).await;
                let id = Seeds::agent(number, 1).id;
                store.set_standing(id, Standing::Blocked, Seeds::started(1)).await.unwrap();
            }
        }));
    }
    let reader = database.open("reader").await;
    let (mut place, mut seen) = (ChangeId(0), Vec::new());
    loop {
        let over = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let more = changes(&reader, place, 7).await;
        if over && more.is_empty() {
            break;
        }
        for (id, changed) in more {
            assert!(id > place, "{id:?} after {place:?}");
            place = id;
            seen.push(changed);
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen.len(), 6 * 25);
    for number in (0..6).flat_map(|writer| (1..=25).map(move |number| writer * 1000 + number)) {
        let agent = Changed::Agent(Seeds::agent(number, 1).id);
        assert_eq!(seen.iter().filter(|changed| **changed == agent).count(), 1, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_agent_is_read_with_the_secrets_of_its_epoch() {
    let database = Database::fresh().await;
    let writer = database.open("node-1").await;
    let reader = database.open("node-2").await;
    let id = Seeds::agent(1, 1).id;
    let writing = tokio::spawn(async move {
        for version in 1..=80 {
            let code = u64::from(version);
            let mut row = Seeds::enrollment(code, "owner");
            row.agent = (version > 1).then_some(id);
            writer.start_enrollment(row, Seeds::started(1)).await.unwrap();
            let (code, agent) = (Seeds::code(code), Seeds::agent(1, version));
            writer
                .redeem_code(&code, agent, None, Seeds::completed(1), Seeds::now())
                .await
                .unwrap();
        }
    });
    while !writing.is_finished() {
        if let Some(agent) = reader.agent(id).await.unwrap() {
            let active = agent.secrets.iter().filter(|s| s.status == SecretStatus::Active);
            let active: Vec<_> = active.map(|secret| u64::from(secret.version)).collect();
            assert_eq!(active, [agent.epoch]);
        }
    }
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_stirs_the_others() {
    let database = Database::fresh().await;
    let writer = database.open("node-1").await;
    let listen = PostgresOptions { listen: Listen::Database, ..options(&database.edge, "node-2") };
    let hears = open(listen).await;
    tokio::time::timeout(DEADLINE, hears.stirred()).await.unwrap();
    for number in 1..=10 {
        enroll(&writer, number, false, 1).await;
    }
    let block = async |number| {
        let id = Seeds::agent(number, 1).id;
        writer.set_standing(id, Standing::Blocked, Seeds::started(1)).await.unwrap();
    };
    for number in 1..10 {
        block(number).await;
        tokio::time::timeout(DEADLINE, hears.stirred()).await.unwrap();
        assert_eq!(hears.newest_change().await, Ok(ChangeId(number)));
    }
    // Its connection is cut: it says so once it hears again.
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    until(|| database.sql(cut) == "1").await;
    tokio::time::timeout(DEADLINE, hears.stirred()).await.unwrap();
    block(10).await;
    tokio::time::timeout(DEADLINE, hears.stirred()).await.unwrap();
    assert_eq!(hears.newest_change().await, Ok(ChangeId(10)));
}

#[tokio::test]
async fn old_changes_are_pruned_and_whoever_was_away_is_told() {
    let database = Database::fresh().await;
    let me = node_row("node-1");
    let store = database.open_as(me.clone()).await;
    for _ in 1..=6 {
        database.sql("INSERT INTO cogo.changes (kind) VALUES ('policy')");
    }
    database.sql("UPDATE cogo.changes SET changed_at = now() - interval '25 hours' WHERE id <= 4");
    assert!(matches!(store.join(&me).await, Ok(Joined::Yes { .. })));
    store.beat().await.unwrap();
    assert_eq!(database.sql("SELECT min(id), max(id) FROM cogo.changes"), "4|6");
    assert_eq!(changes(&store, ChangeId(4), 9).await.len(), 2);
    for away in [0, 3] {
        let answer = store.changes_after(ChangeId(away), 9).await;
        assert_eq!(answer, Ok(Followed::Gap { newest: ChangeId(6) }), "{away}");
    }
}

/// As after a restore, or a failover to a server that had not got everything.
#[tokio::test]
async fn a_log_that_has_lost_what_was_read_of_it_is_a_gap() {
    let database = Database::fresh().await;
    let reader = database.open("node-1").await;
    let change = || drop(database.sql("INSERT INTO cogo.changes (kind) VALUES ('policy')"));
    for _ in 0..3 {
        change();
    }
    let lose = |least: u64| {
        let lose = "DELETE FROM cogo.changes WHERE id >=";
        let again = "ALTER TABLE cogo.changes ALTER COLUMN id RESTART WITH";
        database.sql(&format!("{lose} {least}; {again} {least}"));
    };
    let gap = |newest| Ok(Followed::Gap { newest: ChangeId(newest) });
    assert_eq!(reader.newest_change().await, Ok(ChangeId(3)));
    // Its end is lost, and nothing has come in its place.
    lose(3);
    assert_eq!(reader.changes_after(ChangeId(3), 9).await, gap(2));
    assert_eq!(changes(&reader, ChangeId(2), 9).await, []);
    // Another change has got the place up to which it was read.
    lose(2);
    change();
    assert_eq!(reader.changes_after(ChangeId(2), 9).await, gap(2));
    change();
    assert_eq!(changes(&reader, ChangeId(2), 9).await.len(), 1);
    // And is not the last one by the time it is asked.
    lose(3);
    for _ in 0..4 {
        change();
    }
    assert_eq!(reader.changes_after(ChangeId(3), 9).await, gap(6));
    assert_eq!(changes(&reader, ChangeId(6), 9).await, []);
    // Everything is lost.
    lose(1);
    assert_eq!(reader.changes_after(ChangeId(6), 9).await, gap(0));
    assert_eq!(changes(&reader, ChangeId(0), 9).await, []);
}

#[tokio::test]
async fn a_run_that_was_taken_over_writes_no_more() {
    let database = Database::fresh().await;
    let (old, new) = (database.open("a").await, database.open("b").await);
    let taken = StoreError::Unavailable("another process has taken over".into());
    old.begin_run().await.unwrap();
    old.write_mark(WallMs(1_000)).await.unwrap();
    assert_eq!(new.begin_run().await, Ok(LastRun::Unclean { mark: WallMs(1_000) }));
    assert_eq!(old.write_mark(WallMs(9_000)).await, Err(taken.clone()));
    assert_eq!(old.end_run(Sealed(vec![1])).await, Err(taken.clone()));
    new.write_mark(WallMs(2_000)).await.unwrap();
    assert_eq!(old.share_run().await, Ok(LastRun::Unclean { mark: WallMs(2_000) }));
    assert_eq!(new.write_mark(WallMs(9_000)).await, Err(taken));
    assert_eq!(new.share_run().await, Ok(LastRun::Shared));
    // Not begun, nothing to write.
    let third = database.open("c").await;
    assert!(third.write_mark(WallMs(1)).await.is_err());
}
