//! What every backend must do, as its traits' documentation says it: one function for each part. A
//! backend's tests hand in a fresh store; a promise that is broken panics and names itself.
//!
//! Races run on as many threads as the runtime has: use a multi-threaded one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod claims;
mod continuity;
mod enrollments;
mod events;
mod forge;
mod keys;
mod sessions;
mod standings;

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use edgeward_core::time::Now;
use tokio::sync::Barrier;

use crate::clock::{Clock, ManualClock};

pub use claims::{claims, claims_above_a_floor, claims_when_full};
pub use continuity::{continuity, continuity_shared_first};
pub use enrollments::{Seeds, agents_and_enrollments};
pub use events::events;
pub use forge::Forge;
pub use keys::keys;
pub use sessions::sessions;
pub use standings::standings;

/// How many do the same at once.
const CROWD: u32 = 64;

/// Time as the store under test sees it.
#[async_trait]
pub trait TestTime: Send + Sync {
    /// Now.
    fn now(&self) -> Now;
    /// Lets `ms` pass: by moving a clock, or by waiting where the store has one of its own.
    async fn pass(&self, ms: u64);
    /// How far the store's clock and this one may be apart, in milliseconds, with the time that a call
    /// takes: what is told of moments is held to that and no closer.
    fn tolerance_ms(&self) -> u64 {
        0
    }
}

#[async_trait]
impl TestTime for ManualClock {
    fn now(&self) -> Now {
        Clock::now(self)
    }

    async fn pass(&self, ms: u64) {
        self.advance(ms);
    }
}

/// Runs what `make` makes for 0, 1, … all at once, and gathers the answers.
async fn at_once<T, F>(make: impl Fn(u32) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(CROWD as usize));
    let tasks: Vec<_> = (0..CROWD)
        .map(|number| {
            let (start, work) = (Arc::clone(&start), make(number));
            tokio::spawn(async move {
                start.wait().await;
                work.await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("no call panics"));
    }
    answers
}
