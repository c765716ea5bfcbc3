//! Sessions by the hash of their id, and by agent.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use edgeward_core::record::Session;
use edgeward_core::time::MonoMs;
use edgeward_wire::{AgentId, SessionIdHash, SessionKey};

const SHARDS: usize = 64;
/// How many calls of `sweep` see every shard once.
const PASS: usize = 4;

/// A session and the bytes of its key, which its `MacKey` does not give back.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) session: Session,
    pub(super) key: SessionKey,
}

type ById = HashMap<SessionIdHash, Kept>;
type ByAgent = HashMap<AgentId, HashSet<SessionIdHash>>;

/// Shards by the first byte of the hash for look-ups, and an index by agent. The index is locked
/// before a shard, and may name sessions that are gone.
pub(super) struct SessionTable {
    shards: Vec<RwLock<ById>>,
    by_agent: Mutex<ByAgent>,
    next: AtomicUsize,
    /// A snapshot was begun: what changes from now on would be missing in it, and an ended session
    /// would come back to life. Read under the lock of the shard that is to change.
    frozen: AtomicBool,
}

impl Default for SessionTable {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            by_agent: Mutex::default(),
            next: AtomicUsize::new(0),
            frozen: AtomicBool::new(false),
        }
    }
}

/// Every method that changes something answers `None` once the table is frozen.
impl SessionTable {
    pub(super) fn start(&self, session: Session, key: SessionKey) -> Option<()> {
        let (id, agent) = (session.id, session.agent);
        let mut index = lock(&self.by_agent);
        self.write(&id)?.insert(id, Kept { session, key });
        index.entry(agent).or_default().insert(id);
        Some(())
    }

    pub(super) fn find(&self, id: &SessionIdHash, now: MonoMs) -> Option<Session> {
        let shard = self.read(id);
        let kept = shard.get(id).filter(|kept| is_live(kept, now))?;
        Some(kept.session.clone())
    }

    pub(super) fn extend(
        &self,
        agent: AgentId,
        id: &SessionIdHash,
        until: MonoMs,
        now: MonoMs,
    ) -> Option<Option<Session>> {
        let mut shard = self.write(id)?;
        let of_agent = |kept: &&mut Kept| kept.session.agent == agent && is_live(kept, now);
        let Some(kept) = shard.get_mut(id).filter(of_agent) else {
            return Some(None);
        };
        let session = &mut kept.session;
        session.expires_at = until.min(session.max_expires_at).max(session.expires_at);
        Some(Some(session.clone()))
    }

    pub(super) fn end(&self, agent: AgentId, id: &SessionIdHash, now: MonoMs) -> Option<bool> {
        let mut index = lock(&self.by_agent);
        let mut shard = self.write(id)?;
        if shard.get(id).is_none_or(|kept| kept.session.agent != agent) {
            return Some(false);
        }
        let Some(kept) = shard.remove(id) else {
            return Some(false);
        };
        drop(shard);
        forget(&mut index, &kept);
        Some(is_live(&kept, now))
    }

    pub(super) fn end_all_of(&self, agent: AgentId, now: MonoMs) -> Option<Vec<SessionIdHash>> {
        let mut index = lock(&self.by_agent);
        let mut ended = Vec::new();
        for id in index.get(&agent).into_iter().flatten() {
            let mut shard = self.write(id)?;
            if shard.get(id).is_some_and(|kept| kept.session.agent == agent)
                && let Some(kept) = shard.remove(id)
                && is_live(&kept, now)
            {
                ended.push(*id);
            }
        }
        index.remove(&agent);
        Some(ended)
    }

    /// Drops what has expired in the next quarter of the shards.
    pub(super) fn sweep(&self, now: MonoMs) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % PASS;
        for shard in self.shards.iter().skip(turn).step_by(PASS) {
            let expired: Vec<Kept> = {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                let expired = shard.extract_if(|_, kept| !is_live(kept, now)).map(|(_, kept)| kept);
                let expired = expired.collect();
                if shard.capacity() > 64 && shard.len() < shard.capacity() / 4 {
                    shard.shrink_to_fit();
                }
                expired
            };
            if !expired.is_empty() {
                let mut index = lock(&self.by_agent);
                expired.iter().for_each(|kept| forget(&mut index, kept));
            }
        }
    }

    /// Freezes the table and copies what is live.
    pub(super) fn freeze(&self, now: MonoMs) -> Vec<Kept> {
        self.frozen.store(true, Ordering::SeqCst);
        let live = |shard: &RwLock<ById>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.values().filter(|kept| is_live(kept, now)).cloned().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(live).collect()
    }

    pub(super) fn len(&self) -> usize {
        let held =
            |shard: &RwLock<ById>| shard.read().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(held).sum()
    }

    /// How many agents the index names.
    #[cfg(test)]
    pub(super) fn agents(&self) -> usize {
        lock(&self.by_agent).len()
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder lies within the length")]
    fn shard(&self, id: &SessionIdHash) -> &RwLock<ById> {
        // INVARIANT: there are SHARDS shards, more than none, and the hash has 32 bytes.
        &self.shards[usize::from(id.as_bytes()[0]) % SHARDS]
    }

    fn read(&self, id: &SessionIdHash) -> RwLockReadGuard<'_, ById> {
        self.shard(id).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, id: &SessionIdHash) -> Option<RwLockWriteGuard<'_, ById>> {
        let shard = self.shard(id).write().unwrap_or_else(PoisonError::into_inner);
        (!self.frozen.load(Ordering::SeqCst)).then_some(shard)
    }
}

fn is_live(kept: &Kept, now: MonoMs) -> bool {
    now < kept.session.expires_at
}

fn forget(index: &mut ByAgent, kept: &Kept) {
    if let Some(ids) = index.get_mut(&kept.session.agent) {
        ids.remove(&kept.session.id);
        if ids.is_empty() {
            index.remove(&kept.session.agent);
        }
    }
}

/// No panic can happen between the changes that belong together.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
