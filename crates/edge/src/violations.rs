//! Refusals as audit events, folded by agent, source, reason and second, with a count: a flood costs
//! the database a bounded number of rows, and none of them goes uncounted. Refusals that the table
//! does not keep never come here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use edgeward_core::rejection::Spec;
use edgeward_core::time::WallMs;
use edgeward_store::durable::Durable;
use edgeward_store::{Event, EventKind};
use edgeward_wire::{AgentId, TraceId};
use serde_json::{Map, Value, json};

/// Rows in one second; what comes beyond is folded into one row of no agent and no source.
const ROWS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    second: u64,
    agent: Option<AgentId>,
    source: Option<IpAddr>,
    reason: &'static str,
    code: &'static str,
    verified: bool,
}

#[derive(Debug)]
struct Folded {
    first: TraceId,
    count: u64,
}

/// Refusals that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    waiting: Mutex<HashMap<Key, Folded>>,
}

/// Whom a refusal concerns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Concerned {
    /// The agent that the request named; `verified` says whether it was that agent.
    pub agent: Option<AgentId>,
    /// Whether a signature had held.
    pub verified: bool,
    /// Whence it came.
    pub source: IpAddr,
}

impl Violations {
    /// Counts a refusal.
    pub(crate) fn count(&self, spec: &Spec, concerned: Concerned, trace: TraceId, now: WallMs) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key {
            second: now.seconds(),
            agent: concerned.agent,
            source: Some(concerned.source),
            reason: spec.reason,
            code: spec.code.as_str(),
            verified: concerned.verified,
        };
        let full = waiting.len() >= ROWS && !waiting.contains_key(&key);
        let key = if full { Key { agent: None, source: None, ..key } } else { key };
        waiting.entry(key).or_insert(Folded { first: trace, count: 0 }).count += 1;
    }

    /// Writes what waits. On failure it goes on waiting.
    pub(crate) async fn flush(&self, durable: &Arc<dyn Durable>) {
        let taken =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() {
            return;
        }
        let events: Vec<Event> = taken.iter().map(|(key, folded)| event(key, folded)).collect();
        if let Err(error) = durable.record(&events).await {
            tracing::warn!(%error, "refusals could not be recorded yet");
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, folded) in taken {
                let full = waiting.len() >= 4 * ROWS && !waiting.contains_key(&key);
                let key = if full { Key { agent: None, source: None, ..key } } else { key };
                waiting.entry(key).or_insert(Folded { first: folded.first, count: 0 }).count +=
                    folded.count;
            }
        }
    }
}

/// An agent that was only named is part of the payload; `agent_id` is for those that proved it.
fn event(key: &Key, folded: &Folded) -> Event {
    let mut payload = Map::new();
    payload.insert("code".into(), key.code.into());
    payload.insert("reason".into(), key.reason.into());
    payload.insert("count".into(), folded.count.into());
    payload.insert(
        "source".into(),
        key.source.map_or(Value::Null, |source| json!(source.to_string())),
    );
    if !key.verified {
        payload.insert("named_agent".into(), key.agent.map_or(Value::Null, |agent| json!(agent)));
    }
    Event {
        occurred_at: WallMs(key.second * 1000),
        kind: EventKind::AuthViolation,
        agent: key.agent.filter(|_| key.verified),
        owner: None,
        trace: folded.first,
        payload,
    }
}
