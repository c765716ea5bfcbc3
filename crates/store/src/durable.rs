//! What must survive. State and the event that tells of it are written by one method, in one
//! transaction.

use async_trait::async_trait;
use edgeward_core::enroll::Grant;
use edgeward_core::limit::gcra::Rate;
use edgeward_core::record::Standing;
use edgeward_core::time::WallMs;
use edgeward_wire::{AgentId, Challenge, DevicePublicKey, OwnerId, Scope, SessionIdHash};
use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::{Event, StoreError};

/// Sealed bytes: only the keys that sealed them open them.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Where a version of a secret stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretStatus {
    /// Made, not used yet.
    Prepared,
    /// In use.
    Active,
    /// Superseded, still taken until its grace ends.
    Grace,
    /// No longer taken.
    Retired,
    /// Known to strangers; never taken again.
    Compromised,
}

/// One version of a secret, a row of `agent_tokens`.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretRow {
    /// From 1.
    pub version: u32,
    /// The secret's text, sealed.
    pub sealed: Sealed,
    /// The first 16 hex digits of its SHA-256.
    pub fingerprint: String,
    /// Where it stands.
    pub status: SecretStatus,
    /// When it was first used.
    pub activated_at: Option<WallMs>,
    /// When grace ends.
    pub grace_until: Option<WallMs>,
    /// When it ends in any case.
    pub expires_at: WallMs,
}

/// An agent, a row of `agent_devices`, with its secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRow {
    /// Its id.
    pub id: AgentId,
    /// Its owner.
    pub owner: OwnerId,
    /// A name for people.
    pub alias: Option<String>,
    /// What it runs on.
    pub platform: Option<String>,
    /// Its device key.
    pub device_key: Option<DevicePublicKey>,
    /// Whether it may act.
    pub standing: Standing,
    /// Raised when all that was given to it is void.
    pub epoch: u64,
    /// Where it may call from; empty for anywhere.
    pub allowed_cidrs: Vec<IpNet>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// A rate of its own.
    pub rate: Option<Rate>,
    /// Signs the body alone, as older agents do.
    pub legacy: bool,
    /// The owner's own.
    pub metadata: Map<String, Value>,
    /// When it was enrolled first.
    pub created_at: WallMs,
    /// Its secrets, newest first.
    pub secrets: Vec<SecretRow>,
}

/// Agents by id.
#[async_trait]
pub trait Agents: Send + Sync {
    /// The agent and its secrets.
    ///
    /// # Errors
    /// When the store could not look.
    async fn agent(&self, id: AgentId) -> Result<Option<AgentRow>, StoreError>;

    /// How many agents of this owner are not retired.
    ///
    /// # Errors
    /// When the store could not look.
    async fn count_agents(&self, owner: &OwnerId) -> Result<u64, StoreError>;
}

/// A code that was given out, a row of `enrollments`.
#[derive(Debug, Clone)]
pub struct EnrollmentRow {
    /// SHA-256 of the canonical code.
    pub code_hash: [u8; 32],
    /// What the device key must sign over.
    pub challenge: Challenge,
    /// The owner.
    pub owner: OwnerId,
    /// What the agent is to become.
    pub grant: Grant,
    /// The agent to enrol anew, or none for a new one.
    pub agent: Option<AgentId>,
    /// When the code expires.
    pub expires_at: WallMs,
}

/// The agent that a redeemed code makes, or makes anew.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// Its id: the enrolment's, or a new one.
    pub id: AgentId,
    /// Its device key.
    pub device_key: DevicePublicKey,
    /// A name for people, in place of the grant's.
    pub alias: Option<String>,
    /// What it runs on, in place of the grant's.
    pub platform: Option<String>,
    /// Its first secret, active at once; every older one is retired. Its version is
    /// [`Enrollments::next_secret_version`].
    pub secret: SecretRow,
}

/// What became of a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// The code is used up and the agent stands, at this epoch.
    Done {
        /// The agent's epoch.
        epoch: u64,
    },
    /// The code was used, has expired or is worn out by now.
    Gone,
    /// The owner has as many agents as allowed; the code is not used up.
    TooManyAgents,
}

/// Codes: given out once, redeemed once.
#[async_trait]
pub trait Enrollments: Send + Sync {
    /// Keeps a code that was given out.
    ///
    /// # Errors
    /// When it could not be kept; then nobody may be told of it.
    async fn start_enrollment(&self, row: EnrollmentRow, event: Event) -> Result<(), StoreError>;

