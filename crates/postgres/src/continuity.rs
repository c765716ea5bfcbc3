//! `run_state`: what a process that ends in order leaves, and how far one got that does not. One run
//! at a time may write here, the holder; whoever begins takes it over.

use async_trait::async_trait;
use edgeward_core::time::WallMs;
use edgeward_store::StoreError;
use edgeward_store::durable::{Continuity, LastRun, Sealed};
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Transaction};

use crate::PostgresStore;
use crate::column::{self, Moment};
use crate::error::{failed, unavailable};

#[async_trait]
impl Continuity for PostgresStore {
    async fn begin_run(&self) -> Result<LastRun, StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            let last = self.last_run(&mut tx).await?;
            // The mark stays: should this run end before its first mark, what the snapshot held is
            // lost, and all of it was granted under that mark.
            self.query("UPDATE @.run_state SET holder = $1, snapshot = NULL WHERE id = 1")
                .bind(self.incarnation)
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            Ok(last)
        })
        .await
    }

    async fn share_run(&self) -> Result<LastRun, StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            let last = self.last_run(&mut tx).await?;
            self.query(
                "UPDATE @.run_state SET holder = $1, mark = NULL, snapshot = NULL, shared = true
                 WHERE id = 1",
            )
            .bind(self.incarnation)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            Ok(last)
        })
        .await
    }

    async fn write_mark(&self, mark: WallMs) -> Result<(), StoreError> {
        self.within(async {
            let mut tx = self.write_urgently().await?;
            // A mark belongs to a run that goes on, so whatever snapshot there is no longer holds all.
            let written = self
                .query(
                    "UPDATE @.run_state
                     SET mark = greatest(mark, $1), snapshot = NULL, shared = false
                     WHERE id = 1 AND holder = $2",
                )
                .bind(Moment(mark))
                .bind(self.incarnation)
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            is_holder(written.rows_affected())?;
            tx.commit().await.map_err(failed)
        })
        .await
    }

    async fn end_run(&self, snapshot: Sealed) -> Result<(), StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            let written = self
                .query("UPDATE @.run_state SET snapshot = $1 WHERE id = 1 AND holder = $2")
                .bind(snapshot.0)
                .bind(self.incarnation)
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            is_holder(written.rows_affected())?;
            tx.commit().await.map_err(failed)
        })
        .await
    }
}

impl PostgresStore {
    /// How the last run ended; no other one can begin or write from here on.
    async fn last_run(&self, tx: &mut Transaction<'_, Postgres>) -> Result<LastRun, StoreError> {
        let row = self
            .query("SELECT mark, snapshot, shared FROM @.run_state WHERE id = 1 FOR UPDATE")
            .fetch_one(&mut **tx)
            .await
            .map_err(failed)?;
        read_last_run(&row)
    }
}

fn is_holder(rows: u64) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(unavailable("another process has taken over")) }
}

fn read_last_run(row: &PgRow) -> Result<LastRun, StoreError> {
    // Up to the first mark of a run of its own, what was granted before it is not known here.
    if column::plain(row, "shared")? {
        return Ok(LastRun::Shared);
    }
    let mark = column::moment_or_none(row, "mark")?;
    let snapshot: Option<Vec<u8>> = column::plain(row, "snapshot")?;
    Ok(match (snapshot, mark) {
        (Some(snapshot), mark) => LastRun::Clean { snapshot: Sealed(snapshot), mark },
        (None, Some(mark)) => LastRun::Unclean { mark },
        (None, None) => LastRun::None,
    })
}
