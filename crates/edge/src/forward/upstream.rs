//! Upstreams of a route: choosing the least busy healthy one, and the client that reaches it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edgeward_config::{Identity, RouteConfig};
use edgeward_core::read::target::path_and_query;
use edgeward_core::rejection::UpstreamFault;
use edgeward_core::time::MonoMs;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::UpstreamBody;
use super::counted::CountedConnector;
use crate::conn::Traffic;

/// For so long after a failure to connect an upstream is tried last, in milliseconds.
const PAUSE_MS: u64 = 5_000;
/// The largest head of an upstream's answer, in bytes. Bodies take less: each read is bounded by the
/// connection itself.
const LARGEST_HEAD: usize = 32 * 1024;
/// Connections kept open to one upstream while nobody uses them.
const IDLE_CONNECTIONS: usize = 256;

pub(crate) type HttpClient = Client<CountedConnector<HttpsConnector<HttpConnector>>, UpstreamBody>;

/// A route cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("route {route}: {fault}")]
pub struct SetupError {
    /// Its prefix.
    pub route: String,
    /// What is wrong.
    pub fault: String,
}

/// One place that a route leads to.
#[derive(Debug)]
pub(crate) struct UpstreamNode {
    /// Scheme and authority, for logs.
    pub origin: String,
    scheme: Scheme,
    authority: Authority,
    outstanding: Arc<AtomicUsize>,
    /// Until then it is tried last, monotonic milliseconds.
    pub failed_until: AtomicU64,
}

/// One exchange with an upstream, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Outstanding(Arc<AtomicUsize>);

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a route leads, and how.
pub struct RouteTarget {
    pub(crate) client: HttpClient,
    pub(crate) upstreams: Vec<UpstreamNode>,
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) audience: Option<String>,
    pub(crate) set: Vec<(HeaderName, HeaderValue)>,
    pub(crate) passed: Option<Vec<HeaderName>>,
}

impl RouteTarget {
    /// Sets a route up; routes of one connect timeout share their client and its connections.
    ///
    /// # Errors
    /// When a name cannot be one.
    pub(crate) fn new(
        route: &RouteConfig,
        clients: &mut HashMap<u64, HttpClient>,
        traffic: &Arc<Traffic>,
    ) -> Result<Self, SetupError> {
        let fault = |fault: String| SetupError { route: route.match_prefix.clone(), fault };
        let connect_ms = route.timeouts.connect_ms;
        let client = clients
            .entry(connect_ms)
            .or_insert_with(|| client(connect_ms, Arc::clone(traffic)))
            .clone();
        let upstreams = route
            .upstream
            .iter()
            .map(|upstream| {
                let authority = format!("{}:{}", upstream.host, upstream.port);
                Ok(UpstreamNode {
                    origin: upstream.to_string(),
                    scheme: if upstream.tls { Scheme::HTTPS } else { Scheme::HTTP },
                    authority: authority
                        .parse()
                        .map_err(|_| fault(format!("{authority} is no host")))?,
                    outstanding: Arc::default(),
                    failed_until: AtomicU64::new(0),
                })
            })
            .collect::<Result<_, SetupError>>()?;
        let set = route
            .set_headers
            .iter()
            .map(|(name, text)| {
                let mut value = HeaderValue::from_str(text.expose())
                    .map_err(|_| fault(format!("the value of {name} is no header value")))?;
                value.set_sensitive(true);
                Ok((name.clone(), value))
            })
            .collect::<Result<_, SetupError>>()?;
        Ok(Self {
            client,
            upstreams,
            first_byte: Duration::from_millis(route.timeouts.first_byte_ms),
            idle: Duration::from_millis(route.timeouts.idle_ms),
            audience: match &route.identity {
                Identity::Headers => None,
                Identity::Jwt { audience } => Some(audience.clone()),
            },
            set,
            passed: route.pass_headers.clone(),
        })
    }

    /// The least busy upstream that has not failed lately; the others after it. `tried` skips as many.
    pub(crate) fn pick(&self, now: MonoMs, tried: usize) -> Option<&UpstreamNode> {
        if let ([only], 0) = (self.upstreams.as_slice(), tried) {
            return Some(only);
        }
        let mut order: Vec<&UpstreamNode> = self.upstreams.iter().collect();
        order.sort_by_key(|upstream| {
            let pausing = upstream.failed_until.load(Ordering::Relaxed) > now.0;
            (pausing, upstream.outstanding.load(Ordering::Relaxed))
        });
        // What failed in this very loop pauses now, so that it stands behind the rest.
        order.first().copied().filter(|_| tried < order.len())
    }
}

impl UpstreamNode {
    pub(crate) fn begin(&self) -> Outstanding {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Outstanding(Arc::clone(&self.outstanding))
    }

    pub(crate) fn fail(&self, now: MonoMs) {
        self.failed_until.store(now.plus(PAUSE_MS).0, Ordering::Relaxed);
    }

    /// The request to this upstream: the same raw target that was signed and matched.
    pub(crate) fn request(
        &self,
        parts: &Parts,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<UpstreamBody>, UpstreamFault> {
        let target = match parts.uri.path_and_query() {
            Some(target) => target.clone(),
            None => PathAndQuery::try_from(path_and_query(&parts.uri))
                .map_err(|_| UpstreamFault::Broken)?,
        };
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
            .map_err(|_| UpstreamFault::Broken)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn client(connect_ms: u64, traffic: Arc<Traffic>) -> HttpClient {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(Duration::from_millis(connect_ms)));
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(50))
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http1_max_buf_size(LARGEST_HEAD)
        .build(CountedConnector::new(https, traffic))
}

/// A failure to connect: in time or not at all.
pub(crate) fn connect_fault(error: &hyper_util::client::legacy::Error) -> UpstreamFault {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = source {
        if let Some(io) = current.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::TimedOut
        {
            return UpstreamFault::ConnectTimeout;
        }
        source = current.source();
    }
    UpstreamFault::Connect
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        source = cause.source();
    }
    out
}

impl std::fmt::Debug for RouteTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.upstreams.iter().map(|upstream| &upstream.origin)).finish()
    }
}
