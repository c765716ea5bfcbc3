//! The generic cell rate algorithm (ITU-T I.371, as used for HTTP): one moment of state per agent.

/// A rate: a sustained one, and how many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Requests a second, at least 1.
    pub per_sec: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

impl Rate {
    /// Nanoseconds between two requests at the sustained rate.
    fn interval_ns(self) -> u64 {
        1_000_000_000 / u64::from(self.per_sec.max(1))
    }

    /// How far the state may lie ahead of now, in nanoseconds.
    fn tolerance_ns(self) -> u64 {
        self.interval_ns().saturating_mul(u64::from(self.burst.max(1)))
    }
}

/// The longest wait that repeated violations grow to, in milliseconds.
pub const MAX_PENALTY_MS: u64 = 60_000;
/// For this long without a violation the wait falls back to the plain one, in milliseconds.
pub const DECAY_MS: u64 = 60_000;

/// One limiter's state; the default is one that was never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// The theoretical arrival time, monotonic nanoseconds.
    arrival_ns: u64,
    /// Before this nothing passes, monotonic milliseconds.
    barred_until_ms: u64,
    /// Violations in a row.
    strikes: u32,
    /// The last violation, monotonic milliseconds.
    struck_at_ms: u64,
}

/// The answer, with the state to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Allow(State),
    /// It does not.
    Refuse {
        /// The state to keep.
        state: State,
        /// Until the next request fits, in milliseconds, at least 1.
        retry_after_ms: u64,
    },
}

/// Decides one request at `now_ms` (monotonic milliseconds).
///
/// A violation while an earlier one's wait still runs doubles the wait, up to [`MAX_PENALTY_MS`];
/// whoever keeps to it starts afresh.
pub fn decide(state: State, now_ms: u64, rate: Rate) -> Verdict {
    let now_ns = now_ms.saturating_mul(1_000_000);
    let arrival_ns = state.arrival_ns.max(now_ns);
    let next_ns = arrival_ns.saturating_add(rate.interval_ns());
    let over_ns = next_ns.saturating_sub(now_ns.saturating_add(rate.tolerance_ns()));
    if over_ns == 0 && now_ms >= state.barred_until_ms {
        let strikes =
            if now_ms.saturating_sub(state.struck_at_ms) >= DECAY_MS { 0 } else { state.strikes };
        return Verdict::Allow(State { arrival_ns: next_ns, strikes, ..state });
    }
    let plain_ms = over_ns.div_ceil(1_000_000).max(rate.interval_ns().div_ceil(1_000_000)).max(1);
    let repeated = now_ms < state.barred_until_ms;
    let strikes = if repeated { state.strikes.saturating_add(1) } else { 1 };
    let wait_ms =
        plain_ms.saturating_mul(1 << (strikes - 1).min(16)).min(MAX_PENALTY_MS.max(plain_ms));
    let barred_until_ms = now_ms.saturating_add(wait_ms);
    Verdict::Refuse {
        state: State { barred_until_ms, strikes, struck_at_ms: now_ms, ..state },
        retry_after_ms: wait_ms,
    }
}

/// Whether the state is as good as none at `now_ms`, so that a store may forget it.
pub fn is_idle(state: State, now_ms: u64) -> bool {
    state.arrival_ns <= now_ms.saturating_mul(1_000_000)
        && state.barred_until_ms <= now_ms
        && now_ms.saturating_sub(state.struck_at_ms) >= DECAY_MS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { per_sec: 10, burst: 20 };

    fn passes(state: &mut State, now_ms: u64, rate: Rate) -> bool {
        match decide(*state, now_ms, rate) {
            Verdict::Allow(next) => {
                *state = next;
                true
            }
            Verdict::Refuse { state: next, .. } => {
                *state = next;
                false
            }
        }
    }

    #[test]
    fn a_burst_passes_and_one_more_does_not() {
        let mut state = State::default();
        let passed = (0..21).filter(|_| passes(&mut state, 1_000, RATE)).count();
        assert_eq!(passed, 20);
    }

    #[test]
    fn the_wait_that_is_told_is_enough() {
        let mut state = State::default();
        while let Verdict::Allow(next) = decide(state, 5_000, RATE) {
            state = next;
        }
        let Verdict::Refuse { state, retry_after_ms } = decide(state, 5_000, RATE) else {
            panic!()
        };
        assert!(matches!(decide(state, 5_000 + retry_after_ms, RATE), Verdict::Allow(_)));
    }

    #[test]
    fn violations_inside_the_wait_double_it_up_to_the_cap_and_patience_ends_it() {
        let mut state = State::default();
        let mut waits = Vec::new();
        for _ in 0..40 {
            match decide(state, 5_000, RATE) {
                Verdict::Allow(next) => state = next,
                Verdict::Refuse { state: next, retry_after_ms } => {
                    state = next;
                    waits.push(retry_after_ms);
                }
            }
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits.last(), Some(&MAX_PENALTY_MS));
        assert!(passes(&mut state, 5_000 + MAX_PENALTY_MS, RATE));
    }

    #[test]
    fn an_idle_state_decides_like_none() {
        let mut state = State::default();
        assert!(passes(&mut state, 1_000, RATE));
        assert!(!is_idle(state, 1_000));
        assert!(is_idle(state, 200_000));
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_burst_and_rate(
            steps in proptest::collection::vec(0u64..400, 1..300),
            per_sec in 1u32..50,
            burst in 1u32..50,
        ) {
            let rate = Rate { per_sec, burst };
            let (mut state, mut now) = (State::default(), 10_000u64);
            let mut admitted = Vec::new();
            for step in steps {
                now += step;
                if passes(&mut state, now, rate) {
                    admitted.push(now);
                }
            }
            for (at, first) in admitted.iter().enumerate() {
                for (count, last) in admitted[at..].iter().enumerate() {
                    let most = u64::from(burst) + (last - first) * u64::from(per_sec) / 1000 + 1;
                    prop_assert!((count as u64) < most);
                }
            }
        }
    }
}
