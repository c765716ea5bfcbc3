//! Everything again through PgBouncer in transaction mode: three connections to the server, given to
//! another caller after each transaction and never reset.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use edgeward_core::record::Standing;
use edgeward_postgres::{DatabaseUrl, Listen, PostgresOptions, PostgresStore};
use edgeward_services::{PgBouncer, Postgres};
use edgeward_store::conformance::{self, Seeds};
use edgeward_store::durable::{Agents as _, Enrollments as _, Events as _, Standings as _};
use edgeward_store::fleet::{Changes as _, Joined, Nodes as _};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use support::{Database, EDGE, PASSWORD, node_row, open, options};

fn bouncer() -> &'static PgBouncer {
    static BOUNCER: OnceLock<PgBouncer> = OnceLock::new();
    BOUNCER
        .get_or_init(|| PgBouncer::start(Postgres::shared().unwrap(), &[(EDGE, PASSWORD)]).unwrap())
}

async fn through(database: &Database, node: &str) -> Arc<PostgresStore> {
    let url = bouncer().url_for(EDGE, PASSWORD, &database.name);
    open(PostgresOptions { pool_size: 30, ..options(&url, node) }).await
}

async fn fresh() -> Arc<PostgresStore> {
    through(&Database::fresh().await, "node-1").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn agents_and_enrollments() {
    conformance::agents_and_enrollments(fresh().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys() {
    conformance::keys(fresh().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn standings() {
    conformance::standings(fresh().await).await;
}

#[tokio::test]
async fn events() {
    conformance::events(&*fresh().await).await;
}

#[tokio::test]
async fn continuity() {
    conformance::continuity(&*fresh().await).await;
    conformance::continuity_shared_first(&*fresh().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_nodes_at_once_share_three_connections() {
    let database = Database::fresh().await;
    let mut tasks = Vec::new();
    for node in 0..10_u64 {
        let store = through(&database, &format!("node-{node}")).await;
        tasks.push(tokio::spawn(async move {
            let joined = store.join(&node_row(&format!("node-{node}"))).await.unwrap();
            assert!(matches!(joined, Joined::Yes { .. }), "{joined:?}");
            for code in (0..20).map(|number| node * 100 + number) {
                let row = Seeds::enrollment(code, "owner");
                store.start_enrollment(row, Seeds::started(code)).await.unwrap();
                let (agent, told) = (Seeds::agent(code, 1), Seeds::completed(code));
                let id = agent.id;
                let code = Seeds::code(code);
                store.redeem_code(&code, agent, None, told, Seeds::now()).await.unwrap();
                assert!(store.agent(id).await.unwrap().is_some());
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(database.sql("SELECT count(*) FROM cogo.agent_devices"), "200");
    let connections = database.sql(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND usename = 'edgeward_edge'",
    );
    assert!(["1", "2", "3"].contains(&&*connections), "{connections}");
}

/// Nothing of a call is left on the connection that the next caller gets.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_of_a_session_is_left_behind() {
    let database = Database::fresh().await;
    // As a setting of the database, so that a call's own can be told from it.
    database.sql(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name));
    let store = through(&database, "node-1").await;
    for _ in 0..20 {
        store.record(&[Seeds::started(1)]).await.unwrap();
        store.newest_events(5).await.unwrap();
    }
    let url = bouncer().url_for(EDGE, PASSWORD, &database.name);
    let mut next = connect(&url).await;
    for _ in 0..10 {
        let left: (String, String, String, i64, i64) = sqlx::query_as(
            "SELECT current_setting('statement_timeout'),
                    current_setting('idle_in_transaction_session_timeout'),
                    current_setting('synchronous_commit'),
                    (SELECT count(*) FROM pg_prepared_statements WHERE name <> ''),
                    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())",
        )
        .persistent(false)
        .fetch_one(&mut *next.begin().await.unwrap())
        .await
        .unwrap();
        assert_eq!(left, ("0".into(), "0".into(), "off".into(), 0, 0));
    }
}

/// As an adopter's own service brings claims: in one transaction, and gone with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_are_gone_with_their_transaction() {
    let database = Database::fresh().await;
    let store = through(&database, "node-1").await;
    for (number, owner) in [(1, "alice"), (2, "bob")] {
        let row = Seeds::enrollment(number, owner);
        store.start_enrollment(row, Seeds::started(number)).await.unwrap();
        let (agent, told) = (Seeds::agent(number, 1), Seeds::completed(number));
        store.redeem_code(&Seeds::code(number), agent, None, told, Seeds::now()).await.unwrap();
    }
    // A service that logs in as a role of its own, as PostgREST does.
    database.sql(&format!(
        "CREATE ROLE service LOGIN NOINHERIT PASSWORD '{PASSWORD}'; GRANT edgeward_agent TO service"
    ));
    let bouncer =
        PgBouncer::start(database.server, &[("service", PASSWORD), (EDGE, PASSWORD)]).unwrap();
    let url = bouncer.url_for("service", PASSWORD, &database.name);
    let mut tasks = Vec::new();
    for number in 0..12_u32 {
        let url = url.clone();
        tasks.push(tokio::spawn(async move {
            let mut connection = connect(&url).await;
            for round in 0..40_u32 {
                let owner = [Some("alice"), Some("bob"), None][((number + round) % 3) as usize];
                let seen = look(&mut connection, owner, round % 2 == 0).await;
                assert_eq!(seen, owner.map(str::to_owned).into_iter().collect::<Vec<_>>());
                let role: (String, Option<String>) = sqlx::query_as(
                    "SELECT current_user::text, nullif(current_setting('request.jwt.claims', true), '')",
                )
                .persistent(false)
                .fetch_one(&mut *connection.begin().await.unwrap())
                .await
                .unwrap();
                assert_eq!(role, ("service".to_owned(), None), "after {owner:?}");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// Whose agents are seen with these claims.
async fn look(connection: &mut PgConnection, owner: Option<&str>, commit: bool) -> Vec<String> {
    let mut tx = connection.begin().await.unwrap();
    if let Some(owner) = owner {
        sqlx::query("SELECT set_config('request.jwt.claims', $1, true)")
            .bind(format!(r#"{{"owner_user_id":"{owner}"}}"#))
            .persistent(false)
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    let role = AssertSqlSafe("SET LOCAL ROLE edgeward_agent".to_owned());
    sqlx::query(role).persistent(false).execute(&mut *tx).await.unwrap();
    let seen = sqlx::query_scalar("SELECT user_id FROM cogo.agent_devices")
        .persistent(false)
        .fetch_all(&mut *tx)
        .await
        .unwrap();
    if commit {
        tx.commit().await.unwrap();
    } else {
        tx.rollback().await.unwrap();
    }
    seen
}

async fn connect(url: &str) -> PgConnection {
    url.parse::<PgConnectOptions>().unwrap().statement_cache_capacity(0).connect().await.unwrap()
}

/// Notices need a way past the pooler; with it they come, and calls go through the pooler all the
/// same. A node that is told to listen through the pooler finds that it cannot, and disturbs nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn notices_come_past_the_pooler() {
    let database = Database::fresh().await;
    let url = bouncer().url_for(EDGE, PASSWORD, &database.name);
    let listen = Listen::At(DatabaseUrl::new(&database.edge));
    let past = open(PostgresOptions { listen, ..options(&url, "node-1") }).await;
    let within =
        open(PostgresOptions { listen: Listen::Database, ..options(&url, "node-2") }).await;
    let deadline = Duration::from_secs(60);
    // Said once when it begins to listen.
    tokio::time::timeout(deadline, past.stirred()).await.unwrap();
    for number in 1..20 {
        let row = Seeds::enrollment(number, "owner");
        within.start_enrollment(row, Seeds::started(number)).await.unwrap();
        let (agent, told) = (Seeds::agent(number, 1), Seeds::completed(number));
        let id = agent.id;
        within.redeem_code(&Seeds::code(number), agent, None, told, Seeds::now()).await.unwrap();
        within.set_standing(id, Standing::Blocked, Seeds::started(number)).await.unwrap();
        tokio::time::timeout(deadline, past.stirred()).await.unwrap();
        assert_eq!(past.newest_change().await.unwrap().0, number);
    }
    let listening = database.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'
                      AND datname = current_database()",
    );
    assert_eq!(listening, "1");
}
