//! `run_state`: what a process that ends in order leaves, and how far one got that does not.

use std::time::Duration;

use async_trait::async_trait;
use edgeward_core::time::WallMs;
use edgeward_store::StoreError;
use edgeward_store::durable::{Continuity, LastRun, Sealed};
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection, Transaction};

use crate::column;
use crate::error::failed;
use crate::{MARK_PATIENCE, PATIENCE, SqliteStore};

#[async_trait]
impl Continuity for SqliteStore {
    async fn begin_run(&self) -> Result<LastRun, StoreError> {
        let mut tx = self.begin().await?;
        let last = last_run(&mut tx).await?;
        // The mark stays: should this run end before its first mark, what the snapshot held is lost,
        // and all of it was granted under that mark.
        sqlx::query("UPDATE run_state SET snapshot = NULL WHERE id = 1")
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        // Out of the log as well, and synced.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.writer)
            .await
            .map_err(failed)?;
        Ok(last)
    }

    async fn share_run(&self) -> Result<LastRun, StoreError> {
        let mut tx = self.begin().await?;
        let last = last_run(&mut tx).await?;
        sqlx::query("UPDATE run_state SET mark = NULL, snapshot = NULL, shared = 1 WHERE id = 1")
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(last)
    }

    async fn write_mark(&self, mark: WallMs) -> Result<(), StoreError> {
        // A mark belongs to a run that goes on, so whatever snapshot there is no longer holds all.
        sqlx::query(
            "UPDATE run_state SET mark = max(coalesce(mark, 0), ?), snapshot = NULL, shared = 0
             WHERE id = 1",
        )
        .bind(column::to_ms(mark))
        .execute(&self.marks)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn end_run(&self, snapshot: Sealed) -> Result<(), StoreError> {
        // By the connection of marks, so that it comes after one that nobody waits for any more and
        // that would void it; and with more patience than a mark.
        let mut marks = self.marks.acquire().await.map_err(failed)?;
        be_patient(&mut marks, PATIENCE).await?;
        let kept = sqlx::query("UPDATE run_state SET snapshot = ? WHERE id = 1")
            .bind(snapshot.0)
            .execute(&mut *marks)
            .await;
        be_patient(&mut marks, MARK_PATIENCE).await?;
        kept.map_err(failed)?;
        Ok(())
    }
}

async fn last_run(tx: &mut Transaction<'_, Sqlite>) -> Result<LastRun, StoreError> {
    let row = sqlx::query("SELECT mark, snapshot, shared FROM run_state WHERE id = 1")
        .fetch_one(&mut **tx)
        .await
        .map_err(failed)?;
    // Up to the first mark of a run of its own, what was granted before it is not known here.
    if column::number::<i64>(&row, "shared")? != 0 {
        return Ok(LastRun::Shared);
    }
    let mark = column::moment_or_none(&row, "mark")?;
    let snapshot: Option<Vec<u8>> = column::plain(&row, "snapshot")?;
    Ok(match (snapshot, mark) {
        (Some(snapshot), mark) => LastRun::Clean { snapshot: Sealed(snapshot), mark },
        (None, Some(mark)) => LastRun::Unclean { mark },
        (None, None) => LastRun::None,
    })
}

/// How long statements of this connection wait for other writers.
async fn be_patient(
    connection: &mut SqliteConnection,
    patience: Duration,
) -> Result<(), StoreError> {
    let sql = format!("PRAGMA busy_timeout = {}", patience.as_millis());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map_err(failed)?;
    Ok(())
}
