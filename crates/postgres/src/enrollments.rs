//! `enrollments`, and the agents that codes make.

use async_trait::async_trait;
use edgeward_core::enroll::{Grant, MAX_WRONG_COMPLETIONS};
use edgeward_core::time::WallMs;
use edgeward_store::durable::{EnrollmentRow, Enrollments, NewAgent, Redeemed, SecretRow};
use edgeward_store::fleet::Changed;
use edgeward_store::{Event, StoreError};
use edgeward_wire::{AgentId, Challenge, OwnerId, Scope};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Postgres, Transaction};

use crate::column::{self, Moment};
use crate::error::{corrupt, failed};
use crate::{PostgresStore, agents};

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
impl Enrollments for PostgresStore {
    async fn start_enrollment(&self, row: EnrollmentRow, event: Event) -> Result<(), StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            self.query(
                "INSERT INTO @.enrollments
                 (code_hash, challenge, owner_user_id, agent_grant, agent_id, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(row.code_hash.to_vec())
            .bind(row.challenge.as_str().to_owned())
            .bind(row.owner.as_str().to_owned())
            .bind(write_grant(row.grant)?)
            .bind(row.agent.map(column::uuid))
            .bind(Moment(row.expires_at))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
            self.tell(&mut tx, &event).await?;
            tx.commit().await.map_err(failed)
        })
        .await
    }

    async fn live_enrollment(
        &self,
        code_hash: &[u8; 32],
        now: WallMs,
    ) -> Result<Option<EnrollmentRow>, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let row = self
                .query(
                    "SELECT * FROM @.enrollments WHERE code_hash = $1
                     AND used_at IS NULL AND expires_at > $2 AND wrong_completions < $3",
                )
                .bind(&code_hash[..])
                .bind(Moment(now))
                .bind(i64::from(MAX_WRONG_COMPLETIONS))
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            row.as_ref().map(read_enrollment).transpose()
        })
        .await
    }

    async fn count_wrong_completion(&self, code_hash: &[u8; 32]) -> Result<(), StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            self.query(
                "UPDATE @.enrollments SET wrong_completions = wrong_completions + 1
                 WHERE code_hash = $1 AND wrong_completions < $2",
            )
            .bind(&code_hash[..])
            .bind(i64::from(MAX_WRONG_COMPLETIONS))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
            tx.commit().await.map_err(failed)
        })
        .await
    }

    async fn next_secret_version(&self, agent: AgentId) -> Result<u32, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let row = self
                .query(
                    "SELECT coalesce(max(version), 0) + 1 AS version FROM @.agent_tokens
                     WHERE agent_id = $1",
                )
                .bind(column::uuid(agent))
                .fetch_one(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            column::number(&row, "version")
        })
        .await
    }

    async fn redeem_code(
        &self,
        code_hash: &[u8; 32],
        agent: NewAgent,
        max_agents: Option<u64>,
        event: Event,
        now: WallMs,
    ) -> Result<Redeemed, StoreError> {
        self.within(async {
            // Without a commit, nothing of it stands.
            let mut tx = self.write().await?;
            let Some(row) = self.use_up(&mut tx, code_hash, now).await? else {
                tx.rollback().await.map_err(failed)?;
                return Ok(Redeemed::Gone);
            };
            let is_new = row.agent.is_none();
            let epoch = match row.agent {
                Some(id) if id == agent.id => self.renew_agent(&mut tx, &row, &agent).await?,
                Some(_) => return Err(corrupt("the code is for another agent")),
                None => {
                    if self.has_no_room(&mut tx, &row.owner, max_agents).await? {
                        tx.rollback().await.map_err(failed)?;
                        return Ok(Redeemed::TooManyAgents);
                    }
                    self.insert_agent(&mut tx, &row, &agent, now).await?
                }
            };
            self.insert_secret(&mut tx, agent.id, agent.secret).await?;
            self.tell(&mut tx, &event).await?;
            // Nobody has read anything of a new agent that could be void by now. Without a place in the
            // log enrolments of many do not wait for one another, and no block waits for them.
            if !is_new {
                self.note(&mut tx, Changed::Agent(agent.id)).await?;
            }
            tx.commit().await.map_err(failed)?;
            Ok(Redeemed::Done { epoch })
        })
        .await
    }
}

