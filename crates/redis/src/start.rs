//! What is known at a start, and why there may be none.

use edgeward_core::time::WallMs;

/// What is known, at a start, of nonces that this deployment has granted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStart {
    /// None ever: an empty Redis has lost nothing, and there is no floor.
    Fresh,
    /// Some, remembered elsewhere than in Redis until now.
    Elsewhere {
        /// No timestamp at or under this is accepted.
        floor: WallMs,
    },
    /// Some, remembered in Redis: a bucket without an epoch has lost them.
    Shared,
}

/// Why it was not started: what is wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A setting cannot be meant.
    #[error("{0}")]
    Setting(&'static str),
    /// The file of roots for TLS is of no use.
    #[error("the CA file {path} cannot be used ({detail}): name a PEM file of certificates")]
    Roots {
        /// The file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No server answers.
    #[error(
        "Redis at {address} cannot be reached ({detail}): start it, or correct address, port or TLS"
    )]
    Unreachable {
        /// Where.
        address: String,
        /// What happened.
        detail: String,
    },
    /// The server does not let us in.
    #[error(
        "Redis at {address} refuses to let Edgeward in ({detail}): correct the user and the password"
    )]
    Refused {
        /// Where.
        address: String,
        /// What it said.
        detail: String,
    },
    /// The ACL user may not do what must be done.
    #[error(
        "Redis at {address} does not permit {command} ({detail}): give the ACL user the commands and keys that docs/redis.md lists"
    )]
    NotPermitted {
        /// Where.
        address: String,
        /// The command.
        command: String,
        /// What the server said.
        detail: String,
    },
    /// The server has no RESP3.
    #[error("Redis at {address} does not know HELLO 3: use Redis 6 or newer")]
    TooOld {
        /// Where.
        address: String,
    },
    /// The server is no primary.
    #[error("Redis at {address} is a {role}: name the primary, or its sentinels")]
    NotPrimary {
        /// Where.
        address: String,
        /// What it is instead.
        role: String,
    },
    /// The server would forget nonces to make room.
    #[error(
        "Redis at {address} evicts (maxmemory-policy is {policy}), which would let requests be replayed: set maxmemory-policy to noeviction"
    )]
    Evicts {
        /// Where.
        address: String,
        /// Its policy.
        policy: String,
    },
    /// The server is part of a cluster and should not be, or the other way round.
    #[error("Redis at {address} runs in {mode} mode: {remedy}")]
    Mode {
        /// Where.
        address: String,
        /// `cluster` or `standalone`.
        mode: String,
        /// What to do.
        remedy: &'static str,
    },
    /// One of the two clocks is wrong; a floor by it could lie years ahead.
    #[error(
        "the clock of Redis at {address} is {ahead_ms} ms ahead of this machine's: correct the one that is wrong"
    )]
    Clock {
        /// Where.
        address: String,
        /// How far, negative for behind.
        ahead_ms: i64,
    },
    /// It is not the store that this node has used until now.
    #[error(
        "Redis at {address} is another store ({found}) than this node's ({expected}): EDGE_REDIS_URL or EDGE_REDIS_PREFIX points to another one; correct it"
    )]
    OtherStore {
        /// Where.
        address: String,
        /// The id that it has.
        found: String,
        /// The id that it should have.
        expected: String,
    },
    /// The sentinels do not know the primary.
    #[error("no sentinel knows a primary {name:?}: correct the name, or have them monitor it")]
    UnknownName {
        /// What they were asked for.
        name: String,
    },
    /// Nobody serves some of the slots.
    #[error(
        "the cluster does not serve all slots (buckets without a primary: {missing}): repair it, see CLUSTER INFO"
    )]
    NotCovered {
        /// How many buckets.
        missing: usize,
    },
    /// The server answered what it should not.
    #[error("Redis at {address}: {detail}")]
    Odd {
        /// Where.
        address: String,
        /// What it answered.
        detail: String,
    },
}

impl StartError {
    /// Whether another try a moment later would end the same way.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Setting(_)
            | Self::Roots { .. }
            | Self::Refused { .. }
            | Self::NotPermitted { .. }
            | Self::TooOld { .. }
            | Self::Evicts { .. }
            | Self::Mode { .. } => true,
            Self::Unreachable { .. }
            | Self::Clock { .. }
            | Self::OtherStore { .. }
            | Self::NotPrimary { .. }
            | Self::UnknownName { .. }
            | Self::NotCovered { .. }
            | Self::Odd { .. } => false,
        }
    }
}
