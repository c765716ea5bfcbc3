//! Whether this node can still be sure that it knows of every block and every change of policy.
//!
//! It asks the database every second. While the database does not answer, no block can be made
//! either, since every change is durable first; then the shared store stands in for it, which tells
//! nodes of changes by itself, and only for a while. With neither, what is in memory may be out of
//! date, and nothing is let in by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edgeward_core::time::MonoMs;
use edgeward_store::shared::Signals;

/// So long the shared store may stand in for the database, in milliseconds.
const ALONE_MS: u64 = 300_000;

/// When each of the two last confirmed that nothing was missed.
pub(crate) struct Confirmed {
    /// The last answer of the database, on the monotonic clock.
    database: AtomicU64,
    /// The last confirmation of the shared store that was seen, on the monotonic clock; 0 for none.
    told: AtomicU64,
    signals: Option<Arc<dyn Signals>>,
    /// `AGENT_POLICY_STALE_MS`.
    stale_ms: u64,
}

impl Confirmed {
    /// The database has just answered.
    pub(crate) fn new(now: MonoMs, signals: Option<Arc<dyn Signals>>, stale_ms: u64) -> Self {
        Self { database: AtomicU64::new(now.0), told: AtomicU64::new(0), signals, stale_ms }
    }

    /// The database confirmed at `now` that this node knows of everything up to then.
    pub(crate) fn by_database(&self, now: MonoMs) {
        self.database.fetch_max(now.0, Ordering::SeqCst);
    }

    /// Whether the database itself is being followed at `now`.
    pub(crate) fn is_followed(&self, now: MonoMs) -> bool {
        now.since(MonoMs(self.database.load(Ordering::SeqCst))) < self.stale_ms
    }

    /// Whether what is in memory may be relied on at `now`.
    pub(crate) fn holds(&self, now: MonoMs) -> bool {
        if self.is_followed(now) {
            return true;
        }
        let ago = now.since(MonoMs(self.database.load(Ordering::SeqCst)));
        // A connection that was lost a moment ago takes nothing back of what was certain before.
        if let Some(at) = self.signals.as_ref().and_then(|signals| signals.confirmed_at()) {
            self.told.fetch_max(at.0, Ordering::SeqCst);
        }
        let told = self.told.load(Ordering::SeqCst);
        ago < ALONE_MS && told > 0 && now.since(MonoMs(told)) < self.stale_ms
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use edgeward_store::StoreError;
    use edgeward_store::shared::Told;
    use edgeward_wire::AgentId;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    /// Confirms at this moment; 0 for never.
    struct At(AtomicU64);

    #[async_trait]
    impl Signals for At {
        fn told(&self) -> UnboundedReceiver<Told> {
            unbounded_channel().1
        }

        async fn tell_agent(&self, _: AgentId) -> Result<(), StoreError> {
            Ok(())
        }

        fn confirmed_at(&self) -> Option<MonoMs> {
            Some(self.0.load(Ordering::SeqCst)).filter(|at| *at > 0).map(MonoMs)
        }

        fn clock_ahead_ms(&self) -> Option<i64> {
            Some(0)
        }
    }

    #[test]
    fn the_database_alone_holds_until_it_is_stale() {
        let confirmed = Confirmed::new(MonoMs(1_000), None, 10_000);
        assert!(confirmed.holds(MonoMs(10_999)));
        assert!(!confirmed.holds(MonoMs(11_000)));
        confirmed.by_database(MonoMs(11_000));
        assert!(confirmed.holds(MonoMs(11_000)));
        confirmed.by_database(MonoMs(5_000));
        assert!(confirmed.holds(MonoMs(20_999)), "an older answer takes nothing back");
    }

    #[test]
    fn the_shared_store_stands_in_for_five_minutes_while_it_confirms() {
        let signals = Arc::new(At(AtomicU64::new(0)));
        let confirmed = Confirmed::new(MonoMs(0), Some(signals.clone()), 10_000);
        assert!(!confirmed.holds(MonoMs(10_000)), "it has never confirmed");
        for now in [10_000, 200_000, 299_998] {
            signals.0.store(now - 9_999, Ordering::SeqCst);
            assert!(confirmed.holds(MonoMs(now)), "{now}");
            assert!(!confirmed.holds(MonoMs(now + 1)), "{now}");
        }
        signals.0.store(299_999, Ordering::SeqCst);
        assert!(confirmed.holds(MonoMs(299_999)));
        signals.0.store(0, Ordering::SeqCst);
        assert!(confirmed.holds(MonoMs(299_999)), "a lost connection takes nothing back");
        signals.0.store(300_000, Ordering::SeqCst);
        assert!(!confirmed.holds(MonoMs(300_000)));
    }
}
