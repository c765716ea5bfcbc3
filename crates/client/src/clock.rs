//! Time, handed in: what the machine's clock says and what waiting means.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that can be read and waited on. Programs use [`SystemClock`]; tests bring their own.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Epoch milliseconds, as this machine believes.
    fn now_ms(&self) -> u64;

    /// Completes when `duration` has gone by.
    fn wait(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The machine's wall clock and tokio's timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    // INVARIANT: the only place of this crate that reads a clock.
    #[expect(clippy::disallowed_methods, reason = "the agent's own clock module")]
    fn now_ms(&self) -> u64 {
        // A clock before 1970 reads as 0: the edge then answers that the timestamp is off.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn wait(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
