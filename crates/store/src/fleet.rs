//! What several nodes over one durable store need beside it: who they are, and what has changed.

use async_trait::async_trait;
use edgeward_core::time::WallMs;
use edgeward_wire::AgentId;

use crate::StoreError;

/// A place in the log of changes. Changes are told in the order in which they became visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChangeId(pub u64);

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Changed {
    /// Something about this agent: its standing, its secrets, its device key.
    Agent(AgentId),
    /// The keys that sign tokens.
    Keys,
    /// The policy.
    Policy,
}

/// What whoever follows the log is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// What comes next, oldest first; none when there is nothing new.
    Changes(Vec<(ChangeId, Changed)>),
    /// Some may have been missed: the log does not reach back so far, or is not the one that was read
    /// before, as after a restore of the store. Everything that was read of the store is void; go on
    /// from `newest`.
    Gap {
        /// The newest place in the log.
        newest: ChangeId,
    },
}

/// The log of changes, written in the transaction of each change.
#[async_trait]
pub trait Changes: Send + Sync {
    /// The newest place in the log.
    ///
    /// # Errors
    /// When the store could not look.
    async fn newest_change(&self) -> Result<ChangeId, StoreError>;

    /// At most `limit` changes after this place, oldest first. None is ever missed unseen: one that
    /// becomes visible later has a later place, and where some may have been missed the answer is
    /// [`Followed::Gap`].
    ///
    /// A false none leaves a block without force on this node.
    ///
    /// # Errors
    /// When the store could not look.
    async fn changes_after(&self, after: ChangeId, limit: u32) -> Result<Followed, StoreError>;

    /// Waits until the store says by itself that there may be something new. It may miss some, and
    /// may never answer where it cannot tell: whoever waits asks again after a while all the same.
    async fn stirred(&self);
}

/// How a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name: the same after a restart, another for every node.
    pub name: String,
    /// Another at every start.
    pub incarnation: [u8; 16],
    /// The id of the store in which it remembers nonces together with other nodes; none when it
    /// remembers them by itself.
    pub store: Option<String>,
    /// Its version.
    pub version: String,
}

/// Another node that is up, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Where it remembers nonces, as in [`NodeRow::store`].
    pub store: Option<String>,
    /// When it was last seen, in milliseconds before now.
    pub seen_ms_ago: u64,
    /// When it counts as gone unless it is seen again, in milliseconds from now.
    pub gone_in_ms: u64,
}

/// What a node finds before it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Around {
    /// The store's clock.
    pub now: WallMs,
    /// A node of another name that is up and remembers nonces by itself: none can join beside it.
    pub alone: Option<Other>,
}

/// What became of a node's wish to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// It belongs.
    Yes {
        /// The store's clock.
        now: WallMs,
    },
    /// Another node is up that remembers nonces elsewhere, by itself or in another store: between them
    /// a request could pass twice.
    Apart(Other),
}

/// The nodes of a deployment.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Looks around, and changes nothing.
    ///
    /// # Errors
    /// When the store could not look.
    async fn look_around(&self) -> Result<Around, StoreError>;

    /// Joins, unless that would let two nodes remember nonces apart. A node of the same name that was
    /// up before is replaced.
    ///
    /// A false yes lets a request pass at two nodes; a false no costs a start.
    ///
    /// # Errors
    /// When it could not be decided; then the process must not serve.
    async fn join(&self, node: &NodeRow) -> Result<Joined, StoreError>;

    /// Says that the node is up; the store's clock. To be called every second.
    ///
    /// # Errors
    /// [`StoreError::MarkLapsed`] when another has taken its place; when it could not be written.
    async fn beat(&self) -> Result<WallMs, StoreError>;

    /// Leaves.
    ///
    /// # Errors
    /// When it could not be written; after a while it counts as gone all the same.
    async fn leave(&self) -> Result<(), StoreError>;
}

/// What a durable store offers that several nodes may use at once.
pub trait Fleet: Changes + Nodes + 'static {}

impl<T: Changes + Nodes + 'static> Fleet for T {}
