//! What this node has granted without asking, and what it knows of the rates.
//!
//! Of each limiter there is a view: what Redis last said, and on top of it every request that was
//! granted here since. Those are told to Redis soon; until it has confirmed them there are never more
//! than a small share of the rate. A view may lag behind what other nodes have charged, so it can grant
//! that share too much, once: the charges themselves are always told, and whoever is told of them
//! refuses until the time has passed.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgeward_core::limit::gcra::Rate;
use edgeward_core::nonce::{Charge, Claim};
use edgeward_core::time::MonoMs;
use edgeward_wire::AgentId;
use tokio::sync::Notify;

use super::{State, allowance};

const SHARDS: usize = 64;
/// How long an agent is remembered that claims nothing, in milliseconds.
const IDLE_MS: u64 = 60_000;
/// How many agents a shard remembers; those beyond ask every time.
const SHARD_CAPACITY: usize = 4_096;

/// What can be said without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    /// It passes, and is charged.
    Granted,
    /// It does not.
    Limited { rate: Rate, retry_after_ms: u64 },
    /// Redis must be asked.
    Ask,
}

struct Line {
    charge: Charge,
    view: State,
    /// Granted, not told to Redis.
    open: u32,
    /// Told to Redis, not confirmed.
    sent: u32,
    /// A violation is not told to Redis.
    struck: bool,
}

#[derive(Default)]
struct Account {
    used_at: MonoMs,
    lines: Vec<Line>,
    /// Whether it waits to be told to Redis.
    queued: bool,
}

pub(crate) struct Ledger {
    shards: Vec<Mutex<HashMap<AgentId, Account>>>,
    spread: RandomState,
    queue: Mutex<Vec<AgentId>>,
    hurry: Notify,
}

/// What Redis is told of one limiter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) charge: Charge,
    pub(crate) granted: u32,
    pub(crate) view: State,
    struck: bool,
}

/// What is being told to Redis of one agent. Unless it is confirmed, it will be told again: an answer
/// that was lost may charge twice, never not at all.
pub(crate) struct Batch {
    ledger: Arc<Ledger>,
    pub(crate) agent: AgentId,
    pub(crate) dues: Vec<Due>,
}

