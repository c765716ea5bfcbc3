//! The edge: everything that serving a request needs, and the one way a request takes.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arc_swap::ArcSwap;
use edgeward_core::address::AddressList;
use edgeward_core::enroll::CODE_TTL_MS;
use edgeward_core::policy::{Destination, Policy};
use edgeward_core::read::credentials::{self, Shaped};
use edgeward_core::rejection::{Dependency, Rejection, UpstreamFault};
use edgeward_core::time::Now;
use edgeward_core::verify::jwt::VerifiedToken;
use edgeward_core::verify::owner::OwnerRules;
use edgeward_keys::{Entropy, KeyRing, OwnerKeySource, Sealer};
use edgeward_store::Clock;
use edgeward_store::durable::Durable;
use edgeward_store::shared::{Claims, Sessions, Signals};
use edgeward_wire::{SessionIdHash, TraceId};
use http::Request;
use hyper::body::Incoming;
use quick_cache::sync::Cache;
use tokio_util::sync::CancellationToken;

use crate::answer::{self, Answer};
use crate::body::BodyMemory;
use crate::budget::Budgets;
use crate::confirmed::Confirmed;
use crate::continuity::Continuity;
use crate::directory::Directory;
use crate::follow::Owed;
use crate::forward::Forwarder;
use crate::meter::Meter;
use crate::steady::Steadiness;
use crate::streams::{CutReason, Streams};
use crate::trace::TraceSource;
use crate::violations::{Concerned, Violations};

/// Tokens whose signature was verified, remembered by the hash of their text.
pub(crate) type TokenCache = Cache<[u8; 32], (VerifiedToken, edgeward_core::time::MonoMs)>;

/// Everything that serving a request needs.
pub struct Edge {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) policy: ArcSwap<Policy>,
    pub(crate) durable: Arc<dyn Durable>,
    pub(crate) sessions: Arc<dyn Sessions>,
    pub(crate) claims: Arc<dyn Claims>,
    pub(crate) continuity: Option<Arc<Continuity>>,
    /// What nodes tell one another, where they share a store.
    pub(crate) signals: Option<Arc<dyn Signals>>,
    /// Whether nothing was missed of what others change; none where there are no others.
    pub(crate) confirmed: Option<Confirmed>,
    /// What was heard of from other nodes and is not done yet.
    pub(crate) owed: Owed,
    pub(crate) steadiness: Steadiness,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) identity_ring: Arc<KeyRing>,
    pub(crate) owner_keys: Option<Arc<OwnerKeySource>>,
    pub(crate) owner_rules: OwnerRules,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) trusted_proxies: AddressList,
    pub(crate) directory: Directory,
    pub(crate) forwarder: Forwarder,
    pub(crate) streams: Arc<Streams>,
    pub(crate) budgets: Budgets,
    pub(crate) meter: Meter,
    pub(crate) violations: Violations,
    pub(crate) traces: TraceSource,
    pub(crate) tokens: TokenCache,
    /// Requests of a session since its last JWT, on this node.
    pub(crate) since_token: Cache<SessionIdHash, Arc<AtomicU32>>,
    pub(crate) draining: AtomicBool,
    pub(crate) body_memory: BodyMemory,
}

/// Lifetimes and caps that no decision of a request depends on.
#[derive(Debug, Clone)]
pub struct Lifetimes {
    /// `AGENT_SECRET_TTL_MS`.
    pub secret_ms: u64,
    /// `AGENT_JWT_CACHE_TTL_MS`.
    pub token_cache_ms: u64,
    /// `AGENT_MAX_STREAMS`.
    pub max_streams: u32,
    /// How long a code lives.
    pub code_ms: u64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            secret_ms: 90 * 86_400_000,
            token_cache_ms: 300_000,
            max_streams: 32,
            code_ms: CODE_TTL_MS,
        }
    }
}

/// What is known of the connection that a request came over.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The socket's peer.
    pub peer: IpAddr,
    /// Whether it is encrypted.
    pub secure: bool,
    /// Closes the connection when it is cancelled.
    pub connection: CancellationToken,
}

/// Why a running edge takes no request at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// What was remembered of nonces may be lost; the clock has not passed the replay floor yet.
    ReplayFloor,
    /// The node's clock cannot be relied on.
    Clock,
    /// Neither the database nor the shared store has confirmed for too long that nothing was missed.
    Confirmation,
}

/// A request that is not answered by its destination.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The edge refuses it.
    Refused(Box<Refused>),
    /// It was admitted, and what lies behind the edge failed.
    Upstream(UpstreamFault),
}

