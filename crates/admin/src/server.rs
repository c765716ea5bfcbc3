//! The admin listener: binds both ways in, serves, and stops in order.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use edgeward_keys::{Entropy, EntropyExt as _, SystemEntropy};
use edgeward_wire::TraceId;
use edgeward_wire::header::X_TRACE_ID;
use http::Request;
use http::header::{CACHE_CONTROL, CONNECTION, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::actor::Actor;
use crate::api;
use crate::error::BindError;
use crate::gate::{Gate, MAX_BODY, Trace, Via};
use crate::refusal::Refusal;
use crate::socket::{AdminSocket, own_uid};
use crate::source::Source;
use crate::token::OperatorToken;

/// How long a request's head may take to arrive, from the moment the connection waits for one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take from its head to its answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What a head may be, in bytes and in headers.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Connections at once over each way in, so that a crowd at the port does not close the socket.
const CONNECTIONS: usize = 64;
/// For so long answers in flight may finish when the listener stops.
const DRAIN: Duration = Duration::from_secs(2);
/// What of a path is logged, in characters.
const PATH_LOGGED: usize = 128;

/// Where the admin listener is found.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// The Unix socket. Its folder is made with mode 0700 if there is none, and must have it if there is.
    pub socket_path: PathBuf,
    /// A loopback address beside the socket; port 0 takes a free one.
    pub tcp: Option<SocketAddr>,
    /// The operators' first token, made at first start.
    pub token_file: PathBuf,
}

/// The admin listener, bound and not yet serving.
#[derive(Debug)]
pub struct AdminServer {
    socket: AdminSocket,
    tcp: Option<(TcpListener, SocketAddr)>,
    gate: Gate,
    head_timeout: Duration,
}

impl AdminServer {
    /// Binds the socket and the port, and makes the token file if there is none.
    ///
    /// # Errors
    /// As [`BindError`] says. A socket that somebody accepts on is left to them.
    pub async fn bind(config: AdminConfig) -> Result<Self, BindError> {
        if let Some(address) = config.tcp.filter(|address| !is_loopback(address.ip())) {
            return Err(BindError::BeyondLoopback { address });
        }
        let own_uid = own_uid().map_err(|error| BindError::socket(&config.socket_path, &error))?;
        // The socket first: whoever holds it is the one who serves here.
        let socket = AdminSocket::bind(&config.socket_path, own_uid).await?;
        let token = OperatorToken::make_file(&config.token_file, &SystemEntropy)?.hash();
        let tcp = match config.tcp {
            Some(address) => Some(bind_tcp(address).await?),
            None => None,
        };
        Ok(Self { socket, tcp, gate: Gate { token, own_uid }, head_timeout: HEAD_TIMEOUT })
    }

    /// The TCP address that is bound, if one is.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(_, address)| *address)
    }

    /// The Unix socket that is bound.
    pub fn socket_path(&self) -> &Path {
        self.socket.path()
    }

    /// How long a request's head may take to arrive, in place of 5 s.
    #[must_use]
    pub fn with_head_timeout(mut self, timeout: Duration) -> Self {
        self.head_timeout = timeout;
        self
    }

    /// Serves until `stop` is cancelled; then removes the socket, takes no more connections, lets
    /// answers in flight finish for a while, and returns.
    pub async fn serve(self, source: Arc<dyn Source>, stop: CancellationToken) {
        let shared = Arc::new(Shared {
            gate: self.gate,
            router: api::router(source),
            head_timeout: self.head_timeout,
            stop,
        });
        let over_socket = accept_all(Listening::Socket(self.socket), Arc::clone(&shared));
        let over_tcp = async {
            if let Some((listener, address)) = self.tcp {
                let listening = Listening::Tcp { listener, port: address.port() };
                accept_all(listening, Arc::clone(&shared)).await;
            }
        };
        tokio::join!(over_socket, over_tcp);
    }
}

/// What every connection uses.
struct Shared {
    gate: Gate,
    router: Router,
    head_timeout: Duration,
    stop: CancellationToken,
}

/// A way in.
enum Listening {
    Socket(AdminSocket),
    Tcp { listener: TcpListener, port: u16 },
}

type Stream = Either<UnixStream, TcpStream>;

impl Listening {
    async fn accept(&self) -> io::Result<(Stream, Via)> {
        match self {
            Self::Socket(socket) => {
                let (stream, uid) = socket.accept().await?;
                Ok((Either::Left(stream), Via::Socket { uid }))
            }
            Self::Tcp { listener, port } => {
                let (stream, _) = listener.accept().await?;
                Ok((Either::Right(stream), Via::Tcp { port: *port }))
            }
        }
    }

