//! A client of HTTP/2 with prior knowledge, for requests that were forged for HTTP/1.1.

use bytes::Bytes;
use edgeward_testkit::agent::Parts;
use edgeward_testkit::{Signed, TestEdge, soon};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection. Its clones are the same connection.
#[derive(Clone)]
pub(crate) struct Client(SendRequest<Full<Bytes>>);

/// Connects; windows are those of the protocol, 65,535 bytes for a stream and for all of them.
pub(crate) async fn connect(edge: &TestEdge) -> (Client, JoinHandle<()>) {
    connect_with(edge, 65_535).await
}

/// Connects with another window for each stream.
pub(crate) async fn connect_with(edge: &TestEdge, window: u32) -> (Client, JoinHandle<()>) {
    let io = soon("a connection", TcpStream::connect(edge.address())).await.unwrap();
    io.set_nodelay(true).unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window).initial_connection_window_size(65_535);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await.unwrap();
    let driver = tokio::spawn(async move {
        // How it ends is for the test to see at its requests.
        let _ = connection.await;
    });
    (Client(sender), driver)
}

impl Client {
    /// Sends a request; its answer may be an error of the connection or the stream.
    pub(crate) async fn try_send(&self, signed: &Signed) -> hyper::Result<Response<Incoming>> {
        let mut sender = self.0.clone();
        soon("room on the connection", sender.ready()).await?;
        soon("an answer", sender.send_request(request(&signed.parts()))).await
    }

    /// Sends a request.
    pub(crate) async fn send(&self, signed: &Signed) -> Response<Incoming> {
        self.try_send(signed).await.unwrap()
    }
}

fn request(parts: &Parts) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(parts.method.as_str())
        .uri(format!("http://edge.test{}", parts.target));
    for (name, value) in parts.headers.iter().filter(|(name, _)| name != "Host") {
        request = request.header(name, value);
    }
    request.body(Full::from(parts.body.clone())).unwrap()
}

/// The next bytes of a body; `None` at its end in order, an error where it is broken off.
pub(crate) async fn piece(body: &mut Incoming) -> hyper::Result<Option<Bytes>> {
    while let Some(frame) = soon("a frame", body.frame()).await {
        // The end may come as an empty frame.
        match frame?.into_data() {
            Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}
