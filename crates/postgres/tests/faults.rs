//! The database is killed, stopped, frozen, or out of reach.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgeward_core::record::Standing;
use edgeward_core::time::WallMs;
use edgeward_postgres::{DatabaseUrl, Listen, PostgresOptions, PostgresStore, SchemaName, migrate};
use edgeward_services::{Gate, Postgres};
use edgeward_store::conformance::Seeds;
use edgeward_store::durable::{
    Agents as _, Continuity as _, DataKeyRow, DataKeyUse, Enrollments as _, Events as _,
    KeyPurpose, KeyRows as _, KeyStatus, LastRun, Sealed, SigningKeyRow, Standings as _,
};
use edgeward_store::fleet::{ChangeId, Changes as _, Followed, Nodes as _};
use edgeward_store::{EventKind, StoreError};
use futures_util::future::join_all;
use support::{EDGE, PASSWORD, node_row, options};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A server of the test's own, with the tables in its database `app`.
async fn server() -> Postgres {
    let server = Postgres::start().unwrap();
    let admin = server.create_database("app").unwrap();
    migrate(&DatabaseUrl::new(&admin), &SchemaName::default()).await.unwrap();
    server.psql(&admin, &format!("ALTER ROLE {EDGE} PASSWORD '{PASSWORD}'")).unwrap();
    server
}

fn with_budget(url: &str, budget: Duration) -> PostgresOptions {
    PostgresOptions { budget, ..options(url, "node-1") }
}

/// Waits until calls are answered again; on a machine with much to do a small budget may be too small
/// now and then.
async fn back(store: &PostgresStore) {
    until_ok(|| store.newest_change()).await;
    until_ok(|| store.changes_after(ChangeId(0), 1)).await;
}

async fn until_ok<T, F: Future<Output = Result<T, StoreError>>>(call: impl Fn() -> F) -> T {
    let answers = async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answers).await.expect("it came back")
}

#[derive(Debug, Default)]
struct Confirmed {
    agents: BTreeSet<u64>,
    blocked: BTreeSet<u64>,
    mark: u64,
}

/// Writes until the database is gone; what was answered counts.
async fn write_until_gone(store: Arc<PostgresStore>, numbers: Arc<AtomicU64>) -> Confirmed {
    let mut confirmed = Confirmed::default();
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        if store.write_mark(WallMs(number)).await.is_err() {
            return confirmed;
        }
        confirmed.mark = number;
        let row = Seeds::enrollment(number, "owner");
        let mut told = Seeds::completed(number);
        told.payload.insert("code".into(), number.into());
        let (code, agent) = (Seeds::code(number), Seeds::agent(number, 1));
        let id = agent.id;
        let made = async {
            store.start_enrollment(row, Seeds::started(number)).await?;
            store.redeem_code(&code, agent, None, told, Seeds::now()).await
        };
        if made.await.is_err() {
            return confirmed;
        }
        confirmed.agents.insert(number);
        if store.set_standing(id, Standing::Blocked, Seeds::started(number)).await.is_err() {
            return confirmed;
        }
        confirmed.blocked.insert(number);
    }
}

/// Even where the database is set to answer before anything is on disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_outlives_a_kill_of_the_database() {
    let server = server().await;
    server.psql(&server.url(), "ALTER DATABASE app SET synchronous_commit = off").unwrap();
    let url = server.url_for(EDGE, PASSWORD, "app");
    let budget = Duration::from_secs(5);
    let store = Arc::new(PostgresStore::open(with_budget(&url, budget)).await.unwrap());
    store.begin_run().await.unwrap();
    let numbers = Arc::new(AtomicU64::new(1));
    let mut all = Confirmed::default();
    for round in 0..6_u64 {
        let from = numbers.load(Ordering::Relaxed);
        let writers: Vec<_> = (0..4)
            .map(|_| tokio::spawn(write_until_gone(Arc::clone(&store), Arc::clone(&numbers))))
            .collect();
        while numbers.load(Ordering::Relaxed) < from + 10 + round * 7 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill().unwrap();
        for writer in writers {
            let confirmed = writer.await.unwrap();
            all.agents.extend(confirmed.agents);
            all.blocked.extend(confirmed.blocked);
            all.mark = all.mark.max(confirmed.mark);
        }
        // Refused while a process of the killed one has not ended yet.
        support::until(|| server.restart().is_ok()).await;
        back(&store).await;
        check(&store, &all).await;
    }
    assert!(all.agents.len() > 20, "{all:?}");
}

