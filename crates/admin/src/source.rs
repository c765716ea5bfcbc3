//! What the program tells the operators about the edge.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

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
}

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
