//! The durable store in one SQLite file: what an edge on one machine needs, with nothing to install.
//!
//! Write-ahead log, `synchronous=FULL`: what a method has answered survives a kill and a power cut.
//! Writes go through one connection, so that each transaction sees all before it; reads have their
//! own, and so have marks of the clock, which requests wait for: they do not queue behind other
//! writes of this process. State and the event that tells of it are one transaction.
//!
//! One process opens a file at a time, held by a lock on `<file>.lock`: nonces live in the memory of
//! that process, and a second one would let through what the first has seen.
#![warn(missing_docs)]

mod agents;
mod column;
mod continuity;
mod enrollments;
mod error;
mod events;
mod files;
mod keys;
mod schema;
mod standings;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgeward_store::StoreError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use error::{Context as _, failed};

/// How long a call waits for its turn before it says that the store is unavailable.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a mark waits: a request waits for it.
const MARK_PATIENCE: Duration = Duration::from_millis(500);
/// Connections that read.
const READERS: u32 = 4;

/// A database file, opened by this process alone.
pub struct SqliteStore {
    path: PathBuf,
    node: String,
    writer: SqlitePool,
    readers: SqlitePool,
    /// For marks, and for the snapshot that must come after the last of them.
    marks: SqlitePool,
    /// Released when the store is dropped.
    _lock: files::Lock,
}

impl SqliteStore {
    /// Opens the database, makes it where there is none (the file with mode 0600, a missing folder
    /// with 0700), and brings it to this version's tables. `node` is what events are marked with.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file cannot be used or another process has it open;
    /// [`StoreError::Corrupt`] when it is no database, is damaged, or was written by a newer version.
    pub async fn open(path: &Path, node: impl Into<String>) -> Result<Self, StoreError> {
        let path = &files::settle(path)?;
        let lock = files::Lock::take(path)?;
        let writer = pool(1).connect_with(options(path).pragma("secure_delete", "ON"));
        let writer = writer.await.map_err(failed).at(path)?;
        schema::migrate(&writer).await.at(path)?;
        files::sync_folder(path)?;
        let readers = pool(READERS).connect_with(options(path).pragma("query_only", "ON"));
        let readers = readers.await.map_err(failed).at(path)?;
        let marks = options(path).busy_timeout(MARK_PATIENCE).pragma("secure_delete", "ON");
        let marks = pool(1).acquire_timeout(2 * MARK_PATIENCE).connect_with(marks);
        let marks = marks.await.map_err(failed).at(path)?;
        let path = path.to_owned();
        Ok(Self { path, node: node.into(), writer, readers, marks, _lock: lock })
    }

    /// Closes all connections; whatever comes after is unavailable.
    pub async fn close(&self) {
        self.readers.close().await;
        self.marks.close().await;
        self.writer.close().await;
    }

    /// Runs one statement as it stands; how many rows it changed. For tests that need a row which no
    /// act of the edge makes.
    ///
    /// # Errors
    /// When the database refuses it.
    #[cfg(feature = "testing")]
    pub async fn execute_for_tests(&self, sql: impl Into<String>) -> Result<u64, StoreError> {
        let statement = sqlx::query(sqlx::AssertSqlSafe(sql.into()));
        Ok(statement.execute(&self.writer).await.map_err(failed)?.rows_affected())
    }

    /// A transaction that may write, and waits for the one before it first.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(PATIENCE)
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

#[cfg(test)]
mod tests {
    use edgeward_core::time::WallMs;
    use edgeward_store::durable::{Continuity as _, Sealed};

    use super::*;

    /// A power cut cannot be staged here; that each commit is synced can be asked.
    #[tokio::test]
    async fn a_commit_is_on_disk_before_it_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("edge.db"), "node").await.unwrap();
        let full: i64 =
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.writer).await.unwrap();
        assert_eq!(full, 2, "FULL");
        let journal: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.writer).await.unwrap();
        assert_eq!(journal, "wal");
        let foreign_keys: i64 =
            sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&store.writer).await.unwrap();
        assert_eq!(foreign_keys, 1);
    }

    #[tokio::test]
    async fn a_mark_does_not_queue_behind_other_writes() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("edge.db"), "node").await.unwrap();
        let held = store.writer.acquire().await.unwrap();
        store.write_mark(WallMs(1)).await.unwrap();
        drop(held);
        let marks = &store.marks;
        let full: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(marks).await.unwrap();
        assert_eq!(full, 2, "FULL");
    }

    #[tokio::test]
    async fn a_mark_that_cannot_be_written_says_so_soon_and_a_snapshot_waits() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("edge.db"), "node").await.unwrap();
        let held = store.begin().await.unwrap();
        let answer = tokio::time::timeout(5 * MARK_PATIENCE, store.write_mark(WallMs(1))).await;
        assert!(matches!(answer, Ok(Err(StoreError::Unavailable(_)))), "{answer:?}");
        let mut ending = std::pin::pin!(store.end_run(Sealed(vec![1])));
        let early = tokio::time::timeout(2 * MARK_PATIENCE, &mut ending).await;
        assert!(early.is_err(), "{early:?}");
        drop(held);
        ending.await.unwrap();
        store.write_mark(WallMs(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("edge.db"), "node").await.unwrap();
        let written = sqlx::query("UPDATE run_state SET mark = 1").execute(&store.readers).await;
        assert!(written.is_err(), "writes go through the one writer");
    }
}
