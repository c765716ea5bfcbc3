//! From settings and stores to a running edge.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use edgeward_config::{self as config, Config, RouteConfig};
use edgeward_core::address::AddressList;
use edgeward_core::enroll::CODE_TTL_MS;
use edgeward_core::limit::{backoff, gcra};
use edgeward_core::policy::{BodySignatures, DeviceProof, Policy, Route, RouteTable};
use edgeward_core::time::WallMs;
use edgeward_core::verify::owner::OwnerRules;
use edgeward_keys::{
    Entropy, EntropyError, EntropyExt as _, KeyRing, KeysError, OwnerKeySource, Sealer, SigningAlg,
};
use edgeward_store::durable::{Durable, KeyPurpose};
use edgeward_store::fleet::{ChangeId, Fleet};
use edgeward_store::shared::{Claims, Sessions, Signals, Told};
use edgeward_store::{Clock, StoreError};
use edgeward_wire::{FormError, MacKey, Scope};
use quick_cache::sync::Cache;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::body::BodyMemory;
use crate::budget::Budgets;
use crate::confirmed::Confirmed;
use crate::conn::Traffic;
use crate::continuity::{Continuity, ContinuityError, MemoryPlan};
use crate::directory::{Directory, Keep};
use crate::edge::{Edge, Lifetimes};
use crate::fetch::JwksUrl;
use crate::follow::{self, Owed};
use crate::forward::{Forwarder, SetupError};
use crate::meter::Meter;
use crate::steady::Steadiness;
use crate::streams::Streams;
use crate::trace::TraceSource;
use crate::upkeep::{Other, Upkeep};
use crate::violations::Violations;

/// Places for live nonces in memory, about 110 MB when all are taken. At the default rate and
/// lifetime one agent holds at most 1,220 at once.
const NONCES: usize = 4_000_000;
/// So long after a replay floor has passed, in milliseconds, what was lost is taken for mended.
const MENDED_MS: u64 = 60_000;
/// Tokens and sessions remembered.
const REMEMBERED: usize = 200_000;

