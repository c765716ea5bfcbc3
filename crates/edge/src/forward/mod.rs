//! Forwarding: an admission goes to one of its route's upstreams, and the answer comes back as it
//! comes.

mod counted;
mod headers;
mod relay;
mod upstream;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use edgeward_config::RouteConfig;
use edgeward_core::flow::{Admission, Caller};
use edgeward_core::rejection::UpstreamFault;
use edgeward_core::time::{MonoMs, Now};
use edgeward_wire::AgentId;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use quick_cache::sync::Cache;

pub use headers::Hop;
pub use relay::{Broken, Relay, RelayPlan};
pub use upstream::{RouteTarget, SetupError};

use crate::conn::Traffic;
use edgeward_keys::{IdentityTokenClaims, KeyRing};

/// A minted token is used again while it has so long to live, in milliseconds.
const TOKEN_SPARE_MS: u64 = 30_000;
/// How long a minted token lives, in milliseconds.
const TOKEN_TTL_MS: u64 = 60_000;

/// The role that row-level security behind an upstream acts as.
const UPSTREAM_ROLE: &str = "edgeward_agent";

/// The way to all upstreams.
pub struct Forwarder {
    targets: Vec<RouteTarget>,
    identity: Arc<KeyRing>,
    tokens: Cache<(AgentId, u64, u32), (Arc<str>, MonoMs)>,
}

/// An upstream's answer, its headers cleaned, its body not begun.
pub struct Answered {
    /// The head and the body.
    pub response: Response<Incoming>,
    /// Whether it is a stream of events.
    pub is_events: bool,
    /// Patience between two pieces of the body.
    pub idle: Duration,
    outstanding: upstream::Outstanding,
}

impl Answered {
    /// The body as it will be relayed.
    pub fn into_relay(self, plan: RelayPlan) -> (http::response::Parts, Relay) {
        let (parts, body) = self.response.into_parts();
        (parts, Relay::new(body, self.idle, plan, self.outstanding))
    }

    /// Whether the body is known to be short, so that it needs no place among the streams.
    pub fn is_short(&self) -> bool {
        use http_body::Body as _;
        const SHORT: u64 = 64 * 1024;
        !self.is_events
            && self.response.body().size_hint().upper().is_some_and(|upper| upper <= SHORT)
    }
}

impl Forwarder {
    /// For these routes, in the order of their indices.
    ///
    /// # Errors
    /// When a route cannot be served: a bad name, no roots for TLS.
    pub fn new(
        routes: &[RouteConfig],
        identity: Arc<KeyRing>,
        traffic: &Arc<Traffic>,
    ) -> Result<Self, SetupError> {
        let mut clients = HashMap::new();
        let targets = routes
            .iter()
            .map(|route| RouteTarget::new(route, &mut clients, traffic))
            .collect::<Result<_, _>>()?;
        Ok(Self { targets, identity, tokens: Cache::new(10_000) })
    }

    /// Sends an admission to its route's upstream.
    ///
    /// # Errors
    /// [`UpstreamFault`]. What was refused to connect is tried at the next upstream when the method is
    /// safe; nothing is ever sent twice.
    pub async fn forward(
        &self,
        admission: Admission,
        index: u32,
        hop: &Hop,
        traceparent: String,
        now: Now,
    ) -> Result<(Answered, Caller), UpstreamFault> {
        let target = self.targets.get(index as usize).ok_or(UpstreamFault::Connect)?;
        let token = target.audience.as_deref().map(|audience| {
            self.identity_token(&admission.caller, index, &admission.policy.issuer, audience, now)
        });
        let Admission { mut parts, body, caller, client, .. } = admission;
        let came = std::mem::take(&mut parts.headers);
        let mut headers = headers::for_upstream(came, target, &caller, client, hop);
        headers.insert(edgeward_wire::header::TRACEPARENT, crate::value::value(traceparent));
        if let Some(token) = token {
            let token = token.map_err(|()| UpstreamFault::Connect)?;
            headers.insert(
                http::header::AUTHORIZATION,
                crate::value::value(format!("Bearer {token}")),
            );
        }
        let tries = if parts.method.is_safe() { target.upstreams.len() } else { 1 };
        let mut tried = 0;
        loop {
            let upstream = target.pick(now.mono, tried).ok_or(UpstreamFault::Connect)?;
            let outstanding = upstream.begin();
            let last = tried + 1 >= tries;
            let sent = if last { std::mem::take(&mut headers) } else { headers.clone() };
            let request = upstream.request(&parts, sent, body.clone())?;
            let sent =
                tokio::time::timeout(target.first_byte, target.client.request(request)).await;
            match sent {
                Err(_) => return Err(UpstreamFault::FirstByteTimeout),
                Ok(Ok(response)) => {
                    upstream.failed_until.store(0, Ordering::Relaxed);
                    return answered(response, target, outstanding)
                        .map(|answered| (answered, caller));
                }
                Ok(Err(error)) if error.is_connect() => {
                    upstream.fail(now.mono);
                    tried += 1;
                    tracing::warn!(upstream = %upstream.origin, %error, "no connection to an upstream");
                    if last {
                        return Err(upstream::connect_fault(&error));
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(upstream = %upstream.origin, error = %upstream::chain(&error), "an upstream broke off");
                    return Err(UpstreamFault::Broken);
                }
            }
        }
    }

    /// A token for the upstream, from memory while it has long enough to live.
    fn identity_token(
        &self,
        caller: &Caller,
        index: u32,
        issuer: &str,
        audience: &str,
        now: Now,
    ) -> Result<Arc<str>, ()> {
        let key = (caller.agent.id, caller.agent.epoch, index);
        if let Some((token, until)) = self.tokens.get(&key)
            && now.mono.plus(TOKEN_SPARE_MS) < until
        {
            return Ok(token);
        }
        let claims = IdentityTokenClaims {
            issuer,
            agent: caller.agent.id,
            owner: &caller.agent.owner,
            audience,
            role: UPSTREAM_ROLE,
        };
        let minted = self.identity.mint_identity_token(&claims, now.wall);
        match minted {
            Ok(token) => {
                let token: Arc<str> = token.into();
                self.tokens.insert(key, (Arc::clone(&token), now.mono.plus(TOKEN_TTL_MS)));
                Ok(token)
            }
            Err(error) => {
                tracing::error!(%error, "a token for an upstream could not be minted");
                Err(())
            }
        }
    }
}

fn answered(
    mut response: Response<Incoming>,
    target: &RouteTarget,
    outstanding: upstream::Outstanding,
) -> Result<Answered, UpstreamFault> {
    // Nobody asked for another protocol.
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamFault::Broken);
    }
    let is_events =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(
            |value| value.trim_start().to_ascii_lowercase().starts_with("text/event-stream"),
        );
    headers::clean_answer(response.headers_mut());
    if is_events {
        let headers = response.headers_mut();
        headers.insert(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache, no-transform"),
        );
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    Ok(Answered { response, is_events, idle: target.idle, outstanding })
}

/// The body of a forwarded request: at hand, since it was hashed whole.
pub(crate) type UpstreamBody = http_body_util::Full<Bytes>;

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forwarder({} routes)", self.targets.len())
    }
}
