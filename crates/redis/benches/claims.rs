//! How many claims with a nonce one node makes a second, and how long one takes, on a Redis of its own.
//!
//! `cargo bench -p edgeward-redis --bench claims`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark may fail loudly"
)]

#[path = "../tests/fleet/mod.rs"]
mod fleet;

use std::sync::Arc;
use std::time::Duration;

use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_redis::RedisStore;
use edgeward_services::{Redis, RedisOptions};
use edgeward_store::Clock as _;
use edgeward_store::conformance::Forge;
use edgeward_store::shared::Claims as _;

use fleet::{PLENTY, RealClock, Stopwatch};

/// How many claims a run makes: few enough to be in time all together.
const CLAIMS: usize = 6_400;

/// Makes the claims beforehand: signing them is not what is measured.
fn claims(worker: usize, count: usize, with_nonce: bool, clock: &RealClock) -> Vec<Claim> {
    let forge = Forge::new((count * 100 + worker) as u64, PLENTY);
    let nonce = |number: usize| with_nonce.then(|| format!("nonce-{worker:04}-{number:06}"));
    // Ahead as far as may be, so that the last is in time when it is its turn.
    let stamp = clock.now().wall.plus(Forge::AHEAD_MS - 100);
    (0..count).map(|number| forge.claim(stamp, nonce(number).as_deref())).collect()
}

async fn work(store: Arc<RedisStore>, claims: Vec<Claim>) -> Vec<Duration> {
    let mut took = Vec::with_capacity(claims.len());
    for claim in claims {
        let watch = Stopwatch::start();
        let outcome = store.claim_nonce_and_rate(&claim).await;
        took.push(watch.elapsed());
        assert_eq!(outcome, Ok(ClaimOutcome::Granted));
    }
    took
}

async fn measure(store: &Arc<RedisStore>, workers: usize, with_nonce: bool, clock: &RealClock) {
    let count = CLAIMS / workers;
    let claims: Vec<_> =
        (0..workers).map(|worker| claims(worker, count, with_nonce, clock)).collect();
    let watch = Stopwatch::start();
    let tasks: Vec<_> =
        claims.into_iter().map(|own| tokio::spawn(work(Arc::clone(store), own))).collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    let per_sec = took.len() as f64 / watch.elapsed().as_secs_f64();
    took.sort();
    let at = |share: usize| took[took.len() * share / 100].as_micros();
    let kind = if with_nonce { "with a nonce" } else { "without one" };
    println!(
        "{kind:<14} {workers:>3} at once  {per_sec:>9.0}/s  p50 {:>5} µs  p99 {:>5} µs",
        at(50),
        at(99)
    );
}

#[tokio::main]
async fn main() {
    let server = Redis::start(RedisOptions::default()).unwrap();
    let clock = RealClock::start();
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    for with_nonce in [true, false] {
        for workers in [1, 16, 64] {
            measure(&store, workers, with_nonce, &clock).await;
        }
    }
    store.stop().await;
}
