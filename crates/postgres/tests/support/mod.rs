//! One Postgres for the tests of a file, with a database of its own for each of them.
#![allow(dead_code, reason = "each file of tests uses a part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use edgeward_postgres::{DatabaseUrl, Listen, PostgresOptions, PostgresStore, SchemaName, migrate};
use edgeward_services::Postgres;
use edgeward_store::fleet::{ChangeId, Changed, Changes as _, Followed, NodeRow};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

pub(crate) const EDGE: &str = "edgeward_edge";
pub(crate) const PASSWORD: &str = "edge/p@ss";

/// A database with the tables in it.
pub(crate) struct Database {
    pub(crate) server: &'static Postgres,
    /// As the superuser.
    pub(crate) admin: String,
    /// As `edgeward_edge`.
    pub(crate) edge: String,
    pub(crate) name: String,
}

impl Database {
    pub(crate) async fn fresh() -> Self {
        let database = Self::empty();
        migrate(&DatabaseUrl::new(&database.admin), &SchemaName::default()).await.unwrap();
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| {
            drop(database.sql(&format!("ALTER ROLE {EDGE} PASSWORD '{PASSWORD}'")))
        });
        database
    }

    /// One without tables.
    pub(crate) fn empty() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let server = Postgres::shared().unwrap();
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let admin = server.create_database(&name).unwrap();
        Self { server, admin, edge: server.url_for(EDGE, PASSWORD, &name), name }
    }

    /// What `psql` says, as the superuser.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.psql(&self.admin, sql).unwrap()
    }

    pub(crate) async fn open_as(&self, node: NodeRow) -> Arc<PostgresStore> {
        open(PostgresOptions { node, ..options(&self.edge, "") }).await
    }

    /// A connection of the superuser's own.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.admin).await.unwrap()
    }

    pub(crate) async fn open(&self, node: &str) -> Arc<PostgresStore> {
        open(options(&self.edge, node)).await
    }
}

pub(crate) async fn open(options: PostgresOptions) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(options).await.unwrap())
}

/// With so much time that no machine is too slow.
pub(crate) fn options(url: &str, node: &str) -> PostgresOptions {
    PostgresOptions {
        budget: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(60),
        listen: Listen::Never,
        strict: true,
        ..PostgresOptions::new(DatabaseUrl::new(url), node_row(node))
    }
}

pub(crate) fn node_row(name: &str) -> NodeRow {
    static INCARNATION: AtomicU64 = AtomicU64::new(1);
    let mut incarnation = [0; 16];
    incarnation[8..].copy_from_slice(&INCARNATION.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let store = Some("one".to_owned());
    NodeRow { name: name.to_owned(), incarnation, store, version: "0.1.0".into() }
}

/// The changes after a place in the log, which reaches back so far.
pub(crate) async fn changes(
    store: &PostgresStore,
    after: ChangeId,
    limit: u32,
) -> Vec<(ChangeId, Changed)> {
    match store.changes_after(after, limit).await.unwrap() {
        Followed::Changes(changes) => changes,
        Followed::Gap { newest } => panic!("a gap after {after:?}, up to {newest:?}"),
    }
}

/// Waits for what something outside of this process does.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let patience = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), patience).await.expect("it never came about");
}
