//! What the program tells the operators about the edge, and what it does for them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use edgeward_core::record::Standing;
use edgeward_wire::AgentId;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;

/// Answers the admin listener's questions from the running edge.
///
/// What a wrong answer costs: a false "ready" sends callers to an edge that refuses them; a false
/// "not ready" takes a node away that could have served. Neither lets anybody in.
#[async_trait]
pub trait Source: Send + Sync {
    /// Whether the edge can serve now, and what that rests on. One that takes over 2 s counts as a
    /// failed check.
    async fn readiness(&self) -> Readiness;

    /// What the edge has done since it started, and holds now.
    async fn status(&self) -> Status;

    /// Changes whether an agent may act, in the name of `by`; `Ok(None)` when there is no such agent.
    /// When it answers, the change is durable. It comes to its end though the caller stops waiting.
    ///
    /// # Errors
    /// When it could not be done, or its end could not be learned. Asking again does no harm.
    async fn set_standing(
        &self,
        id: AgentId,
        to: Standing,
        by: &Actor,
        reason: Option<String>,
    ) -> Result<Option<StandingAnswer>, SourceUnavailable>;
}

/// What came of asking for an agent's standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandingAnswer {
    /// It stands as asked.
    AsAsked {
        /// The agent's epoch: whatever was given to it in an older one is void.
        epoch: u64,
        /// Whether it stood otherwise before.
        changed: bool,
        /// Streams of this node that ended for it.
        streams_cut: u64,
    },
    /// It is retired, which is final, and something else was asked.
    Retired,
}

/// Something that the answer rests on could not be asked. The text is for the log alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceUnavailable(pub String);

/// One thing that readiness rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked, in `snake_case`: `database`, `replay_floor`, `draining`.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// For people; without secrets.
    pub detail: String,
}

impl Check {
    /// A check that passed.
    pub fn passed(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, detail: detail.into() }
    }

    /// A check that failed.
    pub fn failed(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok: false, detail: detail.into() }
    }
}

/// Whether the edge can serve: when every check passed, and there was one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    ready: bool,
    checks: Vec<Check>,
}

impl Readiness {
    /// Judges these checks.
    pub fn of(checks: Vec<Check>) -> Self {
        // Nothing checked is nothing known.
        Self { ready: !checks.is_empty() && checks.iter().all(|check| check.ok), checks }
    }

    /// Whether every check passed.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// What it rests on.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }
}

/// What the edge has done since it started, and holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The edge's version.
    pub version: String,
    /// Since the start, in milliseconds.
    pub uptime_ms: u64,
    /// Requests that passed authentication.
    pub admitted: u64,
    /// Refusals by the code that the caller saw.
    pub refused_by_code: BTreeMap<String, u64>,
    /// Refusals by the reason that the caller did not see.
    pub refused_by_reason: BTreeMap<String, u64>,
    /// Half of the authentications took at most this long, in microseconds; `None` before the first.
    pub p50_us: Option<u64>,
    /// 95 in 100 authentications took at most this long, in microseconds; `None` before the first.
    pub p95_us: Option<u64>,
    /// Streams that are open now.
    pub open_streams: u64,
    /// Nonces held now, so that they cannot be used again.
    pub nonces_held: u64,
    /// Sessions held now.
    pub sessions_held: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_something_was_checked_and_all_of_it_passed() {
        assert!(!Readiness::of(Vec::new()).ready());
        assert!(Readiness::of(vec![Check::passed("database", "answers")]).ready());
        let mixed = vec![Check::passed("database", "answers"), Check::failed("draining", "stops")];
        assert!(!Readiness::of(mixed).ready());
    }
}
