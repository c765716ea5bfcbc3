//! The shared store of a deployment of many nodes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::record::Session;
use edgeward_core::time::{MonoMs, WallMs};
use edgeward_store::StoreError;
use edgeward_store::shared::{Claims, NewSession, SealSessions, Sessions, Signals, Told};
use edgeward_wire::{AgentId, SessionIdHash};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::bucket::{Bucket, Keys};
use crate::calls::Calls;
use crate::claims::ClaimTable;
use crate::hub::{Hub, Listener};
use crate::link::Script;
use crate::options::RedisOptions;
use crate::sessions::SessionTable;
use crate::signals::{Ears, agent_message};
use crate::{FirstStart, StartError};

const WITHDRAW_ID: &str = include_str!("scripts/withdraw_id.lua");
const SIGNAL: &str = include_str!("scripts/signal.lua");
/// How long a signal's key stays, in milliseconds. It is the write that tells, not the key.
const SIGNAL_MS: &str = "600000";

/// Nonces, rates, sessions and signals of all nodes, in Redis.
///
/// Nothing is answered while the server of an agent is not ready: every method says
/// [`StoreError::Unavailable`] then, at once.
pub struct RedisStore {
    calls: Arc<Calls>,
    ears: Arc<Ears>,
    claims: ClaimTable,
    sessions: Arc<SessionTable>,
    signal: Script,
}

impl RedisStore {
    /// Connects to all servers and waits until all can be used. Must be called on a Tokio runtime,
    /// which must go on while the store is in use.
    ///
    /// # Errors
    /// When a server cannot be reached, or may not be used as it is.
    pub async fn open(
        options: RedisOptions,
        first: FirstStart,
        seal: Arc<dyn SealSessions>,
    ) -> Result<Arc<Self>, StartError> {
        let keys = Keys::new(&options.prefix);
        let ears = Arc::new(Ears::new(&keys));
        let (clock, timeout) = (Arc::clone(&options.clock), options.timeout);
        let listener: Arc<dyn Listener> = Arc::clone(&ears) as Arc<dyn Listener>;
        let hub = Hub::start(options, first, listener).await?;
        let calls = Arc::new(Calls::new(hub, keys, clock, timeout));
        let claims = ClaimTable::new(Arc::clone(&calls));
        let sessions = SessionTable::new(Arc::clone(&calls), Arc::clone(&ears), seal);
        let (sessions, signal) = (Arc::new(sessions), Script::new(SIGNAL));
        Ok(Arc::new(Self { calls, ears, claims, sessions, signal }))
    }

    /// Tells Redis what was granted without asking it, and closes all connections. Everything is
    /// refused afterwards.
    pub async fn stop(&self) {
        self.claims.stop().await;
        self.calls.hub.stop().await;
    }

    /// The id of this store: random, written by the first node that opens it, the same for every node over
    /// the same servers and prefix. A node never goes on with a store of another id.
    #[must_use]
    pub fn store_id(&self) -> String {
        self.calls.hub.shared.store_id().unwrap_or_default()
    }

    /// Takes back the id that this node has given the store, where it has: for a start that is given up.
    /// A store that came back empty belongs to the nodes that were using it, and they go on with no
    /// other id than theirs.
    ///
    /// # Errors
    /// When it could not be taken back.
    pub async fn withdraw_id(&self) -> Result<(), StoreError> {
        let shared = &self.calls.hub.shared;
        let (Some(id), true) = (shared.store_id(), shared.made_id.load(Ordering::SeqCst)) else {
            return Ok(());
        };
        let key = self.calls.keys.store_id();
        let script = Script::new(WITHDRAW_ID);
        self.calls.script_in(Bucket::of_store_id(), &script, &[&key], &[id.as_bytes()]).await?;
        Ok(())
    }

    /// How often a request has waited for Redis so far. What happens by the way is not counted:
    /// charges that are told later, sessions that are confirmed.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.calls.round_trips()
    }
}

#[async_trait]
impl Claims for RedisStore {
    async fn claim_nonce_and_rate(&self, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        self.claims.claim(claim).await
    }

    fn replay_floor(&self, agent: AgentId) -> Option<WallMs> {
        self.calls.hub.floor(Bucket::of(agent))
    }

    fn highest_floor(&self) -> Option<WallMs> {
        self.calls.hub.highest_floor()
    }
}

#[async_trait]
impl Sessions for RedisStore {
    async fn start_session(&self, new: NewSession) -> Result<(), StoreError> {
        self.sessions.start(new).await
    }

    async fn find_session(
        &self,
        agent: AgentId,
        id: &SessionIdHash,
    ) -> Result<Option<Session>, StoreError> {
        self.sessions.find(agent, id).await
    }

    async fn extend_session(
        &self,
        agent: AgentId,
        id: &SessionIdHash,
        until: MonoMs,
    ) -> Result<Option<Session>, StoreError> {
        self.sessions.extend(agent, id, until).await
    }

    async fn end_session(&self, agent: AgentId, id: &SessionIdHash) -> Result<bool, StoreError> {
        self.sessions.end(agent, id).await
    }

    async fn end_sessions_of(&self, agent: AgentId) -> Result<Vec<SessionIdHash>, StoreError> {
        self.sessions.end_all(agent).await
    }
}

#[async_trait]
impl Signals for RedisStore {
    fn told(&self) -> UnboundedReceiver<Told> {
        self.ears.told()
    }

    async fn tell_agent(&self, agent: AgentId) -> Result<(), StoreError> {
        // This node need not wait for Redis to tell it.
        self.ears.hear(Told::Agent(agent));
        let key = self.calls.keys.agent_signal(agent);
        let (channel, message) = (self.calls.keys.told(), agent_message(agent));
        let args = [SIGNAL_MS.as_bytes(), channel.as_bytes(), message.as_bytes()];
        self.calls.script_in(Bucket::of(agent), &self.signal, &[&key], &args).await.map(drop)
    }

    fn confirmed_at(&self) -> Option<MonoMs> {
        self.calls.hub.confirmed_at()
    }

    fn clock_ahead_ms(&self) -> Option<i64> {
        self.calls.hub.clock_ahead_ms()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("replay_floor", &self.highest_floor())
            .field("confirmed_at", &self.confirmed_at())
            .field("clock_ahead_ms", &self.clock_ahead_ms())
            .field("round_trips", &self.round_trips())
            .finish_non_exhaustive()
    }
}
