//! How long things took, and what the proof is told of it.

use std::fmt;
use std::time::Duration;

/// So many rounds where nobody asks for another number (`EDGEWARD_ROUNDS`).
pub(crate) fn rounds(usual: usize) -> usize {
    std::env::var("EDGEWARD_ROUNDS").map_or(usual, |text| text.parse().unwrap())
}

/// A line of figures for the proof.
pub(crate) fn proof(name: &str, figures: impl fmt::Display) {
    println!("PROOF {name}: {figures}");
}

/// Durations of the same thing.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    fn quantile(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (part * sorted.len() as f64).ceil() as usize;
        sorted[at.saturating_sub(1)]
    }

    /// None took five times as long as was promised.
    #[track_caller]
    pub(crate) fn assert_within(&self, promise: Duration) {
        assert!(self.quantile(1.0) <= promise * 5, "promised were {promise:?}: {self}");
    }
}

impl Extend<Duration> for Times {
    fn extend<T: IntoIterator<Item = Duration>>(&mut self, times: T) {
        self.0.extend(times);
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |part| self.quantile(part).as_secs_f64() * 1e3;
        let [half, most, all] = [0.5, 0.99, 1.0].map(ms);
        write!(f, "p50 {half:.0} ms, p99 {most:.0} ms, max {all:.0} ms of {}", self.0.len())
    }
}