async fn check(store: &PostgresStore, all: &Confirmed) {
    let events = store.newest_events(u32::MAX).await.unwrap();
    let told: BTreeSet<_> = events
        .iter()
        .filter(|event| event.kind == EventKind::AgentEnrollCompleted)
        .map(|event| event.payload["code"].as_u64().unwrap())
        .collect();
    assert!(told.is_superset(&all.agents), "an agent that was answered is lost");
    let noted = until_ok(|| store.changes_after(ChangeId(0), u32::MAX)).await;
    let Followed::Changes(noted) = noted else { panic!("{noted:?}") };
    let mut changes = 0;
    for number in &told {
        let agent = store.agent(Seeds::agent(*number, 1).id).await.unwrap();
        let agent = agent.unwrap_or_else(|| panic!("{number} is told of and is not there"));
        let blocked = agent.standing == Standing::Blocked;
        assert!(blocked || !all.blocked.contains(number), "the block of {number} is lost");
        changes += usize::from(blocked);
    }
    let owner = Seeds::enrollment(1, "owner").owner;
    assert_eq!(store.count_agents(&owner).await, Ok(told.len() as u64), "all are told of");
    assert_eq!(noted.len(), changes, "each block has its line");
    let LastRun::Unclean { mark } = store.begin_run().await.unwrap() else { panic!("no mark") };
    assert!(mark.0 >= all.mark, "{mark:?} after {}", all.mark);
}

type Call<'a> = (&'static str, Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>);

/// Every call that there is.
fn every_call(store: &PostgresStore) -> Vec<Call<'_>> {
    const CODE: [u8; 32] = [1; 32];
    let id = Seeds::agent(1, 1).id;
    let data_key = DataKeyRow {
        id: [1; 16],
        used_for: DataKeyUse::Fleet,
        wrapped: Sealed(vec![1]),
        kek: "kek".into(),
        created_at: Seeds::now(),
    };
    let signing_key = SigningKeyRow {
        kid: "kid".into(),
        purpose: KeyPurpose::Agent,
        alg: "EdDSA".into(),
        status: KeyStatus::Active,
        sealed: Sealed(vec![1]),
        public_jwk: serde_json::json!({}),
        created_at: Seeds::now(),
    };
    macro_rules! calls {
        ($($name:ident($($argument:expr),*))*) => {
            vec![$((stringify!($name), Box::pin(async move {
                store.$name($($argument),*).await.map(drop)
            }))),*]
        };
    }
    calls! {
        agent(id)
        count_agents(&Seeds::enrollment(1, "owner").owner)
        start_enrollment(Seeds::enrollment(1, "owner"), Seeds::started(1))
        live_enrollment(&CODE, Seeds::now())
        count_wrong_completion(&CODE)
        next_secret_version(id)
        redeem_code(&CODE, Seeds::agent(1, 1), None, Seeds::completed(1), Seeds::now())
        record(&[Seeds::started(1)])
        newest_events(1)
        data_keys()
        keep_first_data_key(data_key)
        signing_keys(KeyPurpose::Agent)
        keep_first_signing_key(signing_key, &[])
        begin_run()
        share_run()
        write_mark(WallMs(1))
        end_run(Sealed(vec![1]))
        set_standing(id, Standing::Blocked, Seeds::started(1))
        newest_change()
        sessions_ended_since(WallMs(0))
        changes_after(ChangeId(0), 1)
        look_around()
        join(&node_row("node-1"))
        beat()
        leave()
    }
}