/// A refusal and whom it concerns.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) rejection: Rejection,
    pub(crate) concerned: Option<Concerned>,
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(Box::new(Refused { rejection, concerned: None }))
    }
}

/// What goes with a request on its way.
#[derive(Debug, Clone)]
pub(crate) struct Journey {
    pub(crate) origin: Origin,
    pub(crate) client: IpAddr,
    pub(crate) trace: TraceId,
    pub(crate) policy: Arc<Policy>,
    pub(crate) began: Now,
}

impl Edge {
    /// Answers one request. It always answers.
    pub async fn answer(self: &Arc<Self>, request: Request<Incoming>, origin: Origin) -> Answer {
        let trace = self.traces.trace();
        let began = self.clock.now();
        let policy = self.policy.load_full();
        let client = self.client(&request, origin.peer);
        let journey = Journey { origin, client, trace, policy, began };
        let mut answer = match self.direct(request, &journey).await {
            Ok(answer) => answer,
            Err(Failure::Refused(refused)) => self.refuse(*refused, &journey),
            Err(Failure::Upstream(fault)) => {
                tracing::info!(trace_id = %trace, code = %fault.code(), reason = fault.reason(), "an upstream failed");
                self.meter.refused(fault.code(), fault.reason());
                answer::upstream_failure(fault, trace)
            }
        };
        answer::stamp(&mut answer, trace);
        answer
    }

    /// Judges the shape and goes where the request wants to.
    async fn direct(
        self: &Arc<Self>,
        request: Request<Incoming>,
        journey: &Journey,
    ) -> Result<Answer, Failure> {
        let (parts, body) = request.into_parts();
        let shaped = credentials::shape(parts)?;
        let destination = journey.policy.destination(shaped.method(), shaped.path());
        if let Destination::Health = destination {
            return Ok(self.health(journey));
        }
        if self.is_draining() {
            return Err(Rejection::Draining.into());
        }
        if !matches!(destination, Destination::Jwks | Destination::IdentityJwks)
            && let Some(retry_after_ms) = self.waits_for_clock(journey.began)
        {
            return Err(Rejection::ClockUnsteady { retry_after_ms }.into());
        }
        match destination {
            Destination::Health => Ok(self.health(journey)),
            Destination::Jwks => {
                Ok(answer::public_json(&self.ring.jwks(), crate::JWKS_MAX_AGE_SEC))
            }
            Destination::IdentityJwks => {
                Ok(answer::public_json(&self.identity_ring.jwks(), crate::JWKS_MAX_AGE_SEC))
            }
            Destination::EnrollStart
            | Destination::EnrollChallenge
            | Destination::EnrollComplete => {
                self.enrollment(&destination, shaped, body, journey).await
            }
            Destination::Agent(endpoint) => self.agent_call(endpoint, shaped, body, journey).await,
        }
    }

    /// Enrolment is for owners and holders of codes; the deployment's address list and the source's
    /// budget hold for them too.
    async fn enrollment(
        self: &Arc<Self>,
        destination: &Destination,
        shaped: Shaped,
        body: Incoming,
        journey: &Journey,
    ) -> Result<Answer, Failure> {
        if !journey.policy.allowed.allows(journey.client) {
            return Err(Rejection::DeploymentAddress.into());
        }
        if let Some(retry_after_ms) =
            self.budgets.look(journey.client, None, journey.began.mono).wait_ms
        {
            return Err(Rejection::BackingOff { retry_after_ms }.into());
        }
        let answered = match destination {
            Destination::EnrollStart => self.enroll_start(shaped, body, journey).await,
            Destination::EnrollChallenge => self.enroll_challenge(body, journey).await,
            Destination::EnrollComplete
            | Destination::Health
            | Destination::Jwks
            | Destination::IdentityJwks
            | Destination::Agent(_) => self.enroll_complete(body, journey).await,
        };
        answered.map_err(|rejection| {
            let concerned = Concerned { agent: None, verified: false, source: journey.client };
            Failure::Refused(Box::new(Refused { rejection, concerned: Some(concerned) }))
        })
    }

