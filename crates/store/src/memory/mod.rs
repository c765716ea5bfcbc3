//! What one process keeps in its own memory: sessions, nonces and rates, in place of a shared store.
//!
//! Lock order: a shard of nonces, then a shard of rates; an agent's index of sessions, then a shard
//! of sessions. Nothing holds a lock of one pair while it takes one of the other, and no lock is held
//! across an await.

pub mod nonces;
mod rates;
mod sessions;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::record::Session;
use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_wire::{AgentId, SessionIdHash};

use crate::shared::{Claims, NewSession, Sessions};
use crate::{Clock, StoreError};
use nonces::{Claimed, NonceTable};
use rates::RateTable;
use sessions::SessionTable;
pub use snapshot::RestoreError;

/// The shared store of a deployment of one process.
///
/// Where an unclean end could lose nonces that matter, call [`Self::require_mark`] before the first
/// claim: from then on claims are granted only up to a moment of the wall clock that
/// [`Self::allow_claims_until`] names, and that is on disk.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    nonces: NonceTable,
    rates: RateTable,
    sessions: SessionTable,
    /// No timestamp at or under it is taken; 0 for none.
    floor: AtomicU64,
    /// Wall clock milliseconds after which nothing is granted.
    granted_until: AtomicU64,
    /// Whether somebody claimed since it was last asked.
    active: AtomicBool,
    /// Whether the process is stopping, so that nothing is granted any more.
    sealed: AtomicBool,
}

/// Why a claim is not granted: by an answer, or since it may not be answered.
type Refusal = Result<ClaimOutcome, StoreError>;

impl MemoryStore {
    /// An empty store for at most `nonce_capacity` live nonces. `nonce_key` is random and secret.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, nonce_key: [u8; 16], nonce_capacity: usize) -> Self {
        Self::with_nonces(clock, NonceTable::new(nonce_key, nonce_capacity))
    }

    fn with_nonces(clock: Arc<dyn Clock>, nonces: NonceTable) -> Self {
        Self {
            clock,
            nonces,
            rates: RateTable::default(),
            sessions: SessionTable::default(),
            floor: AtomicU64::new(0),
            granted_until: AtomicU64::new(u64::MAX),
            active: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
        }
    }

    /// From now on nothing is granted without a mark: see [`Self::allow_claims_until`].
    pub fn require_mark(&self) {
        self.granted_until.store(0, Ordering::SeqCst);
    }

    /// Claims may be granted while the wall clock shows at most `until`. To be called once a mark is
    /// on disk, with the mark plus what the next start adds to it: then every timestamp that was ever
    /// granted lies under the floor of that start. Never moves back.
    ///
    /// It is the wall clock that bounds it, since it is the wall clock that timestamps are held
    /// against: after a step ahead nothing is granted until a mark has followed.
    pub fn allow_claims_until(&self, until: WallMs) {
        self.granted_until.fetch_max(until.0, Ordering::SeqCst);
    }

    /// Whether anybody has claimed since this was last asked, also in vain: while nobody has, no mark
    /// need be written, and the first claim after a pause is told [`StoreError::MarkLapsed`].
    pub fn claims_since_mark(&self) -> bool {
        self.active.swap(false, Ordering::Relaxed)
    }

    /// No timestamp at or under `floor` is taken from now on. It only grows.
    pub fn set_replay_floor(&self, floor: WallMs) {
        self.floor.fetch_max(floor.0, Ordering::SeqCst);
    }

    /// The process stops: no claim is granted from now on, so that a snapshot misses none.
    pub fn seal_for_stop(&self) {
        self.sealed.store(true, Ordering::SeqCst);
    }

    /// Drops a share of what has expired: a quarter of the shards at each call, one lock at a time.
    /// To be called every few seconds.
    pub fn sweep(&self) {
        let now = self.clock.now().mono;
        self.sessions.sweep(now);
        if self.rates.sweep(now) {
            self.nonces.sweep(now.0);
        }
    }

    /// How many nonces are held.
    #[must_use]
    pub fn nonces_held(&self) -> usize {
        self.nonces.held()
    }

    /// How many sessions are held, expired ones that are not yet swept included.
    #[must_use]
    pub fn sessions_held(&self) -> usize {
        self.sessions.len()
    }

    /// What [`Sessions::find_session`] answers, without a future.
    #[must_use]
    pub fn session(&self, id: &SessionIdHash) -> Option<Session> {
        self.sessions.find(id, self.clock.now().mono)
    }

    /// What [`Claims::claim_nonce_and_rate`] answers, without a future.
    ///
    /// # Errors
    /// [`StoreError::MarkLapsed`], and [`StoreError::Unavailable`] once the process is stopping.
    pub fn claim(&self, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        if !self.active.load(Ordering::Relaxed) {
            self.active.store(true, Ordering::Relaxed);
        }
        let Some(key) = claim.nonce() else {
            return self
                .decide(claim)
                .map_or_else(|refusal| refusal, |()| Ok(ClaimOutcome::Granted));
        };
        let now = self.clock.now();
        // What is stale is told so, also when its nonce is known.
        if let Err(refusal) = self.check_time(claim, now) {
            return refusal;
        }
        let (agent, nonce) = (key.agent(), key.nonce().as_str().as_bytes());
        let ttl_ms = claim.nonce_ttl_ms();
        match self
            .nonces
            .claim_with(agent.as_bytes(), nonce, now.mono.0, ttl_ms, || self.decide(claim))
        {
            Claimed::Fresh(()) => Ok(ClaimOutcome::Granted),
            Claimed::Refused(refusal) => refusal,
            Claimed::Seen => Ok(ClaimOutcome::Replayed),
            Claimed::Full => Ok(ClaimOutcome::Full),
        }
    }

    /// The last word, by a clock that is read here: a thread that slept since the nonce was looked
    /// for must not outlive the memory of it, nor the mark.
    fn decide(&self, claim: &Claim) -> Result<(), Refusal> {
        let now = self.clock.now();
        self.check_time(claim, now)?;
        self.rates.charge(claim, now.mono).map_err(Ok)
    }

    fn check_time(&self, claim: &Claim, now: Now) -> Result<(), Refusal> {
        if self.sealed.load(Ordering::SeqCst) {
            return Err(Err(stopping()));
        }
        if now.wall.0 > self.granted_until.load(Ordering::SeqCst) {
            return Err(Err(StoreError::MarkLapsed));
        }
        let floor = self.highest_floor();
        if let Some(floor) = floor
            && now.wall <= floor
        {
            let retry_after_ms = floor.since(now.wall).saturating_add(1);
            return Err(Ok(ClaimOutcome::Starting { retry_after_ms }));
        }
        if claim.is_timely(now.wall, floor) { Ok(()) } else { Err(Ok(ClaimOutcome::Stale)) }
    }
}

