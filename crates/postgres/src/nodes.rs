//! `nodes`: who is up, by the database's clock.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use edgeward_core::time::WallMs;
use edgeward_store::StoreError;
use edgeward_store::fleet::{Joined, NodeRow, Nodes};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::PostgresStore;
use crate::column;
use crate::error::failed;

/// The log of changes is pruned at the first beat and at every so many after it.
const PRUNE_EVERY: u32 = 60;

/// Of the other nodes, one that is up and must not be up beside this one: a node counts as up for
/// 10 s after its last beat.
const IN_THE_WAY: &str = "
    SELECT name, (extract(epoch FROM clock_timestamp() - beat_at) * 1000)::bigint AS seen_ms_ago
    FROM @.nodes
    WHERE name <> $1 AND NOT (shares AND $2)
          AND beat_at > clock_timestamp() - interval '10 seconds'
    ORDER BY beat_at DESC LIMIT 1";

/// Those of them that are not up lose their place, so that none of them comes back beside this one;
/// and so does whoever has not been heard of for a day.
const DISPLACE: &str = "
    DELETE FROM @.nodes
    WHERE name <> $1
          AND (NOT (shares AND $2) OR beat_at < clock_timestamp() - interval '1 day')";

const TAKE_PLACE: &str = "
    INSERT INTO @.nodes (name, incarnation, shares, version, joined_at, beat_at)
    VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp())
    ON CONFLICT (name) DO UPDATE
    SET incarnation = excluded.incarnation, shares = excluded.shares, version = excluded.version,
        joined_at = excluded.joined_at, beat_at = excluded.beat_at
    RETURNING clock_timestamp() AS now";

#[async_trait]
impl Nodes for PostgresStore {
    async fn join(&self, node: &NodeRow) -> Result<Joined, StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            // One at a time, and no beat meanwhile: whoever is found gone stays so to the end.
            self.take_turn(&mut tx, "nodes").await?;
            self.query("SELECT FROM @.nodes ORDER BY name FOR UPDATE")
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            if let Some(alone) = self.in_the_way(&mut tx, node).await? {
                tx.rollback().await.map_err(failed)?;
                return Ok(alone);
            }
            self.query(DISPLACE)
                .bind(&node.name)
                .bind(node.shares)
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            let row = self
                .query(TAKE_PLACE)
                .bind(&node.name)
                .bind(Uuid::from_bytes(node.incarnation))
                .bind(node.shares)
                .bind(&node.version)
                .fetch_one(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            Ok(Joined::Yes { now: column::moment(&row, "now")? })
        })
        .await
    }

    async fn beat(&self) -> Result<WallMs, StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            let row = self
                .query(
                    "UPDATE @.nodes SET beat_at = clock_timestamp()
                     WHERE name = $1 AND incarnation = $2
                     RETURNING clock_timestamp() AS now",
                )
                .bind(&self.node.name)
                .bind(self.incarnation)
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            let Some(row) = row else {
                tx.rollback().await.map_err(failed)?;
                return Err(StoreError::MarkLapsed);
            };
            if self.beats.fetch_add(1, Ordering::Relaxed).is_multiple_of(PRUNE_EVERY) {
                self.prune_changes(&mut tx).await?;
            }
            tx.commit().await.map_err(failed)?;
            column::moment(&row, "now")
        })
        .await
    }

    async fn leave(&self) -> Result<(), StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            self.query("DELETE FROM @.nodes WHERE name = $1 AND incarnation = $2")
                .bind(&self.node.name)
                .bind(self.incarnation)
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)
        })
        .await
    }
}

impl PostgresStore {
    async fn in_the_way(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        node: &NodeRow,
    ) -> Result<Option<Joined>, StoreError> {
        let other = self
            .query(IN_THE_WAY)
            .bind(&node.name)
            .bind(node.shares)
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed)?;
        let Some(row) = other else {
            return Ok(None);
        };
        let seen: i64 = column::plain(&row, "seen_ms_ago")?;
        Ok(Some(Joined::Alone {
            other: column::plain(&row, "name")?,
            seen_ms_ago: u64::try_from(seen).unwrap_or(0),
        }))
    }
}
