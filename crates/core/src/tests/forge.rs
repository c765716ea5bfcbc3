//! A forge of requests: a good one, and a way to spoil each single thing about it.
//!
//! Everything is fixed: seeds, ids, clocks. A field changed before [`Forge::request`] is signed as
//! it stands; an edit in [`Forge::edits`] is made after signing.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use edgeward_wire::enroll::device_proof_message;
use edgeward_wire::signature::{BodyDigest, StringToSign};
use edgeward_wire::{AgentId, AgentSecret, MacKey, SessionId};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};

use super::mint::{self, AUDIENCE, base64url};
pub(crate) use super::world::*;
use crate::flow::{
    Admission, BodyHasher, Budget, Commit, Facts, Floor, HashedBody, Outcome, Presented, Token,
};
use crate::nonce::ClaimOutcome;
use crate::policy::{BodySignatures, Destination, Policy, Route, RouteTable};
use crate::read::credentials::shape;
use crate::record::{Agent, Fact, Session};
use crate::rejection::Rejection;
use crate::time::Now;
use crate::verify::jwt::{JwtKeys, VerifiedToken};

/// Who stands behind a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// Nobody: no `X-Agent-Id`, no timestamp, no nonce, no signature.
    Nobody,
    /// The session's key, and `X-Session-Id` is sent.
    Session,
    /// The secret, without a session.
    Secret,
    /// The secret, and `X-Session-Id` is sent.
    SecretInSession,
    /// The session's key, without `X-Session-Id`.
    SessionKeyAlone,
    /// `X-Agent-Secret` itself.
    Header,
    /// The older form, over the body alone.
    Body,
}

/// A request and the world that it meets.
#[derive(Clone)]
pub struct Forge {
    /// The deployment.
    pub policy: Arc<Policy>,
    /// The record that the store has of the agent.
    pub agent: Fact<Arc<Agent>>,
    /// The record that the store has of the session.
    pub session: Fact<Session>,
    /// Whether a JWT is due on this request of the session.
    pub token_due: bool,
    /// Facts at the end, where they differ.
    pub later: Option<Facts>,
    /// The ring that verifies tokens.
    pub keys: Arc<JwtKeys>,
    /// The token, where it was verified before.
    pub remembered: Option<VerifiedToken>,
    /// What the claim comes to.
    pub outcome: Outcome,
    /// The source's budget.
    pub budget: Budget,
    /// The replay floor.
    pub floor: Floor,
    /// The clock until the body is there.
    pub begun_at: Now,
    /// The clock once the body is there.
    pub assessed_at: Now,
    /// The clock at the end.
    pub settled_at: Now,
    /// The caller's address.
    pub client: IpAddr,

    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// A device proof that becomes the body: right or wrong.
    pub device_proof: Option<bool>,
    /// `X-Agent-Id`.
    pub named: AgentId,
    /// `X-Timestamp`.
    pub timestamp: u64,
    /// `X-Nonce`.
    pub nonce: Option<String>,
    /// Who signs.
    pub signer: Signer,
    /// The seed of the secret that signs.
    pub secret: AgentSecret,
    /// `X-Session-Id`.
    pub session_id: SessionId,
    /// `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// Headers set (or, with `None`, removed) after signing.
    pub edits: Vec<(HeaderName, Option<String>)>,
}

impl Forge {
    /// A good request of a session, with a nonce and a body, to a route; no JWT, none is due.
    pub fn in_session() -> Self {
        Self {
            policy: Arc::new(policy()),
            agent: Fact::Answered(Some(Arc::new(agent()))),
            session: Fact::Answered(Some(session())),
            token_due: false,
            later: None,
            keys: keys(),
            remembered: None,
            outcome: Outcome::Claimed(ClaimOutcome::Granted),
            budget: Budget { wait_ms: None },
            floor: Floor::default(),
            begun_at: NOW,
            assessed_at: NOW,
            settled_at: NOW,
            client: CLIENT.parse().unwrap(),
            method: "POST".to_owned(),
            target: "/open/x?stream=true".to_owned(),
            content_type: Some("application/json".to_owned()),
            body: b"{}".to_vec(),
            device_proof: None,
            named: agent_id(),
            timestamp: NOW.wall.0,
            nonce: Some("nonce-0123456789".to_owned()),
            signer: Signer::Session,
            secret: secret(11),
            session_id: session_id(5),
            bearer: None,
            edits: Vec::new(),
        }
    }

    /// A good request by the secret, with a JWT.
    pub fn by_secret() -> Self {
        Self { signer: Signer::Secret, bearer: Some(token()), ..Self::in_session() }
    }

