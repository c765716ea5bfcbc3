//! Following the other nodes: the change log of the database, and what the shared store tells.
//!
//! Hearing never waits: what was read of an agent is forgotten the moment its change is heard of, so
//! that no request after it goes by the old record. What takes longer, looking after open streams, is
//! owed, and done beside it: sessions and agents apart, so that one that stands still holds up nothing
//! of the other. What cannot be done is tried again every second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgeward_core::time::{MonoMs, Now};
use edgeward_store::StoreError;
use edgeward_store::fleet::{ChangeId, Changed, Fleet, Followed};
use edgeward_store::shared::{Signals, Told};
use edgeward_wire::{AgentId, SessionIdHash};
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::MissedTickBehavior;

use crate::edge::Edge;
use crate::streams::CutReason;

/// No moment of the monotonic clock.
const NEVER: u64 = u64::MAX;
/// How often the database is asked, what failed is tried again, and silence is looked into.
const BEAT: Duration = Duration::from_secs(1);
/// Changes in one answer.
const BATCH: u32 = 500;
/// So many are looked at at once.
const AT_ONCE: usize = 16;
/// Longer than this without a confirmation, in milliseconds, and what the shared store tells is not
/// relied on: sessions with streams are looked at one by one.
const SILENCE_MS: u64 = 2_000;
/// A stream whose session ends within this, in milliseconds, may have been extended elsewhere.
const NEAR_MS: u64 = 3_000;

/// What was heard of and is not done yet.
pub(crate) struct Owed {
    /// `AGENT_POLICY_STALE_MS`.
    stale_ms: u64,
    /// Since when the keys that sign tokens have changed, on the monotonic clock; [`NEVER`] when they
    /// are those of the database.
    keys_since: AtomicU64,
    /// How often the shared store may have brought back sessions that have ended, and after how many of
    /// these times they were ended anew.
    losses: AtomicU64,
    mended: AtomicU64,
    due: Mutex<Due>,
    agents: Notify,
    sessions: Notify,
    rest: Notify,
}

#[derive(Default)]
struct Due {
    /// Agents with streams that have changed, since when.
    agents: BTreeMap<AgentId, MonoMs>,
    /// Sessions with streams that may have ended or been extended.
    sessions: BTreeSet<(AgentId, SessionIdHash)>,
}

