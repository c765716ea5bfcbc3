//! `changes`: what other nodes must hear of, in the order in which it became visible.

use std::sync::PoisonError;

use async_trait::async_trait;
use edgeward_store::StoreError;
use edgeward_store::fleet::{ChangeId, Changed, Changes, Followed};
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

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

/// A line of the log. Its mark is another one for every line: after a restore of an older state, or
/// the loss of the newest lines at a failover, the same ids stand for other changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    id: ChangeId,
    mark: Uuid,
}

impl PostgresStore {
    async fn newest_line(
        &self,
        tx: &mut Transaction<'_, Postgres>,
    ) -> Result<Option<Line>, StoreError> {
        let row = self
            .query("SELECT id, mark FROM @.changes ORDER BY id DESC LIMIT 1")
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed)?;
        row.as_ref().map(read_line).transpose()
    }

    /// Remembers up to which line was told, and says its place.
    fn told(&self, line: Option<Line>) -> ChangeId {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = line;
        line.map_or(ChangeId::default(), |line| line.id)
    }

    /// Whether the line that was told last is there still, and is the same. The log of whoever has
    /// been told of none must hold its first lines still.
    async fn reaches_back_to(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        after: ChangeId,
        place: i64,
    ) -> Result<bool, StoreError> {
        if after == ChangeId::default() {
            // Of lines that were pruned the newest is left, which is as old.
            let pruned: bool = self
                .scalar(
                    "SELECT coalesce(
                         min(id) > 1 AND min(changed_at) < clock_timestamp() - interval '1 day',
                         false)
                     FROM @.changes",
                )
                .fetch_one(&mut **tx)
                .await
                .map_err(failed)?;
            return Ok(!pruned);
        }
        let row = self
            .query("SELECT id, mark FROM @.changes WHERE id = $1")
            .bind(place)
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed)?;
        let Some(row) = row else {
            return Ok(false);
        };
        let line = read_line(&row)?;
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(told.is_none_or(|told| told.id != line.id || told.mark == line.mark))
    }
}

fn read_line(row: &PgRow) -> Result<Line, StoreError> {
    let id = column::number(row, "id").map(ChangeId)?;
    Ok(Line { id, mark: column::plain(row, "mark")? })
}

#[async_trait]
impl Changes for PostgresStore {
    async fn newest_change(&self) -> Result<ChangeId, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let newest = self.newest_line(&mut tx).await?;
            tx.commit().await.map_err(failed)?;
            Ok(self.told(newest))
        })
        .await
    }

    async fn changes_after(&self, after: ChangeId, limit: u32) -> Result<Followed, StoreError> {
        self.within(async {
            let place = i64::try_from(after.0).unwrap_or(i64::MAX);
            let mut tx = self.read_urgently().await?;
            if !self.reaches_back_to(&mut tx, after, place).await? {
                let newest = self.newest_line(&mut tx).await?;
                tx.commit().await.map_err(failed)?;
                return Ok(Followed::Gap { newest: self.told(newest) });
            }
            let rows = self
                .query(
                    "SELECT id, mark, kind, agent_id FROM @.changes
                     WHERE id > $1 ORDER BY id LIMIT $2",
                )
                .bind(place)
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            let changes = rows.iter().map(read_change).collect::<Result<_, _>>()?;
            if let Some(last) = rows.last() {
                self.told(Some(read_line(last)?));
            }
            Ok(Followed::Changes(changes))
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
