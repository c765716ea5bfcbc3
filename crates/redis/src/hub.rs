//! All servers together: which link leads to a bucket, what floors are known.

use std::sync::Arc;

use edgeward_core::time::{MonoMs, WallMs};
use edgeward_store::StoreError;

use crate::bucket::Bucket;
use crate::link::Link;
use crate::options::RedisOptions;

/// What is known, at a start, of nonces that this deployment has granted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStart {
    /// None ever: an empty Redis has lost nothing, and there is no floor.
    Fresh,
    /// Some, remembered elsewhere than in Redis until now.
    Elsewhere {
        /// No timestamp at or under this is accepted.
        floor: WallMs,
    },
    /// Some, remembered in Redis: a bucket without an epoch has lost them.
    Shared,
}

/// Why it was not started: what is wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// No server answers.
    #[error("Redis at {address} cannot be reached ({detail}): start it, or correct its address")]
    Unreachable {
        /// Where.
        address: String,
        /// What happened.
        detail: String,
    },
}

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

/// Who is told of what happens at the servers. Called where answers are read: it must not block. What
/// is told of one server is told in the order in which it happened there, answers to commands included.
pub(crate) trait Listener: Send + Sync {
    /// A key has changed or gone.
    fn invalidated(&self, key: &[u8]);
    /// These can be used, and from now on changes in them are told of in this way.
    fn opened(&self, buckets: &[Bucket], push: Push);
    /// Changes in these may have been missed: what was remembered of them is void.
    fn closed(&self, buckets: &[Bucket]);
    /// Something was published on the channel ([`Keys::told`](crate::bucket::Keys::told)).
    fn published(&self, payload: &[u8]);
}

/// All servers together.
#[derive(Debug)]
pub(crate) struct Hub {}

impl Hub {
    /// Connects to all servers and waits until every bucket is ready.
    ///
    /// # Errors
    /// When one is not to be used, or none answers in time.
    pub(crate) async fn start(
        options: RedisOptions,
        first: FirstStart,
        listener: Arc<dyn Listener>,
    ) -> Result<Arc<Self>, StartError> {
        let _ = (options, first, listener);
        Err(StartError::Unreachable { address: String::new(), detail: "not yet".to_owned() })
    }

    /// The link to a bucket's server.
    ///
    /// # Errors
    /// At once, while that server is not ready.
    pub(crate) fn link(&self, bucket: Bucket) -> Result<Arc<Link>, StoreError> {
        let _ = bucket;
        Err(StoreError::Unavailable("not yet".to_owned()))
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
        let _ = (bucket, link);
        Err(StoreError::Unavailable("not yet".to_owned()))
    }

    /// Keeps a floor that a script has told. Floors never go down.
    pub(crate) fn note_floor(&self, bucket: Bucket, floor: WallMs) {
        let _ = (bucket, floor);
    }

    /// The floor of a bucket as far as this node knows.
    pub(crate) fn floor(&self, bucket: Bucket) -> Option<WallMs> {
        let _ = bucket;
        None
    }

    /// The highest floor of any bucket.
    pub(crate) fn highest_floor(&self) -> Option<WallMs> {
        None
    }

    /// The latest moment up to which everything that was told by any server has arrived here; `None` while a
    /// server is not ready or tells nothing.
    pub(crate) fn confirmed_at(&self) -> Option<MonoMs> {
        None
    }

    /// How far the servers' clocks are ahead of this node's, in milliseconds, of the one that is off the
    /// furthest; `None` while not all are known.
    pub(crate) fn clock_ahead_ms(&self) -> Option<i64> {
        None
    }

    /// Closes all links; `closed` has been told of all buckets once this returns.
    pub(crate) async fn stop(&self) {}
}