impl Owed {
    /// Nothing yet, but what a loss has brought back that the store had before this node came. What is
    /// owed for `stale_ms` is not waited for any longer.
    pub(crate) fn new(stale_ms: u64, has_lost: bool) -> Self {
        let (agents, sessions, rest) = (Notify::new(), Notify::new(), Notify::new());
        Self {
            stale_ms,
            keys_since: AtomicU64::new(NEVER),
            losses: AtomicU64::new(u64::from(has_lost)),
            mended: AtomicU64::new(0),
            due: Mutex::default(),
            agents,
            sessions,
            rest,
        }
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is owed that a request must not pass over: what a loss of the shared store's
    /// memory may have brought back, and keys for too long.
    pub(crate) fn permits(&self, now: MonoMs) -> bool {
        let keys_since = self.keys_since.load(Ordering::SeqCst);
        self.losses.load(Ordering::SeqCst) == self.mended.load(Ordering::SeqCst)
            && (keys_since == NEVER || now.since(MonoMs(keys_since)) < self.stale_ms)
    }

    /// An agent was changed elsewhere.
    fn agent(&self, edge: &Edge, agent: AgentId, now: MonoMs) {
        edge.directory.forget(agent);
        // A stream that is registered after this is looked at once more by whoever registers it.
        if edge.streams.has_agent(agent) {
            self.due().agents.entry(agent).or_insert(now);
            self.agents.notify_one();
        }
    }

    /// Sessions may have ended or been extended elsewhere.
    fn sessions(&self, sessions: impl IntoIterator<Item = (AgentId, SessionIdHash)>) {
        self.due().sessions.extend(sessions);
        self.sessions.notify_one();
    }

    fn keys(&self, now: MonoMs) {
        self.keys_since.fetch_min(now.0, Ordering::SeqCst);
        self.rest.notify_one();
    }

    /// Acts on what the shared store tells, as far as that takes no time.
    fn hear(&self, edge: &Edge, told: Told) {
        let now = edge.clock.now().mono;
        match told {
            Told::Agent(agent) => self.agent(edge, agent, now),
            Told::Session { agent, id } => {
                if edge.streams.has_session(&id) {
                    self.sessions([(agent, id)]);
                }
            }
            Told::Everything => {
                // The database has every change of an agent. Where it is being followed nothing was
                // missed; where it is not, what was missed cannot be found out.
                if !edge.confirmed.as_ref().is_some_and(|confirmed| confirmed.is_followed(now)) {
                    self.all_agents(edge, now);
                }
                self.sessions(edge.streams.sessions());
            }
            Told::Lost => {
                self.losses.fetch_add(1, Ordering::SeqCst);
                self.rest.notify_one();
            }
        }
    }

    /// Changes of agents may have been missed: nothing that was read of them counts any more.
    fn all_agents(&self, edge: &Edge, now: MonoMs) {
        edge.directory.forget_all();
        let mut due = self.due();
        for holder in edge.streams.holders() {
            due.agents.entry(holder.agent).or_insert(now);
        }
        drop(due);
        self.agents.notify_one();
    }
}

/// Follows the change log from `last` on; runs until it is dropped.
pub(crate) async fn changes(edge: Arc<Edge>, fleet: Arc<dyn Fleet>, mut last: ChangeId) {
    let mut beat = beats();
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = fleet.stirred() => {}
        }
        // What it confirms, it confirms for the moment at which it was asked.
        let asked = edge.clock.now().mono;
        match catch_up(&edge, &*fleet, &mut last, asked).await {
            Ok(()) => {
                if let Some(confirmed) = &edge.confirmed {
                    confirmed.by_database(asked);
                }
            }
            Err(error) => tracing::warn!(%error, "the change log could not be read"),
        }
    }
}

async fn catch_up(
    edge: &Edge,
    fleet: &dyn Fleet,
    last: &mut ChangeId,
    now: MonoMs,
) -> Result<(), StoreError> {
    loop {
        let changes = match fleet.changes_after(*last, BATCH).await? {
            Followed::Changes(changes) => changes,
            Followed::Gap { newest } => {
                tracing::warn!("changes may have been missed: everything is read anew");
                edge.owed.all_agents(edge, now);
                edge.owed.keys(now);
                *last = newest;
                continue;
            }
        };
        let full = changes.len() >= BATCH as usize;
        for (id, changed) in changes {
            match changed {
                Changed::Agent(agent) => edge.owed.agent(edge, agent, now),
                Changed::Keys => edge.owed.keys(now),
                Changed::Policy => {}
            }
            *last = id;
        }
        if !full {
            return Ok(());
        }
    }
}

/// Says every second that the node is up; ends when another process has taken its place.
pub(crate) async fn beats_of_node(edge: Arc<Edge>, fleet: Arc<dyn Fleet>) {
    let mut beat = beats();
    loop {
        beat.tick().await;
        let before = edge.clock.now();
        match fleet.beat().await {
            Ok(now) => {
                let after = edge.clock.now().wall;
                if now.since(after).max(before.wall.since(now)) > crate::CLOCK_APART_MS {
                    tracing::warn!(
                        database_ms = now.0,
                        here_ms = after.0,
                        "this node's clock and the database's are apart"
                    );
                }
            }
            Err(StoreError::MarkLapsed) => {
                tracing::error!("another process has taken this node's place");
                return;
            }
            Err(error) => tracing::warn!(%error, "the node could not be said to be up"),
        }
    }
}

/// Hears what the shared store tells; waits for nothing else, and runs until it is dropped.
pub(crate) async fn hear(edge: Arc<Edge>, mut told: UnboundedReceiver<Told>) {
    while let Some(told) = told.recv().await {
        edge.owed.hear(&edge, told);
    }
    // The store has been stopped, and this node with it.
    std::future::pending().await
}

