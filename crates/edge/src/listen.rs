//! The public listener: accepts, guards, serves HTTP/1.1 and HTTP/2, and stops in order.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::conn::{Activity, Guard, Limits, Traffic};
use crate::edge::{Edge, Origin};
use crate::streams::CutReason;
use crate::tls::{self, TlsFiles};

/// What hyper may gather of a head, and of an answer before the socket takes it, in bytes; more than
/// the guard lets through, so that the guard's answer is the one given.
const BUFFER: usize = 20 * 1024;
/// What one HTTP/2 stream holds back for a slow reader, in bytes.
const H2_SEND_BUFFER: usize = 16 * 1024;
/// For so long answers in flight may finish when the edge stops.
const DRAIN: Duration = Duration::from_secs(10);
/// What the kernel may hold of an answer beyond what the network has room for, in bytes. Without a
/// bound it takes megabytes for one slow reader, and then nothing for so long that a reader which is
/// slow and steady looks like one that stands still.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 64 * 1024;
/// Connections at once; each costs memory before it has proven anything.
const CONNECTIONS: usize = 65_536;
/// Connections that the system completes before they are accepted.
const BACKLOG: u32 = 1024;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A public listener.
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<TlsFiles>>,
    limits: Limits,
    traffic: Arc<Traffic>,
    http: auto::Builder<TokioExecutor>,
}

/// An address that is taken and does not listen yet: what the last run left is consumed in between.
#[derive(Debug)]
pub struct Reserved(TcpSocket);

impl Reserved {
    /// Takes the address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self(socket))
    }

    /// The address that is taken.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Listens.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(self, tls: Option<Arc<TlsFiles>>) -> io::Result<Listener> {
        let socket = self.0.listen(BACKLOG)?;
        Ok(Listener {
            socket,
            tls,
            limits: Limits::default(),
            traffic: Arc::default(),
            http: http(),
        })
    }
}

impl Listener {
    /// The address that is bound.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Deadlines and caps of connections, in place of the defaults.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The bytes that connections read and wrote.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Serves until `stop` is cancelled; then ends streams and lets answers in flight finish for a
    /// while. Who comes in that while is told that the edge is draining.
    pub async fn serve(self, edge: Arc<Edge>, stop: CancellationToken) {
        let (served, late) = (GracefulShutdown::new(), GracefulShutdown::new());
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let abort = CancellationToken::new();
        let shared = Arc::new(self);
        tokio::select! {
            () = stop.cancelled() => {}
            () = shared.accept(&edge, &served, &places, &abort) => {}
        }
        edge.drain();
        edge.streams().cut_all(CutReason::Draining, edge.clock().now().mono);
        tokio::select! {
            finished = tokio::time::timeout(DRAIN, served.shutdown()) => {
                if finished.is_err() {
                    tracing::warn!("some answers did not finish in time: their connections are closed");
                }
            }
            () = shared.accept(&edge, &late, &places, &abort) => {}
        }
        abort.cancel();
    }

    /// Accepts connections, each on a task of its own, until it is dropped.
    async fn accept(
        self: &Arc<Self>,
        edge: &Arc<Edge>,
        graceful: &GracefulShutdown,
        places: &Arc<Semaphore>,
        abort: &CancellationToken,
    ) {
        loop {
            let (stream, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely; connections that end make room.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(places).try_acquire_owned() else {
                tracing::warn!("as many connections as allowed are open: one is turned away");
                continue;
            };
            let (shared, edge) = (Arc::clone(self), Arc::clone(edge));
            let (watcher, connection) = (graceful.watcher(), abort.child_token());
            tokio::spawn(async move {
                let closed = connection.clone();
                let served = shared.serve_connection(stream, peer, edge, watcher, connection);
                tokio::select! {
                    () = served => {}
                    // What is queued for this connection is dropped with it.
                    () = closed.cancelled() => {}
                }
                drop(place);
            });
        }
    }

    async fn serve_connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        edge: Arc<Edge>,
        watcher: hyper_util::server::graceful::Watcher,
        connection: CancellationToken,
    ) {
        if let Err(error) = tune(&stream) {
            tracing::debug!(%error, "a connection was gone at once");
            return;
        }
        let activity = Arc::new(Activity::new());
        let origin = Origin { peer: peer.ip(), secure: self.tls.is_some(), connection };
        let traffic = Some(Arc::clone(&self.traffic));
        let Some(tls) = &self.tls else {
            let guard = Guard::new(stream, self.limits, Arc::clone(&activity), traffic);
            return self.serve_http(guard, activity, edge, watcher, origin).await;
        };
        let handshake = tls.acceptor().accept_with(stream, tls::bound);
        let stream = match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS handshake"),
            Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
        };
        let guard = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            Guard::h2(stream, self.limits, Arc::clone(&activity), traffic)
        } else {
            Guard::new(stream, self.limits, Arc::clone(&activity), traffic)
        };
        self.serve_http(guard, activity, edge, watcher, origin).await;
    }

    /// The seam: whatever parses and writes HTTP stands behind this one call.
    async fn serve_http<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        io: Guard<IO>,
        activity: Arc<Activity>,
        edge: Arc<Edge>,
        watcher: hyper_util::server::graceful::Watcher,
        origin: Origin,
    ) {
        let exchanges = Arc::clone(&activity);
        let service = service_fn(move |request: Request<Incoming>| {
            let (edge, origin) = (Arc::clone(&edge), origin.clone());
            let mut in_flight = Activity::begin(&exchanges);
            if request.version() == Version::HTTP_2 {
                in_flight.watch();
            }
            async move {
                let mut answer = edge.answer(request, origin).await;
                answer.body_mut().hold(in_flight);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(io), service).into_owned();
        let stalled = activity.stalled(Duration::from_millis(self.limits.write_stall_ms));
        tokio::select! {
            served = watcher.watch(connection) => {
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection ended early");
                }
            }
            () = stalled => tracing::debug!("a peer takes nothing of an answer"),
        }
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The guard under it has the deadlines; hyper's would end idle connections as well.
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_frame_size(16 * 1024)
        .max_header_list_size(16 * 1024)
        .max_send_buf_size(H2_SEND_BUFFER);
    builder
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({:?}, tls: {})", self.socket, self.tls.is_some())
    }
}
