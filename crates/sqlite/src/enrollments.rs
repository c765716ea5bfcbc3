//! `enrollments`, and the agents that codes make.

use async_trait::async_trait;
use edgeward_core::enroll::{Grant, MAX_WRONG_COMPLETIONS};
use edgeward_core::time::WallMs;
use edgeward_store::durable::{EnrollmentRow, Enrollments, NewAgent, Redeemed, SecretRow};
use edgeward_store::{Event, StoreError};
use edgeward_wire::{AgentId, Challenge, OwnerId, Scope};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use crate::error::{corrupt, failed};
use crate::{SqliteStore, agents, column};

/// The `agent_grant` column.
#[derive(Serialize, Deserialize)]
struct GrantColumn {
    alias: Option<String>,
    platform: Option<String>,
    scopes: Vec<Scope>,
    allowed_cidrs: Vec<IpNet>,
    metadata: Map<String, Value>,
    key_thumbprint: Option<String>,
}

#[async_trait]
impl Enrollments for SqliteStore {
    async fn start_enrollment(&self, row: EnrollmentRow, event: Event) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO enrollments
             (code_hash, challenge, owner_user_id, agent_grant, agent_id, expires_at)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&row.code_hash[..])
        .bind(row.challenge.as_str())
        .bind(row.owner.as_str())
        .bind(write_grant(row.grant)?)
        .bind(row.agent.map(|agent| agent.to_string()))
        .bind(column::to_ms(row.expires_at))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        self.tell(&mut tx, &event).await?;
        tx.commit().await.map_err(failed)
    }

    async fn live_enrollment(
        &self,
        code_hash: &[u8; 32],
        now: WallMs,
    ) -> Result<Option<EnrollmentRow>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM enrollments WHERE code_hash = ?
             AND used_at IS NULL AND expires_at > ? AND wrong_completions < ?",
        )
        .bind(&code_hash[..])
        .bind(column::to_ms(now))
        .bind(i64::from(MAX_WRONG_COMPLETIONS))
        .fetch_optional(&self.readers)
        .await
        .map_err(failed)?;
        row.as_ref().map(read_enrollment).transpose()
    }

    async fn count_wrong_completion(&self, code_hash: &[u8; 32]) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE enrollments SET wrong_completions = wrong_completions + 1
             WHERE code_hash = ? AND wrong_completions < ?",
        )
        .bind(&code_hash[..])
        .bind(i64::from(MAX_WRONG_COMPLETIONS))
        .execute(&self.writer)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn next_secret_version(&self, agent: AgentId) -> Result<u32, StoreError> {
        let next: i64 = sqlx::query_scalar(
            "SELECT coalesce(max(version), 0) + 1 FROM agent_tokens WHERE agent_id = ?",
        )
        .bind(agent.to_string())
        .fetch_one(&self.readers)
        .await
        .map_err(failed)?;
        u32::try_from(next).map_err(|_| column::unreadable("version"))
    }

    async fn redeem_code(
        &self,
        code_hash: &[u8; 32],
        agent: NewAgent,
        max_agents: Option<u64>,
        event: Event,
        now: WallMs,
    ) -> Result<Redeemed, StoreError> {
        // Dropped without a commit, the transaction leaves nothing.
        let mut tx = self.begin().await?;
        let Some(row) = use_up(&mut tx, code_hash, now).await? else {
            return Ok(Redeemed::Gone);
        };
        let epoch = match row.agent {
            Some(id) if id == agent.id => renew_agent(&mut tx, &row, &agent).await?,
            Some(_) => return Err(corrupt("the code is for another agent")),
            None => {
                if has_no_room(&mut tx, &row.owner, max_agents).await? {
                    return Ok(Redeemed::TooManyAgents);
                }
                insert_agent(&mut tx, &row, &agent, now).await?
            }
        };
        insert_secret(&mut tx, agent.id, agent.secret).await?;
        self.tell(&mut tx, &event).await?;
        tx.commit().await.map_err(failed)?;
        Ok(Redeemed::Done { epoch })
    }
}

/// The one statement that decides who redeems a code.
async fn use_up(
    tx: &mut Transaction<'_, Sqlite>,
    code_hash: &[u8; 32],
    now: WallMs,
) -> Result<Option<EnrollmentRow>, StoreError> {
    let row = sqlx::query(
        "UPDATE enrollments SET used_at = ?
         WHERE code_hash = ? AND used_at IS NULL AND expires_at > ? AND wrong_completions < ?
         RETURNING *",
    )
    .bind(column::to_ms(now))
    .bind(&code_hash[..])
    .bind(column::to_ms(now))
    .bind(i64::from(MAX_WRONG_COMPLETIONS))
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    row.as_ref().map(read_enrollment).transpose()
}

