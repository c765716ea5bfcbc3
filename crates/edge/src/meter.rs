//! What the edge counts about itself. Bounded: by code, reason and bucket, never by agent.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgeward_wire::Code;

/// Buckets of the histogram: four to a doubling, from 1 µs up to about 70 s.
const BUCKETS: usize = 4 * 26;

/// Counters of one process.
pub struct Meter {
    admitted: AtomicU64,
    body_signed: AtomicU64,
    refused: Vec<AtomicU64>,
    authentication: [AtomicU64; BUCKETS],
    reasons: Mutex<std::collections::BTreeMap<&'static str, u64>>,
}

/// A reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Requests admitted.
    pub admitted: u64,
    /// Requests admitted by a body-only signature.
    pub body_signed: u64,
    /// Requests refused, by code; codes that never came are left out.
    pub refused: Vec<(Code, u64)>,
    /// Requests refused, by inner reason.
    pub reasons: Vec<(&'static str, u64)>,
    /// The median time that authentication took, in microseconds.
    pub p50_us: u64,
    /// The 95th percentile, in microseconds.
    pub p95_us: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            admitted: AtomicU64::new(0),
            body_signed: AtomicU64::new(0),
            refused: Code::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            authentication: [const { AtomicU64::new(0) }; BUCKETS],
            reasons: Mutex::default(),
        }
    }
}

impl Meter {
    /// Counts an admitted request and how long it took to decide so.
    pub fn admitted(&self, took: Duration) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
        if let Some(bucket) = self.authentication.get(bucket(took)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request that the body-only signature let in.
    pub fn body_signed(&self) {
        self.body_signed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refused request.
    pub fn refused(&self, code: Code, reason: &'static str) {
        if let Some(count) = self.refused.get(code as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.entry(reason).or_default() += 1;
    }

    /// What was counted so far.
    pub fn read(&self) -> Reading {
        let counts: Vec<u64> =
            self.authentication.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let refused = Code::ALL
            .iter()
            .zip(&self.refused)
            .map(|(code, count)| (*code, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        Reading {
            admitted: self.admitted.load(Ordering::Relaxed),
            body_signed: self.body_signed.load(Ordering::Relaxed),
            refused,
            reasons: reasons.iter().map(|(reason, count)| (*reason, *count)).collect(),
            p50_us: quantile(&counts, 50),
            p95_us: quantile(&counts, 95),
        }
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.read().fmt(f)
    }
}

/// Log-linear: the doubling, then its quarter.
fn bucket(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = us.ilog2();
    let quarter = if doubling < 2 { 0 } else { (us >> (doubling - 2)) & 3 };
    (doubling as usize * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The upper end of the bucket that holds the quantile, in microseconds.
fn quantile(counts: &[u64], percent: u64) -> u64 {
    let total: u64 = counts.iter().sum();
    let rank = (total * percent).div_ceil(100).max(1);
    let mut seen = 0;
    for (at, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= rank {
            let (doubling, quarter) = (at / 4, at % 4);
            return ((1u64 << doubling) * (5 + quarter as u64)) / 4;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_a_quarter_of_the_truth() {
        let meter = Meter::default();
        for us in 1..=1000 {
            meter.admitted(Duration::from_micros(us));
        }
        let reading = meter.read();
        assert_eq!(reading.admitted, 1000);
        assert!((500..=640).contains(&reading.p50_us), "{}", reading.p50_us);
        assert!((950..=1280).contains(&reading.p95_us), "{}", reading.p95_us);
    }

    #[test]
    fn refusals_are_counted_by_code_and_reason() {
        let meter = Meter::default();
        meter.refused(Code::SignatureInvalid, "unknown_agent");
        meter.refused(Code::SignatureInvalid, "wrong_signature");
        let reading = meter.read();
        assert_eq!(reading.refused, [(Code::SignatureInvalid, 2)]);
        assert_eq!(reading.reasons, [("unknown_agent", 1), ("wrong_signature", 1)]);
        assert_eq!(reading.p50_us, 0);
    }
}
