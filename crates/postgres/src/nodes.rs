//! `nodes`: who is up, by the database's clock.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use edgeward_core::time::WallMs;
use edgeward_store::StoreError;
use edgeward_store::fleet::{Around, Joined, NodeRow, Nodes, Other};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresStore;
use crate::column;
use crate::error::failed;

/// The log of changes is pruned at the first beat and at every so many after it.
const PRUNE_EVERY: u32 = 60;

/// The other nodes that are up, $1 being this one: for 10 s after their last beat.
///
/// One that shares a store may go on for 300 s with that alone, where it has lost the database only, so
/// that it counts as up for longer before a node that remembers by itself. Before one that shares
/// another store it does not: a Redis that has lost everything is another store too, and a deployment
/// whose nodes were killed along with it would not start again for that long.
fn up(beside: Beside) -> String {
    let lasts_ms = match beside {
        Beside::AnySharer => "10000",
        Beside::TheStore => "CASE WHEN shares AND $2::text IS NULL THEN 310000 ELSE 10000 END",
    };
    format!(
        "SELECT name, coalesce(store, CASE WHEN shares THEN 'a shared one' END) AS store,
                (extract(epoch FROM clock_timestamp() - beat_at) * 1000)::bigint AS seen_ms_ago,
                {lasts_ms} AS lasts_ms
         FROM @.nodes
         WHERE name <> $1
               AND beat_at > clock_timestamp() - ({lasts_ms}) * interval '1 millisecond'"
    )
}

/// Beside what the others are looked at.
#[derive(Clone, Copy)]
enum Beside {
    /// A node that shares, in whichever store.
    AnySharer,
    /// One that remembers in the store $2, or by itself.
    TheStore,
}

/// One of them that remembers by itself.
const ALONE: &str = " AND NOT shares ORDER BY beat_at DESC LIMIT 1";

/// One of them that must not be up beside this one, which remembers in the store $2.
const IN_THE_WAY: &str = " AND NOT coalesce(store = $2, false) ORDER BY beat_at DESC LIMIT 1";

/// Those that remember elsewhere lose their place where they are not up, so that none of them comes
/// back beside this one; and so does whoever has not been heard of for a day.
const DISPLACE: &str = "
    DELETE FROM @.nodes
    WHERE name <> $1
          AND (NOT coalesce(store = $2, false)
               OR beat_at < clock_timestamp() - interval '1 day')";

const TAKE_PLACE: &str = "
    INSERT INTO @.nodes (name, incarnation, store, shares, version, joined_at, beat_at)
    VALUES ($1, $2, $3, $3 IS NOT NULL, $4, clock_timestamp(), clock_timestamp())
    ON CONFLICT (name) DO UPDATE
    SET incarnation = excluded.incarnation, store = excluded.store, shares = excluded.shares,
        version = excluded.version, joined_at = excluded.joined_at, beat_at = excluded.beat_at
    RETURNING clock_timestamp() AS now";

#[async_trait]
impl Nodes for PostgresStore {
    async fn look_around(&self) -> Result<Around, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let other = self
                .query_of(&format!("{}{ALONE}", up(Beside::AnySharer)))
                .bind(&self.node.name)
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            let clock = self
                .query("SELECT clock_timestamp() AS now")
                .fetch_one(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            let alone = other.as_ref().map(read_other).transpose()?;
            Ok(Around { now: column::moment(&clock, "now")?, alone })
        })
        .await
    }

    async fn join(&self, node: &NodeRow) -> Result<Joined, StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            // One at a time, and no beat meanwhile: whoever is found gone stays so to the end.
            self.take_turn(&mut tx, "nodes").await?;
            self.query("SELECT FROM @.nodes ORDER BY name FOR UPDATE")
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            let other = self
                .query_of(&format!("{}{IN_THE_WAY}", up(Beside::TheStore)))
                .bind(&node.name)
                .bind(&node.store)
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            if let Some(other) = other {
                tx.rollback().await.map_err(failed)?;
                return read_other(&other).map(Joined::Apart);
            }
            self.query(DISPLACE)
                .bind(&node.name)
                .bind(&node.store)
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            let row = self
                .query(TAKE_PLACE)
                .bind(&node.name)
                .bind(Uuid::from_bytes(node.incarnation))
                .bind(&node.store)
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
            let mut tx = self.write_urgently().await?;
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

fn read_other(row: &PgRow) -> Result<Other, StoreError> {
    let seen: i64 = column::plain(row, "seen_ms_ago")?;
    let seen_ms_ago = u64::try_from(seen).unwrap_or(0);
    let lasts_ms: i32 = column::plain(row, "lasts_ms")?;
    Ok(Other {
        name: column::plain(row, "name")?,
        store: column::plain(row, "store")?,
        seen_ms_ago,
        gone_in_ms: u64::from(lasts_ms.unsigned_abs()).saturating_sub(seen_ms_ago),
    })
}
