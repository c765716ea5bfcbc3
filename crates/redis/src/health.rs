//! What is known of a server while its link is open: its clock, and whether what it tells arrives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use edgeward_core::time::{MonoMs, WallMs};

use crate::reading::Reading;

/// Nothing yet.
const NEVER: u64 = u64::MAX;

/// How many canaries may be out before none is expected any more.
const OUT: usize = 2;

/// One server.
#[derive(Debug)]
pub(crate) struct Health {
    /// How far the clock is ahead, and what it showed.
    clock: Mutex<(i64, Reading)>,
    confirmed_at: AtomicU64,
    /// When the canaries that have not come back were sent.
    out: Mutex<Vec<MonoMs>>,
}

impl Health {
    pub(crate) fn new() -> Self {
        let unread = Reading { shown: WallMs(0), asked: MonoMs(0), answered: MonoMs(0) };
        Self {
            clock: Mutex::new((0, unread)),
            confirmed_at: AtomicU64::new(NEVER),
            out: Mutex::new(Vec::new()),
        }
    }

    /// Before the link is open, and with each beat.
    pub(crate) fn measured(&self, clock_ahead_ms: i64, reading: Reading) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = (clock_ahead_ms, reading);
    }

    pub(crate) fn clock_ahead_ms(&self) -> i64 {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn reading(&self) -> Reading {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).1
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
        let health = Health::new();
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
        let health = Health::new();
        assert!(health.canary_sent(MonoMs(1)));
        assert!(health.canary_sent(MonoMs(2)));
        assert!(!health.canary_sent(MonoMs(3)));
    }
}