/// Whether the owner has as many agents as allowed. No other transaction can add one meanwhile.
async fn has_no_room(
    tx: &mut Transaction<'_, Sqlite>,
    owner: &OwnerId,
    max_agents: Option<u64>,
) -> Result<bool, StoreError> {
    let Some(most) = max_agents else {
        return Ok(false);
    };
    let count: i64 = sqlx::query_scalar(agents::COUNT)
        .bind(owner.as_str())
        .fetch_one(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(u64::try_from(count).unwrap_or(u64::MAX) >= most)
}

/// A new agent, at its first epoch.
async fn insert_agent(
    tx: &mut Transaction<'_, Sqlite>,
    row: &EnrollmentRow,
    agent: &NewAgent,
    now: WallMs,
) -> Result<u64, StoreError> {
    sqlx::query(
        "INSERT INTO agent_devices
         (id, user_id, alias, platform, public_key, status, epoch, allowed_cidrs, scopes, metadata,
          created_at)
         VALUES (?, ?, ?, ?, ?, 'active', 1, ?, ?, ?, ?)",
    )
    .bind(agent.id.to_string())
    .bind(row.owner.as_str())
    .bind(agent.alias.as_ref().or(row.grant.alias.as_ref()))
    .bind(agent.platform.as_ref().or(row.grant.platform.as_ref()))
    .bind(column::to_json(&agent.device_key.jwk())?)
    .bind(column::to_json(&row.grant.allowed_cidrs)?)
    .bind(column::to_json(&row.grant.scopes)?)
    .bind(column::to_json(&row.grant.metadata)?)
    .bind(column::to_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(1)
}

/// An agent that is enrolled anew: what it had is void, its standing stays. It holds a device key
/// and a secret of this version now, so it is no longer one that signs in the older way.
async fn renew_agent(
    tx: &mut Transaction<'_, Sqlite>,
    row: &EnrollmentRow,
    agent: &NewAgent,
) -> Result<u64, StoreError> {
    let epoch: Option<i64> = sqlx::query_scalar(
        "UPDATE agent_devices
         SET alias = ?, platform = ?, public_key = ?, allowed_cidrs = ?, scopes = ?, metadata = ?,
             legacy = 0, epoch = epoch + 1
         WHERE id = ? AND user_id = ?
         RETURNING epoch",
    )
    .bind(agent.alias.as_ref().or(row.grant.alias.as_ref()))
    .bind(agent.platform.as_ref().or(row.grant.platform.as_ref()))
    .bind(column::to_json(&agent.device_key.jwk())?)
    .bind(column::to_json(&row.grant.allowed_cidrs)?)
    .bind(column::to_json(&row.grant.scopes)?)
    .bind(column::to_json(&row.grant.metadata)?)
    .bind(agent.id.to_string())
    .bind(row.owner.as_str())
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    let epoch = epoch.ok_or_else(|| corrupt("the code is for an agent of another owner"))?;
    sqlx::query(
        "UPDATE agent_tokens SET status = 'retired'
         WHERE agent_id = ? AND status NOT IN ('retired', 'compromised')",
    )
    .bind(agent.id.to_string())
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    u64::try_from(epoch).map_err(|_| column::unreadable("epoch"))
}

async fn insert_secret(
    tx: &mut Transaction<'_, Sqlite>,
    agent: AgentId,
    secret: SecretRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO agent_tokens
         (agent_id, version, sealed, fingerprint, status, activated_at, grace_until, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(agent.to_string())
    .bind(i64::from(secret.version))
    .bind(secret.sealed.0)
    .bind(secret.fingerprint)
    .bind(column::secret_status_name(secret.status))
    .bind(secret.activated_at.map(column::to_ms))
    .bind(secret.grace_until.map(column::to_ms))
    .bind(column::to_ms(secret.expires_at))
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}

fn write_grant(grant: Grant) -> Result<String, StoreError> {
    let Grant { alias, platform, scopes, allowed_cidrs, metadata, key_thumbprint } = grant;
    column::to_json(&GrantColumn {
        alias,
        platform,
        scopes,
        allowed_cidrs,
        metadata,
        key_thumbprint,
    })
}

fn read_grant(text: &str) -> Option<Grant> {
    let grant: GrantColumn = column::json(text)?;
    let GrantColumn { alias, platform, scopes, allowed_cidrs, metadata, key_thumbprint } = grant;
    Some(Grant { alias, platform, scopes, allowed_cidrs, metadata, key_thumbprint })
}

fn read_enrollment(row: &SqliteRow) -> Result<EnrollmentRow, StoreError> {
    Ok(EnrollmentRow {
        code_hash: column::bytes(row, "code_hash")?,
        challenge: column::text(row, "challenge", |text| Challenge::parse(text).ok())?,
        owner: column::text(row, "owner_user_id", |text| OwnerId::parse(text).ok())?,
        grant: column::text(row, "agent_grant", read_grant)?,
        agent: column::text_or_none(row, "agent_id", column::agent_id)?,
        expires_at: column::moment(row, "expires_at")?,
    })
}
