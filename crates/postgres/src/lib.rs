//! The durable store in Postgres, for any number of nodes: the truth that they share.
//!
//! Every call is one explicit transaction with unnamed statements, and nothing of a session outlives
//! it, so that a pooler in transaction mode may lie between. A call never takes longer than its
//! budget; statements and locks end by themselves at the server as well. State, its event and its
//! line in the log of changes are one transaction, which is on disk before a call answers.
//!
//! * [`migrate`] and [`migrations_sql`] – how a database comes to have the tables, and the three roles
//! * [`PostgresStore`] – what a node does, logged in as `edgeward_edge`
//!
//! Row-level security is on and forced for every table; `docs/rls.md` is about what claims may see.
#![warn(missing_docs)]

mod agents;
mod changes;
mod column;
mod continuity;
mod enrollments;
mod error;
mod events;
mod keys;
mod listen;
mod nodes;
mod options;
mod role;
mod schema;
mod standings;

use std::fmt;
use std::future::Future;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgeward_store::StoreError;
use edgeward_store::fleet::NodeRow;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool};
use sqlx::query::{Query, QueryScalar};
use sqlx::{AssertSqlSafe, Connection as _, Postgres, Transaction};
use tokio::sync::Notify;
use uuid::Uuid;

use changes::Line;
use error::{failed, unavailable};
use listen::Listener;

pub use options::{DatabaseUrl, Listen, PostgresOptions};
pub use schema::{Applied, SchemaName, migrate, migrations_sql};

/// A connection that has been idle for longer is asked whether it still stands before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Connections for what must not wait behind a flood of other calls.
const URGENT: u32 = 3;

/// A database, as one node uses it.
pub struct PostgresStore {
    pool: PgPool,
    /// For changes, beats, standings and marks: a block must come through, and a node stay up, however
    /// much else there is to do.
    urgent: PgPool,
    schema: SchemaName,
    /// The schema as an identifier.
    quoted: String,
    node: NodeRow,
    incarnation: Uuid,
    budget: Duration,
    begin_write: String,
    begin_read: String,
    /// Woken by whatever says that there may be changes.
    stirred: Arc<Notify>,
    /// The line of the log up to which changes were told last.
    told: Mutex<Option<Line>>,
    beats: AtomicU32,
    /// Ends when the store is dropped.
    _listener: Option<Listener>,
}

impl PostgresStore {
    /// Connects, and sees that the tables are there in a version that this program knows, and that the
    /// role is one that row-level security binds. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database cannot be reached, has no tables or older ones
    /// (then it says to run `edgeward migrate`), or, where the options are strict, when the role is a
    /// superuser, owns the tables or may otherwise pass row-level security by;
    /// [`StoreError::Corrupt`] when the tables need a newer version of this program.
    pub async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        let connect = options.url.connect_options()?;
        let listen = match &options.listen {
            Listen::Database => Some(connect.clone()),
            Listen::At(url) => Some(url.connect_options()?),
            Listen::Never => None,
        };
        tokio::time::timeout(options.connect_timeout, look(&connect, &options))
            .await
            .map_err(|_| unavailable("the database did not answer in time"))??;
        let (budget, schema) = (options.budget, options.schema);
        let stirred = Arc::new(Notify::new());
        let listener =
            listen.map(|at| Listener::start(at, schema.channel(), budget, Arc::clone(&stirred)));
        Ok(Self {
            urgent: pool(URGENT, budget).connect_lazy_with(connect.clone()),
            pool: pool(options.pool_size, budget).connect_lazy_with(connect),
            quoted: schema.quoted(),
            schema,
            incarnation: Uuid::from_bytes(options.node.incarnation),
            node: options.node,
            budget,
            begin_write: begin("ISOLATION LEVEL READ COMMITTED READ WRITE", budget),
            begin_read: begin("ISOLATION LEVEL REPEATABLE READ READ ONLY", budget),
            stirred,
            told: Mutex::new(None),
            beats: AtomicU32::new(0),
            _listener: listener,
        })
    }

    /// Closes all connections; whatever comes after is unavailable.
    pub async fn close(&self) {
        self.pool.close().await;
        self.urgent.close().await;
    }

    /// Does the work of one call, within its budget.
    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.budget, work).await {
            Ok(answer) => answer,
            Err(_) => Err(unavailable(format!("no answer within {:?}", self.budget))),
        }
    }

    /// A transaction that writes. Each of its statements sees what was committed before it.
    async fn write(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.pool.begin_with(AssertSqlSafe(self.begin_write.clone())).await.map_err(failed)
    }

    /// The same for what must not wait behind others.
    async fn write_urgently(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.urgent.begin_with(AssertSqlSafe(self.begin_write.clone())).await.map_err(failed)
    }

    /// A transaction that reads, all of it as of one moment.
    async fn read(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.pool.begin_with(AssertSqlSafe(self.begin_read.clone())).await.map_err(failed)
    }

    /// The same for what must not wait behind others.
    async fn read_urgently(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.urgent.begin_with(AssertSqlSafe(self.begin_read.clone())).await.map_err(failed)
    }

    /// A statement, in which `@.` stands for the schema. It is never prepared under a name.
    fn query(&self, sql: &'static str) -> Query<'static, Postgres, PgArguments> {
        self.query_of(sql)
    }

    /// The same for one that is put together, of constants.
    fn query_of(&self, sql: &str) -> Query<'static, Postgres, PgArguments> {
        sqlx::query(AssertSqlSafe(self.in_schema(sql))).persistent(false)
    }

    /// The same for one value.
    fn scalar<T>(&self, sql: &'static str) -> QueryScalar<'static, Postgres, T, PgArguments>
    where
        (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
    {
        sqlx::query_scalar(AssertSqlSafe(self.in_schema(sql))).persistent(false)
    }

    fn in_schema(&self, sql: &str) -> String {
        sql.replace("@.", &format!("{}.", self.quoted))
    }

    /// Waits for its turn among all transactions of all nodes that take this lock, and holds it to
    /// the end of the transaction.
    async fn take_turn(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        lock: &str,
    ) -> Result<(), StoreError> {
        self.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("{}.{lock}", self.schema))
            .execute(&mut **tx)
            .await
            .map_err(failed)?;
        Ok(())
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.schema)
            .field("node", &self.node.name)
            .finish_non_exhaustive()
    }
}

