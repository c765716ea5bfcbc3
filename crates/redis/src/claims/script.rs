//! What the scripts of claims are given and what they answer.

use edgeward_core::limit::gcra::Rate;
use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::time::WallMs;
use edgeward_store::StoreError;
use redis::Value;

use crate::bucket::{Bucket, Keys};
use crate::calls::{read, unexpected};
use crate::rates::{Batch, State, interval_ns, tolerance_ns};

/// What `claim.lua` says.
pub(super) enum Answer {
    /// This, and the floor where it has to do with it.
    Decided(ClaimOutcome, Option<WallMs>),
    /// Granted; the widest margin that a floor must have.
    Granted { margin_ms: u64 },
    /// The server is not the one whose nonces these are; nothing was decided.
    OtherEpoch,
}

/// What `charge.lua` says.
pub(super) struct Charged {
    pub(super) floor: Option<WallMs>,
    /// The server's clock.
    pub(super) now: WallMs,
    /// Which rate refuses, and for how long in milliseconds.
    pub(super) refused: Option<(usize, u64)>,
    pub(super) states: Vec<State>,
}

/// A claim with a nonce.
pub(super) fn claim_keys(keys: &Keys, claim: &Claim) -> Vec<String> {
    let bucket = Bucket::of(claim.agent());
    let mut all =
        vec![keys.epoch(bucket), keys.floor(bucket), keys.seen(bucket), keys.widest(bucket)];
    all.extend(claim.nonce().map(|nonce| keys.nonce(nonce.agent(), nonce.nonce())));
    all.extend(claim.session().map(|id| keys.session(claim.agent(), &id)));
    all.extend(claim.charges().map(|charge| keys.rate(claim.agent(), charge.route)));
    all
}

pub(super) fn claim_args(claim: &Claim, identity: &str, max_lag_ms: u64) -> Vec<String> {
    let mut all = vec![
        identity.to_owned(),
        claim.timestamp().map(|stamp| stamp.0.to_string()).unwrap_or_default(),
        claim.window_ms().to_string(),
        claim.ahead_ms().to_string(),
        claim.nonce_ttl_ms().to_string(),
        u8::from(claim.session().is_some()).to_string(),
        max_lag_ms.to_string(),
    ];
    all.extend(claim.charges().flat_map(|charge| rate_args(charge.rate)));
    all
}

fn rate_args(rate: Rate) -> [String; 2] {
    [interval_ns(rate).to_string(), tolerance_ns(rate).to_string()]
}

pub(super) fn read_claimed(answer: Value, claim: &Claim) -> Result<Answer, StoreError> {
    let (word, first, second): (String, u64, u64) = read(answer)?;
    let decided = |outcome| Ok(Answer::Decided(outcome, None));
    let floor = Some(WallMs(first)).filter(|floor| floor.0 > 0);
    match word.as_str() {
        "ok" => Ok(Answer::Granted { margin_ms: first }),
        "replayed" => decided(ClaimOutcome::Replayed),
        "gone" => decided(ClaimOutcome::SessionGone),
        "stale" => Ok(Answer::Decided(ClaimOutcome::Stale, floor)),
        "starting" => Ok(Answer::Decided(ClaimOutcome::Starting { retry_after_ms: second }, floor)),
        "limited" => {
            let place = usize::try_from(first).ok();
            let charge = place.and_then(|place| claim.charges().nth(place));
            let rate = charge.ok_or_else(|| unexpected("no such rate"))?.rate;
            decided(ClaimOutcome::RateLimited { retry_after_ms: second, rate })
        }
        "epoch" => Ok(Answer::OtherEpoch),
        other => Err(unexpected(other)),
    }
}

pub(super) fn charge_keys(keys: &Keys, bucket: Bucket, batches: &[Batch]) -> Vec<String> {
    let mut all = vec![keys.epoch(bucket), keys.floor(bucket)];
    for batch in batches {
        all.extend(batch.dues.iter().map(|due| keys.rate(batch.agent, due.charge.route)));
    }
    all
}

pub(super) fn charge_args(batches: &[Batch], identity: &str, decide: bool) -> Vec<String> {
    let mut all = vec![identity.to_owned(), u8::from(decide).to_string()];
    for due in batches.iter().flat_map(|batch| &batch.dues) {
        all.extend(rate_args(due.charge.rate));
        all.push(due.granted.to_string());
        all.extend(due.view.penalty().map(|part| part.to_string()));
    }
    all
}

/// `None` when the server is not the one whose nonces these are; then nothing was charged.
pub(super) fn read_charged(answer: Value) -> Result<Option<Charged>, StoreError> {
    let Value::Array(parts) = answer else {
        return Err(unexpected("a charge is answered by a list"));
    };
    let mut parts = parts.into_iter();
    let mut next = || parts.next().ok_or_else(|| unexpected("a short answer to a charge"));
    let word: String = read(next()?)?;
    let (floor, now): (u64, u64) = (read(next()?)?, read(next()?)?);
    let (place, wait_ms): (usize, u64) = (read(next()?)?, read(next()?)?);
    let refused = match word.as_str() {
        "epoch" => return Ok(None),
        "ok" => None,
        "limited" => Some((place, wait_ms)),
        other => return Err(unexpected(other)),
    };
    let mut states = Vec::with_capacity(parts.len());
    for part in parts {
        let text: String = read(part)?;
        states.push(State::parse(&text).ok_or_else(|| unexpected(&text))?);
    }
    let floor = Some(WallMs(floor)).filter(|floor| floor.0 > 0);
    Ok(Some(Charged { floor, now: WallMs(now), refused, states }))
}
