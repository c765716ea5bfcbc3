//! All servers together: which link leads to a bucket, what floors are known.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use edgeward_core::time::{MonoMs, WallMs};
use edgeward_store::StoreError;
use redis::{Cmd, Pipeline, Value};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::bucket::{BUCKETS, Bucket};
use crate::floor::{Renewal, answered};
use crate::link::{CallError, Link};
use crate::options::RedisOptions;
use crate::shared::Shared;
use crate::start::{FirstStart, StartError};
use crate::topology;

/// How long a start may take.
const START: Duration = Duration::from_secs(5);

/// How changes are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    /// By `CLIENT TRACKING`: every write to a session or a signal invalidates its key.
    Tracking,
    /// On a channel: whoever changes something publishes it.
    PubSub,
    /// Not at all: what was read may be stale at once.
    None,
}

/// Who is told of what happens at the servers. Called where answers are read: it must neither block nor call
/// the hub. What one server tells comes in its order, answers to commands included.
pub(crate) trait Listener: Send + Sync {
    /// A key has changed or gone.
    fn invalidated(&self, key: &[u8]);
    /// These can be used, and from now on changes in them are told of in this way.
    fn opened(&self, buckets: &[Bucket], push: Push);
    /// Changes in these may have been missed: what was remembered of them is void, until they are opened.
    fn closed(&self, buckets: &[Bucket]);
    /// What was remembered may be older than it was: told before anything that it lies in is opened.
    fn lost(&self);
    /// Something was published on the channel ([`Keys::told`](crate::bucket::Keys::told)).
    fn published(&self, payload: &[u8]);
}

/// All servers together.
pub(crate) struct Hub {
    pub(crate) shared: Arc<Shared>,
    topology: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Hub {
    /// Connects to all servers and waits until every bucket is ready.
    ///
    /// # Errors
    /// When one is not to be used, or not all are ready in time.
    pub(crate) async fn start(
        options: RedisOptions,
        first: FirstStart,
        listener: Arc<dyn Listener>,
    ) -> Result<Arc<Self>, StartError> {
        options.check()?;
        let shared = Shared::new(options, first, listener);
        let topology = tokio::spawn(topology::run(Arc::clone(&shared))?);
        let hub = Arc::new(Self { shared, topology: tokio::sync::Mutex::new(Some(topology)) });
        let started = timeout(START, hub.shared.started()).await;
        let outcome = started.unwrap_or_else(|_| Err(hub.shared.what_is_missing()));
        if let Err(error) = outcome {
            hub.stop().await;
            return Err(error);
        }
        Ok(hub)
    }

    /// The link to a bucket's server.
    ///
    /// # Errors
    /// At once, while that server is not ready.
    pub(crate) fn link(&self, bucket: Bucket) -> Result<Arc<Link>, StoreError> {
        self.shared.link(bucket).ok_or_else(|| {
            StoreError::Unavailable("the bucket's Redis server is not ready".to_owned())
        })
    }

    /// Gives a bucket whose epoch is not the link's identity that identity, and a floor above all that
    /// can have been granted before; the floor then. Any number at once for one bucket are one.
    ///
    /// # Errors
    /// When the server did not do it.
    pub(crate) async fn renew(
        &self,
        bucket: Bucket,
        link: &Link,
    ) -> Result<Option<WallMs>, StoreError> {
        self.shared.renew_one(bucket, link).await
    }

    /// How often the bucket was renewed.
    pub(crate) fn renewals(&self, bucket: Bucket) -> u64 {
        self.shared.buckets.get(bucket.index()).map_or(0, |state| state.renewals.lock_count())
    }

    /// [`Self::renew`] for a script that was sent after `renewals` of them and found another epoch than the
    /// link's: a loss, unless it was renewed meanwhile.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub(crate) async fn renew_lost(
        &self,
        bucket: Bucket,
        link: &Link,
        renewals: u64,
    ) -> Result<Option<WallMs>, StoreError> {
        if self.renewals(bucket) == renewals {
            self.shared.lost(&[bucket]);
        }
        self.renew(bucket, link).await
    }

