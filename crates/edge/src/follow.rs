//! Following the other nodes: the change log of the database, and what the shared store tells.
//!
//! Each has a task of its own, so that one that stands still holds up nothing of the other. What could
//! not be acted on stays owed and is tried again: a block that a node has heard of and not carried out
//! would be worse than one that it has not heard of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgeward_store::StoreError;
use edgeward_store::fleet::{ChangeId, Changed, Fleet, Followed};
use edgeward_store::shared::{Signals, Told};
use edgeward_wire::{AgentId, SessionIdHash};
use tokio::time::MissedTickBehavior;

use crate::edge::Edge;

/// How often the database is asked, and the shared store's silence is looked into.
const BEAT: Duration = Duration::from_secs(1);
/// Changes in one answer.
const BATCH: u32 = 500;
/// Longer than this without a confirmation, in milliseconds, and what the shared store tells is not
/// relied on: sessions with streams are looked at one by one.
const SILENCE_MS: u64 = 2_000;
/// A stream whose session ends within this, in milliseconds, may have been extended elsewhere.
const NEAR_MS: u64 = 3_000;

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
        match catch_up(&edge, &*fleet, &mut last).await {
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
    edge: &Arc<Edge>,
    fleet: &dyn Fleet,
    last: &mut ChangeId,
) -> Result<(), StoreError> {
    loop {
        let changes = match fleet.changes_after(*last, BATCH).await? {
            Followed::Changes(changes) => changes,
            Followed::Gap { newest } => {
                edge.directory.forget_all();
                *last = newest;
                return Ok(());
            }
        };
        let full = changes.len() >= BATCH as usize;
        for (id, changed) in changes {
            let done = match changed {
                Changed::Agent(agent) => edge.learn_of_agent(agent).await,
                Changed::Keys => edge.reload_keys().await,
                Changed::Policy => true,
            };
            if !done {
                return Err(StoreError::Unavailable("a change could not be carried out".into()));
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

/// Acts on what the shared store tells; runs until it is dropped.
pub(crate) async fn signals(edge: Arc<Edge>, signals: Arc<dyn Signals>) {
    let mut told = signals.told();
    let mut beat = beats();
    let mut owed = Owed::default();
    loop {
        tokio::select! {
            told = told.recv() => match told {
                Some(Told::Agent(agent)) => { owed.agents.insert(agent); }
                Some(Told::Session { agent, id }) => { owed.sessions.insert((agent, id)); }
                Some(Told::Everything) => owed.everything(&edge),
                // The store has been stopped, and this node with it.
                None => std::future::pending().await,
            },
            _ = beat.tick() => owed.what_silence_hides(&edge, &*signals),
        }
        owed.settle(&edge).await;
    }
}

/// What was told and not yet acted on.
#[derive(Default)]
struct Owed {
    agents: BTreeSet<AgentId>,
    sessions: BTreeSet<(AgentId, SessionIdHash)>,
}

impl Owed {
    /// Changes may have been missed: nothing that was read counts any more.
    fn everything(&mut self, edge: &Edge) {
        edge.directory.forget_all();
        self.agents.extend(edge.streams.holders().into_iter().map(|holder| holder.agent));
        self.sessions.extend(edge.streams.sessions());
    }

    fn what_silence_hides(&mut self, edge: &Edge, signals: &dyn Signals) {
        let now = edge.clock.now().mono;
        let told = signals.confirmed_at().is_some_and(|at| now.since(at) <= SILENCE_MS);
        if told {
            self.sessions.extend(edge.streams.sessions_ending_by(now.plus(NEAR_MS)));
        } else {
            self.sessions.extend(edge.streams.sessions());
        }
    }

    async fn settle(&mut self, edge: &Arc<Edge>) {
        let open = edge.streams.sessions();
        for agent in std::mem::take(&mut self.agents) {
            if !edge.learn_of_agent(agent).await {
                self.agents.insert(agent);
            }
        }
        for (agent, id) in std::mem::take(&mut self.sessions) {
            if open.contains(&(agent, id)) && !edge.learn_of_session(agent, &id).await {
                self.sessions.insert((agent, id));
            }
        }
    }
}

fn beats() -> tokio::time::Interval {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}
