//! The steps of a request, in their order. Each consumes the one before.
//!
//! ```text
//! Presented::read            shape, target, which credentials        (no look-up)
//!   .screen(now, floor, …)   source budget, time, session where due   (no look-up)
//! Screened::needs            which session and agent to look up
//!   .begin(facts, now)       session                                 (facts)
//! Checked                    the body is owed
//!   .assess(now, body, …)    time again; signature, standing, address, JWT, proof, scopes
//! Commit::claim              what to claim, atomically
//!   .settle(outcome, …)      the claim; session, standing and epoch once more
//! Admission                  the only thing that is forwarded
//! ```

mod assess;
mod body;
mod settle;

use std::net::IpAddr;
use std::sync::Arc;

use edgeward_wire::signature::BodySignature;
use edgeward_wire::{AgentId, AgentSecret, Nonce, SessionId, SessionIdHash, Signature, header};
use http::request::Parts;

use crate::policy::{Endpoint, Policy, Requirements, SessionRule, TokenRule};
use crate::read::bearer::{Form, JwtFault, UnverifiedToken};
use crate::read::credentials::{self, BearerText, Credentials, Shaped, Signed};
use crate::record::{Agent, Fact, Session};
use crate::rejection::{Dependency, Rejection};
use crate::time::{Now, WallMs};

pub use assess::{Ask, Caller, Commit, ProvenBy, Token};
pub use body::{BodyHasher, HashedBody};
pub use settle::{Admission, Outcome};

/// The head of a request and what is asked of it; carried through all steps.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) parts: Parts,
    pub(crate) client: IpAddr,
    pub(crate) endpoint: Endpoint,
    pub(crate) policy: Arc<Policy>,
    pub(crate) need: Requirements,
}

/// How a caller says who it is; the agent that it names is a hint for look-ups, nothing more.
#[derive(Debug)]
pub(crate) enum Proof {
    Signature {
        timestamp: WallMs,
        session: Option<SessionId>,
        nonce: Option<Nonce>,
        signature: Signature,
    },
    Secret(AgentSecret),
    Body(BodySignature),
    Token,
}

/// Step 0 is behind it: one value a header, an unambiguous target, credentials of known form.
#[derive(Debug)]
pub struct Presented {
    request: Request,
    named: AgentId,
    proof: Proof,
    bearer: Option<BearerText>,
}

/// What the source has coming to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// It must wait this long, in milliseconds.
    pub wait_ms: Option<u64>,
}

/// The moments that bound timestamps beside the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Floor {
    /// No timestamp at or under it is accepted, and nothing at all until the clock has passed it.
    pub at: Option<WallMs>,
}

/// Steps 1 and 2 are behind it.
#[derive(Debug)]
pub struct Screened {
    pub(crate) request: Request,
    pub(crate) named: AgentId,
    pub(crate) proof: Proof,
    pub(crate) bearer: Option<BearerText>,
    pub(crate) floor: Floor,
}

/// What stores answered.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The session that the request names.
    pub session: Fact<Session>,
    /// The agent that the request names.
    pub agent: Fact<Arc<Agent>>,
    /// Whether this request of the session is one that must bring a JWT.
    pub token_due: bool,
}

/// Step 3 is behind it; the body is owed.
#[derive(Debug)]
pub struct Checked {
    pub(crate) screened: Screened,
    pub(crate) session: Option<Session>,
    pub(crate) agent: Option<Arc<Agent>>,
    pub(crate) token_due: bool,
}