    /// A good `session/start`.
    pub fn session_start() -> Self {
        Self::by_secret().to("/agent/session/start")
    }

    /// A good request of a legacy agent to a deployment that takes them.
    pub fn legacy() -> Self {
        Self { signer: Signer::Body, ..Self::by_secret() }
            .edit_policy(|policy| policy.body_signatures = BodySignatures::Taken)
            .edit_agent(|agent| agent.legacy = true)
    }

    /// Aims it elsewhere.
    pub fn to(mut self, target: &str) -> Self {
        self.target = target.to_owned();
        self
    }

    /// Changes the deployment.
    pub fn edit_policy(mut self, edit: impl FnOnce(&mut Policy)) -> Self {
        edit(Arc::make_mut(&mut self.policy));
        self
    }

    /// Changes the route `/open`.
    pub fn edit_route(mut self, edit: impl FnOnce(&mut Route)) -> Self {
        let mut open = Route::clone(self.policy.routes.find("/open").unwrap());
        edit(&mut open);
        Arc::make_mut(&mut self.policy).routes =
            RouteTable::new(routes().into_iter().skip(1).chain([open]));
        self
    }

    /// Changes the agent's record.
    pub fn edit_agent(mut self, edit: impl FnOnce(&mut Agent)) -> Self {
        if let Fact::Answered(Some(record)) = &mut self.agent {
            edit(Arc::make_mut(record));
        }
        self
    }

    /// Changes the session's record.
    pub fn edit_session(mut self, edit: impl FnOnce(&mut Session)) -> Self {
        if let Fact::Answered(Some(record)) = &mut self.session {
            edit(record);
        }
        self
    }

    /// Sets a header after signing.
    pub fn set(mut self, name: &'static str, value: &str) -> Self {
        self.edits.push((HeaderName::from_static(name), Some(value.to_owned())));
        self
    }

    /// Removes a header after signing.
    pub fn remove(mut self, name: &'static str) -> Self {
        self.edits.push((HeaderName::from_static(name), None));
        self
    }

    /// The signature becomes another of the same form.
    pub fn wrong_signature(self) -> Self {
        let zeros = format!("v2={}", "0".repeat(64));
        self.set("x-signature", &zeros)
    }

    /// The facts at the end are those of `self` with the changes of `edit`.
    pub fn meanwhile(mut self, edit: impl FnOnce(Self) -> Self) -> Self {
        let world = edit(self.clone());
        self.later =
            Some(Facts { session: world.session, agent: world.agent, token_due: self.token_due });
        self
    }

    fn session_header(&self) -> Option<&str> {
        match self.signer {
            Signer::Session | Signer::SecretInSession => Some(self.session_id.expose()),
            Signer::Nobody
            | Signer::Secret
            | Signer::SessionKeyAlone
            | Signer::Header
            | Signer::Body => None,
        }
    }

    fn proof(&self, right: bool) -> String {
        let message = device_proof_message(
            AUDIENCE,
            self.named,
            &self.method,
            &self.target,
            &self.timestamp.to_string(),
            self.nonce.as_deref().unwrap_or(""),
        );
        let seed = if right { DEVICE_SEED } else { DEVICE_SEED + 1 };
        base64url(mint::ed25519(seed).sign(message.as_bytes()).as_ref())
    }

    fn signature(&self, body: &[u8]) -> Option<String> {
        let key = match self.signer {
            Signer::Nobody | Signer::Header => return None,
            Signer::Body => return Some(body_signature(&self.secret, body)),
            Signer::Session | Signer::SessionKeyAlone => {
                session_key(&self.secret, &self.session_id)
            }
            Signer::Secret | Signer::SecretInSession => MacKey::of_secret(&self.secret),
        };
        let to_sign = StringToSign {
            audience: AUDIENCE,
            agent_id: self.named,
            session_id: self.session_header().unwrap_or(""),
            timestamp: &self.timestamp.to_string(),
            nonce: self.nonce.as_deref().unwrap_or(""),
            method: &self.method,
            target: &self.target,
            content_type: self.content_type.as_deref().unwrap_or(""),
            body: BodyDigest::of(body),
        };
        Some(key.sign(&to_sign).header())
    }

