//! `bus_events`.

use async_trait::async_trait;
use edgeward_core::time::WallMs;
use edgeward_store::durable::Events;
use edgeward_store::{Event, EventKind, StoreError};
use edgeward_wire::{AgentId, OwnerId, SessionIdHash, TraceId};
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Transaction};

use crate::PostgresStore;
use crate::column::{self, Moment};
use crate::error::failed;

impl PostgresStore {
    /// Writes an event within the transaction of what it tells of.
    pub(crate) async fn tell(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        event: &Event,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO @.bus_events
             (occurred_at, type, agent_id, owner_user_id, trace_id, node, payload)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(Moment(event.occurred_at))
        .bind(event.kind.as_str())
        .bind(event.agent.map(column::uuid))
        .bind(event.owner.as_ref().map(OwnerId::as_str))
        .bind(event.trace.to_string())
        .bind(&self.node.name)
        .bind(column::to_json(&event.payload)?)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        Ok(())
    }
}

#[async_trait]
impl Events for PostgresStore {
    async fn record(&self, events: &[Event]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        self.within(async {
            let mut tx = self.write().await?;
            for event in events {
                self.tell(&mut tx, event).await?;
            }
            tx.commit().await.map_err(failed)
        })
        .await
    }

    async fn newest_events(&self, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let rows = self
                .query("SELECT * FROM @.bus_events ORDER BY id DESC LIMIT $1")
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            rows.iter().map(read_event).collect()
        })
        .await
    }

    async fn sessions_ended_since(
        &self,
        since: WallMs,
    ) -> Result<Vec<(AgentId, SessionIdHash)>, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let rows = self
                .query(
                    "SELECT * FROM @.bus_events
                     WHERE type = 'agent_session_ended' AND occurred_at >= $1 ORDER BY id",
                )
                .bind(Moment(since))
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            let ended = rows.iter().map(|row| Ok(read_event(row)?.ended_session()));
            ended.filter_map(Result::transpose).collect()
        })
        .await
    }
}

fn read_event(row: &PgRow) -> Result<Event, StoreError> {
    Ok(Event {
        occurred_at: column::moment(row, "occurred_at")?,
        kind: column::text(row, "type", EventKind::parse)?,
        agent: column::agent_id_or_none(row, "agent_id")?,
        owner: column::text_or_none(row, "owner_user_id", column::owner)?,
        trace: column::text(row, "trace_id", |text| TraceId::parse(text).ok())?,
        payload: column::json(row, "payload")?,
    })
}