    /// Finds a code that can still be redeemed: unused, not expired, and with fewer wrong completions
    /// than `edgeward_core::enroll::MAX_WRONG_COMPLETIONS`.
    ///
    /// # Errors
    /// When the store could not look.
    async fn live_enrollment(
        &self,
        code_hash: &[u8; 32],
        now: WallMs,
    ) -> Result<Option<EnrollmentRow>, StoreError>;

    /// Counts a wrong completion against a code.
    ///
    /// # Errors
    /// When it could not be counted. The caller refuses all the same.
    async fn count_wrong_completion(&self, code_hash: &[u8; 32]) -> Result<(), StoreError>;

    /// The version that a new secret of this agent must have: one more than any it ever had.
    ///
    /// # Errors
    /// When the store could not look.
    async fn next_secret_version(&self, agent: AgentId) -> Result<u32, StoreError>;

    /// Uses the code up and makes the agent, with its event, in one transaction. Of any number of
    /// completions of one code at once exactly one is [`Redeemed::Done`]; that is decided by one
    /// statement of the database.
    ///
    /// For an agent that is enrolled anew: new device key, grant and secret; older secrets retired;
    /// epoch raised; standing as it was, so that a blocked agent stays blocked.
    ///
    /// # Errors
    /// When the transaction failed; then nothing of it stands.
    async fn redeem_code(
        &self,
        code_hash: &[u8; 32],
        agent: NewAgent,
        max_agents: Option<u64>,
        event: Event,
        now: WallMs,
    ) -> Result<Redeemed, StoreError>;
}

/// Events that tell of no change of durable state.
#[async_trait]
pub trait Events: Send + Sync {
    /// Writes events in one transaction.
    ///
    /// # Errors
    /// When none of them was written.
    async fn record(&self, events: &[Event]) -> Result<(), StoreError>;

    /// The newest events, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the store could not look.
    async fn newest_events(&self, limit: u32) -> Result<Vec<Event>, StoreError>;

    /// The sessions whose end was told of at that moment or later, in the order in which it was
    /// written: events of kind [`AgentSessionEnded`](crate::EventKind::AgentSessionEnded), whose
    /// payload has the hash of the session's id as `session`. One that names no session tells of none.
    ///
    /// A session that is missing here may live on where the store of sessions has lost its end.
    ///
    /// # Errors
    /// When the store could not look.
    async fn sessions_ended_since(
        &self,
        since: WallMs,
    ) -> Result<Vec<(AgentId, SessionIdHash)>, StoreError>;
}

/// What a signing key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyPurpose {
    /// Agents' JWTs.
    Agent,
    /// Tokens for upstreams.
    Identity,
}

/// Where a signing key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyStatus {
    /// Published, does not sign yet.
    Next,
    /// Signs.
    Active,
    /// Signs no more, verifies still.
    Retiring,
    /// Verifies no more.
    Retired,
    /// Dropped at once.
    Compromised,
}

/// A row of `signing_keys`.
#[derive(Debug, Clone, PartialEq)]
pub struct SigningKeyRow {
    /// The key's id: its RFC 7638 thumbprint.
    pub kid: String,
    /// What it is for.
    pub purpose: KeyPurpose,
    /// `EdDSA` or `ES256`.
    pub alg: String,
    /// Where it stands.
    pub status: KeyStatus,
    /// The private key (PKCS #8), sealed.
    pub sealed: Sealed,
    /// The public JWK.
    pub public_jwk: Value,
    /// When it was made.
    pub created_at: WallMs,
}

/// What a data key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataKeyUse {
    /// What is secret at rest.
    AtRest,
    /// What nodes share through a store that is not the database.
    Fleet,
}

/// A row of `data_keys`: a key that seals others, wrapped by the KEK.
#[derive(Debug, Clone, PartialEq)]
pub struct DataKeyRow {
    /// Names it inside what it sealed.
    pub id: [u8; 16],
    /// What it is for.
    pub used_for: DataKeyUse,
    /// The key, wrapped.
    pub wrapped: Sealed,
    /// Which KEK wrapped it: a fingerprint, not the key.
    pub kek: String,
    /// When it was made.
    pub created_at: WallMs,
}

