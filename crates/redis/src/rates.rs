//! Rates by the servers' clocks: the arithmetic of `edgeward_core::limit::gcra`, on states that Redis
//! keeps and that a node may charge ahead of it.
//!
//! The same steps stand in `scripts/gcra.lua`; tests hold both to the core's.

mod clocks;
mod ledger;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use edgeward_core::limit::gcra::{DECAY_MS, MAX_PENALTY_MS, Rate};

pub(crate) use clocks::ServerClocks;
pub(crate) use ledger::{Batch, Ledger, Local};

const NS_PER_MS: u64 = 1_000_000;
/// Of what passes within this time at a rate, a node may hold only a small share unconfirmed.
const SPAN_SEC: u32 = 10;
/// The share: with three nodes a twentieth in all.
const SHARE: u32 = 60;
/// And of what passes at once, an eighth.
const BURST_SHARE: u32 = 8;

/// One limiter's state; the default is one that was never used. Moments are the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// The theoretical arrival time, epoch nanoseconds.
    arrival_ns: u64,
    /// Before this nothing passes, epoch milliseconds.
    barred_until_ms: u64,
    /// Violations in a row.
    strikes: u32,
    /// The last violation, epoch milliseconds.
    struck_at_ms: u64,
}

impl State {
    /// Reads what the scripts write: `<ms>:<ns>:<barred_until_ms>:<strikes>:<struck_at_ms>`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':').map(str::parse::<u64>);
        let mut next = || parts.next()?.ok();
        let (ms, ns, barred_until_ms) = (next()?, next()?, next()?);
        let (strikes, struck_at_ms) = (u32::try_from(next()?).ok()?, next()?);
        if parts.next().is_some() {
            return None;
        }
        let arrival_ns = ms.checked_mul(NS_PER_MS)?.checked_add(ns)?;
        Some(Self { arrival_ns, barred_until_ms, strikes, struck_at_ms })
    }

    /// Charges `count` requests, whether they fit or not.
    pub(crate) fn advance(&mut self, now_ms: u64, rate: Rate, count: u32) {
        if count > 0 {
            let from = self.arrival_ns.max(now_ms.saturating_mul(NS_PER_MS));
            self.arrival_ns =
                from.saturating_add(interval_ns(rate).saturating_mul(u64::from(count)));
        }
    }

    /// Decides one request: `None` when it passes, and then it is charged; else the wait in milliseconds,
    /// at least 1.
    pub(crate) fn decide(&mut self, now_ms: u64, rate: Rate) -> Option<u64> {
        let now_ns = now_ms.saturating_mul(NS_PER_MS);
        let interval_ns = interval_ns(rate);
        let next_ns = self.arrival_ns.max(now_ns).saturating_add(interval_ns);
        let over_ns = next_ns.saturating_sub(now_ns.saturating_add(tolerance_ns(rate)));
        if over_ns == 0 && now_ms >= self.barred_until_ms {
            if now_ms.saturating_sub(self.struck_at_ms) >= DECAY_MS {
                self.strikes = 0;
            }
            self.arrival_ns = next_ns;
            return None;
        }
        let plain_ms = over_ns.div_ceil(NS_PER_MS).max(interval_ns.div_ceil(NS_PER_MS)).max(1);
        let repeated = now_ms < self.barred_until_ms;
        self.strikes = if repeated { self.strikes.saturating_add(1) } else { 1 };
        let doubled = plain_ms.saturating_mul(1 << (self.strikes - 1).min(16));
        let wait_ms = doubled.min(MAX_PENALTY_MS.max(plain_ms));
        self.barred_until_ms = now_ms.saturating_add(wait_ms);
        self.struck_at_ms = now_ms;
        Some(wait_ms)
    }

    /// Takes over what another has seen beyond this: the later arrival, the later penalty.
    pub(crate) fn merge(&mut self, other: Self) {
        self.arrival_ns = self.arrival_ns.max(other.arrival_ns);
        let penalty = |of: &Self| (of.struck_at_ms, of.barred_until_ms);
        if penalty(&other) > penalty(self) {
            let arrival_ns = self.arrival_ns;
            *self = Self { arrival_ns, ..other };
        }
    }

    /// What a script is told of the penalty: until when, how often, since when.
    pub(crate) fn penalty(&self) -> [u64; 3] {
        [self.barred_until_ms, u64::from(self.strikes), self.struck_at_ms]
    }
}

/// Nanoseconds between two requests at the sustained rate.
pub(crate) fn interval_ns(rate: Rate) -> u64 {
    1_000_000_000 / u64::from(rate.per_sec.max(1))
}

/// How far the state may lie ahead of now, in nanoseconds.
pub(crate) fn tolerance_ns(rate: Rate) -> u64 {
    interval_ns(rate).saturating_mul(u64::from(rate.burst.max(1)))
}

/// How many requests a node may grant before Redis knows of them. None where one would be too many
/// already: then each request asks.
pub(crate) fn allowance(rate: Rate) -> u32 {
    let of_span = rate.per_sec.saturating_mul(SPAN_SEC).saturating_add(rate.burst) / SHARE;
    of_span.min(rate.burst / BURST_SHARE)
}
