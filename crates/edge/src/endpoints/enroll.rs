//! Enrolment: an owner is given a code, and whoever holds it completes with a device key.

use std::sync::Arc;
use std::time::Duration;

use edgeward_core::Rejection;
use edgeward_core::address::AddressList;
use edgeward_core::enroll::{Completion, Grant};
use edgeward_core::read::credentials::{Shaped, read_bearer};
use edgeward_core::read::json;
use edgeward_core::record::{Agent, Standing};
use edgeward_core::rejection::Dependency;
use edgeward_core::time::Now;
use edgeward_core::verify::owner::Owner;
use edgeward_keys::Purpose;
use edgeward_store::durable::{EnrollmentRow, NewAgent, Redeemed, SecretRow, SecretStatus};
use edgeward_store::{Event, EventKind};
use edgeward_wire::api::{
    EnrollChallenge, EnrollChallenged, EnrollComplete, EnrollStart, EnrollStarted, Enrolled,
};
use edgeward_wire::{AgentId, AgentSecret, Challenge, EnrollCode};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::agent::{object, unavailable};
use crate::answer::{self, Answer};
use crate::body::{self, BodyMemory};
use crate::edge::{Edge, Journey};
use crate::streams::CutReason;

/// How long a body of the control plane may take.
const BODY_WITHIN: Duration = Duration::from_secs(60);

async fn typed<T: DeserializeOwned>(
    incoming: Incoming,
    memory: &BodyMemory,
) -> Result<T, Rejection> {
    let limit = edgeward_core::policy::MAX_CONTROL_BODY;
    let body = body::read(incoming, limit, BODY_WITHIN, memory).await?;
    json::body(body.bytes()).map_err(|fault| Rejection::Malformed(fault.into()))
}

impl Edge {
    /// `POST /agent/enroll/start`.
    pub(crate) async fn enroll_start(
        self: &Arc<Self>,
        shaped: Shaped,
        incoming: Incoming,
        journey: &Journey,
    ) -> Result<Answer, Rejection> {
        let token = read_bearer(shaped.headers())?.ok_or(Rejection::OwnerTokenRequired)?;
        let keys = self
            .owner_keys
            .as_ref()
            .ok_or(Rejection::OwnerNotAllowed("this deployment knows no owners"))?;
        let owner = keys.verify_owner(&token, &self.owner_rules, journey.began).await?;
        let asked: EnrollStart = typed(incoming, &self.body_memory).await?;
        let anew = asked.agent_id;
        let grant = Grant::judge(&owner, asked)?;
        self.check_owner_of(&owner, anew).await?;

        let code = EnrollCode::from_random(self.random()?);
        let challenge = Challenge::from_random(&self.random()?);
        let now = self.clock.now();
        let row = EnrollmentRow {
            code_hash: code.hash(),
            challenge: challenge.clone(),
            owner: owner.id().clone(),
            grant,
            agent: anew,
            expires_at: now.wall.plus(self.lifetimes.code_ms),
        };
        let event = Event {
            occurred_at: now.wall,
            kind: EventKind::AgentEnrollStarted,
            agent: anew,
            owner: Some(owner.id().clone()),
            trace: journey.trace,
            payload: object(json!({"scopes": row.grant.scopes, "alias": row.grant.alias})),
        };
        self.durable
            .start_enrollment(row, event)
            .await
            .map_err(|error| unavailable(error, Dependency::Database))?;
        Ok(answer::json(&EnrollStarted {
            enroll_code: code.shown(),
            challenge,
            expires_in_sec: self.lifetimes.code_ms / 1000,
            enroll_url: format!(
                "{}{}/agent/enroll/complete",
                journey.policy.issuer, journey.policy.base_path
            ),
        }))
    }

    /// An agent to be enrolled anew is the owner's own; a new one must be within the owner's cap.
    async fn check_owner_of(&self, owner: &Owner, anew: Option<AgentId>) -> Result<(), Rejection> {
        let down = |error| unavailable(error, Dependency::Database);
        if let Some(id) = anew {
            let row = self.durable.agent(id).await.map_err(down)?;
            return match row {
                Some(row) if row.owner == *owner.id() && row.standing != Standing::Retired => {
                    Ok(())
                }
                Some(_) | None => {
                    Err(Rejection::OwnerNotAllowed("agent_id is not an agent of this owner"))
                }
            };
        }
        let count = self.durable.count_agents(owner.id()).await.map_err(down)?;
        match self.owner_rules.max_agents {
            Some(cap) if count >= cap => Err(TOO_MANY_AGENTS),
            Some(_) | None => Ok(()),
        }
    }

    /// `POST /agent/enroll/challenge`.
    pub(crate) async fn enroll_challenge(
        self: &Arc<Self>,
        incoming: Incoming,
        journey: &Journey,
    ) -> Result<Answer, Rejection> {
        let asked: EnrollChallenge = typed(incoming, &self.body_memory).await?;
        let code = EnrollCode::parse(&asked.enroll_code).map_err(|_| Rejection::EnrollCode)?;
        let row = self.live_enrollment(&code, journey.began).await?;
        Ok(answer::json(&EnrollChallenged {
            challenge: row.challenge,
            expires_in_sec: row.expires_at.since(journey.began.wall) / 1000,
            owner_user_id: row.owner,
            scopes: row.grant.scopes,
        }))
    }

    async fn live_enrollment(
        &self,
        code: &EnrollCode,
        now: Now,
    ) -> Result<EnrollmentRow, Rejection> {
        self.durable
            .live_enrollment(&code.hash(), now.wall)
            .await
            .map_err(|error| unavailable(error, Dependency::Database))?
            .ok_or(Rejection::EnrollCode)
    }