/// Signing keys and data keys.
#[async_trait]
pub trait KeyRows: Send + Sync {
    /// All data keys, oldest first.
    ///
    /// # Errors
    /// When the store could not look.
    async fn data_keys(&self) -> Result<Vec<DataKeyRow>, StoreError>;

    /// Keeps a first data key unless there is one of its use already; two starts at once keep one.
    ///
    /// # Errors
    /// When the store could not do it.
    async fn keep_first_data_key(&self, row: DataKeyRow) -> Result<(), StoreError>;

    /// All signing keys of this purpose that are next, active or retiring, oldest first.
    ///
    /// # Errors
    /// When the store could not look.
    async fn signing_keys(&self, purpose: KeyPurpose) -> Result<Vec<SigningKeyRow>, StoreError>;

    /// Keeps a first signing key of its purpose unless one is next, active or retiring already.
    ///
    /// # Errors
    /// When the store could not do it.
    async fn keep_first_signing_key(
        &self,
        row: SigningKeyRow,
        events: &[Event],
    ) -> Result<(), StoreError>;
}

/// How the last run of this process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastRun {
    /// There was none that admitted a request.
    None,
    /// It stopped in order and left what it held in memory, sealed.
    Clean {
        /// What it held.
        snapshot: Sealed,
        /// The last mark that any run wrote, as in [`LastRun::Unclean`]; `None` when none admitted a
        /// request. It counts if the snapshot cannot be read.
        mark: Option<WallMs>,
    },
    /// It shared its memory with other nodes, through a store of nonces beside this one. What was
    /// granted there is not known here.
    Shared,
    /// It did not stop in order. What it remembered of nonces is lost.
    Unclean {
        /// The last mark that was written: the wall clock plus `AGENT_HMAC_AHEAD_MS` of the run that
        /// wrote it, so that nothing stamped later than a second after it was admitted.
        mark: WallMs,
    },
}

/// Continuity of what one process holds in memory, across a stop or a crash.
#[async_trait]
pub trait Continuity: Send + Sync {
    /// Begins a run: tells how the last one ended and consumes its snapshot, on disk, before it
    /// answers, so that a snapshot can never count twice.
    ///
    /// # Errors
    /// When that could not be done; then the process must not serve.
    async fn begin_run(&self) -> Result<LastRun, StoreError>;

    /// Says that nonces are remembered by a shared store from now on, on disk before it answers, and
    /// how the last run before ended: [`LastRun::Shared`] when it shared as well. What a run has left
    /// is consumed.
    ///
    /// # Errors
    /// When that could not be done; then the process must not serve.
    async fn share_run(&self) -> Result<LastRun, StoreError>;

    /// Writes how far stamps may reach while requests are being admitted: the wall clock plus
    /// `AGENT_HMAC_AHEAD_MS`; on disk before it answers. The mark never goes back.
    ///
    /// # Errors
    /// When it could not be written; then no request may be admitted under it.
    async fn write_mark(&self, mark: WallMs) -> Result<(), StoreError>;

    /// Ends a run in order.
    ///
    /// # Errors
    /// When the snapshot could not be kept; the next start then takes this for a crash.
    async fn end_run(&self, snapshot: Sealed) -> Result<(), StoreError>;
}

/// How an agent's standing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// It is as asked from now on, at this epoch.
    Now {
        /// The agent's epoch.
        epoch: u64,
    },
    /// It was so before; nothing was written.
    Already {
        /// The agent's epoch.
        epoch: u64,
    },
    /// It is retired, which is final; nothing was written.
    Retired,
}

/// Whether agents may act.
#[async_trait]
pub trait Standings: Send + Sync {
    /// Changes whether an agent may act, and raises its epoch, so that all that was given to it is
    /// void: with its event, in one transaction. `Ok(None)` when there is no such agent.
    ///
    /// # Errors
    /// When the transaction failed; then nothing of it stands, unless its end could not be learned.
    async fn set_standing(
        &self,
        id: AgentId,
        standing: Standing,
        event: Event,
    ) -> Result<Option<Stands>, StoreError>;
}

/// Everything durable, as one backend offers it.
pub trait Durable:
    Agents + Enrollments + Events + KeyRows + Continuity + Standings + 'static
{
}

impl<T: Agents + Enrollments + Events + KeyRows + Continuity + Standings + 'static> Durable for T {}
