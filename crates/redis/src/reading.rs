//! Readings of a server's clock by this node's monotonic one, which no wall clock that is set disturbs.

use edgeward_core::time::{MonoMs, WallMs};

/// How far two readings may be apart besides what they are uncertain by, in milliseconds. With calls of up
/// to 250 ms, a step of a second shows.
const STEP_MS: i64 = 500;

/// What a server's clock showed at some moment between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) shown: WallMs,
    pub(crate) asked: MonoMs,
    pub(crate) answered: MonoMs,
}

impl Reading {
    /// What the clock shows at `at`, if it has gone on as ours.
    pub(crate) fn at(&self, at: MonoMs) -> WallMs {
        let half_way = self.asked.plus(self.answered.since(self.asked) / 2);
        if at < half_way {
            return self.shown.minus(half_way.since(at));
        }
        self.shown.plus(at.since(half_way))
    }

    /// Whether the clock was set between the two.
    pub(crate) fn was_set(&self, other: &Self) -> bool {
        let (least, most) = self.offsets();
        let (other_least, other_most) = other.offsets();
        let apart = least.saturating_sub(other_most).max(other_least.saturating_sub(most));
        apart > STEP_MS
    }

    /// Between which values the clock is ahead of the monotonic one.
    fn offsets(&self) -> (i64, i64) {
        let signed = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
        let shown = signed(self.shown.0);
        (shown.saturating_sub(signed(self.answered.0)), shown.saturating_sub(signed(self.asked.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(shown: u64, asked: u64, answered: u64) -> Reading {
        Reading { shown: WallMs(shown), asked: MonoMs(asked), answered: MonoMs(answered) }
    }

    #[test]
    fn a_clock_goes_on_from_half_way() {
        let one = reading(50_000, 1_000, 1_200);
        assert_eq!(one.at(MonoMs(1_100)), WallMs(50_000));
        assert_eq!(one.at(MonoMs(2_100)), WallMs(51_000));
        assert_eq!(one.at(MonoMs(1_050)), WallMs(49_950));
    }

    #[test]
    fn a_step_shows_either_way_and_what_may_be_the_way_does_not() {
        let one = reading(50_000, 1_000, 1_000);
        for (later, was_set) in [
            (reading(51_000, 2_000, 2_000), false),
            (reading(51_500, 2_000, 2_000), false),
            (reading(51_501, 2_000, 2_000), true),
            (reading(50_499, 2_000, 2_000), true),
            (reading(52_500, 2_000, 3_000), false),
            (reading(52_501, 2_000, 3_000), true),
            (reading(50_499, 1_000, 2_000), false),
            (reading(50_500, 2_000, 3_000), false),
            (reading(50_499, 2_000, 3_000), true),
        ] {
            assert_eq!(one.was_set(&later), was_set, "{later:?}");
            assert_eq!(later.was_set(&one), was_set, "{later:?}");
        }
    }
}