    /// The next connection once there is a place for it.
    async fn next(&self, places: &Arc<Semaphore>) -> io::Result<(Stream, Via, Place)> {
        let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, via) = self.accept().await?;
        Ok((stream, via, place))
    }
}

type Place = OwnedSemaphorePermit;

async fn accept_all(listening: Listening, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let next = tokio::select! {
            () = shared.stop.cancelled() => break,
            next = listening.next(&places) => next,
            Some(_) = connections.join_next() => continue,
        };
        match next {
            Ok((stream, via, place)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    serve_connection(stream, via, shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely; connections that end make room.
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listening);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("admin calls were cut off by the stop");
    }
}

async fn serve_connection(stream: Stream, via: Via, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, via, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.head_timeout)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = shared.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection broke off");
    }
}

/// Judges a call, lets its route answer, and writes down who did what.
async fn answer(shared: &Shared, via: Via, request: Request<Incoming>) -> Response {
    let (head, body) = request.into_parts();
    let trace = trace(&SystemEntropy);
    let method = head.method.clone();
    let path: String = head.uri.path().chars().take(PATH_LOGGED).collect();
    let admitted = shared.gate.admit(via, &head);
    let mut response = match &admitted {
        Ok(actor) => {
            let body = Body::new(Limited::new(body, MAX_BODY));
            call(&shared.router, actor.clone(), trace, Request::from_parts(head, body)).await
        }
        Err(refusal) => refused(*refusal, trace),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(trace) = HeaderValue::from_str(&trace.to_string()) {
        headers.insert(X_TRACE_ID, trace);
    }
    let status = response.status().as_u16();
    match &admitted {
        Ok(actor) => tracing::info!(%trace, %actor, %method, path, status, "admin call"),
        Err(refusal) => {
            let code = refusal.code();
            tracing::info!(%trace, ?via, %method, path, status, code, "admin call refused");
        }
    }
    response
}

/// Lets the route answer, within bounds of time.
async fn call(router: &Router, actor: Actor, trace: TraceId, mut call: Request<Body>) -> Response {
    call.extensions_mut().insert(actor);
    call.extensions_mut().insert(Trace(trace));
    match tokio::time::timeout(CALL_TIMEOUT, router.clone().call(call)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Refusal::TooSlow.response(trace),
    }
}

/// The connection ends with it: strangers do not get to keep one.
fn refused(refusal: Refusal, trace: TraceId) -> Response {
    let mut response = refusal.response(trace);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A name, no secret: without randomness it is the lowest one, and the call is answered all the same.
pub(crate) fn trace(entropy: &dyn Entropy) -> TraceId {
    TraceId::from_random(entropy.bytes().unwrap_or_default())
}

async fn bind_tcp(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let fault = |error: io::Error| BindError::Address { address, fault: error.to_string() };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use edgeward_core::record::Standing;
    use edgeward_wire::AgentId;
    use http::StatusCode;

    use super::*;
    use crate::actor::{ActorKind, Role};
    use crate::source::{Readiness, SourceUnavailable, StandingAnswer, Status};

    /// One that never answers.
    struct Stuck;

    #[async_trait]
    impl Source for Stuck {
        async fn readiness(&self) -> Readiness {
            std::future::pending().await
        }

        async fn status(&self) -> Status {
            std::future::pending().await
        }

        async fn set_standing(
            &self,
            _: AgentId,
            _: Standing,
            _: &Actor,
            _: Option<String>,
        ) -> Result<Option<StandingAnswer>, SourceUnavailable> {
            std::future::pending().await
        }
    }

    async fn ask(path: &str) -> (StatusCode, String) {
        let actor = Actor { kind: ActorKind::Peer { uid: 0 }, role: Role::Admin };
        let request = Request::get(path).body(Body::empty()).unwrap();
        let trace = trace(&SystemEntropy);
        let response = call(&api::router(Arc::new(Stuck)), actor, trace, request).await;
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_does_not_answer_is_not_ready() {
        let (status, body) = ask("/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains(r#""ready":false"#) && body.contains("2000 ms"), "{body}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_in_time_though_its_source_does_not() {
        let (status, body) = ask("/status").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("too_slow"), "{body}");
        assert_eq!(ask("/healthz").await.0, StatusCode::OK);
    }
}