/// Why an edge could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// Keys could not be loaded or made.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The durable store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The last run's end could not be taken over.
    #[error(transparent)]
    Continuity(#[from] ContinuityError),
    /// A route cannot be served.
    #[error(transparent)]
    Route(#[from] SetupError),
    /// No entropy.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A setting has a form that the wire does not take.
    #[error("a scope in the settings is not {0}")]
    Scope(FormError),
    /// Owners' keys cannot be had.
    #[error("owner keys: {0}")]
    OwnerKeys(String),
}

/// What an edge is made of, beside its settings.
pub struct Base {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What is durable.
    pub durable: Arc<dyn Durable>,
    /// What seals.
    pub sealer: Arc<Sealer>,
    /// The other nodes over the same durable store, where it can have several.
    pub fleet: Option<Arc<dyn Fleet>>,
    /// Where sessions, nonces and rates are shared with them; this process's memory if nowhere.
    pub shared: Option<Shared>,
}

/// A store that nodes share, by what it is asked.
#[derive(Clone)]
pub struct Shared {
    /// Sessions.
    pub sessions: Arc<dyn Sessions>,
    /// Nonces and rates.
    pub claims: Arc<dyn Claims>,
    /// What nodes tell one another.
    pub signals: Arc<dyn Signals>,
}

/// An edge with the parts that outlive its requests.
pub struct Running {
    /// The edge.
    pub edge: Arc<Edge>,
    /// The memory of this run, to be ended in order; none where a shared store remembers.
    pub continuity: Option<Arc<Continuity>>,
    /// What was read from upstreams.
    pub upstream_traffic: Arc<Traffic>,
    sealer: Arc<Sealer>,
    /// The other nodes, and the place in the change log from which on they are followed.
    fleet: Option<(Arc<dyn Fleet>, ChangeId)>,
    /// What the shared store has told since before anything was read; until upkeep takes it.
    told: Mutex<Option<UnboundedReceiver<Told>>>,
}

impl Running {
    /// Sets an edge up over its stores: one of one machine with sessions and nonces in memory, or one of
    /// several nodes.
    ///
    /// # Errors
    /// See [`EdgeError`]; nothing is served then.
    pub async fn begin(config: &Config, base: Base) -> Result<Self, EdgeError> {
        let Base { clock, entropy, durable, sealer, fleet, shared } = base;
        // Before anything is read that a change could make void.
        let fleet = match fleet {
            None => None,
            Some(fleet) => {
                let last = fleet.newest_change().await?;
                Some((fleet, last))
            }
        };
        let (shared, continuity) = match shared {
            Some(shared) => (Stores::of(shared), None),
            None => {
                let plan = plan(config, &*entropy)?;
                let (durable, clock) = (Arc::clone(&durable), Arc::clone(&clock));
                let continuity = Continuity::begin(durable, &sealer, clock, plan).await?;
                (Stores::of_memory(&continuity), Some(continuity))
            }
        };
        let Stores { sessions, claims, signals } = shared;
        // A floor that has only just passed says that there was a loss, and whoever saw it may not have
        // come to mending it.
        let floor = signals.as_ref().and_then(|_| claims.highest_floor());
        let has_lost = floor.is_some_and(|floor| clock.now().wall < floor.plus(MENDED_MS));
        let told = Mutex::new(signals.as_ref().map(|signals| signals.told()));
        let alg = match config.jwt_alg {
            config::JwtAlg::EdDsa => SigningAlg::EdDsa,
            config::JwtAlg::Es256 => SigningAlg::Es256,
        };
        let ring = |purpose| {
            KeyRing::load(&*durable, &sealer, purpose, alg, &*clock, Arc::clone(&entropy))
        };
        let ring_of_agents = Arc::new(ring(KeyPurpose::Agent).await?);
        let identity_ring = Arc::new(ring(KeyPurpose::Identity).await?);
        let upstream_traffic = Arc::new(Traffic::default());
        let forwarder =
            Forwarder::new(&config.routes, Arc::clone(&identity_ring), &upstream_traffic)?;
        let policy = policy(config, MacKey::dummy(&entropy.bytes()?))?;
        let began = clock.now();
        let is_told = fleet.is_some();
        let confirmed = is_told
            .then(|| Confirmed::new(began.mono, signals.clone(), config.agent.policy_stale_ms));
        let edge = Edge {
            policy: ArcSwap::from_pointee(policy),
            sessions,
            claims,
            signals,
            confirmed,
            owed: Owed::new(config.agent.policy_stale_ms, has_lost),
            steadiness: Steadiness::new(began),
            continuity: continuity.clone(),
            ring: ring_of_agents,
            identity_ring,
            owner_keys: owner_keys(config).await?,
            owner_rules: owner_rules(config)?,
            lifetimes: lifetimes(config),
            trusted_proxies: AddressList::new(&config.trusted_proxies),
            directory: Directory::new(
                Arc::clone(&durable),
                Arc::clone(&sealer),
                Keep { secrets_ms: config.agent.secret_cache_ms, is_told },
            ),
            forwarder,
            streams: Arc::new(Streams::default()),
            budgets: Budgets::new(backoff::Rules {
                free: config.agent.backoff_free,
                base_ms: config.agent.backoff_base_ms,
                max_ms: config.agent.backoff_max_ms,
            }),
            meter: Meter::default(),
            violations: Violations::default(),
            traces: TraceSource::new(&*entropy)?,
            tokens: Cache::new(REMEMBERED),
            since_token: Cache::new(REMEMBERED),
            draining: AtomicBool::new(false),
            body_memory: BodyMemory::default(),
            sealer: Arc::clone(&sealer),
            clock,
            entropy,
            durable,
        };
        Ok(Self { edge: Arc::new(edge), continuity, upstream_traffic, sealer, fleet, told })
    }

    /// The tasks beside requests: marks, ends of streams, sweeping, refusals to disk. They end with
    /// `stop`. The token that it answers is cancelled when one of them has died: the process must
    /// stop then, in order.
    pub fn spawn_upkeep(&self, stop: CancellationToken) -> CancellationToken {
        let (reaped, flushed) = (Arc::clone(&self.edge), Arc::clone(&self.edge));
        let (swept, memory) = (Arc::clone(&self.edge), self.continuity.clone());
        let upkeep = Upkeep {
            reap: move || reaped.reap(),
            flush: move || {
                let edge = Arc::clone(&flushed);
                async move { edge.flush_violations().await }
            },
            sweep: move || {
                let now = swept.clock.now();
                swept.steadiness.follow(now);
                swept.directory.sweep(now.mono);
                if let Some(continuity) = &memory {
                    continuity.memory().sweep();
                }
            },
            others: self.others(),
        };
        upkeep.spawn(&stop)
    }

    /// The tasks that not every edge has.
    fn others(&self) -> Vec<Other> {
        let mut others = Vec::new();
        if let Some(continuity) = &self.continuity {
            others.push(Other::new("marks of the clock", Arc::clone(continuity).run()));
        }
        if let Some((fleet, last)) = &self.fleet {
            let edge = || Arc::clone(&self.edge);
            let changes = follow::changes(edge(), Arc::clone(fleet), *last);
            others.push(Other::new("the change log", changes));
            let beats = follow::beats_of_node(edge(), Arc::clone(fleet));
            others.push(Other::new("this node's place among the nodes", beats));
        }
        let edge = || Arc::clone(&self.edge);
        if self.fleet.is_some() || self.edge.signals.is_some() {
            others.push(Other::new("streams of changed agents", follow::settle_agents(edge())));
            others.push(Other::new("what else has changed", follow::settle_rest(edge())));
        }
        if let Some(signals) = &self.edge.signals {
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(told) = told {
                others.push(Other::new("what the shared store tells", follow::hear(edge(), told)));
            }
            let sessions = follow::settle_sessions(edge(), Arc::clone(signals));
            others.push(Other::new("streams of changed sessions", sessions));
        }
        others
    }

    /// Ends the run in order, after the listeners have stopped.
    ///
    /// # Errors
    /// When what is held could not be kept.
    pub async fn end(&self) -> Result<(), ContinuityError> {
        self.edge.flush_violations().await;
        if let Some((fleet, _)) = &self.fleet
            && let Err(error) = fleet.leave().await
        {
            tracing::warn!(%error, "the node could not say that it leaves");
        }
        match &self.continuity {
            Some(continuity) => continuity.end(&self.sealer).await,
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.edge.fmt(f)
    }
}

/// The stores of requests.
struct Stores {
    sessions: Arc<dyn Sessions>,
    claims: Arc<dyn Claims>,
    signals: Option<Arc<dyn Signals>>,
}

impl Stores {
    fn of(shared: Shared) -> Self {
        let Shared { sessions, claims, signals } = shared;
        Self { sessions, claims, signals: Some(signals) }
    }

    fn of_memory(continuity: &Continuity) -> Self {
        let memory = continuity.memory();
        Self { sessions: memory.clone(), claims: memory.clone(), signals: None }
    }
}

fn plan(config: &Config, entropy: &dyn Entropy) -> Result<MemoryPlan, EntropyError> {
    Ok(MemoryPlan {
        nonce_capacity: NONCES,
        nonce_key: entropy.bytes()?,
        window_ms: config.agent.hmac_window_ms,
        ahead_ms: config.agent.hmac_ahead_ms,
        nonce_ttl_ms: config.agent.nonce_ttl_ms,
    })
}

fn policy(config: &Config, dummy_key: MacKey) -> Result<Policy, EdgeError> {
    let agent = &config.agent;
    let routes = config.routes.iter().zip(0..).map(|(from, index)| route(from, index));
    Ok(Policy {
        audience: config.audience.as_str().into(),
        issuer: config.public_url.as_str().into(),
        base_path: config.base_path.as_str().into(),
        require_hmac: config.auth.require_hmac,
        verify_jwt: config.auth.verify_jwt,
        allow_header_secret: config.auth.allow_header_secret,
        body_signatures: match config.auth.allow_body_signature {
            config::BodySignature::Off => BodySignatures::Refused,
            config::BodySignature::On => BodySignatures::Taken,
            config::BodySignature::Until(end) => {
                BodySignatures::Until(WallMs(u64::try_from(end).unwrap_or(0)))
            }
        },
        session_required: agent.session_required,
        require_nonce: agent.require_nonce,
        device_proof: match agent.device_proof {
            config::DeviceProof::Rotation => DeviceProof::Rotation,
            config::DeviceProof::Session => DeviceProof::Session,
        },
        window_ms: agent.hmac_window_ms,
        ahead_ms: agent.hmac_ahead_ms,
        nonce_ttl_ms: agent.nonce_ttl_ms,
        session_ttl_ms: agent.session_ttl_ms,
        session_max_ms: agent.session_max_ms,
        jwt_ttl_ms: agent.jwt_ttl_ms,
        jwt_every_n: u32::try_from(agent.require_jwt_every_n).unwrap_or(u32::MAX),
        rate: gcra::Rate { per_sec: agent.ratelimit_per_sec, burst: agent.ratelimit_burst },
        allowed: AddressList::new(&config.ip_allowlist),
        routes: RouteTable::new(routes.collect::<Result<Vec<_>, _>>()?),
        dummy_key,
    })
}

fn route(from: &RouteConfig, index: u32) -> Result<Route, EdgeError> {
    Ok(Route {
        index,
        prefix: from.match_prefix.clone(),
        require_nonce: from.require_nonce,
        require_session: from.require_session,
        sensitive: from.sensitive,
        scopes: scopes(&from.scopes)?,
        allowed: AddressList::new(&from.allowed_cidrs),
        rate: from.rate.map(|rate| gcra::Rate { per_sec: rate.per_sec, burst: rate.burst }),
        max_body: from.max_body,
    })
}

fn scopes(texts: &[String]) -> Result<Vec<Scope>, EdgeError> {
    texts.iter().map(|text| Scope::parse(text).map_err(EdgeError::Scope)).collect()
}

fn lifetimes(config: &Config) -> Lifetimes {
    Lifetimes {
        secret_ms: config.agent.secret_ttl_ms,
        token_cache_ms: config.agent.jwt_cache_ttl_ms,
        max_streams: config.agent.max_streams,
        code_ms: CODE_TTL_MS,
    }
}

fn owner_rules(config: &Config) -> Result<OwnerRules, EdgeError> {
    let owner = &config.owner;
    Ok(OwnerRules {
        issuer: owner.issuer.clone(),
        audience: owner.audience.clone(),
        roles: owner.roles.clone(),
        scopes_claim: owner.scopes_claim.clone(),
        scopes: scopes(&owner.scopes)?,
        max_agents: Some(u64::from(owner.max_agents)),
    })
}

async fn owner_keys(config: &Config) -> Result<Option<Arc<OwnerKeySource>>, EdgeError> {
    let source = match &config.owner.source {
        None => {
            tracing::warn!(
                "no owner can enrol an agent: set one of OWNER_JWKS_URL, OWNER_JWKS_FILE, OWNER_JWT_SECRET"
            );
            return Ok(None);
        }
        Some(config::OwnerKeys::Hs256Secret(secret)) => {
            OwnerKeySource::shared(Zeroizing::new(secret.expose().as_bytes().to_vec()))
                .map_err(|fault| EdgeError::OwnerKeys(fault.to_string()))?
        }
        Some(config::OwnerKeys::JwksFile(path)) => OwnerKeySource::file(path.clone())
            .await
            .map_err(|fault| EdgeError::OwnerKeys(fault.to_string()))?,
        Some(config::OwnerKeys::JwksUrl(url)) => {
            let url = JwksUrl::new(url).map_err(|fault| EdgeError::OwnerKeys(fault.to_string()))?;
            OwnerKeySource::url(Arc::new(url))
        }
    };
    Ok(Some(Arc::new(source)))
}
