//! Agents: they enrol themselves over the wire, open sessions, and forge requests.

mod device;
mod signed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edgeward_store::Clock;
use edgeward_wire::api::{EnrollStarted, Enrolled, SessionStarted, TokenRefreshed};
use edgeward_wire::{AgentId, AgentSecret, EnrollCode, MacKey, SessionKey};
use serde_json::{Value, json};

use crate::door::AsDoor;
use crate::edge::AUDIENCE;
use crate::raw::Answer;

pub use device::Device;
pub use signed::{Parts, Signed};

/// How an agent is to be enrolled.
#[derive(Debug)]
pub struct Enrolment {
    /// The owner's `sub`.
    pub owner: String,
    /// What the owner may grant.
    pub granted: Vec<String>,
    /// The body of `enroll/start`.
    pub start: Value,
    /// The device key.
    pub device: Device,
}

impl Default for Enrolment {
    fn default() -> Self {
        Self::with_scopes(&["demo"])
    }
}

impl Enrolment {
    /// Of an owner who may grant these scopes and grants them all.
    pub fn with_scopes(scopes: &[&str]) -> Self {
        Self {
            owner: "owner-1".to_owned(),
            granted: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            start: json!({"alias": "test", "scopes": scopes}),
            device: Device::ed25519(),
        }
    }

    /// `enroll/start`.
    pub async fn start(&self, edge: &impl AsDoor) -> EnrollStarted {
        let granted: Vec<&str> = self.granted.iter().map(String::as_str).collect();
        let edge = edge.door();
        let bearer = format!("Bearer {}", edge.owner_jwt(&self.owner, &granted));
        let target = edge.path("/agent/enroll/start");
        edge.post(&target, &[("Authorization", &bearer)], &self.start).await.expect(200).json()
    }

    /// The body of `enroll/complete`.
    pub fn completion(&self, started: &EnrollStarted) -> Value {
        completion(&self.device, &started.enroll_code, started.challenge.as_str())
    }

    /// `enroll/complete` with any body.
    pub async fn complete(edge: &impl AsDoor, body: &Value) -> Answer {
        let edge = edge.door();
        edge.post(&edge.path("/agent/enroll/complete"), &[], body).await
    }
}

/// The body of `enroll/complete` for a code and its challenge, with the key as a JWK.
///
/// # Panics
/// When `code` is no code.
pub fn completion(device: &Device, code: &str, challenge: &str) -> Value {
    let canonical = EnrollCode::parse(code).unwrap().canonical().to_owned();
    let message = format!(
        "edgeward-enroll-v2\n{AUDIENCE}\n{canonical}\n{challenge}\n{}",
        device.public().thumbprint()
    );
    json!({
        "enroll_code": code,
        "public_key": device.public().jwk(),
        "signature": device.sign(message.as_bytes()),
    })
}

/// A session as its agent knows it.
#[derive(Debug, Clone)]
pub struct Session {
    /// What the edge answered.
    pub started: SessionStarted,
    /// What signs in it.
    pub key: MacKey,
}

impl Session {
    /// The id's text.
    pub fn id(&self) -> &str {
        self.started.session_id.expose()
    }
}

/// An enrolled agent.
#[derive(Clone)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its secret.
    pub secret: AgentSecret,
    /// Its newest JWT.
    pub jwt: String,
    /// Its owner.
    pub owner: String,
    /// Its device key.
    pub device: Arc<Device>,
    /// What it was told when it was enrolled.
    pub enrolled: Enrolled,
    base_path: String,
    clock: Arc<dyn Clock>,
}

impl Agent {
    /// Enrols an agent with the scope `demo`.
    pub async fn enroll(edge: &impl AsDoor) -> Self {
        Self::enroll_as(edge, Enrolment::default()).await
    }

    /// Enrols an agent as told.
    pub async fn enroll_as(edge: &impl AsDoor, plan: Enrolment) -> Self {
        let started = plan.start(edge).await;
        let answer = Enrolment::complete(edge, &plan.completion(&started)).await.expect(200);
        Self::of(edge, answer.json(), plan.device)
    }

    /// What an answer of `enroll/complete` makes.
    pub fn of(edge: &impl AsDoor, enrolled: Enrolled, device: Device) -> Self {
        Self {
            id: enrolled.agent_id,
            secret: enrolled.agent_secret.clone(),
            jwt: enrolled.agent_jwt.clone(),
            owner: enrolled.owner_user_id.as_str().to_owned(),
            device: Arc::new(device),
            enrolled,
            base_path: edge.door().base_path,
            clock: edge.door().clock,
        }
    }

    /// Its clock, epoch milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.clock.now().wall.0
    }

    /// A request that is right in every way: signed by the secret, with a nonce and the JWT. To be
    /// changed by the methods of [`Signed`].
    pub fn signed(&self, method: &str, target: &str) -> Signed {
        Signed::new(self.clone(), method, target)
    }

    /// A call of one of the edge's own endpoints, JSON in.
    pub fn call(&self, path: &str, body: &Value) -> Signed {
        self.signed("POST", &format!("{}{path}", self.base_path)).json(body)
    }

    /// Starts a session.
    pub async fn session(&self, edge: &impl AsDoor) -> Session {
        let answer = self.call("/agent/session/start", &json!({})).send(edge).await.expect(200);
        self.session_of(answer.json())
    }

    /// The session that an answer of `session/start` tells.
    pub fn session_of(&self, started: SessionStarted) -> Session {
        let key = SessionKey::derive(&self.secret, &started.session_id, &started.session_salt);
        Session { key: MacKey::of_session(&key), started }
    }

    /// Refreshes the JWT and keeps it.
    pub async fn refresh(&mut self, edge: &impl AsDoor) -> TokenRefreshed {
        let answer = self.call("/agent/token/refresh", &json!({})).send(edge).await.expect(200);
        let refreshed: TokenRefreshed = answer.json();
        self.jwt.clone_from(&refreshed.agent_jwt);
        refreshed
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Agent({})", self.id)
    }
}

/// A nonce that no test has used.
pub fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}.{count}", crate::base64url(crate::random::<16>()))
}
