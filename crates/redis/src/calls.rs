//! What every part needs to ask a server: the hub, the names of keys, the clocks.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgeward_core::time::Now;
use edgeward_store::{Clock, StoreError};
use redis::{FromRedisValue, Pipeline, Value};

use crate::bucket::{Bucket, Keys};
use crate::hub::Hub;
use crate::link::{Link, Script};

pub(crate) struct Calls {
    pub(crate) hub: Arc<Hub>,
    pub(crate) keys: Keys,
    pub(crate) clock: Arc<dyn Clock>,
    budget: Duration,
    round_trips: AtomicU64,
}

impl Calls {
    pub(crate) fn new(hub: Arc<Hub>, keys: Keys, clock: Arc<dyn Clock>, timeout: Duration) -> Self {
        // A quarter more than one call, so that it is the call that notices a silent server first and
        // ends its link.
        let budget = timeout + timeout / 4;
        Self { hub, keys, clock, budget, round_trips: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Both clocks, the wall clock as the bucket's server shows it, as far as that is known.
    pub(crate) fn server_now(&self, bucket: Bucket) -> Now {
        let now = self.now();
        Now { wall: self.hub.server_clock(bucket).unwrap_or(now.wall), ..now }
    }

    /// How often a request has waited for a server.
    pub(crate) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    pub(crate) fn note_round_trip(&self) {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs a script that a request waits for.
    pub(crate) async fn script(
        &self,
        link: &Link,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, StoreError> {
        self.note_round_trip();
        link.script(script, keys, args).await
    }

    /// The only answer to one command; whether a request waits for it says the caller.
    pub(crate) async fn one(&self, link: &Link, command: &Pipeline) -> Result<Value, StoreError> {
        let answers = link.send(command).await?;
        answers.into_iter().next().ok_or_else(|| unexpected("no answer"))
    }

    /// Runs a script in a bucket, within the budget of a request.
    pub(crate) async fn script_in(
        &self,
        bucket: Bucket,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let link = self.hub.link(bucket)?;
        self.in_budget(self.script(&link, script, keys, args)).await
    }

    /// Gives up when several calls together take longer than a request may wait.
    pub(crate) async fn in_budget<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.budget, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Unavailable("Redis did not answer in time".to_owned())),
        }
    }
}

/// Reads an answer as what the script says that it is.
pub(crate) fn read<T: FromRedisValue>(answer: Value) -> Result<T, StoreError> {
    redis::from_redis_value(answer).map_err(|error| unexpected(&error.to_string()))
}

/// An answer that no script of ours gives.
pub(crate) fn unexpected(what: &str) -> StoreError {
    StoreError::Unavailable(format!("Redis answered something else than was asked: {what}"))
}