/// The first connection, which is not the pool's: its errors say what is wrong.
async fn look(connect: &PgConnectOptions, options: &PostgresOptions) -> Result<(), StoreError> {
    let mut connection = schema::connect(connect).await?;
    let mut tx = connection.begin().await.map_err(failed)?;
    schema::verify(&mut tx, &options.schema).await?;
    role::verify(&mut tx, &options.schema, options.strict).await?;
    tx.rollback().await.map_err(failed)?;
    let _ = connection.close().await;
    Ok(())
}

/// How a transaction begins: one round trip. What is set is gone with it. A node that stands still
/// in the middle of one must not hold its locks for long.
fn begin(kind: &str, budget: Duration) -> String {
    let ms = budget.as_millis().max(1);
    format!(
        "BEGIN {kind}; SET LOCAL statement_timeout = {ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {idle}; \
         SET LOCAL synchronous_commit = on",
        idle = ms.saturating_mul(2)
    )
}

fn pool(size: u32, budget: Duration) -> PoolOptions<Postgres> {
    PoolOptions::new()
        .max_connections(size.max(1))
        .acquire_timeout(budget)
        .test_before_acquire(false)
        .before_acquire(|connection: &mut PgConnection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        // One that does not answer any more is let go, not waited for.
        .after_release(move |connection: &mut PgConnection, _| {
            Box::pin(async move {
                match tokio::time::timeout(budget, connection.ping()).await {
                    Ok(answer) => answer.map(|()| true),
                    Err(_) => Err(sqlx::Error::PoolTimedOut),
                }
            })
        })
}

#[cfg(test)]
mod tests {
    use edgeward_services::Postgres as Server;

    use super::*;

    fn node(name: &str) -> NodeRow {
        let incarnation = [name.len() as u8; 16];
        let store = Some("store".to_owned());
        NodeRow { name: name.to_owned(), incarnation, store, version: "0".to_owned() }
    }

    /// A node that stands still in the middle of a transaction, or has lost its network there, must
    /// not hold the others up.
    #[tokio::test]
    async fn a_transaction_that_does_not_go_on_gives_its_locks_back() {
        let server = Server::shared().unwrap();
        let url = DatabaseUrl::new(server.fresh_database().unwrap());
        migrate(&url, &SchemaName::default()).await.unwrap();
        let open = |name, ms| {
            PostgresStore::open(PostgresOptions {
                budget: Duration::from_millis(ms),
                connect_timeout: Duration::from_secs(60),
                ..PostgresOptions::new(url.clone(), node(name))
            })
        };
        let (still, waits) =
            (open("still", 500).await.unwrap(), open("waits", 20_000).await.unwrap());
        let mut held = still.write().await.unwrap();
        still.take_turn(&mut held, "changes").await.unwrap();
        let mut next = waits.write().await.unwrap();
        waits.take_turn(&mut next, "changes").await.unwrap();
        assert!(held.commit().await.is_err());
    }
}
