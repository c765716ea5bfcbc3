//! What a request claims, last and at once: its nonce and its share of the rate.

use edgeward_wire::{AgentId, Nonce, SessionIdHash};

use crate::limit::gcra::Rate;
use crate::time::WallMs;

/// A nonce of a verified caller. Only [`crate::flow::Checked::assess`] makes one, so that nobody
/// without the key can use up a nonce.
#[derive(Debug, Clone)]
pub struct NonceKey {
    agent: AgentId,
    nonce: Nonce,
}

impl NonceKey {
    pub(crate) fn of_verified(agent: AgentId, nonce: Nonce) -> Self {
        Self { agent, nonce }
    }

    /// The agent.
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// Its nonce.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }
}

/// One limit that a request is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// `None` for the agent's own rate, else the route's place in the table.
    pub route: Option<u32>,
    /// The rate.
    pub rate: Rate,
}

/// Everything that a store decides in one atomic step.
#[derive(Debug, Clone)]
pub struct Claim {
    pub(crate) agent: AgentId,
    pub(crate) session: Option<SessionIdHash>,
    pub(crate) nonce: Option<NonceKey>,
    pub(crate) timestamp: Option<WallMs>,
    pub(crate) window_ms: u64,
    pub(crate) ahead_ms: u64,
    pub(crate) nonce_ttl_ms: u64,
    pub(crate) charges: [Option<Charge>; 2],
}

impl Claim {
    /// The verified caller.
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// The session that the request is part of, if any.
    pub fn session(&self) -> Option<SessionIdHash> {
        self.session
    }

    /// The nonce, where one came.
    pub fn nonce(&self) -> Option<&NonceKey> {
        self.nonce.as_ref()
    }

    /// When the request was stamped, epoch milliseconds; none for one that carries no signature of its
    /// head.
    pub fn timestamp(&self) -> Option<WallMs> {
        self.timestamp
    }

    /// How old a timestamp may be, in milliseconds.
    pub fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// How far ahead a timestamp may be, in milliseconds.
    pub fn ahead_ms(&self) -> u64 {
        self.ahead_ms
    }

    /// How long the nonce is remembered, in milliseconds.
    pub fn nonce_ttl_ms(&self) -> u64 {
        self.nonce_ttl_ms
    }

    /// The rates that the request is charged to: the agent's, then the route's.
    pub fn charges(&self) -> impl Iterator<Item = Charge> + '_ {
        self.charges.iter().flatten().copied()
    }

    /// Whether the timestamp can still be accepted at `now`, above `floor`. The store asks this by
    /// its own clock inside the atomic step: a request that waited on the way must not outlive the
    /// memory of its nonce.
    pub fn is_timely(&self, now: WallMs, floor: Option<WallMs>) -> bool {
        self.timestamp.is_none_or(|stamp| {
            stamp >= now.minus(self.window_ms)
                && stamp <= now.plus(self.ahead_ms)
                && floor.is_none_or(|floor| stamp > floor)
        })
    }
}

/// What the store decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The nonce is this request's, the rate is charged.
    Granted,
    /// The nonce was used before; nothing is charged.
    Replayed,
    /// By the store's clock the timestamp has left the window or lies under the floor.
    Stale,
    /// The rate is used up; the nonce is not.
    RateLimited {
        /// Until the next request fits, in milliseconds.
        retry_after_ms: u64,
        /// The rate that refused.
        rate: Rate,
    },
    /// Every place for a nonce is held by a live one.
    Full,
    /// What was remembered of nonces may be lost, and the store's clock has not passed the replay
    /// floor yet: nothing is granted until it has.
    Starting {
        /// Until then, in milliseconds.
        retry_after_ms: u64,
    },
    /// The session has ended, as the store saw in the same step. A store that does not look leaves
    /// that to the look that follows every claim.
    SessionGone,
}