    /// `POST /agent/enroll/complete`.
    pub(crate) async fn enroll_complete(
        self: &Arc<Self>,
        incoming: Incoming,
        journey: &Journey,
    ) -> Result<Answer, Rejection> {
        let asked: EnrollComplete = typed(incoming, &self.body_memory).await?;
        let completion = Completion::judge(asked)?;
        let code_hash = completion.code.hash();
        let row = self.live_enrollment(&completion.code, self.clock.now()).await?;
        let pinned = row.grant.key_thumbprint.as_deref();
        let proven = match completion.prove(&journey.policy.audience, &row.challenge, pinned) {
            Ok(proven) => proven,
            Err(rejection) => {
                let counted = self.durable.count_wrong_completion(&code_hash).await;
                counted.map_err(|error| unavailable(error, Dependency::Database))?;
                return Err(rejection);
            }
        };
        if !AddressList::new(&row.grant.allowed_cidrs).allows(journey.client) {
            return Err(Rejection::AgentAddress);
        }
        // A caller that hangs up now must not keep a revocation from following its re-enrolment.
        let (edge, journey) = (Arc::clone(self), journey.clone());
        Self::to_the_end(async move { edge.make_agent(row, proven.completion, &journey).await })
            .await
    }

    /// The device key has signed: the code is redeemed, once.
    async fn make_agent(
        &self,
        row: EnrollmentRow,
        completion: Completion,
        journey: &Journey,
    ) -> Result<Answer, Rejection> {
        let down = |error| unavailable(error, Dependency::Database);
        let now = self.clock.now();
        let id = match row.agent {
            Some(id) => id,
            None => AgentId::new_v7(now.wall.0, self.random()?),
        };
        let secret = AgentSecret::from_random(&self.random()?);
        let version = self.durable.next_secret_version(id).await.map_err(down)?;
        let secret_row = self.secret_row(id, version, &secret, now)?;
        let secret_expires_at_ms = secret_row.expires_at.0;
        let thumbprint = completion.key.thumbprint();
        let event = Event {
            occurred_at: now.wall,
            kind: EventKind::AgentEnrollCompleted,
            agent: Some(id),
            owner: Some(row.owner.clone()),
            trace: journey.trace,
            payload: object(json!({
                "key_thumbprint": thumbprint,
                "anew": row.agent.is_some(),
                "source": journey.client.to_string(),
            })),
        };
        let agent = NewAgent {
            id,
            device_key: completion.key,
            alias: completion.alias,
            platform: completion.platform,
            secret: secret_row,
        };
        let redeemed = self
            .durable
            .redeem_code(&row.code_hash, agent, self.owner_rules.max_agents, event, now.wall)
            .await;
        // Also when the answer is an error: it may have been written all the same.
        if row.agent.is_some() && !matches!(redeemed, Ok(Redeemed::Gone | Redeemed::TooManyAgents))
        {
            self.revoke(id, CutReason::Reenrolled).await;
        }
        let epoch = match redeemed.map_err(down)? {
            Redeemed::Done { epoch } => epoch,
            Redeemed::Gone => return Err(Rejection::EnrollCode),
            Redeemed::TooManyAgents => return Err(TOO_MANY_AGENTS),
        };
        self.enrolled(row, id, epoch, secret, version, secret_expires_at_ms, now)
    }

    fn secret_row(
        &self,
        id: AgentId,
        version: u32,
        secret: &AgentSecret,
        now: Now,
    ) -> Result<SecretRow, Rejection> {
        let sealed = self
            .sealer
            .seal(Purpose::AgentSecret, id.as_bytes(), version, secret.expose().as_bytes())
            .map_err(|error| {
                tracing::error!(%error, "a secret could not be sealed");
                Rejection::Unavailable(Dependency::Keys)
            })?;
        Ok(SecretRow {
            version,
            sealed,
            fingerprint: secret.fingerprint(),
            status: SecretStatus::Active,
            activated_at: Some(now.wall),
            grace_until: None,
            expires_at: now.wall.plus(self.lifetimes.secret_ms),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the answer names all of them, once")]
    fn enrolled(
        &self,
        row: EnrollmentRow,
        id: AgentId,
        epoch: u64,
        secret: AgentSecret,
        version: u32,
        secret_expires_at_ms: u64,
        now: Now,
    ) -> Result<Answer, Rejection> {
        let policy = self.policy.load();
        let agent = Agent {
            id,
            owner: row.owner,
            standing: Standing::Active,
            epoch,
            allowed: AddressList::default(),
            scopes: row.grant.scopes.into(),
            rate: None,
            legacy: false,
            device_key: None,
            newest_version: Some(version),
            secrets: [].into(),
        };
        let expires_at = now.wall.plus(policy.jwt_ttl_ms);
        let agent_jwt = self.mint(&agent, expires_at, now)?;
        Ok(answer::json(&Enrolled {
            agent_id: id,
            agent_secret: secret,
            secret_version: version,
            secret_expires_at_ms,
            agent_jwt,
            jwt_expires_in_sec: policy.jwt_ttl_ms / 1000,
            owner_user_id: agent.owner.clone(),
            scopes: agent.scopes.to_vec(),
            audience: policy.audience.to_string(),
        }))
    }
}

const TOO_MANY_AGENTS: Rejection =
    Rejection::OwnerNotAllowed("the owner has as many agents as allowed");