impl Ledger {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            spread: RandomState::new(),
            queue: Mutex::default(),
            hurry: Notify::new(),
        })
    }

    /// Decides by the views, all rates or none, where they suffice. `server_ms` is what the agent's
    /// server shows.
    pub(crate) fn decide(&self, claim: &Claim, server_ms: u64, now: MonoMs) -> Local {
        let mut shard = self.shard(claim.agent());
        let Some(account) = shard.get_mut(&claim.agent()) else {
            return Local::Ask;
        };
        account.used_at = now;
        let (mut suffices, mut hurry) = (true, false);
        let mut decided = [None; 2];
        for (slot, charge) in decided.iter_mut().zip(claim.charges()) {
            let Some((place, line)) = account.line(charge) else {
                return Local::Ask;
            };
            let mut view = line.view;
            if let Some(retry_after_ms) = view.decide(server_ms, charge.rate) {
                (line.view, line.struck) = (view, true);
                self.queue(claim.agent(), account);
                return Local::Limited { rate: charge.rate, retry_after_ms };
            }
            let (unconfirmed, most) = (line.open + line.sent, allowance(charge.rate));
            suffices = suffices && unconfirmed < most;
            hurry = hurry || (line.open + 1) * 2 >= most;
            *slot = Some((place, view));
        }
        if !suffices {
            return Local::Ask;
        }
        for (place, view) in decided.into_iter().flatten() {
            if let Some(line) = account.lines.get_mut(place) {
                line.view = view;
                line.open += 1;
            }
        }
        self.queue(claim.agent(), account);
        if hurry {
            self.hurry.notify_one();
        }
        Local::Granted
    }

    /// What must be told along when Redis is asked about this claim; one due for each of its rates, in
    /// their order.
    pub(crate) fn batch_of(self: &Arc<Self>, claim: &Claim) -> Batch {
        let mut shard = self.shard(claim.agent());
        let mut account = shard.get_mut(&claim.agent());
        let due = |charge: Charge| {
            let line = account.as_deref_mut().and_then(|account| account.line(charge));
            line.map_or_else(|| Due::unknown(charge), |(_, line)| line.take())
        };
        let dues = claim.charges().map(due).collect();
        Batch { ledger: Arc::clone(self), agent: claim.agent(), dues }
    }

    /// Everything that Redis must be told by now.
    pub(crate) fn due(self: &Arc<Self>) -> Vec<Batch> {
        let agents = std::mem::take(&mut *lock(&self.queue));
        let mut batches = Vec::with_capacity(agents.len());
        for agent in agents {
            let mut shard = self.shard(agent);
            if let Some(account) = shard.get_mut(&agent) {
                account.queued = false;
                let owing = |line: &&mut Line| line.open > 0 || line.struck;
                let dues: Vec<Due> =
                    account.lines.iter_mut().filter(owing).map(Line::take).collect();
                if !dues.is_empty() {
                    batches.push(Batch { ledger: Arc::clone(self), agent, dues });
                }
            }
        }
        batches
    }

    /// Waits until an agent has used up half of what may stay untold.
    pub(crate) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Forgets who has not claimed for a while, in the shard of this turn.
    pub(crate) fn sweep(&self, turn: usize, now: MonoMs) {
        if let Some(shard) = self.shards.get(turn % SHARDS) {
            let mut shard = lock(shard);
            shard.retain(|_, account| {
                now.since(account.used_at) < IDLE_MS || account.lines.iter().any(Line::is_owing)
            });
            if shard.capacity() > 64 && shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit();
            }
        }
    }

    fn queue(&self, agent: AgentId, account: &mut Account) {
        if !account.queued {
            account.queued = true;
            lock(&self.queue).push(agent);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder lies within the length")]
    fn shard(&self, agent: AgentId) -> MutexGuard<'_, HashMap<AgentId, Account>> {
        // INVARIANT: there are SHARDS shards, more than none.
        let spread = self.spread.hash_one(agent);
        lock(&self.shards[(spread % SHARDS as u64) as usize])
    }

    /// How many agents are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

impl Account {
    fn line(&mut self, charge: Charge) -> Option<(usize, &mut Line)> {
        let place = self.lines.iter().position(|line| line.charge.route == charge.route)?;
        let line = self.lines.get_mut(place)?;
        // A rate that was changed counts from now on.
        line.charge = charge;
        Some((place, line))
    }
}

impl Line {
    /// What it owes is on its way.
    fn take(&mut self) -> Due {
        let due = Due {
            charge: self.charge,
            granted: self.open,
            view: self.view,
            struck: std::mem::take(&mut self.struck),
        };
        self.sent = self.sent.saturating_add(self.open);
        self.open = 0;
        due
    }

    fn is_owing(&self) -> bool {
        self.open > 0 || self.sent > 0 || self.struck
    }
}

impl Due {
    fn unknown(charge: Charge) -> Self {
        Self { charge, granted: 0, view: State::default(), struck: false }
    }
}

impl Batch {
    /// Redis has charged it all, and these are the states now, one for each due.
    pub(crate) fn confirmed(mut self, states: &[State], server_ms: u64, now: MonoMs) {
        let dues = std::mem::take(&mut self.dues);
        let mut shard = self.ledger.shard(self.agent);
        if !shard.contains_key(&self.agent) && shard.len() >= SHARD_CAPACITY {
            return;
        }
        let account = shard.entry(self.agent).or_default();
        account.used_at = account.used_at.max(now);
        for (due, state) in dues.iter().zip(states) {
            if let Some((_, line)) = account.line(due.charge) {
                line.sent = line.sent.saturating_sub(due.granted);
                let mut known = *state;
                known.advance(server_ms, due.charge.rate, line.open.saturating_add(line.sent));
                line.view.merge(known);
            } else {
                let (charge, view) = (due.charge, *state);
                account.lines.push(Line { charge, view, open: 0, sent: 0, struck: false });
            }
        }
    }
}

impl Drop for Batch {
    /// Not confirmed: all of it is owed again.
    fn drop(&mut self) {
        if self.dues.is_empty() {
            return;
        }
        let mut shard = self.ledger.shard(self.agent);
        let Some(account) = shard.get_mut(&self.agent) else {
            return;
        };
        for due in &self.dues {
            if let Some((_, line)) = account.line(due.charge) {
                line.sent = line.sent.saturating_sub(due.granted);
                line.open = line.open.saturating_add(due.granted);
                line.struck = line.struck || due.struck;
            }
        }
        if account.lines.iter().any(|line| line.open > 0 || line.struck) {
            self.ledger.queue(self.agent, account);
        }
    }
}

/// A panic under the lock can leave a charge undone, never half a state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