/// Looks after streams of agents that have changed; runs until it is dropped.
pub(crate) async fn settle_agents(edge: Arc<Edge>) {
    let mut beat = beats();
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = edge.owed.agents.notified() => {}
        }
        let agents = std::mem::take(&mut edge.owed.due().agents);
        stream::iter(agents)
            .for_each_concurrent(AT_ONCE, |(agent, since)| settle_agent(&edge, agent, since))
            .await;
    }
}

async fn settle_agent(edge: &Edge, agent: AgentId, since: MonoMs) {
    if edge.learn_of_agent(agent).await {
        return;
    }
    let Now { mono, .. } = edge.clock.now();
    if mono.since(since) < edge.owed.stale_ms {
        // Not at once: the next beat tries again.
        edge.owed.due().agents.entry(agent).or_insert(since);
        return;
    }
    let cut = edge.streams.cut_agent(agent, CutReason::Unconfirmed, mono);
    tracing::error!(%agent, cut, "an agent was changed elsewhere and cannot be read: its streams end");
}

/// Looks after streams of sessions that were ended or extended elsewhere; runs until it is dropped.
pub(crate) async fn settle_sessions(edge: Arc<Edge>, signals: Arc<dyn Signals>) {
    let mut beat = beats();
    loop {
        tokio::select! {
            _ = beat.tick() => what_silence_hides(&edge, &*signals),
            () = edge.owed.sessions.notified() => {}
        }
        let sessions = std::mem::take(&mut edge.owed.due().sessions);
        stream::iter(sessions)
            .for_each_concurrent(AT_ONCE, |(agent, id)| settle_session(&edge, agent, id))
            .await;
    }
}

async fn settle_session(edge: &Edge, agent: AgentId, id: SessionIdHash) {
    if edge.streams.has_session(&id) && !edge.learn_of_session(agent, &id).await {
        edge.owed.due().sessions.insert((agent, id));
    }
}

fn what_silence_hides(edge: &Edge, signals: &dyn Signals) {
    let now = edge.clock.now().mono;
    let told = signals.confirmed_at().is_some_and(|at| now.since(at) <= SILENCE_MS);
    let sessions = if told {
        edge.streams.sessions_ending_by(now.plus(NEAR_MS))
    } else {
        edge.streams.sessions()
    };
    edge.owed.due().sessions.extend(sessions);
}

/// Takes up changed keys, and ends anew what a shared store may have brought back; runs until it is
/// dropped.
pub(crate) async fn settle_rest(edge: Arc<Edge>) {
    let mut beat = beats();
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = edge.owed.rest.notified() => {}
        }
        let owed = &edge.owed;
        let since = owed.keys_since.swap(NEVER, Ordering::SeqCst);
        if since != NEVER && !edge.reload_keys().await {
            owed.keys_since.fetch_min(since, Ordering::SeqCst);
        }
        let losses = owed.losses.load(Ordering::SeqCst);
        if losses != owed.mended.load(Ordering::SeqCst) && edge.end_anew().await {
            owed.mended.store(losses, Ordering::SeqCst);
        }
    }
}

fn beats() -> tokio::time::Interval {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_over_a_loss_that_is_not_mended_nor_over_keys_that_are_owed_for_too_long() {
        let owed = Owed::new(1_000, false);
        assert!(owed.permits(MonoMs(5_000)));
        owed.keys(MonoMs(5_000));
        owed.keys(MonoMs(5_900));
        assert!(owed.permits(MonoMs(5_999)));
        assert!(!owed.permits(MonoMs(6_000)), "since they were first told of");
        owed.keys_since.store(NEVER, Ordering::SeqCst);
        owed.losses.fetch_add(2, Ordering::SeqCst);
        assert!(!owed.permits(MonoMs(0)));
        owed.mended.store(1, Ordering::SeqCst);
        assert!(!owed.permits(MonoMs(0)), "it happened once more");
        owed.mended.store(2, Ordering::SeqCst);
        assert!(owed.permits(MonoMs(0)));
        assert!(!Owed::new(1_000, true).permits(MonoMs(0)), "one from before");
    }
}