    /// Renews a bucket where this node has seen a loss that no floor of its own stands for yet.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub(crate) async fn settle(&self, bucket: Bucket, link: &Link) -> Result<(), StoreError> {
        if self.shared.is_lost(bucket) { self.renew(bucket, link).await.map(drop) } else { Ok(()) }
    }

    /// Keeps a floor that a script has told. Floors never go down.
    pub(crate) fn note_floor(&self, bucket: Bucket, floor: WallMs) {
        self.shared.floors.note(bucket, floor);
    }

    /// Keeps the widest margin, ahead and lag together, that a script has told.
    pub(crate) fn note_margin(&self, margin_ms: u64) {
        self.shared.floors.note_margin(margin_ms);
    }

    pub(crate) fn max_lag_ms(&self) -> u64 {
        self.shared.options.max_lag_ms
    }

    /// The floor of a bucket as far as this node knows.
    pub(crate) fn floor(&self, bucket: Bucket) -> Option<WallMs> {
        self.shared.floors.of(bucket)
    }

    /// The highest floor of any bucket.
    pub(crate) fn highest_floor(&self) -> Option<WallMs> {
        self.shared.floors.highest()
    }

    /// The latest moment up to which everything that was told by any server has arrived here; `None` while a
    /// server is not ready or tells nothing.
    pub(crate) fn confirmed_at(&self) -> Option<MonoMs> {
        self.shared.confirmed_at()
    }

    /// How far the servers' clocks are ahead of this node's, in milliseconds, of the one that is off the
    /// furthest; `None` while none is open.
    pub(crate) fn clock_ahead_ms(&self) -> Option<i64> {
        self.shared.clock_ahead_ms()
    }

    /// What the clock of a bucket's server shows now, if it was ever read.
    pub(crate) fn server_clock(&self, bucket: Bucket) -> Option<WallMs> {
        self.shared.last_clock(bucket)
    }

    /// Closes all links; all buckets are closed once this returns.
    pub(crate) async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        let topology = self.topology.lock().await.take();
        if let Some(topology) = topology
            && let Err(error) = topology.await
        {
            tracing::error!(%error, "the task that watches over Redis has failed");
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.stopping.send_replace(true);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("servers", &self.shared.options.servers).finish_non_exhaustive()
    }
}

impl Shared {
    /// See [`Hub::renew`].
    async fn renew_one(&self, bucket: Bucket, link: &Link) -> Result<Option<WallMs>, StoreError> {
        let unknown = || StoreError::Unavailable("no such bucket".to_owned());
        let state = self.buckets.get(bucket.index()).ok_or_else(unknown)?;
        let asked = state.renewals.lock_count();
        let mut done = state.renewals.lock.lock().await;
        if done.covers(asked, link.serial) && !state.is_lost() {
            return Ok(self.floors.of(bucket));
        }
        self.renew(&[bucket], link, link.timeout).await?.into_iter().try_for_each(|it| it.1)?;
        done.note(link.serial);
        Ok(self.floors.of(bucket))
    }

    /// Renews buckets in one write, or two where the script is not known; each for itself.
    pub(crate) async fn renew(
        &self,
        buckets: &[Bucket],
        link: &Link,
        budget: Duration,
    ) -> Result<Vec<(Bucket, Result<(), CallError>)>, CallError> {
        let Some((first, others)) = buckets.split_first() else { return Ok(Vec::new()) };
        self.moved(buckets, &link.identity);
        // those that are seen from now on are not settled by this
        let losses: Vec<_> = buckets.iter().map(|bucket| (*bucket, self.losses(*bucket))).collect();
        // the first brings the text, so that the server knows it for the others
        let mut pipeline = Pipeline::with_capacity(buckets.len());
        pipeline.add_command(self.renewal(*first, link, true));
        for bucket in others {
            pipeline.add_command(self.renewal(*bucket, link, false));
        }
        let answers = link.call_each(&pipeline, budget).await?;
        let mut renewed = Vec::with_capacity(buckets.len());
        let mut unknown = Vec::new();
        for ((bucket, losses), answer) in losses.into_iter().zip(answers) {
            if let Ok(Value::ServerError(_)) = answer {
                unknown.push((bucket, losses));
            } else {
                renewed.push((bucket, self.renewed(bucket, link, losses, answer)));
            }
        }
        if unknown.is_empty() {
            return Ok(renewed);
        }
        let mut pipeline = Pipeline::with_capacity(unknown.len());
        for (bucket, _) in &unknown {
            pipeline.add_command(self.renewal(*bucket, link, true));
        }
        let answers = link.call_each(&pipeline, budget).await?;
        renewed.extend(unknown.into_iter().zip(answers).map(|((bucket, losses), answer)| {
            (bucket, self.renewed(bucket, link, losses, answer))
        }));
        Ok(renewed)
    }

    fn renewal(&self, bucket: Bucket, link: &Link, by_text: bool) -> Cmd {
        let options = &self.options;
        let known = self.floors.highest();
        let margin_ms = options.ahead_ms.saturating_add(options.max_lag_ms);
        let margin_ms = margin_ms.max(self.floors.margin_ms());
        let renewal = Renewal::new(&link.identity, known, margin_ms);
        let (last_clock, first) = (self.last_clock(bucket), self.first_of(bucket));
        let lost = self.is_lost(bucket);
        renewal.command(&self.keys, bucket, last_clock, first, lost, by_text)
    }

    fn renewed(
        &self,
        bucket: Bucket,
        link: &Link,
        losses: u64,
        answer: Result<Value, CallError>,
    ) -> Result<(), CallError> {
        let odd = || CallError::Odd { address: link.address.clone(), command: "EVAL" };
        let renewed = answered(&answer?).ok_or_else(odd)?;
        if let Some(floor) = renewed.floor {
            self.floors.note(bucket, floor);
        }
        self.floors.note_margin(renewed.margin_ms);
        if renewed.lost && !self.is_lost(bucket) {
            // nobody here has seen it before
            self.listener.lost();
        }
        self.was_renewed(bucket, &link.identity, losses);
        Ok(())
    }
}

/// Whether `count` buckets are all.
pub(crate) fn are_all(count: usize) -> bool {
    count == usize::from(BUCKETS)
}
