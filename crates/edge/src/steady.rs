//! Whether the wall clock can be relied on. Timestamps are held against it, and a step lets old ones
//! in or keeps honest ones out: after one the node takes nothing until the clock has been steady for a
//! while.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use edgeward_core::time::Now;

/// A step is more than this between the wall clock and the monotonic one, in milliseconds.
const STEP_MS: u64 = 1_000;
/// So long the clock must be steady after one, in milliseconds.
const STEADY_MS: u64 = 10_000;

/// Compares the two clocks.
#[derive(Debug)]
pub(crate) struct Steadiness {
    /// The wall clock less the monotonic one, in milliseconds, as it was last taken for right.
    offset: AtomicI64,
    /// On the monotonic clock.
    unsteady_until: AtomicU64,
}

impl Steadiness {
    /// The clock is taken for right as it is now.
    pub(crate) fn new(now: Now) -> Self {
        Self { offset: AtomicI64::new(offset(now)), unsteady_until: AtomicU64::new(0) }
    }

    /// How long the node has to wait for its clock, in milliseconds; `None` while it is steady.
    pub(crate) fn wait_ms(&self, now: Now) -> Option<u64> {
        let (here, before) = (offset(now), self.offset.load(Ordering::SeqCst));
        if here.abs_diff(before) > STEP_MS
            && self
                .offset
                .compare_exchange(before, here, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        {
            let until = now.mono.plus(STEADY_MS);
            self.unsteady_until.fetch_max(until.0, Ordering::SeqCst);
            tracing::error!(
                step_ms = here.saturating_sub(before),
                "the wall clock stepped: nothing is taken until it has been steady for 10 s"
            );
        }
        let until = self.unsteady_until.load(Ordering::SeqCst);
        until.checked_sub(now.mono.0).filter(|wait_ms| *wait_ms > 0)
    }

    /// Follows a clock that is slewed, which is no step. To be called every second.
    pub(crate) fn follow(&self, now: Now) {
        let (here, before) = (offset(now), self.offset.load(Ordering::SeqCst));
        if here.abs_diff(before) <= STEP_MS {
            let _ = self.offset.compare_exchange(before, here, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

fn offset(now: Now) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(now.wall.0).saturating_sub(signed(now.mono.0))
}

#[cfg(test)]
mod tests {
    use edgeward_core::time::WallMs;
    use edgeward_store::Clock as _;
    use edgeward_store::clock::ManualClock;

    use super::*;

    const NOON: WallMs = WallMs(1_764_000_000_000);

    #[test]
    fn a_step_either_way_closes_for_ten_seconds_and_another_one_begins_anew() {
        for step in [1_001_i64, -1_001, 3_600_000, -3_600_000] {
            let clock = ManualClock::at(NOON);
            let steadiness = Steadiness::new(clock.now());
            clock.advance(5_000);
            assert_eq!(steadiness.wait_ms(clock.now()), None);
            clock.set_wall(WallMs(clock.now().wall.0.strict_add_signed(step)));
            assert_eq!(steadiness.wait_ms(clock.now()), Some(10_000), "{step}");
            clock.advance(9_999);
            assert_eq!(steadiness.wait_ms(clock.now()), Some(1));
            clock.set_wall(WallMs(clock.now().wall.0.strict_add_signed(-step)));
            assert_eq!(steadiness.wait_ms(clock.now()), Some(10_000));
            clock.advance(10_000);
            assert_eq!(steadiness.wait_ms(clock.now()), None);
        }
    }

    #[test]
    fn a_second_is_no_step_and_a_slewed_clock_is_followed() {
        let clock = ManualClock::at(NOON);
        let steadiness = Steadiness::new(clock.now());
        for _ in 0..10 {
            clock.set_wall(clock.now().wall.plus(1_000));
            assert_eq!(steadiness.wait_ms(clock.now()), None);
            steadiness.follow(clock.now());
        }
        clock.set_wall(clock.now().wall.plus(1_000));
        assert_eq!(steadiness.wait_ms(clock.now()), None);
        clock.set_wall(clock.now().wall.plus(1));
        assert!(steadiness.wait_ms(clock.now()).is_some(), "not followed in between, it is one");
    }
}