    /// Records a refusal everywhere it belongs, and renders it.
    fn refuse(&self, refused: Refused, journey: &Journey) -> Answer {
        let Refused { rejection, concerned } = refused;
        let spec = rejection.spec();
        let now = self.clock.now();
        let concerned =
            concerned.unwrap_or(Concerned { agent: None, verified: false, source: journey.client });
        if spec.counts {
            self.budgets.failed(journey.client, concerned.agent, now.mono, self.traces.bits());
        }
        self.meter.refused(spec.code, spec.reason);
        if spec.recorded {
            self.violations.count(&spec, concerned, journey.trace, now.wall);
        }
        tracing::info!(
            trace_id = %journey.trace,
            code = %spec.code,
            reason = spec.reason,
            source = %journey.client,
            agent = concerned.agent.map(tracing::field::display),
            verified = concerned.verified,
            "refused"
        );
        answer::refusal(&rejection, journey.trace, now.wall, self.traces.bits())
    }

    /// The client's address: the socket's, or a trusted proxy's word.
    fn client(&self, request: &Request<Incoming>, peer: IpAddr) -> IpAddr {
        // A line that cannot be read is an entry that is no address: what stands before it is not
        // believed.
        let lines = request
            .headers()
            .get_all("x-forwarded-for")
            .iter()
            .map(|line| line.to_str().unwrap_or("unreadable"));
        edgeward_core::address::client_address(peer, lines, &self.trusted_proxies)
    }

    /// Whether the agent reached us, or a trusted proxy in front of us, over TLS.
    pub(crate) fn is_secure(&self, headers: &http::HeaderMap, origin: &Origin) -> bool {
        let proxied = self.trusted_proxies.contains(origin.peer.to_canonical());
        origin.secure
            || (proxied && headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https"))
    }

    /// Runs what must not stop half way, whatever becomes of the caller's connection: a state that is
    /// written and a revocation that follows from it belong together.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        work: impl Future<Output = Result<T, Rejection>> + Send + 'static,
    ) -> Result<T, Rejection> {
        tokio::spawn(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a call did not come to its end");
            Err(Rejection::Unavailable(Dependency::Database))
        })
    }

    /// Whether the edge is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Takes no new requests from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// What was counted.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The open streams.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The replay floor while the clock has not passed it.
    pub fn waits_for_floor(&self) -> Option<u64> {
        let now = self.clock.now().wall;
        let floor = self.claims.highest_floor()?;
        (now <= floor).then(|| floor.since(now).saturating_add(1))
    }

    /// How long the node's clock cannot be relied on, in milliseconds: it has stepped, or it is too far
    /// from the clock of the store that it shares with others.
    pub fn waits_for_clock(&self, now: Now) -> Option<u64> {
        let apart = self.signals.as_ref().and_then(|signals| signals.clock_ahead_ms());
        let apart = apart.is_some_and(|ahead_ms| ahead_ms.unsigned_abs() > crate::CLOCK_APART_MS);
        self.steadiness.wait_ms(now).or(apart.then_some(1_000))
    }

    /// Why no request is taken at the moment, though the edge runs.
    pub fn waits(&self) -> Option<Waits> {
        let now = self.clock.now();
        if self.waits_for_floor().is_some() {
            return Some(Waits::ReplayFloor);
        }
        if self.waits_for_clock(now).is_some() {
            return Some(Waits::Clock);
        }
        (!self.is_up_to_date(now)).then_some(Waits::Confirmation)
    }

    /// Takes up the keys that sign tokens as they are now; `false` when they could not be read.
    pub(crate) async fn reload_keys(&self) -> bool {
        let mut done = true;
        for ring in [&self.ring, &self.identity_ring] {
            if let Err(error) = ring.reload(&*self.durable, &self.sealer).await {
                tracing::error!(%error, "the keys that sign tokens could not be read anew");
                done = false;
            }
        }
        done
    }

    /// Ends streams whose time has come, and all of them once this node cannot be sure any more that it
    /// knows of every block.
    pub(crate) fn reap(&self) {
        let now = self.clock.now();
        if !self.knows_all(now) {
            self.streams.cut_all(CutReason::Unconfirmed, now.mono);
        }
        self.streams.reap(now.mono);
    }

    /// Writes the folded refusals that wait.
    pub async fn flush_violations(&self) {
        self.violations.flush(&self.durable).await;
    }
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("streams", &self.streams).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_its_caller_is_gone() {
        let ((release, gate), (done, finished)) = (oneshot::channel::<()>(), oneshot::channel());
        let mut call = Box::pin(Edge::to_the_end(async move {
            gate.await.map_err(|_| Rejection::Draining)?;
            let _ = done.send(());
            Ok(())
        }));
        assert!((&mut call).now_or_never().is_none());
        drop(call);
        release.send(()).unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(30), finished).await;
        assert_eq!(waited, Ok(Ok(())));
    }
}
