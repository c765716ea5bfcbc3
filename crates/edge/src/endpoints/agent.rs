//! Sessions, tokens and the echo: what an agent asks of the edge itself.

use std::sync::Arc;

use edgeward_core::Rejection;
use edgeward_core::flow::{Admission, Ask, Caller};
use edgeward_core::record::Session;
use edgeward_core::rejection::Dependency;
use edgeward_core::time::Now;
use edgeward_keys::AgentTokenClaims;
use edgeward_store::shared::NewSession;
use edgeward_store::{Event, EventKind, StoreError};
use edgeward_wire::api::{Echo, SessionExtended, SessionStarted, TokenRefreshed};
use edgeward_wire::{MacKey, SessionId, SessionKey, SessionSalt};
use serde_json::{Map, Value, json};

use crate::answer::{self, Answer};
use crate::edge::{Edge, Journey};

impl Edge {
    /// `POST /agent/session/start`: the session's event first, then the session, then the answer.
    pub(crate) async fn session_start(
        &self,
        admission: Admission,
        journey: &Journey,
    ) -> Result<Answer, Rejection> {
        let Admission { caller, policy, .. } = admission;
        let agent = &caller.agent;
        let version = caller.secret_version.ok_or(Rejection::WrongSignature)?;
        let secret = agent.secrets.iter().find(|secret| secret.version == version);
        let secret = secret.ok_or(Rejection::WrongSignature)?;
        let id = SessionId::from_random(&self.random()?);
        let salt = SessionSalt::from_random(&self.random()?);
        let key = SessionKey::derive_with(&secret.key, &id, &salt);

        let now = self.clock.now();
        let max_expires_at = now.mono.plus(policy.session_max_ms);
        let expires_at = now.mono.plus(policy.session_ttl_ms).min(max_expires_at);
        let session = Session {
            id: id.hash(),
            agent: agent.id,
            epoch: agent.epoch,
            secret_version: version,
            key: MacKey::of_session(&key),
            expires_at,
            max_expires_at,
        };
        let payload = json!({"session": id.hash().to_string(), "secret_version": version});
        self.record(EventKind::AgentSessionStarted, &caller.agent, payload, journey).await?;
        self.sessions
            .start_session(NewSession {
                session,
                key,
                owner: agent.owner.clone(),
                scopes: Arc::clone(&agent.scopes),
            })
            .await
            .map_err(|error| unavailable(error, Dependency::Sessions))?;
        // The agent may have been revoked while its session was being made.
        let facts = self.facts((None, agent.id), now).await;
        if let Err(rejection) = caller.holds(&facts, now) {
            // Nobody was told of the session; it dies unused even if this fails.
            let _ = self.sessions.end_session(agent.id, &id.hash()).await;
            return Err(rejection);
        }
        Ok(answer::json(&SessionStarted {
            session_id: id,
            session_salt: salt,
            ttl_ms: expires_at.since(now.mono),
            expires_at_ms: now.wall_at(expires_at).0,
            max_expires_at_ms: now.wall_at(max_expires_at).0,
            audience: policy.audience.to_string(),
            require_nonce: policy.require_nonce,
            server_time_ms: now.wall.0,
        }))
    }

    /// `POST /agent/session/extend`: the session and all its streams live on.
    pub(crate) async fn session_extend(
        &self,
        admission: Admission,
        _: &Journey,
    ) -> Result<Answer, Rejection> {
        let session = admission.caller.session.ok_or(Rejection::SessionRequired)?;
        let now = self.clock.now();
        let until = now.mono.plus(admission.policy.session_ttl_ms);
        let extended = self
            .sessions
            .extend_session(session.agent, &session.id, until)
            .await
            .map_err(|error| unavailable(error, Dependency::Sessions))?
            .ok_or(Rejection::SessionUnknown)?;
        self.streams.extend(&session.id, extended.expires_at);
        Ok(answer::json(&SessionExtended {
            ttl_ms: extended.expires_at.since(now.mono),
            expires_at_ms: now.wall_at(extended.expires_at).0,
        }))
    }

    /// `POST /agent/session/end`: first the session, then its streams.
    pub(crate) async fn session_end(
        self: &Arc<Self>,
        admission: Admission,
        journey: &Journey,
    ) -> Result<Answer, Rejection> {
        // A caller that hangs up now has still asked for it.
        let (edge, journey) = (Arc::clone(self), journey.clone());
        Self::to_the_end(async move { edge.end_session(admission.caller, &journey).await }).await
    }

