//! Claims. One with a nonce is one script; one without is decided on what this node knows of the
//! rates, and told to Redis afterwards.

mod flush;
mod script;

use std::sync::Arc;

use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::time::{MonoMs, WallMs};
use edgeward_store::StoreError;
use redis::Value;

use crate::bucket::Bucket;
use crate::calls::Calls;
use crate::link::{Link, Script};
use crate::rates::{Batch, Ledger, Local, ServerClocks};
use flush::Flusher;
use script::{Answer, Charged, charge_args, claim_args, read_charged, read_claimed};

const CLAIM: &str = concat!(
    include_str!("scripts/clock.lua"),
    include_str!("scripts/gcra.lua"),
    include_str!("scripts/claim.lua")
);
const CHARGE: &str = concat!(
    include_str!("scripts/clock.lua"),
    include_str!("scripts/gcra.lua"),
    include_str!("scripts/charge.lua")
);

/// Once for an epoch that is another's, and once after it was renewed.
const TRIES: usize = 2;

pub(crate) struct ClaimTable {
    book: Arc<Book>,
    claim: Script,
    flusher: Flusher,
}

/// What requests and the flusher share.
struct Book {
    calls: Arc<Calls>,
    ledger: Arc<Ledger>,
    clocks: ServerClocks,
    charge: Script,
}

impl ClaimTable {
    pub(crate) fn new(calls: Arc<Calls>) -> Self {
        let book = Arc::new(Book {
            calls,
            ledger: Ledger::new(),
            clocks: ServerClocks::new(),
            charge: Script::new(CHARGE),
        });
        let flusher = Flusher::start(Arc::clone(&book));
        Self { book, claim: Script::new(CLAIM), flusher }
    }

    /// Decides a claim within the budget of a request.
    pub(crate) async fn claim(&self, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        if claim.nonce().is_some() {
            return self.book.calls.in_budget(self.with_nonce(claim)).await;
        }
        match self.book.by_view(claim)? {
            Some(outcome) => Ok(outcome),
            None => self.book.calls.in_budget(self.book.ask(claim)).await,
        }
    }

    /// Tells Redis what it was not told yet, and ends.
    pub(crate) async fn stop(&self) {
        self.flusher.stop().await;
    }

    async fn with_nonce(&self, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        let calls = &self.book.calls;
        let bucket = Bucket::of(claim.agent());
        let keys = script::claim_keys(&calls.keys, claim);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        for _ in 0..TRIES {
            let link = calls.hub.link(bucket)?;
            calls.hub.settle(bucket, &link).await?;
            let renewals = calls.hub.renewals(bucket);
            let args = claim_args(claim, link.identity(), calls.hub.max_lag_ms());
            let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
            match read_claimed(calls.script(&link, &self.claim, &keys, &args).await?, claim)? {
                Answer::Decided(outcome, floor) => {
                    if let Some(floor) = floor {
                        calls.hub.note_floor(bucket, floor);
                    }
                    return Ok(outcome);
                }
                Answer::Granted { margin_ms } => {
                    calls.hub.note_margin(margin_ms);
                    return Ok(ClaimOutcome::Granted);
                }
                Answer::OtherEpoch => {
                    calls.hub.renew_lost(bucket, &link, renewals).await?;
                }
            }
        }
        Err(other_epoch())
    }
}

impl Book {
    /// The answer to a claim without a nonce, where there is one without asking Redis.
    fn by_view(&self, claim: &Claim) -> Result<Option<ClaimOutcome>, StoreError> {
        let bucket = Bucket::of(claim.agent());
        // While the server is not ready nothing is decided, though it could be.
        self.calls.hub.link(bucket)?;
        let mono = self.calls.now().mono;
        let Some(server) = self.clocks.now(bucket, mono) else {
            let now = self.calls.server_now(bucket).wall;
            return Ok(self.refused_by_time(claim, bucket, now));
        };
        if let Some(refusal) = self.refused_by_time(claim, bucket, server) {
            return Ok(Some(refusal));
        }
        Ok(match self.ledger.decide(claim, server.0, mono) {
            Local::Granted => Some(ClaimOutcome::Granted),
            Local::Limited { rate, retry_after_ms } => {
                Some(ClaimOutcome::RateLimited { retry_after_ms, rate })
            }
            Local::Ask => None,
        })
    }

    fn refused_by_time(&self, claim: &Claim, bucket: Bucket, now: WallMs) -> Option<ClaimOutcome> {
        let floor = self.calls.hub.floor(bucket);
        if let Some(floor) = floor.filter(|floor| now <= *floor) {
            let retry_after_ms = floor.since(now).saturating_add(1);
            return Some(ClaimOutcome::Starting { retry_after_ms });
        }
        (!claim.is_timely(now, floor)).then_some(ClaimOutcome::Stale)
    }

    /// Has Redis decide, and charges along what was granted here before.
    async fn ask(&self, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        let bucket = Bucket::of(claim.agent());
        for _ in 0..TRIES {
            let link = self.calls.hub.link(bucket)?;
            let renewals = self.calls.hub.renewals(bucket);
            let batch = [self.ledger.batch_of(claim)];
            self.calls.note_round_trip();
            let Some(charged) = self.charge(bucket, &link, &batch, true).await? else {
                drop(batch);
                self.calls.hub.renew_lost(bucket, &link, renewals).await?;
                continue;
            };
            let refused = charged.refused;
            self.confirm(batch, &charged);
            // The floor may be news, and time has passed.
            if let Some(refusal) = self.refused_by_time(claim, bucket, charged.now) {
                return Ok(refusal);
            }
            let Some((place, retry_after_ms)) = refused else {
                return Ok(ClaimOutcome::Granted);
            };
            let rate = claim.charges().nth(place).map(|charge| charge.rate);
            let rate = rate.ok_or_else(|| crate::calls::unexpected("no such rate"))?;
            return Ok(ClaimOutcome::RateLimited { retry_after_ms, rate });
        }
        Err(other_epoch())
    }

    /// Charges what was granted, in one script; `None` when the epoch is another server's.
    async fn charge(
        &self,
        bucket: Bucket,
        link: &Link,
        batches: &[Batch],
        decide: bool,
    ) -> Result<Option<Charged>, StoreError> {
        let keys = script::charge_keys(&self.calls.keys, bucket, batches);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let args = charge_args(batches, link.identity(), decide);
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        let asked = self.calls.now().mono;
        let answer: Value = link.script(&self.charge, &keys, &args).await?;
        let charged = read_charged(answer)?;
        if let Some(charged) = &charged {
            self.clocks.note(bucket, charged.now, asked, self.mono());
            if let Some(floor) = charged.floor {
                self.calls.hub.note_floor(bucket, floor);
            }
        }
        Ok(charged)
    }

    fn confirm(&self, batches: impl IntoIterator<Item = Batch>, charged: &Charged) {
        let now = self.mono();
        let mut states = charged.states.as_slice();
        for batch in batches {
            let (own, rest) = states.split_at(batch.dues.len().min(states.len()));
            if own.len() == batch.dues.len() {
                batch.confirmed(own, charged.now.0, now);
            }
            states = rest;
        }
    }

    fn mono(&self) -> MonoMs {
        self.calls.now().mono
    }
}

fn other_epoch() -> StoreError {
    StoreError::Unavailable("the epoch of the nonces is another server's again and again".into())
}