fn stopping() -> StoreError {
    StoreError::Unavailable("the process is stopping".into())
}

#[async_trait]
impl Claims for MemoryStore {
    async fn claim_nonce_and_rate(&self, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        self.claim(claim)
    }

    fn replay_floor(&self, _: AgentId) -> Option<WallMs> {
        self.highest_floor()
    }

    fn highest_floor(&self) -> Option<WallMs> {
        Some(self.floor.load(Ordering::SeqCst)).filter(|floor| *floor > 0).map(WallMs)
    }
}

#[async_trait]
impl Sessions for MemoryStore {
    async fn start_session(&self, new: NewSession) -> Result<(), StoreError> {
        self.sessions.start(new.session, new.key).ok_or_else(stopping)
    }

    async fn find_session(
        &self,
        _: AgentId,
        id: &SessionIdHash,
    ) -> Result<Option<Session>, StoreError> {
        Ok(self.session(id))
    }

    async fn extend_session(
        &self,
        agent: AgentId,
        id: &SessionIdHash,
        until: MonoMs,
    ) -> Result<Option<Session>, StoreError> {
        let now = self.clock.now().mono;
        self.sessions.extend(agent, id, until, now).ok_or_else(stopping)
    }

    async fn end_session(&self, agent: AgentId, id: &SessionIdHash) -> Result<bool, StoreError> {
        let now = self.clock.now().mono;
        self.sessions.end(agent, id, now).ok_or_else(stopping)
    }

    async fn end_sessions_of(&self, agent: AgentId) -> Result<Vec<SessionIdHash>, StoreError> {
        let now = self.clock.now().mono;
        self.sessions.end_all_of(agent, now).ok_or_else(stopping)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("nonces", &self.nonces)
            .field("sessions_held", &self.sessions_held())
            .field("replay_floor", &self.highest_floor())
            .finish_non_exhaustive()
    }
}
