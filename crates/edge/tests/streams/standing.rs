//! Readers that stand still, and what the edge holds for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use edgeward_edge::conn::Traffic;
use edgeward_testkit::edge::Builder;
use edgeward_testkit::upstream::UpstreamStream;
use edgeward_testkit::{Agent, Conn, Reply, TestEdge, Upstream, soon};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::tools::header;

/// What a stream may hold back for a slow reader, in bytes.
pub(crate) const PROMISE: u64 = 64 * 1024;
/// What is pushed at a time, in bytes.
const PIECE: usize = 16 * 1024;
/// The receive buffer of a reader that stands still, in bytes: the kernel's share shall fill soon.
const RECEIVE_BUFFER: u32 = 4096;
/// Nothing was read from the upstream in so many looks, a millisecond apart: the reader's standing
/// still has reached it.
const QUIET_LOOKS: u32 = 300;

/// A stream of bytes without chunks and without an end.
pub(crate) fn endless() -> Reply {
    let lines = [("content-type", "application/octet-stream"), ("content-length", "1000000000000")];
    Reply::Stream(200, lines.map(|(name, value)| header(name, value)).to_vec())
}

/// A byte that depends on where it stands.
pub(crate) fn byte_at(offset: usize) -> u8 {
    (offset % 251) as u8
}

/// Pushes as much as is taken, up to a limit; how much.
pub(crate) async fn push(stream: &UpstreamStream, limit: usize) -> usize {
    let mut sent = 0;
    while sent < limit {
        let piece: Vec<u8> = (sent..limit.min(sent + PIECE)).map(byte_at).collect();
        let size = piece.len();
        if !stream.send(piece).await {
            break;
        }
        sent += size;
    }
    sent
}

/// Counts what was read from the upstream and is not written to the agent yet.
pub(crate) struct Watch {
    upstream: Arc<Traffic>,
    agents: Arc<Traffic>,
    before: (u64, u64),
    /// The most that was held so far, in bytes.
    pub(crate) most: u64,
}

impl Watch {
    /// To be begun when nothing is on its way.
    pub(crate) fn begin(edge: &TestEdge) -> Self {
        let (upstream, agents) =
            (Arc::clone(&edge.running().upstream_traffic), Arc::clone(edge.traffic()));
        let before = (upstream.read.load(Relaxed), agents.written.load(Relaxed));
        Self { upstream, agents, before, most: 0 }
    }

    /// What was read from the upstream since.
    pub(crate) fn read(&self) -> u64 {
        self.upstream.read.load(Relaxed) - self.before.0
    }

    /// Looks once.
    fn look(&mut self) {
        let read = self.read();
        let written = self.agents.written.load(Relaxed) - self.before.1;
        // Only what was seen at one moment counts.
        if self.read() == read {
            self.most = self.most.max(read.saturating_sub(written));
        }
    }

    /// Looks again and again until nothing is read any more.
    pub(crate) async fn until_standing(&mut self) {
        soon("standing still", async {
            let mut beat = tokio::time::interval(Duration::from_millis(1));
            let (mut last, mut quiet) = (0, 0);
            while quiet < QUIET_LOOKS {
                beat.tick().await;
                self.look();
                let read = self.read();
                quiet = if read == last && read > 0 { quiet + 1 } else { 0 };
                last = read;
            }
        })
        .await;
    }

    /// Looks as long as something else goes on.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut beat = tokio::time::interval(Duration::from_millis(1));
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = beat.tick() => self.look(),
            }
        }
    }
}

/// Starts an edge again, with TLS; the folder holds its certificate.
pub(crate) async fn turn_to_tls(edge: &mut TestEdge) -> (Tls, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    edge.stop().await;
    edge.restart_with(|builder| {
        builder.set("EDGE_TLS_CERT", cert.display()).set("EDGE_TLS_KEY", key.display())
    })
    .await;
    (Tls::trusting(made.cert.der().clone()), folder)
}

/// The client's side of TLS.
pub(crate) struct Tls(TlsConnector);

impl Tls {
    fn trusting(cert: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Speaks TLS over a connection.
    pub(crate) async fn over(&self, io: TcpStream) -> Conn {
        let name = ServerName::try_from("localhost").unwrap();
        Conn::over(soon("a handshake", self.0.connect(name, io)).await.unwrap())
    }
}

/// A connection that takes little while it is not read.
pub(crate) async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    socket.connect(address).await.unwrap()
}

/// An edge whose upstream answers without end, and an agent of it.
pub(crate) async fn scene(change: impl FnOnce(Builder) -> Builder) -> (Upstream, TestEdge, Agent) {
    let upstream = Upstream::start().await;
    upstream.plan(|_| endless());
    let edge = change(TestEdge::builder().route("/v1/", &upstream)).start().await;
    let agent = Agent::enroll(&edge).await;
    (upstream, edge, agent)
}
