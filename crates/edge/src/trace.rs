//! Trace ids: the trace of a request begins at the edge (W3C Trace Context).

use std::sync::atomic::{AtomicU64, Ordering};

use edgeward_keys::entropy::{Entropy, EntropyError};
use edgeward_wire::TraceId;

/// Makes ids that are unique and not to be guessed from one another's outside, at the cost of a
/// counter: a seeded permutation of it (SplitMix64). They are names, not secrets.
#[derive(Debug)]
pub(crate) struct TraceSource {
    seed: [u64; 2],
    next: AtomicU64,
}

impl TraceSource {
    /// Seeds the source.
    ///
    /// # Errors
    /// When there is no entropy.
    pub(crate) fn new(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut seed = [0u8; 16];
        entropy.fill(&mut seed)?;
        let (high, low) = seed.split_at(8);
        let word = |half: &[u8]| half.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        Ok(Self { seed: [word(high), word(low)], next: AtomicU64::new(0) })
    }

    /// Another trace.
    pub(crate) fn trace(&self) -> TraceId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = self.seed.map(|seed| mix(seed.wrapping_add(count.wrapping_mul(GAMMA))));
        TraceId::from_random(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }

    /// Another 64 bits: for jitter and span ids.
    pub(crate) fn bits(&self) -> u64 {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        mix(self.seed[0] ^ mix(self.seed[1].wrapping_add(count.wrapping_mul(GAMMA))))
    }

    /// `traceparent` for the upstream, sampled flag unset.
    pub(crate) fn traceparent(&self, trace: TraceId) -> String {
        format!("00-{trace}-{:016x}-00", self.bits().max(1))
    }
}

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}
