//! What is known of a server while its link is open: its clock, and whether what it tells arrives.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use edgeward_core::time::MonoMs;

/// Nothing yet.
const NEVER: u64 = u64::MAX;

/// How many canaries may be out before none is expected any more.
const OUT: usize = 2;

/// One server.
#[derive(Debug)]
pub(crate) struct Health {
    clock_ahead_ms: AtomicI64,
    confirmed_at: AtomicU64,
    /// When the canaries that have not come back were sent.
    out: Mutex<Vec<MonoMs>>,
}

impl Health {
    pub(crate) fn new(clock_ahead_ms: i64) -> Self {
        Self {
            clock_ahead_ms: AtomicI64::new(clock_ahead_ms),
            confirmed_at: AtomicU64::new(NEVER),
            out: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn measured(&self, clock_ahead_ms: i64) {
        self.clock_ahead_ms.store(clock_ahead_ms, Ordering::SeqCst);
    }

    pub(crate) fn clock_ahead_ms(&self) -> i64 {
        self.clock_ahead_ms.load(Ordering::SeqCst)
    }

    /// A canary is about to be sent; false when too many are out: what the server tells does not arrive.
    pub(crate) fn canary_sent(&self, at: MonoMs) -> bool {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.len() >= OUT {
            return false;
        }
        out.push(at);
        true
    }

    /// A canary came back. Which one it does not say: it counts as the oldest.
    pub(crate) fn canary_returned(&self) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = out.first() {
            self.confirmed_at.store(sent.0, Ordering::SeqCst);
        }
        out.clear();
    }

    /// Up to when everything that the server has told has arrived here.
    pub(crate) fn confirmed_at(&self) -> Option<MonoMs> {
        let at = self.confirmed_at.load(Ordering::SeqCst);
        (at != NEVER).then_some(MonoMs(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_canary_out_is_what_is_confirmed() {
        let health = Health::new(0);
        assert!(health.canary_sent(MonoMs(10)));
        assert_eq!(health.confirmed_at(), None);
        assert!(health.canary_sent(MonoMs(20)));
        health.canary_returned();
        assert_eq!(health.confirmed_at(), Some(MonoMs(10)));
        health.canary_returned();
        assert_eq!(health.confirmed_at(), Some(MonoMs(10)));
    }

    #[test]
    fn the_third_canary_without_one_back_is_one_too_many() {
        let health = Health::new(0);
        assert!(health.canary_sent(MonoMs(1)));
        assert!(health.canary_sent(MonoMs(2)));
        assert!(!health.canary_sent(MonoMs(3)));
    }
}
