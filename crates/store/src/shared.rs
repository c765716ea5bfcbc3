//! What all nodes must agree on. One process answers from memory; several share a store.

use std::sync::Arc;

use async_trait::async_trait;
use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::record::Session;
use edgeward_core::time::{MonoMs, WallMs};
use edgeward_wire::{AgentId, OwnerId, Scope, SessionIdHash, SessionKey};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::StoreError;
use crate::durable::Sealed;

/// A session that begins.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The session.
    pub session: Session,
    /// The key that it checks signatures with, for a store that must write it down, sealed.
    pub key: SessionKey,
    /// The agent's owner, for whoever looks into the store; no decision reads it there.
    pub owner: OwnerId,
    /// What the agent may do at the start; decisions go by its record.
    pub scopes: Arc<[Scope]>,
}

/// Sessions, found by the hash of their id.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Keeps a new session until it expires.
    ///
    /// # Errors
    /// When it could not be kept; then nobody may be told of it.
    async fn start_session(&self, new: NewSession) -> Result<(), StoreError>;

    /// Finds a session that has neither ended nor expired. `agent` is who the caller says it is; a
    /// store that keeps sessions by agent finds none of another's, and any other answers that
    /// session as it is.
    ///
    /// A false yes lets an ended session act; a false no makes an honest agent start another.
    ///
    /// # Errors
    /// When the store could not look.
    async fn find_session(
        &self,
        agent: AgentId,
        id: &SessionIdHash,
    ) -> Result<Option<Session>, StoreError>;

    /// Moves the end of a live session to `until`, never past its maximum and never back; answers the
    /// session as it is afterwards.
    ///
    /// # Errors
    /// When the store could not do it.
    async fn extend_session(
        &self,
        agent: AgentId,
        id: &SessionIdHash,
        until: MonoMs,
    ) -> Result<Option<Session>, StoreError>;

    /// Ends a session of this agent now; whether there was one.
    ///
    /// # Errors
    /// When the store could not do it; then the session may live.
    async fn end_session(&self, agent: AgentId, id: &SessionIdHash) -> Result<bool, StoreError>;

    /// Ends all sessions of an agent now; their ids.
    ///
    /// # Errors
    /// When the store could not do it; then sessions may live.
    async fn end_sessions_of(&self, agent: AgentId) -> Result<Vec<SessionIdHash>, StoreError>;
}

/// Nonces and rates, decided in one atomic step.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Claims a nonce and a share of the rate: all of it or nothing.
    ///
    /// In this order: while the clock has not passed the replay floor, [`ClaimOutcome::Starting`]; a
    /// timestamp that has left the window by the store's clock, or lies at or under
    /// the floor, is [`ClaimOutcome::Stale`]; a nonce that was used is [`ClaimOutcome::Replayed`] and
    /// nothing is charged; a rate that is used up is [`ClaimOutcome::RateLimited`] and the nonce stays
    /// unused. Of any number of equal claims at once exactly one is granted.
    ///
    /// A false `Granted` lets a captured request pass twice; a false `Replayed` costs one retry.
    ///
    /// # Errors
    /// When the store could not decide. The caller refuses.
    async fn claim_nonce_and_rate(&self, claim: &Claim) -> Result<ClaimOutcome, StoreError>;

    /// The replay floor of this agent's nonces, as far as this node knows: no timestamp at or under it
    /// is accepted. The claim itself goes by the store's own.
    fn replay_floor(&self, agent: AgentId) -> Option<WallMs>;

    /// The highest replay floor that there is for anybody.
    fn highest_floor(&self) -> Option<WallMs>;
}

/// What a shared store tells by itself of what others have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// Something about the agent has changed: what was read of it is void.
    Agent(AgentId),
    /// A session has ended, or was extended: look again.
    Session {
        /// Its agent.
        agent: AgentId,
        /// Its id.
        id: SessionIdHash,
    },
    /// Something may have been missed: everything that was read is void.
    Everything,
    /// What was remembered may be older than it was: what has ended lately may be back. Nothing is
    /// granted until the replay floor has passed.
    Lost,
}

/// What nodes tell one another through a shared store.
#[async_trait]
pub trait Signals: Send + Sync {
    /// Everything that is told from now on. A receiver that is not read holds memory.
    fn told(&self) -> UnboundedReceiver<Told>;

    /// Tells every node that something about this agent has changed; to be called once the change is
    /// durable.
    ///
    /// # Errors
    /// When it could not be told. The change stands, and nodes learn of it from the durable store.
    async fn tell_agent(&self, agent: AgentId) -> Result<(), StoreError>;

    /// When it was last certain that whatever others tell arrives here, on the monotonic clock; `None`
    /// while it is not.
    fn confirmed_at(&self) -> Option<MonoMs>;

    /// How far the store's clock is ahead of this node's wall clock, in milliseconds; `None` while it
    /// is not known. With several servers, of the one that is off the furthest.
    fn clock_ahead_ms(&self) -> Option<i64>;
}

/// Seals session keys for a store that several nodes read, bound to what the session may do.
pub trait SealSessions: Send + Sync {
    /// Seals the key of a session. `bound` is what else the sealed bytes must be for: they open for
    /// nothing else.
    ///
    /// # Errors
    /// When it could not be sealed.
    fn seal(
        &self,
        id: &SessionIdHash,
        bound: &[u8],
        key: &SessionKey,
    ) -> Result<Sealed, StoreError>;

    /// Opens what was sealed as exactly this.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it was altered or sealed as something else.
    fn open(
        &self,
        id: &SessionIdHash,
        bound: &[u8],
        sealed: &Sealed,
    ) -> Result<SessionKey, StoreError>;
}
