//! `run_state`: what a process that ends in order leaves, and how far one got that does not.

use async_trait::async_trait;
use edgeward_core::time::WallMs;
use edgeward_store::StoreError;
use edgeward_store::durable::{Continuity, LastRun, Sealed};

use crate::SqliteStore;
use crate::column;
use crate::error::failed;

#[async_trait]
impl Continuity for SqliteStore {
    async fn begin_run(&self) -> Result<LastRun, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT mark, snapshot FROM run_state WHERE id = 1")
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
        let mark = column::moment_or_none(&row, "mark")?;
        let snapshot: Option<Vec<u8>> = column::plain(&row, "snapshot")?;
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
        Ok(match (snapshot, mark) {
            (Some(snapshot), _) => LastRun::Clean { snapshot: Sealed(snapshot) },
            (None, Some(mark)) => LastRun::Unclean { mark },
            (None, None) => LastRun::None,
        })
    }

    async fn write_mark(&self, mark: WallMs) -> Result<(), StoreError> {
        // A mark belongs to a run that goes on, so whatever snapshot there is no longer holds all.
        sqlx::query(
            "UPDATE run_state SET mark = max(coalesce(mark, 0), ?), snapshot = NULL WHERE id = 1",
        )
        .bind(column::to_ms(mark))
        .execute(&self.writer)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn end_run(&self, snapshot: Sealed) -> Result<(), StoreError> {
        sqlx::query("UPDATE run_state SET snapshot = ? WHERE id = 1")
            .bind(snapshot.0)
            .execute(&self.writer)
            .await
            .map_err(failed)?;
        Ok(())
    }
}
