//! Sessions that were read lately, so that most requests need not ask Redis.
//!
//! A copy is as good as what Redis would answer now, or it is told within a bounded time that it is
//! not. Buckets have a generation: whatever is told of one raises it, a reader notes it before it
//! reads, and what it has read is kept only if the generation is still the same. So a write that
//! races a read leaves nothing stale behind: either the read saw it, or its copy is not kept.
//!
//! Pushes can get lost without a trace. So every copy is read again after a while, by whoever uses it
//! and without waiting; one that could not be confirmed is not used any longer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgeward_core::record::Session;
use edgeward_core::time::MonoMs;
use edgeward_wire::{AgentId, SessionIdHash};
use quick_cache::sync::Cache;

use crate::bucket::Bucket;
use crate::hub::Push;

/// How many sessions are kept.
const CAPACITY: usize = 100_000;

type Key = (AgentId, SessionIdHash);

#[derive(Clone)]
struct Kept {
    session: Session,
    /// Before this the read had not begun, so that what was true then may not be in it.
    read_at: MonoMs,
    /// Which opening of the bucket it was read under.
    opening: u64,
    /// Somebody is reading it again.
    confirming: Arc<AtomicBool>,
}

#[derive(Default, Clone, Copy)]
struct Side {
    /// Raised by whatever is told of the bucket.
    generation: u64,
    /// How pushes arrive, from the opening of this number on; closed for none.
    open: Option<(u64, Push)>,
    openings: u64,
}

/// What is known of a session.
pub(crate) enum Look {
    /// This, lately.
    Fresh(Session),
    /// This; and the asker is the one who must read it again, without waiting.
    Confirm(Session, Ticket),
    /// Nothing: it must be read.
    Miss(Ticket),
}

/// The right to keep what is read from now on.
#[derive(Clone)]
pub(crate) struct Ticket {
    key: Key,
    bucket: Bucket,
    generation: u64,
    opening: Option<u64>,
    read_at: MonoMs,
    confirming: Option<Arc<AtomicBool>>,
}

pub(crate) struct Near {
    sides: Vec<Mutex<Side>>,
    kept: Cache<Key, Kept>,
}

impl Near {
    pub(crate) fn new() -> Self {
        Self {
            sides: Bucket::all().map(|_| Mutex::default()).collect(),
            kept: Cache::new(CAPACITY),
        }
    }

    pub(crate) fn look(&self, agent: AgentId, id: &SessionIdHash, now: MonoMs) -> Look {
        let key = (agent, *id);
        let mut ticket = self.ticket(agent, id, now);
        let push = self.side(ticket.bucket).open.map(|(_, push)| push);
        let Some((kept, push)) = self.kept.get(&key).zip(push) else {
            return Look::Miss(ticket);
        };
        let age_ms = now.since(kept.read_at);
        let limits = Limits::of(push);
        let ended = now >= kept.session.expires_at;
        if Some(kept.opening) != ticket.opening || age_ms >= limits.drop_ms || ended {
            return Look::Miss(ticket);
        }
        if age_ms >= limits.confirm_ms && !kept.confirming.swap(true, Ordering::AcqRel) {
            ticket.confirming = Some(kept.confirming);
            return Look::Confirm(kept.session, ticket);
        }
        Look::Fresh(kept.session)
    }

    /// To be taken before a session is read, or written.
    pub(crate) fn ticket(&self, agent: AgentId, id: &SessionIdHash, now: MonoMs) -> Ticket {
        let bucket = Bucket::of(agent);
        let side = *self.side(bucket);
        Ticket {
            key: (agent, *id),
            bucket,
            generation: side.generation,
            opening: side.open.map(|(opening, _)| opening),
            read_at: now,
            confirming: None,
        }
    }

    /// Keeps what was read, unless anything was told of the bucket since the ticket was taken.
    pub(crate) fn keep(&self, ticket: &Ticket, session: &Session) {
        let side = self.side(ticket.bucket);
        let opening = side.open.map(|(opening, _)| opening);
        if let Some(opening) = opening
            && Some(opening) == ticket.opening
            && side.generation == ticket.generation
        {
            let kept = Kept {
                session: session.clone(),
                read_at: ticket.read_at,
                opening,
                confirming: Arc::default(),
            };
            // Under the lock of the bucket: what is told next removes it again.
            self.kept.insert(ticket.key, kept);
        }
    }

    /// The read failed, or was given up: somebody else may try.
    pub(crate) fn not_confirmed(ticket: &Ticket) {
        if let Some(confirming) = &ticket.confirming {
            confirming.store(false, Ordering::Release);
        }
    }

    /// The session has changed or ended.
    pub(crate) fn invalidate(&self, agent: AgentId, id: &SessionIdHash) {
        let mut side = self.side(Bucket::of(agent));
        side.generation = side.generation.wrapping_add(1);
        self.kept.remove(&(agent, *id));
    }

    /// From now on changes in these are told of.
    pub(crate) fn open(&self, buckets: &[Bucket], push: Push) {
        for bucket in buckets {
            let mut side = self.side(*bucket);
            side.openings = side.openings.wrapping_add(1);
            side.open = Some((side.openings, push));
        }
    }

    /// Changes in these may be missed: nothing that was read so far is used again.
    pub(crate) fn close(&self, buckets: &[Bucket]) {
        for bucket in buckets {
            let mut side = self.side(*bucket);
            side.generation = side.generation.wrapping_add(1);
            side.open = None;
        }
    }

    /// Nothing that was read so far in this bucket is used again; changes are told of as before.
    pub(crate) fn forget(&self, bucket: Bucket) {
        let mut side = self.side(bucket);
        side.generation = side.generation.wrapping_add(1);
        if let Some((_, push)) = side.open {
            side.openings = side.openings.wrapping_add(1);
            side.open = Some((side.openings, push));
        }
    }

    #[expect(clippy::indexing_slicing, reason = "there is a side for each bucket")]
    fn side(&self, bucket: Bucket) -> MutexGuard<'_, Side> {
        // INVARIANT: `sides` has one for each of `Bucket::all`. A panic under the lock leaves
        // generation and opening whole.
        self.sides[bucket.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a copy is used.
struct Limits {
    /// From this age on it is read again by the way.
    confirm_ms: u64,
    /// From this age on it is not used.
    drop_ms: u64,
}

impl Limits {
    fn of(push: Push) -> Self {
        match push {
            Push::Tracking | Push::PubSub => Self { confirm_ms: 2_000, drop_ms: 3_000 },
            Push::None => Self { confirm_ms: 600, drop_ms: 1_000 },
        }
    }
}

#[cfg(test)]
mod tests;