impl PostgresStore {
    /// The one statement that decides who redeems a code: others wait for its row, and find the code
    /// used.
    async fn use_up(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        code_hash: &[u8; 32],
        now: WallMs,
    ) -> Result<Option<EnrollmentRow>, StoreError> {
        let row = self
            .query(
                "UPDATE @.enrollments SET used_at = $2
                 WHERE code_hash = $1 AND used_at IS NULL AND expires_at > $2
                       AND wrong_completions < $3
                 RETURNING *",
            )
            .bind(code_hash.to_vec())
            .bind(Moment(now))
            .bind(i64::from(MAX_WRONG_COMPLETIONS))
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed)?;
        row.as_ref().map(read_enrollment).transpose()
    }

    /// Whether the owner has as many agents as allowed. No other transaction can add one to this owner
    /// before this one has ended.
    async fn has_no_room(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        owner: &OwnerId,
        max_agents: Option<u64>,
    ) -> Result<bool, StoreError> {
        // Whether this one is bounded or not: a bounded one must count all others.
        self.take_turn(tx, &format!("owner.{owner}")).await?;
        let Some(most) = max_agents else {
            return Ok(false);
        };
        let count: i64 = self
            .scalar(agents::COUNT)
            .bind(owner.as_str().to_owned())
            .fetch_one(&mut **tx)
            .await
            .map_err(failed)?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX) >= most)
    }

    /// A new agent, at its first epoch.
    async fn insert_agent(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        row: &EnrollmentRow,
        agent: &NewAgent,
        now: WallMs,
    ) -> Result<u64, StoreError> {
        self.query(
            "INSERT INTO @.agent_devices
             (id, user_id, alias, platform, public_key, status, epoch, allowed_cidrs, scopes,
              metadata, created_at)
             VALUES ($1, $2, $3, $4, $5, 'active', 1, $6, $7, $8, $9)",
        )
        .bind(column::uuid(agent.id))
        .bind(row.owner.as_str().to_owned())
        .bind(agent.alias.clone().or_else(|| row.grant.alias.clone()))
        .bind(agent.platform.clone().or_else(|| row.grant.platform.clone()))
        .bind(column::to_json(&agent.device_key.jwk())?)
        .bind(row.grant.allowed_cidrs.clone())
        .bind(column::scope_names(&row.grant.scopes))
        .bind(column::to_json(&row.grant.metadata)?)
        .bind(Moment(now))
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        Ok(1)
    }

    /// An agent that is enrolled anew: what it had is void, its standing stays. It holds a device key
    /// and a secret of this version now, so it is no longer one that signs in the older way.
    async fn renew_agent(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        row: &EnrollmentRow,
        agent: &NewAgent,
    ) -> Result<u64, StoreError> {
        let renewed = self
            .query(
                "UPDATE @.agent_devices
                 SET alias = $3, platform = $4, public_key = $5, allowed_cidrs = $6, scopes = $7,
                     metadata = $8, legacy = false, epoch = epoch + 1
                 WHERE id = $1 AND user_id = $2
                 RETURNING epoch",
            )
            .bind(column::uuid(agent.id))
            .bind(row.owner.as_str().to_owned())
            .bind(agent.alias.clone().or_else(|| row.grant.alias.clone()))
            .bind(agent.platform.clone().or_else(|| row.grant.platform.clone()))
            .bind(column::to_json(&agent.device_key.jwk())?)
            .bind(row.grant.allowed_cidrs.clone())
            .bind(column::scope_names(&row.grant.scopes))
            .bind(column::to_json(&row.grant.metadata)?)
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed)?;
        let renewed =
            renewed.ok_or_else(|| corrupt("the code is for an agent of another owner"))?;
        self.query(
            "UPDATE @.agent_tokens SET status = 'retired'
             WHERE agent_id = $1 AND status NOT IN ('retired', 'compromised')",
        )
        .bind(column::uuid(agent.id))
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        column::number(&renewed, "epoch")
    }

    async fn insert_secret(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        agent: AgentId,
        secret: SecretRow,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO @.agent_tokens
             (agent_id, version, sealed, fingerprint, status, activated_at, grace_until, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(column::uuid(agent))
        .bind(i64::from(secret.version))
        .bind(secret.sealed.0)
        .bind(secret.fingerprint)
        .bind(column::secret_status_name(secret.status))
        .bind(column::moment_or_null(secret.activated_at))
        .bind(column::moment_or_null(secret.grace_until))
        .bind(Moment(secret.expires_at))
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        Ok(())
    }
}

fn write_grant(grant: Grant) -> Result<Json<Value>, StoreError> {
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

fn read_grant(row: &PgRow) -> Result<Grant, StoreError> {
    let grant: GrantColumn = column::json(row, "agent_grant")?;
    let GrantColumn { alias, platform, scopes, allowed_cidrs, metadata, key_thumbprint } = grant;
    Ok(Grant { alias, platform, scopes, allowed_cidrs, metadata, key_thumbprint })
}

fn read_enrollment(row: &PgRow) -> Result<EnrollmentRow, StoreError> {
    Ok(EnrollmentRow {
        code_hash: column::bytes(row, "code_hash")?,
        challenge: column::text(row, "challenge", |text| Challenge::parse(text).ok())?,
        owner: column::text(row, "owner_user_id", column::owner)?,
        grant: read_grant(row)?,
        agent: column::agent_id_or_none(row, "agent_id")?,
        expires_at: column::moment(row, "expires_at")?,
    })
}
