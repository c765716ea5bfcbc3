//! Bodies of requests and answers. The edge refuses members that it does not know; a client passes
//! over those that a later edge adds.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{AgentId, AgentSecret, Challenge, OwnerId, Scope, SessionId, SessionSalt};

/// `POST /agent/enroll/start`, all optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollStart {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What the agent runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Scopes the agent gets; within the owner's grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// Networks in CIDR form that the agent may call from; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_cidrs: Vec<String>,
    /// Free for the owner.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// RFC 7638 thumbprint of the only key that may complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_thumbprint: Option<String>,
    /// One of the owner's agents, to enrol it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

/// The answer to `enroll/start`.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrollStarted {
    /// The code, as people read it.
    pub enroll_code: String,
    /// The challenge.
    pub challenge: Challenge,
    /// Seconds until both expire.
    pub expires_in_sec: u64,
    /// Where an agent completes.
    pub enroll_url: String,
}

/// `POST /agent/enroll/challenge`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollChallenge {
    /// The code, as typed.
    pub enroll_code: String,
}

/// The answer to `enroll/challenge`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollChallenged {
    /// The challenge.
    pub challenge: Challenge,
    /// Seconds until it expires.
    pub expires_in_sec: u64,
    /// The owner that the agent will belong to.
    pub owner_user_id: OwnerId,
    /// The scopes it will get.
    pub scopes: Vec<Scope>,
}

/// `POST /agent/enroll/complete`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollComplete {
    /// The code, as typed.
    pub enroll_code: String,
    /// A JWK, an SPKI PEM, or a raw Ed25519 key.
    pub public_key: Value,
    /// base64url, 64 bytes, over the enrolment message.
    pub signature: String,
    /// A name for people; replaces that of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What the agent runs on; replaces that of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// The answer to `enroll/complete`: the only one that tells all credentials.
#[derive(Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// The agent's id.
    pub agent_id: AgentId,
    /// Its secret.
    pub agent_secret: AgentSecret,
    /// The secret's version, from 1.
    pub secret_version: u32,
    /// When the secret expires, epoch milliseconds.
    pub secret_expires_at_ms: u64,
    /// A first JWT.
    pub agent_jwt: String,
    /// Seconds until it expires.
    pub jwt_expires_in_sec: u64,
    /// The owner.
    pub owner_user_id: OwnerId,
    /// The agent's scopes.
    pub scopes: Vec<Scope>,
    /// What signatures name as their audience.
    pub audience: String,
}

/// `POST /agent/session/start`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionStart {
    /// If given, the same as `X-Agent-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The device key's signature over this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_proof: Option<String>,
}

/// The answer to `session/start`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionStarted {
    /// The session's id.
    pub session_id: SessionId,
    /// Told once.
    pub session_salt: SessionSalt,
    /// Milliseconds until the session expires unextended.
    pub ttl_ms: u64,
    /// The same as epoch milliseconds.
    pub expires_at_ms: u64,
    /// Beyond this no extension goes, epoch milliseconds.
    pub max_expires_at_ms: u64,
    /// What signatures name as their audience.
    pub audience: String,
    /// Whether every route asks for a nonce.
    pub require_nonce: bool,
    /// The edge's clock, epoch milliseconds.
    pub server_time_ms: u64,
}

/// The answer to `session/extend`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionExtended {
    /// Milliseconds until the session expires unextended.
    pub ttl_ms: u64,
    /// The same as epoch milliseconds.
    pub expires_at_ms: u64,
}

/// `POST /agent/session/extend` and `/agent/session/end`: no members.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// `POST /agent/token/refresh`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRefresh {
    /// The device key's signature over this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_proof: Option<String>,
}

/// The answer to `token/refresh`.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenRefreshed {
    /// The JWT.
    pub agent_jwt: String,
    /// Seconds until it expires.
    pub jwt_expires_in_sec: u64,
}

/// `POST /agent/secret/rotate` and `/agent/secret/pickup`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretChange {
    /// The device key's signature over this request.
    pub device_proof: String,
}

/// The answer to `secret/rotate` and `secret/pickup`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretChanged {
    /// The new secret.
    pub agent_secret: AgentSecret,
    /// Its version.
    pub secret_version: u32,
    /// When it expires, epoch milliseconds.
    pub secret_expires_at_ms: u64,
}

/// The answer to `GET /agent/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, `starting` or `draining`.
    pub status: String,
    /// The edge's version.
    pub version: String,
    /// The edge's clock, epoch milliseconds.
    pub time_ms: u64,
}

/// The answer to `POST /agent/protected/echo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Echo {
    /// The verified agent.
    pub agent_id: AgentId,
    /// Its owner.
    pub owner_user_id: OwnerId,
    /// Its scopes.
    pub scopes: Vec<Scope>,
    /// The request's trace.
    pub trace_id: crate::TraceId,
    /// What was sent: as JSON where it is JSON, else as text.
    pub body: Value,
}