impl Presented {
    /// Step 0: reads what came, believes nothing.
    ///
    /// # Errors
    /// 400s, [`Rejection::CredentialsMissing`], [`Rejection::DeploymentAddress`], and the refusals of
    /// forms that this deployment does not take.
    pub fn read(
        shaped: Shaped,
        endpoint: Endpoint,
        client: IpAddr,
        policy: Arc<Policy>,
        now: Now,
    ) -> Result<Self, Rejection> {
        if !policy.allowed.allows(client) {
            return Err(Rejection::DeploymentAddress);
        }
        let parts = shaped.into_parts();
        let credentials = credentials::credentials(&parts.headers)?;
        let need = policy.requirements(&endpoint);
        if need.session == SessionRule::Forbidden
            && parts.headers.contains_key(&header::X_SESSION_ID)
        {
            return Err(Rejection::Malformed("x-session-id has no place on this call".into()));
        }
        let mut request = Request { parts, client, endpoint, policy, need };
        let (named, proof, bearer) = request.accept(credentials, now.wall)?;
        if matches!(proof, Proof::Token) {
            // It is all the proof that there is, whatever the deployment asks as to JWTs.
            request.need.token = TokenRule::Required;
        }
        Ok(Self { request, named, proof, bearer })
    }

    /// The agent that the request names; anybody can name any.
    pub fn named_agent(&self) -> AgentId {
        self.named
    }

    /// Steps 1 and 2: the source's budget, then time. What step 3 can refuse without a look-up, it
    /// refuses here.
    ///
    /// # Errors
    /// [`Rejection::BackingOff`], [`Rejection::Starting`], [`Rejection::ClockOutside`],
    /// [`Rejection::UnderFloor`], [`Rejection::SessionRequired`].
    pub fn screen(self, now: Now, floor: Floor, budget: Budget) -> Result<Screened, Rejection> {
        if let Some(retry_after_ms) = budget.wait_ms {
            return Err(Rejection::BackingOff { retry_after_ms });
        }
        let Self { request, named, proof, bearer } = self;
        let screened = Screened { request, named, proof, bearer, floor };
        screened.check_time(now)?;
        if screened.request.need.session == SessionRule::Required && screened.session_id().is_none()
        {
            return Err(Rejection::SessionRequired);
        }
        Ok(screened)
    }
}

impl Request {
    /// Which credentials this endpoint of this deployment takes.
    fn accept(
        &self,
        credentials: Credentials,
        now: WallMs,
    ) -> Result<(AgentId, Proof, Option<BearerText>), Rejection> {
        match credentials {
            Credentials::Signed(Signed { agent, timestamp, session, nonce, signature, bearer }) => {
                Ok((agent, Proof::Signature { timestamp, session, nonce, signature }, bearer))
            }
            Credentials::Bearer { agent, bearer } => {
                if self.need.signed || self.policy.require_hmac {
                    return Err(Rejection::CredentialsMissing);
                }
                let subject = self.subject_hint(&bearer.0)?;
                if agent.is_some_and(|agent| agent != subject) {
                    return Err(Rejection::TokenInvalid(JwtFault::Subject));
                }
                Ok((subject, Proof::Token, Some(bearer)))
            }
            Credentials::HeaderSecret { agent, secret, bearer } => {
                if !self.policy.allow_header_secret || self.is_own() {
                    return Err(Rejection::HeaderSecretRefused);
                }
                Ok((agent, Proof::Secret(secret), bearer))
            }
            Credentials::BodySigned { agent, signature, bearer } => {
                let sensitive = self.endpoint.route().is_some_and(|route| route.sensitive);
                if !self.policy.takes_body_signatures(now) || self.is_own() || sensitive {
                    return Err(Rejection::BodySignatureRefused);
                }
                Ok((agent, Proof::Body(signature), bearer))
            }
        }
    }

    /// Whether the call is one of the edge's own under `/agent/`.
    fn is_own(&self) -> bool {
        match &self.endpoint {
            Endpoint::Route(_) => false,
            Endpoint::Unknown => self.parts.uri.path().contains("/agent/"),
            Endpoint::SessionStart
            | Endpoint::SessionExtend
            | Endpoint::SessionEnd
            | Endpoint::TokenRefresh
            | Endpoint::Echo => true,
        }
    }

    /// Whom a JWT that comes alone names: a hint that the verified token is held against.
    fn subject_hint(&self, text: &str) -> Result<AgentId, Rejection> {
        let token = UnverifiedToken::read(text, Form::AGENT).map_err(Rejection::TokenInvalid)?;
        token.subject_hint().ok_or(Rejection::TokenInvalid(JwtFault::Claims))
    }
}