    /// The request as it arrives.
    pub fn request(&self) -> (Parts, Vec<u8>) {
        let body = match self.device_proof {
            Some(right) => format!(r#"{{"device_proof":"{}"}}"#, self.proof(right)).into_bytes(),
            None => self.body.clone(),
        };
        let (mut parts, ()) = Request::builder()
            .method(Method::from_bytes(self.method.as_bytes()).unwrap())
            .uri(&self.target)
            .body(())
            .unwrap()
            .into_parts();
        let mut put = |name: &'static str, value: Option<&str>| {
            if let Some(value) = value {
                parts.headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        };
        if self.signer != Signer::Nobody {
            put("x-agent-id", Some(&self.named.to_string()));
        }
        if !matches!(self.signer, Signer::Nobody | Signer::Header | Signer::Body) {
            put("x-timestamp", Some(&self.timestamp.to_string()));
            put("x-nonce", self.nonce.as_deref());
        }
        if self.signer == Signer::Header {
            put("x-agent-secret", Some(self.secret.expose()));
        }
        put("x-session-id", self.session_header());
        put("x-signature", self.signature(&body).as_deref());
        put("content-type", self.content_type.as_deref());
        put("authorization", self.bearer.as_ref().map(|text| format!("Bearer {text}")).as_deref());
        for (name, value) in &self.edits {
            match value {
                Some(value) => drop(
                    parts.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap()),
                ),
                None => drop(parts.headers.remove(name)),
            }
        }
        (parts, body)
    }

    /// What stores answer to the keys that they are asked for.
    pub fn facts(
        &self,
        (asked_session, asked_agent): (Option<edgeward_wire::SessionIdHash>, AgentId),
    ) -> Facts {
        let other = || Agent {
            id: other_id(),
            secrets: vec![secret_record(1, &secret(66), NOW.wall.plus(60_000))].into(),
            ..agent()
        };
        let agent = match &self.agent {
            Fact::Unavailable => Fact::Unavailable,
            known @ Fact::Answered(_) if asked_agent == agent_id() => known.clone(),
            Fact::Answered(_) if asked_agent == other_id() => {
                Fact::Answered(Some(Arc::new(other())))
            }
            Fact::Answered(_) => Fact::NONE,
        };
        let session = match &self.session {
            Fact::Unavailable => Fact::Unavailable,
            known @ Fact::Answered(_) if asked_session == Some(session_id(5).hash()) => {
                known.clone()
            }
            Fact::Answered(_) => Fact::NONE,
        };
        Facts { session, agent, token_due: self.token_due }
    }

    /// The whole way of the request.
    pub fn run(&self) -> Result<Admission, Rejection> {
        let (parts, body) = self.request();
        self.run_parts(parts, body)
    }

    /// The whole way of any request in this world. One for everybody ends in `RouteUnknown`: it
    /// proves nothing, and is no admission.
    pub fn run_parts(&self, parts: Parts, body: Vec<u8>) -> Result<Admission, Rejection> {
        let (commit, facts) = self.commit_parts(parts, body)?;
        commit.settle(self.outcome, self.later.as_ref().unwrap_or(&facts), self.settled_at)
    }

    /// The way up to the claim.
    pub fn commit(&self) -> Result<Commit, Rejection> {
        let (parts, body) = self.request();
        Ok(self.commit_parts(parts, body)?.0)
    }

    fn commit_parts(&self, parts: Parts, body: Vec<u8>) -> Result<(Commit, Facts), Rejection> {
        let policy = Arc::clone(&self.policy);
        let shaped = shape(parts)?;
        let Destination::Agent(endpoint) = policy.destination(shaped.method(), shaped.path())
        else {
            return Err(Rejection::RouteUnknown);
        };
        let presented = Presented::read(shaped, endpoint, self.client, policy, self.begun_at)?;
        let screened = presented.screen(self.begun_at, self.floor, self.budget)?;
        let facts = self.facts(screened.needs());
        let checked = screened.begin(facts.clone(), self.begun_at)?;
        let body = hashed(body, checked.max_body())?;
        let token = Token { keys: Arc::clone(&self.keys), remembered: self.remembered.clone() };
        Ok((checked.assess(self.assessed_at, body, token)?, facts))
    }

    /// The refusal.
    #[track_caller]
    pub fn refusal(&self) -> Rejection {
        self.run().expect_err("admitted")
    }

    /// The reason's label, or `ok`.
    pub fn verdict(&self) -> &'static str {
        self.run().map_or_else(|rejection| rejection.spec().reason, |_| "ok")
    }
}

/// A whole body.
pub fn hashed(body: Vec<u8>, limit: u64) -> Result<HashedBody, Rejection> {
    let mut hasher = BodyHasher::new(limit);
    hasher.push(Bytes::from(body))?;
    Ok(hasher.finish())
}

/// The older header's value, computed apart from the type that checks it.
fn body_signature(secret: &AgentSecret, body: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
