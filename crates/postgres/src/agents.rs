//! `agent_devices` and `agent_tokens`.

use async_trait::async_trait;
use edgeward_core::limit::gcra::Rate;
use edgeward_store::StoreError;
use edgeward_store::durable::{AgentRow, Agents, Sealed, SecretRow};
use edgeward_wire::{AgentId, DevicePublicKey, OwnerId};
use serde::Deserialize;
use sqlx::postgres::PgRow;

use crate::PostgresStore;
use crate::column;
use crate::error::failed;

#[async_trait]
impl Agents for PostgresStore {
    async fn agent(&self, id: AgentId) -> Result<Option<AgentRow>, StoreError> {
        self.within(async {
            // As of one moment, so that the secrets are those of this epoch.
            let mut tx = self.read().await?;
            let device = self
                .query("SELECT * FROM @.agent_devices WHERE id = $1")
                .bind(column::uuid(id))
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            let Some(device) = device else {
                tx.commit().await.map_err(failed)?;
                return Ok(None);
            };
            let secrets = self
                .query("SELECT * FROM @.agent_tokens WHERE agent_id = $1 ORDER BY version DESC")
                .bind(column::uuid(id))
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            let secrets = secrets.iter().map(read_secret).collect::<Result<_, _>>()?;
            read_agent(&device, secrets).map(Some)
        })
        .await
    }

    async fn count_agents(&self, owner: &OwnerId) -> Result<u64, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let count: i64 = self
                .scalar(COUNT)
                .bind(owner.as_str())
                .fetch_one(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            u64::try_from(count).map_err(|_| column::unreadable("count"))
        })
        .await
    }
}

/// How many agents of an owner are not retired.
pub(crate) const COUNT: &str =
    "SELECT count(*) FROM @.agent_devices WHERE user_id = $1 AND status <> 'retired'";

#[derive(Deserialize)]
struct RateColumn {
    per_sec: u32,
    burst: u32,
}

fn read_agent(row: &PgRow, secrets: Vec<SecretRow>) -> Result<AgentRow, StoreError> {
    let rate = column::json_or_none::<RateColumn>(row, "rate")?;
    Ok(AgentRow {
        id: column::agent_id(row, "id")?,
        owner: column::text(row, "user_id", column::owner)?,
        alias: column::plain(row, "alias")?,
        platform: column::plain(row, "platform")?,
        device_key: read_key(row)?,
        standing: column::text(row, "status", column::standing)?,
        epoch: column::number(row, "epoch")?,
        allowed_cidrs: column::plain(row, "allowed_cidrs")?,
        scopes: column::scopes(row, "scopes")?,
        rate: rate.map(|RateColumn { per_sec, burst }| Rate { per_sec, burst }),
        legacy: column::plain(row, "legacy")?,
        metadata: column::json(row, "metadata")?,
        created_at: column::moment(row, "created_at")?,
        secrets,
    })
}

fn read_key(row: &PgRow) -> Result<Option<DevicePublicKey>, StoreError> {
    let jwk: Option<serde_json::Value> = column::json_or_none(row, "public_key")?;
    jwk.map(|jwk| DevicePublicKey::read(&jwk).map_err(|_| column::unreadable("public_key")))
        .transpose()
}

fn read_secret(row: &PgRow) -> Result<SecretRow, StoreError> {
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
