//! What must come through however much else there is to do.
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
use edgeward_postgres::PostgresOptions;
use edgeward_store::conformance::Seeds;
use edgeward_store::durable::{Continuity as _, Enrollments as _, Events as _, Standings as _};
use edgeward_store::fleet::{ChangeId, Changed, Joined, Nodes as _};
use sqlx::Connection as _;
use support::{Database, changes, node_row, open, options, until};

/// More calls than connections, all of which wait for a lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_block_a_beat_and_a_mark_do_not_wait_behind_a_flood() {
    let database = Database::fresh().await;
    let me = node_row("node-1");
    let store = open(PostgresOptions {
        node: me.clone(),
        pool_size: 2,
        budget: Duration::from_secs(30),
        ..options(&database.edge, "")
    })
    .await;
    assert!(matches!(store.join(&me).await, Ok(Joined::Yes { .. })));
    store.begin_run().await.unwrap();
    let (agent, told) = (Seeds::agent(1, 1), Seeds::completed(1));
    let id = agent.id;
    store.start_enrollment(Seeds::enrollment(1, "owner"), Seeds::started(1)).await.unwrap();
    store.redeem_code(&Seeds::code(1), agent, None, told, Seeds::now()).await.unwrap();

    let mut other = database.connect().await;
    let mut held = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE cogo.enrollments").execute(&mut *held).await.unwrap();
    let flood: Vec<_> = (2..12)
        .map(|code| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let row = Seeds::enrollment(code, "owner");
                store.start_enrollment(row, Seeds::started(code)).await
            })
        })
        .collect();
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until(|| database.sql(waiting) == "2").await;

    store.beat().await.unwrap();
    store.write_mark(WallMs(1)).await.unwrap();
    store.set_standing(id, Standing::Blocked, Seeds::started(1)).await.unwrap();
    let noted = changes(&store, ChangeId(0), 10).await;
    assert_eq!(noted.iter().map(|(_, changed)| *changed).collect::<Vec<_>>(), [Changed::Agent(id)]);
    assert!(flood.iter().all(|call| !call.is_finished()), "they wait still");
    held.rollback().await.unwrap();
    for call in flood {
        call.await.unwrap().unwrap();
    }
    assert_eq!(store.newest_events(100).await.unwrap().len(), 13);
}

/// One that is under way holds no place in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn new_agents_wait_for_no_change_and_no_change_for_them() {
    let database = Database::fresh().await;
    let store = database.open("node-1").await;
    let mut other = database.connect().await;
    let mut held = other.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('cogo.changes', 0))";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    for number in 1..=3 {
        let row = Seeds::enrollment(number, "owner");
        store.start_enrollment(row, Seeds::started(number)).await.unwrap();
        let (agent, told) = (Seeds::agent(number, 1), Seeds::completed(number));
        store.redeem_code(&Seeds::code(number), agent, None, told, Seeds::now()).await.unwrap();
    }
    held.rollback().await.unwrap();
}
