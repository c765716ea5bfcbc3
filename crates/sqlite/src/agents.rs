//! `agent_devices` and `agent_tokens`.

use async_trait::async_trait;
use edgeward_core::limit::gcra::Rate;
use edgeward_store::StoreError;
use edgeward_store::durable::{AgentRow, Agents, Sealed, SecretRow};
use edgeward_wire::{AgentId, DevicePublicKey, OwnerId};
use serde::Deserialize;
use sqlx::sqlite::SqliteRow;

use crate::SqliteStore;
use crate::column;
use crate::error::failed;

#[async_trait]
impl Agents for SqliteStore {
    async fn agent(&self, id: AgentId) -> Result<Option<AgentRow>, StoreError> {
        // One transaction, so that the secrets are those of this epoch.
        let mut tx = self.readers.begin().await.map_err(failed)?;
        let device = sqlx::query("SELECT * FROM agent_devices WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?;
        let Some(device) = device else {
            return Ok(None);
        };
        let secrets =
            sqlx::query("SELECT * FROM agent_tokens WHERE agent_id = ? ORDER BY version DESC")
                .bind(id.to_string())
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?;
        let secrets = secrets.iter().map(read_secret).collect::<Result<_, _>>()?;
        read_agent(&device, secrets).map(Some)
    }

    async fn count_agents(&self, owner: &OwnerId) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(COUNT)
            .bind(owner.as_str())
            .fetch_one(&self.readers)
            .await
            .map_err(failed)?;
        u64::try_from(count).map_err(|_| column::unreadable("count"))
    }
}

/// How many agents of an owner are not retired.
pub(crate) const COUNT: &str =
    "SELECT count(*) FROM agent_devices WHERE user_id = ? AND status <> 'retired'";

#[derive(Deserialize)]
struct RateColumn {
    per_sec: u32,
    burst: u32,
}

fn read_agent(row: &SqliteRow, secrets: Vec<SecretRow>) -> Result<AgentRow, StoreError> {
    let rate = column::text_or_none(row, "rate", column::json::<RateColumn>)?;
    Ok(AgentRow {
        id: column::text(row, "id", column::agent_id)?,
        owner: column::text(row, "user_id", |text| OwnerId::parse(text).ok())?,
        alias: column::plain(row, "alias")?,
        platform: column::plain(row, "platform")?,
        device_key: column::text_or_none(row, "public_key", read_key)?,
        standing: column::text(row, "status", column::standing)?,
        epoch: column::number(row, "epoch")?,
        allowed_cidrs: column::text(row, "allowed_cidrs", column::json)?,
        scopes: column::text(row, "scopes", column::json)?,
        rate: rate.map(|RateColumn { per_sec, burst }| Rate { per_sec, burst }),
        legacy: column::number::<i64>(row, "legacy")? != 0,
        metadata: column::text(row, "metadata", column::json)?,
        created_at: column::moment(row, "created_at")?,
        secrets,
    })
}

fn read_key(text: &str) -> Option<DevicePublicKey> {
    DevicePublicKey::read(&column::json(text)?).ok()
}

fn read_secret(row: &SqliteRow) -> Result<SecretRow, StoreError> {
    Ok(SecretRow {
        version: column::number(row, "version")?,
        sealed: Sealed(column::plain(row, "sealed")?),
        fingerprint: column::plain(row, "fingerprint")?,
        status: column::text(row, "status", column::secret_status)?,
        activated_at: column::moment_or_none(row, "activated_at")?,
        grace_until: column::moment_or_none(row, "grace_until")?,
        expires_at: column::moment(row, "expires_at")?,
    })
}
