//! Replay floors: what this node knows of them, and how a bucket is given a new epoch.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use edgeward_core::time::WallMs;
use redis::{Cmd, Value};

use crate::bucket::{BUCKETS, Bucket, Keys};
use crate::link::Script;
use crate::start::FirstStart;

/// Gives a bucket the epoch of the server that it lies on, and a floor above all that may be forgotten.
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/renew.lua")));

/// How much a floor lies above the store's clock besides the other margins, in milliseconds: what nodes and
/// servers may be apart.
const APART_MS: u64 = 500;

/// The floors that this node knows. They never go down.
#[derive(Debug)]
pub(crate) struct Floors {
    of: Vec<AtomicU64>,
    /// Ahead and lag together, the widest that any node was seen to claim with, in milliseconds.
    margin_ms: AtomicU64,
}

impl Floors {
    pub(crate) fn none() -> Self {
        let of = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { of, margin_ms: AtomicU64::new(0) }
    }

    pub(crate) fn note(&self, bucket: Bucket, floor: WallMs) {
        if let Some(known) = self.of.get(bucket.index()) {
            known.fetch_max(floor.0, Ordering::SeqCst);
        }
    }

    pub(crate) fn of(&self, bucket: Bucket) -> Option<WallMs> {
        some(self.of.get(bucket.index())?.load(Ordering::SeqCst))
    }

    pub(crate) fn note_margin(&self, margin_ms: u64) {
        self.margin_ms.fetch_max(margin_ms, Ordering::SeqCst);
    }

    pub(crate) fn margin_ms(&self) -> u64 {
        self.margin_ms.load(Ordering::SeqCst)
    }

    pub(crate) fn highest(&self) -> Option<WallMs> {
        some(self.of.iter().map(|floor| floor.load(Ordering::SeqCst)).max()?)
    }
}

/// What a renewal goes by.
#[derive(Debug, Clone)]
pub(crate) struct Renewal {
    identity: String,
    known: String,
    above: String,
}

impl Renewal {
    /// Of buckets on the server of this identity, when this is the highest floor that is known.
    /// `margin_ms` is how far timestamps may be ahead and replicas behind, together.
    pub(crate) fn new(identity: &str, known: Option<WallMs>, margin_ms: u64) -> Self {
        let above = margin_ms.saturating_add(APART_MS);
        let known = known.unwrap_or_default().0.to_string();
        Self { identity: identity.to_owned(), known, above: above.to_string() }
    }

    /// The script for one bucket; by its text for a server that may not know it. `last_clock` is what the clock
    /// of the bucket's last server shows now; `first` is given until the bucket was renewed once; `lost` is
    /// whether this node has seen a loss that no floor of its own stands for yet.
    pub(crate) fn command(
        &self,
        keys: &Keys,
        bucket: Bucket,
        last_clock: Option<WallMs>,
        first: Option<FirstStart>,
        lost: bool,
        by_text: bool,
    ) -> Cmd {
        let (least, missing) = match first {
            None | Some(FirstStart::Shared) => (0, "loss"),
            Some(FirstStart::Fresh) => (0, "new"),
            Some(FirstStart::Elsewhere { floor }) => (floor.0, "new"),
        };
        let (least, lost) = (least.to_string(), u8::from(lost).to_string());
        let keys = [keys.epoch(bucket), keys.floor(bucket), keys.seen(bucket), keys.widest(bucket)];
        let last_clock = last_clock.unwrap_or_default().0.to_string();
        let (identity, known, above) = (&*self.identity, &*self.known, &*self.above);
        let args = [identity, known, &*last_clock, above, missing, &*least, &*lost];
        if by_text { RENEW.by_text(&keys, &args) } else { RENEW.by_sha(&keys, &args) }
    }
}

/// What the script answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Renewed {
    /// The floor, if there is one.
    pub(crate) floor: Option<WallMs>,
    /// Whether something was lost.
    pub(crate) lost: bool,
    /// The widest margin that the bucket was claimed with, in milliseconds.
    pub(crate) margin_ms: u64,
}

pub(crate) fn answered(value: &Value) -> Option<Renewed> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(floor), Value::Int(lost), Value::Int(margin)] = parts.as_slice() else {
        return None;
    };
    let (floor, margin_ms) = (u64::try_from(*floor).ok()?, u64::try_from(*margin).ok()?);
    Some(Renewed { floor: some(floor), lost: *lost != 0, margin_ms })
}

fn some(floor: u64) -> Option<WallMs> {
    (floor > 0).then_some(WallMs(floor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_never_goes_down_and_each_bucket_has_its_own() {
        let floors = Floors::none();
        let [first, second] = [0, 1].map(|n| Bucket::all().nth(n).expect("a bucket"));
        assert_eq!((floors.of(first), floors.highest()), (None, None));
        floors.note(first, WallMs(5));
        floors.note(first, WallMs(3));
        floors.note(second, WallMs(4));
        assert_eq!(floors.of(first), Some(WallMs(5)));
        assert_eq!(floors.of(second), Some(WallMs(4)));
        assert_eq!(floors.highest(), Some(WallMs(5)));
    }
}
