//! What a connection is doing, shared between the socket's guard and the service above it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How many exchanges are in flight on one connection, and when the last one ended.
///
/// A connection is idle only while nothing is in flight: the HTTP library reads from the socket
/// while it streams an answer, and such a read may well wait for hours.
#[derive(Debug)]
pub struct Activity {
    in_flight: AtomicUsize,
    since: Instant,
    /// Milliseconds after `since`.
    last_end_ms: AtomicU64,
}

impl Activity {
    /// Nothing in flight; now counts as the last end.
    #[must_use]
    pub fn new() -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            since: Instant::now(),
            last_end_ms: AtomicU64::new(0),
        }
    }

    /// Begins an exchange, which ends when the guard is dropped: keep it as long as the answer's
    /// body.
    pub fn begin(activity: &Arc<Self>) -> InFlight {
        activity.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight { activity: Arc::clone(activity) }
    }

    /// Exchanges in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// When the last exchange ended, or the connection was accepted.
    pub(super) fn last_end(&self) -> Instant {
        self.since + Duration::from_millis(self.last_end_ms.load(Ordering::Acquire))
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

/// An exchange in flight, until it is dropped.
#[derive(Debug)]
#[must_use = "the exchange ends when this is dropped"]
pub struct InFlight {
    activity: Arc<Activity>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let ms = u64::try_from(self.activity.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        // The time first: whoever sees nothing in flight must see when that began.
        self.activity.last_end_ms.fetch_max(ms, Ordering::AcqRel);
        self.activity.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Bytes that went over a socket, for whoever wants to know what a connection has held back or let
/// through.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes read from the socket.
    pub read: AtomicU64,
    /// Bytes that the socket has taken.
    pub written: AtomicU64,
}
