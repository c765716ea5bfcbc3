//! The clock that stores and the shell are given.

use edgeward_core::time::Now;

/// Both clocks, read together. There is one that reads the machine's, and a fake one in tests.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now.
    fn now(&self) -> Now;
}

#[cfg(any(test, feature = "conformance"))]
pub use manual::ManualClock;

#[cfg(any(test, feature = "conformance"))]
mod manual {
    use std::sync::{Arc, Mutex, PoisonError};

    use edgeward_core::time::{MonoMs, Now, WallMs};

    use super::Clock;

    /// A clock that stands still until it is told. Its clones are the same clock.
    #[derive(Debug, Clone)]
    pub struct ManualClock(Arc<Mutex<Now>>);

    impl ManualClock {
        /// Shows `wall`; the monotonic clock starts at an hour.
        #[must_use]
        pub fn at(wall: WallMs) -> Self {
            Self(Arc::new(Mutex::new(Now { wall, mono: MonoMs(3_600_000) })))
        }

        /// Lets `ms` pass on both clocks.
        pub fn advance(&self, ms: u64) {
            self.change(|now| Now { wall: now.wall.plus(ms), mono: now.mono.plus(ms) });
        }

        /// Sets the wall clock alone, as an operator or NTP does.
        pub fn set_wall(&self, wall: WallMs) {
            self.change(|now| Now { wall, ..now });
        }

        fn change(&self, change: impl FnOnce(Now) -> Now) {
            let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *now = change(*now);
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Now {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