    async fn end_session(&self, caller: Caller, journey: &Journey) -> Result<Answer, Rejection> {
        let session = caller.session.ok_or(Rejection::SessionRequired)?;
        let payload = json!({"session": session.id.to_string(), "reason": "ended_by_agent"});
        self.record(EventKind::AgentSessionEnded, &caller.agent, payload, journey).await?;
        let ended = self.sessions.end_session(session.agent, &session.id).await;
        let cut = self.streams.cut_session(&session.id, self.clock.now().mono);
        tracing::debug!(trace_id = %journey.trace, cut, "a session was ended");
        ended
            .map(|_| answer::no_content())
            .map_err(|error| unavailable(error, Dependency::Sessions))
    }

    /// `POST /agent/token/refresh`: never beyond the session that asks.
    pub(crate) async fn token_refresh(
        &self,
        admission: Admission,
        journey: &Journey,
    ) -> Result<Answer, Rejection> {
        debug_assert!(matches!(admission.ask, Ask::TokenRefresh(_)));
        let now = self.clock.now();
        let caller = admission.caller;
        let mut expires_at = now.wall.plus(admission.policy.jwt_ttl_ms);
        if let Some(session) = &caller.session {
            expires_at = expires_at.min(now.wall_at(session.max_expires_at));
        }
        self.record(EventKind::AgentTokenRefreshed, &caller.agent, json!({}), journey).await?;
        let agent_jwt = self.mint(&caller.agent, expires_at, now)?;
        Ok(answer::json(&TokenRefreshed {
            agent_jwt,
            jwt_expires_in_sec: expires_at.seconds().saturating_sub(now.wall.seconds()),
        }))
    }

    /// `POST /agent/protected/echo`.
    pub(crate) fn echo(&self, admission: &Admission, journey: &Journey) -> Answer {
        let agent = &admission.caller.agent;
        let body = serde_json::from_slice::<Value>(&admission.body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&admission.body).into_owned().into());
        answer::json(&Echo {
            agent_id: agent.id,
            owner_user_id: agent.owner.clone(),
            scopes: agent.scopes.to_vec(),
            trace_id: journey.trace,
            body,
        })
    }

    pub(crate) fn mint(
        &self,
        agent: &edgeward_core::record::Agent,
        expires_at: edgeward_core::time::WallMs,
        now: Now,
    ) -> Result<String, Rejection> {
        let policy = self.policy.load();
        let claims = AgentTokenClaims {
            issuer: &policy.issuer,
            audience: &policy.audience,
            agent: agent.id,
            owner: &agent.owner,
            scopes: &agent.scopes,
            epoch: agent.epoch,
            expires_at,
        };
        self.ring.mint_agent_token(&claims, now.wall).map_err(|error| {
            tracing::error!(%error, "a token could not be minted");
            Rejection::Unavailable(Dependency::Keys)
        })
    }

    /// Random bytes; without entropy nothing is made.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], Rejection> {
        let mut bytes = [0u8; N];
        self.entropy.fill(&mut bytes).map_err(|error| {
            tracing::error!(%error, "no entropy");
            Rejection::Unavailable(Dependency::Keys)
        })?;
        Ok(bytes)
    }

    async fn record(
        &self,
        kind: EventKind,
        agent: &edgeward_core::record::Agent,
        payload: Value,
        journey: &Journey,
    ) -> Result<(), Rejection> {
        let event = Event {
            occurred_at: self.clock.now().wall,
            kind,
            agent: Some(agent.id),
            owner: Some(agent.owner.clone()),
            trace: journey.trace,
            payload: object(payload),
        };
        self.durable
            .record(&[event])
            .await
            .map_err(|error| unavailable(error, Dependency::Database))
    }
}

/// A payload is an object.
pub(crate) fn object(payload: Value) -> Map<String, Value> {
    match payload {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// A store that fails is a 503 and a line in the log, never a 401.
pub(crate) fn unavailable(error: StoreError, dependency: Dependency) -> Rejection {
    tracing::error!(%error, "a store failed");
    Rejection::Unavailable(dependency)
}