/// `Debug` with the members after the semicolon masked: codes, tokens and proofs are credentials.
macro_rules! masked {
    ($($name:ident { $($shown:ident),*; $($hidden:ident),* })*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($shown), &self.$shown))*
                    $(.field(stringify!($hidden), &format_args!("***")))*
                    .finish()
            }
        }
    )*};
}

masked! {
    EnrollStarted { challenge, expires_in_sec, enroll_url; enroll_code }
    EnrollChallenge { ; enroll_code }
    EnrollComplete { public_key, alias, platform; enroll_code, signature }
    Enrolled { agent_id, agent_secret, secret_version, secret_expires_at_ms, jwt_expires_in_sec, owner_user_id, scopes, audience; agent_jwt }
    SessionStart { agent_id; device_proof }
    TokenRefresh { ; device_proof }
    TokenRefreshed { jwt_expires_in_sec; agent_jwt }
    SecretChange { ; device_proof }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    /// Reads the body, and checks that its JSON form is what was read and that nothing planted is
    /// printed.
    fn shown<T: fmt::Debug + Serialize + DeserializeOwned>(body: &Value) -> String {
        let typed: T = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(serde_json::to_value(&typed).unwrap(), *body);
        let shown = format!("{typed:?} {typed:#?}");
        assert!(!shown.contains("PLANTED"), "{shown}");
        for secret in [secret(), salt(), session()] {
            assert!(!shown.contains(&secret), "{shown}");
        }
        shown
    }

    fn secret() -> String {
        AgentSecret::from_random(&[7; 32]).expose().to_owned()
    }

    fn salt() -> String {
        SessionSalt::from_random(&[8; 32]).expose().to_owned()
    }

    fn session() -> String {
        SessionId::from_random(&[9; 32]).expose().to_owned()
    }

    #[test]
    fn no_body_prints_a_credential() {
        let id = AgentId::new_v7(1_764_000_000_000, [1; 10]).to_string();
        let challenge = Challenge::from_random(&[2; 32]).as_str().to_owned();
        shown::<EnrollStart>(&json!({"alias": "a", "scopes": ["demo"]}));
        let started = shown::<EnrollStarted>(&json!({
            "enroll_code": "PLANTED-CODE", "challenge": challenge, "expires_in_sec": 1,
            "enroll_url": "https://edge.example",
        }));
        assert!(started.contains("https://edge.example"), "{started}");
        shown::<EnrollChallenge>(&json!({"enroll_code": "PLANTED-CODE"}));
        shown::<EnrollChallenged>(&json!({
            "challenge": challenge, "expires_in_sec": 1, "owner_user_id": "o", "scopes": ["demo"],
        }));
        shown::<EnrollComplete>(&json!({
            "enroll_code": "PLANTED-CODE", "public_key": {"x": "y"}, "signature": "PLANTED-PROOF",
            "alias": "a",
        }));
        let enrolled = shown::<Enrolled>(&json!({
            "agent_id": id, "agent_secret": secret(), "secret_version": 1,
            "secret_expires_at_ms": 2, "agent_jwt": "PLANTED.JWT", "jwt_expires_in_sec": 3,
            "owner_user_id": "o", "scopes": [], "audience": "edgeward",
        }));
        assert!(enrolled.contains(&id), "{enrolled}");
        shown::<SessionStart>(&json!({"agent_id": id, "device_proof": "PLANTED-PROOF"}));
        shown::<SessionStarted>(&json!({
            "session_id": session(), "session_salt": salt(), "ttl_ms": 1, "expires_at_ms": 2,
            "max_expires_at_ms": 3, "audience": "edgeward", "require_nonce": true,
            "server_time_ms": 4,
        }));
        shown::<SessionExtended>(&json!({"ttl_ms": 1, "expires_at_ms": 2}));
        shown::<Empty>(&json!({}));
        shown::<TokenRefresh>(&json!({"device_proof": "PLANTED-PROOF"}));
        shown::<TokenRefreshed>(&json!({"agent_jwt": "PLANTED.JWT", "jwt_expires_in_sec": 1}));
        shown::<SecretChange>(&json!({"device_proof": "PLANTED-PROOF"}));
        shown::<SecretChanged>(&json!({
            "agent_secret": secret(), "secret_version": 2, "secret_expires_at_ms": 3,
        }));
        shown::<Health>(&json!({"status": "ok", "version": "0", "time_ms": 1}));
        shown::<Echo>(&json!({
            "agent_id": id, "owner_user_id": "o", "scopes": [],
            "trace_id": crate::TraceId::from_random([1; 16]).to_string(), "body": null,
        }));
    }
}
