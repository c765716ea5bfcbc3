//! Steps 9 and 10: the claim's outcome, and the world once more.

use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;

use super::assess::{Ask, Caller, Commit};
use super::{Fact, Facts};
use crate::nonce::ClaimOutcome;
use crate::policy::{Endpoint, Policy};
use crate::record::{Agent, Standing};
use crate::rejection::{Dependency, Rejection};
use crate::time::Now;

/// What became of the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The store decided.
    Claimed(ClaimOutcome),
    /// As many streams as allowed are open; nothing was claimed.
    TooManyStreams,
    /// The store could not decide.
    Unavailable,
}

/// A request that has earned its way. It has no other maker than [`Commit::settle`].
#[derive(Debug)]
pub struct Admission {
    /// The head as it came, credentials included; what is forwarded is built from it.
    pub parts: Parts,
    /// The body that the signature covers.
    pub body: Bytes,
    /// The verified caller.
    pub caller: Caller,
    /// Where it goes.
    pub endpoint: Endpoint,
    /// What it asks, where the edge itself answers.
    pub ask: Ask,
    /// Whence it came.
    pub client: IpAddr,
    /// The policy that admitted it.
    pub policy: std::sync::Arc<Policy>,
    _earned: Earned,
}

/// Not to be made outside this module.
#[derive(Debug)]
struct Earned;

impl Commit {
    /// Settles the claim, and looks once more at the session, the standing and the epoch as they are
    /// now: whoever was blocked while the request was on its way does not pass.
    ///
    /// # Errors
    /// [`Rejection::NonceReplayed`], [`Rejection::Stale`], [`Rejection::RateLimited`],
    /// [`Rejection::TooManyStreams`], [`Rejection::NonceMemoryFull`], [`Rejection::Starting`],
    /// [`Rejection::Unavailable`],
    /// and those of a session or agent that ended meanwhile.
    pub fn settle(self, outcome: Outcome, facts: &Facts, now: Now) -> Result<Admission, Rejection> {
        match outcome {
            Outcome::Claimed(ClaimOutcome::Granted) => {}
            Outcome::Claimed(ClaimOutcome::Replayed) => return Err(Rejection::NonceReplayed),
            Outcome::Claimed(ClaimOutcome::Stale) => return Err(Rejection::Stale),
            Outcome::Claimed(ClaimOutcome::RateLimited { retry_after_ms, rate }) => {
                return Err(Rejection::RateLimited { retry_after_ms, rate });
            }
            Outcome::Claimed(ClaimOutcome::Full) => return Err(Rejection::NonceMemoryFull),
            Outcome::Claimed(ClaimOutcome::Starting { retry_after_ms }) => {
                return Err(Rejection::Starting { retry_after_ms });
            }
            Outcome::Claimed(ClaimOutcome::SessionGone) => return Err(Rejection::SessionUnknown),
            Outcome::TooManyStreams => return Err(Rejection::TooManyStreams),
            Outcome::Unavailable => return Err(Rejection::Unavailable(Dependency::Nonces)),
        }
        self.caller.holds(facts, now)?;
        let Self { request, caller, body, ask, .. } = self;
        Ok(Admission {
            parts: request.parts,
            body: body.into_bytes(),
            caller,
            endpoint: request.endpoint,
            ask,
            client: request.client,
            policy: request.policy,
            _earned: Earned,
        })
    }
}

impl Caller {
    /// Whether what was proven still holds by `facts` at `now`. Asked after a stream was registered,
    /// it closes the gap in which a revocation could miss it.
    ///
    /// # Errors
    /// What ended meanwhile.
    pub fn holds(&self, facts: &Facts, now: Now) -> Result<(), Rejection> {
        let agent = match &facts.agent {
            Fact::Answered(Some(agent)) if agent.id == self.agent.id => agent,
            // The answer to another question is none.
            Fact::Answered(Some(_) | None) => return Err(Rejection::Retired),
            Fact::Unavailable => return Err(Rejection::Unavailable(Dependency::Database)),
        };
        self.agent_holds(agent)?;
        let Some(own) = &self.session else {
            return Ok(());
        };
        match &facts.session {
            Fact::Unavailable => Err(Rejection::Unavailable(Dependency::Sessions)),
            Fact::Answered(None) => Err(Rejection::SessionUnknown),
            Fact::Answered(Some(session)) if session.id != own.id => Err(Rejection::SessionUnknown),
            Fact::Answered(Some(session)) if now.mono >= session.expires_at => {
                Err(Rejection::SessionExpired)
            }
            Fact::Answered(Some(session)) if session.epoch != agent.epoch => {
                Err(Rejection::SessionEpoch)
            }
            Fact::Answered(Some(_)) => Ok(()),
        }
    }

    fn agent_holds(&self, current: &Agent) -> Result<(), Rejection> {
        match current.standing {
            Standing::Active => {}
            Standing::Blocked => return Err(Rejection::Blocked),
            Standing::Retired => return Err(Rejection::Retired),
        }
        if current.epoch == self.agent.epoch { Ok(()) } else { Err(Rejection::WrongSignature) }
    }
}
