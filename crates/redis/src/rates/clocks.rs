//! What the servers' clocks show, by this node's monotonic one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use edgeward_core::time::{MonoMs, WallMs};

use crate::bucket::Bucket;

/// After this a measurement gives way to a less exact one, since clocks drift.
const STALE_MS: u64 = 5_000;

#[derive(Clone, Copy)]
struct Sample {
    /// What the server showed …
    shown: WallMs,
    /// … at this moment, or up to half of `taken_ms` before or after it.
    at: MonoMs,
    taken_ms: u64,
}

/// A measurement for each bucket, since each may lie on another server.
pub(crate) struct ServerClocks(Vec<Mutex<Option<Sample>>>);

impl ServerClocks {
    pub(crate) fn new() -> Self {
        Self(Bucket::all().map(|_| Mutex::default()).collect())
    }

    /// A server showed `shown` at some moment between these two.
    pub(crate) fn note(&self, bucket: Bucket, shown: WallMs, asked: MonoMs, answered: MonoMs) {
        let taken_ms = answered.since(asked);
        let sample = Sample { shown, at: asked.plus(taken_ms / 2), taken_ms };
        let mut known = self.of(bucket);
        let better = known
            .is_none_or(|known| taken_ms <= known.taken_ms || answered.since(known.at) >= STALE_MS);
        if better {
            *known = Some(sample);
        }
    }

    /// What the server of this bucket shows now; `None` before it was asked.
    pub(crate) fn now(&self, bucket: Bucket, now: MonoMs) -> Option<WallMs> {
        let sample = (*self.of(bucket))?;
        Some(sample.shown.plus(now.since(sample.at)))
    }

    #[expect(clippy::indexing_slicing, reason = "there is one for each bucket")]
    fn of(&self, bucket: Bucket) -> MutexGuard<'_, Option<Sample>> {
        // INVARIANT: one was made for each of `Bucket::all`.
        self.0[bucket.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
