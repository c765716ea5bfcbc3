//! The state of every limiter that was used lately, by agent and route.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use edgeward_core::limit::gcra::{self, State, Verdict};
use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::time::MonoMs;
use edgeward_wire::AgentId;

const SHARDS: usize = 64;
/// How many calls of `sweep` see every shard once.
const PASS: usize = 4;

/// The agent, and the route's place in the table or none for the agent's own rate.
type Key = (AgentId, Option<u32>);

/// All limiters of one agent lie in one shard, so one lock decides all charges of a claim.
pub(super) struct RateTable {
    shards: Vec<Mutex<HashMap<Key, State>>>,
    spread: RandomState,
    next: AtomicUsize,
}

impl Default for RateTable {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            spread: RandomState::new(),
            next: AtomicUsize::new(0),
        }
    }
}

impl RateTable {
    /// Charges every rate of the claim, or none: the first that refuses keeps its penalty, and the
    /// others stay as they were.
    pub(super) fn charge(&self, claim: &Claim, now: MonoMs) -> Result<(), ClaimOutcome> {
        let mut states = self.shard(claim.agent());
        let mut charged = [None; 2];
        for (slot, charge) in charged.iter_mut().zip(claim.charges()) {
            let key = (claim.agent(), charge.route);
            let state = states.get(&key).copied().unwrap_or_default();
            match gcra::decide(state, now.0, charge.rate) {
                Verdict::Allow(state) => *slot = Some((key, state)),
                Verdict::Refuse { state, retry_after_ms } => {
                    states.insert(key, state);
                    return Err(ClaimOutcome::RateLimited { retry_after_ms, rate: charge.rate });
                }
            }
        }
        states.extend(charged.into_iter().flatten());
        Ok(())
    }

    /// Forgets the idle limiters of the next quarter of the shards; whether a pass over all of them
    /// ended with it.
    pub(super) fn sweep(&self, now: MonoMs) -> bool {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % PASS;
        for shard in self.shards.iter().skip(turn).step_by(PASS) {
            let mut states = lock(shard);
            states.retain(|_, state| !gcra::is_idle(*state, now.0));
            // What a crowd has left behind is given back.
            if states.capacity() > 64 && states.len() < states.capacity() / 4 {
                states.shrink_to_fit();
            }
        }
        turn == PASS - 1
    }

    /// How many states are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder lies within the length")]
    fn shard(&self, agent: AgentId) -> MutexGuard<'_, HashMap<Key, State>> {
        // INVARIANT: there are SHARDS shards, more than none.
        let spread = self.spread.hash_one(agent);
        lock(&self.shards[(spread % SHARDS as u64) as usize])
    }
}

/// A panic under the lock can leave a charge undone, never half a state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
