//! Moments. The shell reads clocks; here they are values that it hands in.

use std::fmt;

/// Epoch milliseconds of the wall clock: for timestamps of requests, tokens and durable rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallMs(pub u64);

/// Milliseconds of the monotonic clock since the process started: for timers and lifetimes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoMs(pub u64);

/// Both clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// The wall clock.
    pub wall: WallMs,
    /// The monotonic clock.
    pub mono: MonoMs,
}

impl WallMs {
    /// This moment and `ms` more; saturates.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This moment less `ms`; saturates at zero.
    #[must_use]
    pub fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this moment; zero when it is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds, as JWTs have them (RFC 7519, section 2).
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

impl MonoMs {
    /// This moment and `ms` more; saturates.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; zero when it is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Now {
    /// What the wall clock will show when the monotonic clock reaches `at`.
    pub fn wall_at(&self, at: MonoMs) -> WallMs {
        self.wall.plus(at.since(self.mono)).minus(self.mono.since(at))
    }

    /// What the monotonic clock will show when the wall clock reaches `at`; the past is now.
    pub fn mono_at(&self, at: WallMs) -> MonoMs {
        self.mono.plus(at.since(self.wall))
    }
}

impl fmt::Debug for WallMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for MonoMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_clocks_translate_through_now() {
        let now = Now { wall: WallMs(1_000_000), mono: MonoMs(500) };
        assert_eq!(now.wall_at(MonoMs(700)), WallMs(1_000_200));
        assert_eq!(now.wall_at(MonoMs(400)), WallMs(999_900));
        assert_eq!(now.mono_at(WallMs(1_000_200)), MonoMs(700));
        assert_eq!(now.mono_at(WallMs(1)), MonoMs(500));
    }
}