impl Screened {
    /// The session and the agent to look up.
    pub fn needs(&self) -> (Option<SessionIdHash>, AgentId) {
        (self.session_id().map(SessionId::hash), self.named)
    }

    /// The most bytes of body that will be read.
    pub fn max_body(&self) -> u64 {
        self.request.need.max_body
    }

    /// Step 3: the session, by what stores answered.
    ///
    /// # Errors
    /// The four reasons of an invalid session, and [`Rejection::Unavailable`] where a store could
    /// not answer.
    pub fn begin(self, facts: Facts, now: Now) -> Result<Checked, Rejection> {
        let agent = match facts.agent {
            // The answer to another question is none.
            Fact::Answered(agent) => agent.filter(|agent| agent.id == self.named),
            Fact::Unavailable => return Err(Rejection::Unavailable(Dependency::Database)),
        };
        let session = match (self.session_id(), facts.session) {
            (None, _) => None,
            (Some(_), Fact::Unavailable) => {
                return Err(Rejection::Unavailable(Dependency::Sessions));
            }
            (Some(_), Fact::Answered(None)) => return Err(Rejection::SessionUnknown),
            (Some(id), Fact::Answered(Some(session))) if session.id == id.hash() => Some(session),
            (Some(_), Fact::Answered(Some(_))) => return Err(Rejection::SessionUnknown),
        };
        let checked = Checked { screened: self, session, agent, token_due: facts.token_due };
        checked.check_session(now)?;
        Ok(checked)
    }

    pub(crate) fn check_time(&self, now: Now) -> Result<(), Rejection> {
        if let Some(floor) = self.floor.at
            && now.wall <= floor
        {
            return Err(Rejection::Starting {
                retry_after_ms: floor.since(now.wall).saturating_add(1),
            });
        }
        let Proof::Signature { timestamp, .. } = &self.proof else {
            return Ok(());
        };
        let policy = &self.request.policy;
        if *timestamp < now.wall.minus(policy.window_ms)
            || *timestamp > now.wall.plus(policy.ahead_ms)
        {
            let skew_ms = i64::try_from(timestamp.0).unwrap_or(i64::MAX)
                - i64::try_from(now.wall.0).unwrap_or(i64::MAX);
            return Err(Rejection::ClockOutside { skew_ms });
        }
        if self.floor.at.is_some_and(|floor| *timestamp <= floor) {
            return Err(Rejection::UnderFloor);
        }
        Ok(())
    }

    pub(crate) fn session_id(&self) -> Option<&SessionId> {
        match &self.proof {
            Proof::Signature { session, .. } => session.as_ref(),
            Proof::Secret(_) | Proof::Body(_) | Proof::Token => None,
        }
    }
}

impl Checked {
    /// The head, for what the shell needs to know to read the body.
    pub fn head(&self) -> &Parts {
        &self.screened.request.parts
    }

    /// The most bytes of body that will be read.
    pub fn max_body(&self) -> u64 {
        self.screened.max_body()
    }

    /// Whether a JWT is all the proof that the request brought.
    pub fn speaks_by_token_alone(&self) -> bool {
        matches!(self.screened.proof, Proof::Token)
    }

    /// The JWT's text, for finding a remembered one.
    pub fn bearer(&self) -> Option<&str> {
        match self.screened.request.need.token {
            TokenRule::Ignored => None,
            TokenRule::Required | TokenRule::BySession | TokenRule::IfPresent => {
                self.screened.bearer.as_ref().map(|text| text.0.as_str())
            }
        }
    }

    pub(crate) fn check_session(&self, now: Now) -> Result<(), Rejection> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        let Some(agent) = &self.agent else {
            return Err(Rejection::SessionUnknown);
        };
        if session.agent != self.screened.named || session.agent != agent.id {
            return Err(Rejection::SessionOfAnother);
        }
        if now.mono >= session.expires_at {
            return Err(Rejection::SessionExpired);
        }
        if session.epoch != agent.epoch {
            return Err(Rejection::SessionEpoch);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
