//! `bus_events`.

use async_trait::async_trait;
use edgeward_core::time::WallMs;
use edgeward_store::durable::Events;
use edgeward_store::{Event, EventKind, StoreError};
use edgeward_wire::{AgentId, OwnerId, SessionIdHash, TraceId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use crate::SqliteStore;
use crate::column;
use crate::error::failed;

impl SqliteStore {
    /// Writes an event within the transaction of what it tells of.
    pub(crate) async fn tell(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        event: &Event,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO bus_events
             (occurred_at, type, agent_id, owner_user_id, trace_id, node, payload)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(column::to_ms(event.occurred_at))
        .bind(event.kind.as_str())
        .bind(event.agent.map(|agent| agent.to_string()))
        .bind(event.owner.as_ref().map(OwnerId::as_str))
        .bind(event.trace.to_string())
        .bind(&self.node)
        .bind(column::to_json(&event.payload)?)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        Ok(())
    }
}

#[async_trait]
impl Events for SqliteStore {
    async fn record(&self, events: &[Event]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for event in events {
            self.tell(&mut tx, event).await?;
        }
        tx.commit().await.map_err(failed)
    }

    async fn newest_events(&self, limit: u32) -> Result<Vec<Event>, StoreError> {
        let rows = sqlx::query("SELECT * FROM bus_events ORDER BY id DESC LIMIT ?")
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await
            .map_err(failed)?;
        rows.iter().map(read_event).collect()
    }

    async fn sessions_ended_since(
        &self,
        since: WallMs,
    ) -> Result<Vec<(AgentId, SessionIdHash)>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM bus_events
             WHERE type = 'agent_session_ended' AND occurred_at >= ? ORDER BY id",
        )
        .bind(column::to_ms(since))
        .fetch_all(&self.readers)
        .await
        .map_err(failed)?;
        let ended = rows.iter().map(|row| Ok(read_event(row)?.ended_session()));
        ended.filter_map(Result::transpose).collect()
    }
}

fn read_event(row: &SqliteRow) -> Result<Event, StoreError> {
    Ok(Event {
        occurred_at: column::moment(row, "occurred_at")?,
        kind: column::text(row, "type", EventKind::parse)?,
        agent: column::text_or_none(row, "agent_id", column::agent_id)?,
        owner: column::text_or_none(row, "owner_user_id", |text| OwnerId::parse(text).ok())?,
        trace: column::text(row, "trace_id", |text| TraceId::parse(text).ok())?,
        payload: column::text(row, "payload", column::json)?,
    })
}
