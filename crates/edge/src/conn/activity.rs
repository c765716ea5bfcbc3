//! What a connection is doing, shared between the socket's guard and the service above it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

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
    /// Of exchanges whose answer is watched.
    waits: Mutex<Vec<Arc<Wait>>>,
}

/// Since when an answer waits for its peer to take what was handed out, in milliseconds after the
/// activity's beginning; [`NOT_WAITING`] while it does not.
#[derive(Debug)]
struct Wait(AtomicU64);

const NOT_WAITING: u64 = u64::MAX;

impl Activity {
    /// Nothing in flight; now counts as the last end.
    #[must_use]
    pub fn new() -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            since: Instant::now(),
            last_end_ms: AtomicU64::new(0),
            waits: Mutex::default(),
        }
    }

    /// Begins an exchange, which ends when the guard is dropped: keep it as long as the answer's
    /// body.
    pub fn begin(activity: &Arc<Self>) -> InFlight {
        activity.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight { activity: Arc::clone(activity), wait: None }
    }

    /// Ready once a watched answer has waited for its peer for `span`.
    ///
    /// A peer of HTTP/2 that grants no window leaves the socket writable, so that no write of the
    /// connection ever stalls; it is the answer that stands still.
    pub async fn stalled(&self, span: Duration) {
        loop {
            let oldest = self.waits().iter().filter_map(|wait| wait.since()).min();
            let since =
                oldest.map_or_else(Instant::now, |ms| self.since + Duration::from_millis(ms));
            if oldest.is_some() && since.elapsed() >= span {
                return;
            }
            sleep_until(since + span).await;
        }
    }

    fn waits(&self) -> MutexGuard<'_, Vec<Arc<Wait>>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
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
    wait: Option<Arc<Wait>>,
}

impl InFlight {
    /// Watches from now on how long the peer takes to take the answer.
    pub fn watch(&mut self) {
        let wait = Arc::new(Wait(AtomicU64::new(NOT_WAITING)));
        self.activity.waits().push(Arc::clone(&wait));
        self.wait = Some(wait);
    }

    /// Something was handed out for the peer to take.
    pub(crate) fn handed(&self) {
        if let Some(wait) = &self.wait {
            wait.0.store(self.activity.elapsed_ms(), Ordering::Relaxed);
        }
    }

    /// The peer has taken it: there is room for more.
    pub(crate) fn taken(&self) {
        if let Some(wait) = &self.wait {
            wait.0.store(NOT_WAITING, Ordering::Relaxed);
        }
    }
}

impl Wait {
    fn since(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|since| *since != NOT_WAITING)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(own) = &self.wait {
            self.activity.waits().retain(|wait| !Arc::ptr_eq(wait, own));
        }
        // The time first: whoever sees nothing in flight must see when that began.
        self.activity.last_end_ms.fetch_max(self.activity.elapsed_ms(), Ordering::AcqRel);
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

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const SPAN: Duration = Duration::from_secs(30);
    const NEVER: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_told_when_its_time_is_up() {
        let activity = Arc::new(Activity::new());
        let mut exchange = Activity::begin(&activity);
        exchange.watch();
        advance(Duration::from_secs(100)).await;
        exchange.handed();
        let since = Instant::now();
        activity.stalled(SPAN).await;
        assert_eq!(since.elapsed(), SPAN);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_taken_or_over_or_not_watched_is_not_told() {
        let activity = Arc::new(Activity::new());
        let [mut taken, mut over, unwatched] = [(); 3].map(|()| Activity::begin(&activity));
        taken.watch();
        over.watch();
        taken.handed();
        over.handed();
        unwatched.handed();
        let later = async {
            tokio::time::sleep(SPAN / 2).await;
            taken.taken();
            drop(over);
        };
        let stalled = timeout(NEVER, activity.stalled(SPAN));
        assert!(tokio::join!(stalled, later).0.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn progress_begins_the_wait_anew() {
        let activity = Arc::new(Activity::new());
        let mut exchange = Activity::begin(&activity);
        exchange.watch();
        let since = Instant::now();
        let steady = async {
            for _ in 0..10 {
                exchange.handed();
                tokio::time::sleep(SPAN / 2).await;
                exchange.taken();
            }
            exchange.handed();
        };
        tokio::join!(activity.stalled(SPAN), steady);
        assert_eq!(since.elapsed(), SPAN * 6);
    }
}