/// All of them at once, each within five budgets.
async fn all_unavailable(store: &PostgresStore, budget: Duration, case: &str) {
    let calls = every_call(store).into_iter().map(|(name, call)| async move {
        let answer = tokio::time::timeout(5 * budget, call).await;
        assert!(
            matches!(answer, Ok(Err(StoreError::Unavailable(_)))),
            "{name}, {case}: {answer:?}"
        );
    });
    join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frozen_or_stopped_database_is_unavailable_within_the_budget() {
    let server = server().await;
    let budget = Duration::from_millis(500);
    let url = server.url_for(EDGE, PASSWORD, "app");
    let open = PostgresOptions { listen: Listen::Database, ..with_budget(&url, budget) };
    let store = PostgresStore::open(open).await.unwrap();
    for _ in 0..2 {
        back(&store).await;
        server.pause().unwrap();
        all_unavailable(&store, budget, "frozen").await;
        server.resume().unwrap();
        back(&store).await;
    }
    server.stop().unwrap();
    all_unavailable(&store, budget, "stopped").await;
    server.restart().unwrap();
    back(&store).await;
    // Notices come again by themselves, and say that something may have been missed.
    tokio::time::timeout(Duration::from_secs(60), store.stirred()).await.unwrap();
}

/// A network that swallows everything: no answer, and no end of a connection either.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_silent_network_is_unavailable_within_the_budget() {
    let server = server().await;
    let gate = Gate::to(server.address()).unwrap();
    let budget = Duration::from_millis(500);
    let url = server.url_for(EDGE, PASSWORD, "app");
    let url = url.replace(&server.address().to_string(), &gate.address().to_string());
    // More calls than connections: what is stuck must not be waited for.
    let open = PostgresOptions { pool_size: 2, ..with_budget(&url, budget) };
    let store = PostgresStore::open(open).await.unwrap();
    back(&store).await;
    gate.stall();
    all_unavailable(&store, budget, "no network").await;
    gate.mend();
    back(&store).await;
}

/// As after a failover: what was connected before is never answered again, and what connects anew is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_are_never_answered_again_are_replaced() {
    let server = server().await;
    let (strand, address) = stranding(server.address()).await;
    let budget = Duration::from_millis(500);
    let url = server.url_for(EDGE, PASSWORD, "app");
    let url = url.replace(&server.address().to_string(), &address.to_string());
    let open = PostgresOptions { pool_size: 2, ..with_budget(&url, budget) };
    let store = PostgresStore::open(open).await.unwrap();
    for _ in 0..3 {
        tokio::join!(back(&store), back(&store));
        strand.send_modify(|generation| *generation += 1);
        back(&store).await;
    }
}

/// Passes everything on until it is told to strand what is connected by then.
async fn stranding(server: SocketAddr) -> (watch::Sender<u32>, SocketAddr) {
    let (strand, stranded) = watch::channel(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut stranded = stranded.clone();
            stranded.mark_unchanged();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    told = stranded.changed() => {
                        if told.is_ok() {
                            std::future::pending::<()>().await;
                        }
                    }
                }
            });
        }
    });
    (strand, address)
}

/// Whoever waits for a lock that another holds gives up in time, at the server too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lock_is_not_waited_for_longer_than_the_budget() {
    let server = server().await;
    let budget = Duration::from_millis(500);
    let url = server.url_for(EDGE, PASSWORD, "app");
    let store = PostgresStore::open(with_budget(&url, budget)).await.unwrap();
    until_ok(|| store.begin_run()).await;
    let admin =
        server.url_for(edgeward_services::SUPERUSER, edgeward_services::SUPERUSER_PASSWORD, "app");
    let mut holder =
        <sqlx::postgres::PgConnection as sqlx::Connection>::connect(&admin).await.unwrap();
    let mut held = sqlx::Connection::begin(&mut holder).await.unwrap();
    sqlx::query("SELECT FROM cogo.run_state FOR UPDATE").execute(&mut *held).await.unwrap();
    for _ in 0..3 {
        let answer = tokio::time::timeout(5 * budget, store.write_mark(WallMs(1))).await;
        assert!(matches!(answer, Ok(Err(StoreError::Unavailable(_)))), "{answer:?}");
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE usename = 'edgeward_edge' AND wait_event_type = 'Lock'";
    support::until(|| server.psql(&admin, waiting).unwrap() == "0").await;
    back(&store).await;
    held.rollback().await.unwrap();
    until_ok(|| store.write_mark(WallMs(1))).await;
}
