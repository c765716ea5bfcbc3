//! What all nodes must agree on. One process answers from memory; several share a store.

use async_trait::async_trait;
use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::record::Session;
use edgeward_core::time::{MonoMs, WallMs};
use edgeward_wire::{AgentId, SessionIdHash, SessionKey};

use crate::StoreError;

/// Sessions, found by the hash of their id.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Keeps a new session until it expires. `key` is the key that `session` checks signatures with,
    /// for a store that must write it down.
    ///
    /// # Errors
    /// When it could not be kept; then nobody may be told of it.
    async fn start_session(&self, session: Session, key: SessionKey) -> Result<(), StoreError>;

    /// Finds a session that has neither ended nor expired.
    ///
    /// A false yes lets an ended session act; a false no makes an honest agent start another.
    ///
    /// # Errors
    /// When the store could not look.
    async fn find_session(&self, id: &SessionIdHash) -> Result<Option<Session>, StoreError>;

    /// Moves the end of a live session to `until`, never past its maximum and never back; answers the
    /// session as it is afterwards.
    ///
    /// # Errors
    /// When the store could not do it.
    async fn extend_session(
        &self,
        id: &SessionIdHash,
        until: MonoMs,
    ) -> Result<Option<Session>, StoreError>;

    /// Ends a session now; whether there was one.
    ///
    /// # Errors
    /// When the store could not do it; then the session may live.
    async fn end_session(&self, id: &SessionIdHash) -> Result<bool, StoreError>;

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
    /// In this order: a timestamp that has left the window by the store's clock, or lies at or under
    /// the floor, is [`ClaimOutcome::Stale`]; a nonce that was used is [`ClaimOutcome::Replayed`] and
    /// nothing is charged; a rate that is used up is [`ClaimOutcome::RateLimited`] and the nonce stays
    /// unused. Of any number of equal claims at once exactly one is granted.
    ///
    /// A false `Granted` lets a captured request pass twice; a false `Replayed` costs one retry.
    ///
    /// # Errors
    /// When the store could not decide. The caller refuses.
    async fn claim_nonce_and_rate(&self, claim: &Claim) -> Result<ClaimOutcome, StoreError>;

    /// The replay floor, while there is one: no timestamp at or under it is accepted.
    fn replay_floor(&self) -> Option<WallMs>;
}
