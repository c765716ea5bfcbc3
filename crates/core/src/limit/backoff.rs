//! Exponential back-off with full jitter for sources that fail to prove who they are.

/// The settings of the back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Failures that cost nothing.
    pub free: u32,
    /// The bound of the first wait, in milliseconds.
    pub base_ms: u64,
    /// The bound that waits grow to, in milliseconds.
    pub max_ms: u64,
}

/// What is remembered of one source, or of one source and agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Failures so far.
    failures: u32,
    /// Until then it waits, monotonic milliseconds.
    until_ms: u64,
    /// The last failure, monotonic milliseconds.
    failed_at_ms: u64,
}

impl State {
    /// How long it still has to wait, in milliseconds; `None` when it need not.
    pub fn wait_ms(&self, now_ms: u64) -> Option<u64> {
        self.until_ms.checked_sub(now_ms).filter(|wait| *wait > 0)
    }

    /// After one more failure. `random` is any 64 random bits. Failures older than twice the
    /// longest wait are forgotten.
    #[must_use]
    pub fn failed(&self, now_ms: u64, rules: Rules, random: u64) -> Self {
        let forgotten = now_ms.saturating_sub(self.failed_at_ms) > rules.max_ms.saturating_mul(2);
        let failures = if forgotten { 1 } else { self.failures.saturating_add(1) };
        let until_ms = match failures.checked_sub(rules.free.saturating_add(1)) {
            None => 0,
            Some(doublings) => {
                let bound = rules.base_ms.saturating_mul(1 << doublings.min(32)).min(rules.max_ms);
                // Full jitter: anywhere up to the bound, and never nothing.
                now_ms.saturating_add(1).saturating_add(random % bound.max(1))
            }
        };
        Self { failures, until_ms: until_ms.max(self.until_ms), failed_at_ms: now_ms }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { free: 5, base_ms: 1_000, max_ms: 900_000 };

    #[test]
    fn free_failures_cost_nothing_and_the_next_one_waits() {
        let mut state = State::default();
        for _ in 0..5 {
            state = state.failed(10_000, RULES, u64::MAX);
            assert_eq!(state.wait_ms(10_000), None);
        }
        state = state.failed(10_000, RULES, 999);
        assert_eq!(state.wait_ms(10_000), Some(1_000));
        assert_eq!(state.wait_ms(10_999), Some(1));
        assert_eq!(state.wait_ms(11_000), None);
    }

    #[test]
    fn failures_are_forgotten_after_a_long_quiet() {
        let mut state = State::default();
        for _ in 0..20 {
            state = state.failed(10_000, RULES, 7);
        }
        let later = 10_000 + 2 * RULES.max_ms + 1;
        assert_eq!(state.failed(later, RULES, 7).wait_ms(later), None);
    }

    proptest! {
        #[test]
        fn a_wait_never_passes_its_bound(failures in 1u32..80, random: u64) {
            let mut state = State::default();
            for _ in 0..failures {
                state = state.failed(1, RULES, random);
            }
            prop_assert!(state.wait_ms(1).unwrap_or(0) <= RULES.max_ms);
        }
    }
}
