//! `changes`: what other nodes must hear of, in the order in which it became visible.

use async_trait::async_trait;
use edgeward_store::StoreError;
use edgeward_store::fleet::{ChangeId, Changed, Changes, Followed};
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Transaction};

use crate::PostgresStore;
use crate::column;
use crate::error::failed;

impl PostgresStore {
    /// Notes a change within its transaction. To be called last: from here to the end of the
    /// transaction no other one can note any, so that ids become visible in their order and whoever
    /// has read up to one never misses an earlier one.
    pub(crate) async fn note(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        changed: Changed,
    ) -> Result<(), StoreError> {
        let (kind, agent) = match changed {
            Changed::Agent(id) => ("agent", Some(column::uuid(id))),
            Changed::Keys => ("keys", None),
            Changed::Policy => ("policy", None),
        };
        self.take_turn(tx, "changes").await?;
        self.query(
            "WITH noted AS (INSERT INTO @.changes (kind, agent_id) VALUES ($1, $2) RETURNING id)
             SELECT pg_notify($3, id::text) FROM noted",
        )
        .bind(kind)
        .bind(agent)
        .bind(self.schema.channel())
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// Removes what every node has long read, some of it at a time. The newest of the old ones stays,
    /// so that whoever has read up to it still finds its place.
    pub(crate) async fn prune_changes(
        &self,
        tx: &mut Transaction<'_, Postgres>,
    ) -> Result<(), StoreError> {
        self.query(
            "DELETE FROM @.changes WHERE id IN (
                 SELECT id FROM @.changes
                 WHERE id < (
                     SELECT max(id) FROM @.changes
                     WHERE changed_at < clock_timestamp() - interval '1 day')
                 ORDER BY id LIMIT 1000)",
        )
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        Ok(())
    }
}

#[async_trait]
impl Changes for PostgresStore {
    async fn newest_change(&self) -> Result<ChangeId, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let row = self
                .query("SELECT coalesce(max(id), 0) AS newest FROM @.changes")
                .fetch_one(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            column::number(&row, "newest").map(ChangeId)
        })
        .await
    }

    async fn changes_after(&self, after: ChangeId, limit: u32) -> Result<Followed, StoreError> {
        self.within(async {
            let place = i64::try_from(after.0).unwrap_or(i64::MAX);
            let mut tx = self.read().await?;
            let ends = self
                .query(
                    "SELECT coalesce(min(id), 0) AS oldest, coalesce(max(id), 0) AS newest
                     FROM @.changes",
                )
                .fetch_one(&mut *tx)
                .await
                .map_err(failed)?;
            let rows = self
                .query(
                    "SELECT id, kind, agent_id FROM @.changes WHERE id > $1 ORDER BY id LIMIT $2",
                )
                .bind(place)
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            // Whoever was away for a day may have missed some.
            if after != ChangeId::default() && place < column::number(&ends, "oldest")? {
                let newest = column::number(&ends, "newest").map(ChangeId)?;
                return Ok(Followed::Gap { newest });
            }
            rows.iter().map(read_change).collect::<Result<_, _>>().map(Followed::Changes)
        })
        .await
    }

    async fn stirred(&self) {
        self.stirred.notified().await;
    }
}

fn read_change(row: &PgRow) -> Result<(ChangeId, Changed), StoreError> {
    let agent = column::agent_id_or_none(row, "agent_id")?;
    let changed = column::text(row, "kind", |kind| match (kind, agent) {
        ("agent", Some(id)) => Some(Changed::Agent(id)),
        ("keys", None) => Some(Changed::Keys),
        ("policy", None) => Some(Changed::Policy),
        _ => None,
    })?;
    Ok((ChangeId(column::number(row, "id")?), changed))
}
