//! A load balancer: each request goes to the next edge, whoever sent the one before.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use http::header::CONNECTION;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// The address of a balancer, taken; its edges, which must know it, are not there yet.
pub(super) struct Reserved {
    socket: TcpListener,
    url: String,
}

impl Reserved {
    /// Takes an address; port 0 is a free one.
    pub(super) async fn new(listen: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpListener::bind(listen)
            .await
            .with_context(|| format!("{listen} cannot be bound: is something running there?"))?;
        let url = format!("http://{}", socket.local_addr()?);
        Ok(Self { socket, url })
    }

    /// Where agents will reach it, without a slash at the end.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Serves from now on, before edges at these URLs.
    pub(super) fn serve(self, edges: Vec<String>) -> Balancer {
        let Self { socket, url } = self;
        let stop = CancellationToken::new();
        let mut connector = HttpConnector::new();
        // Else a small request could wait for the acknowledgement of the one before it.
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        let turn = Turn { http, edges, next: AtomicUsize::new(0) };
        tokio::spawn(accept(socket, Arc::new(turn), stop.clone()));
        Balancer { url, stop }
    }
}

/// A balancer that serves.
pub(super) struct Balancer {
    /// Where agents reach it, without a slash at the end.
    pub(super) url: String,
    stop: CancellationToken,
}

impl Balancer {
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

/// Whose turn it is.
struct Turn {
    http: Client<HttpConnector, Incoming>,
    edges: Vec<String>,
    next: AtomicUsize,
}

impl Turn {
    /// Passes a request on as it is, to the next edge; a failure is the balancer's own 502.
    async fn pass_on(
        &self,
        mut request: Request<Incoming>,
    ) -> Response<Either<Incoming, Empty<Bytes>>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let edge = self.edges.get(next % self.edges.len().max(1));
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        if let Some(uri) = edge.and_then(|edge| format!("{edge}{target}").parse::<Uri>().ok()) {
            *request.uri_mut() = uri;
            // RFC 9110, section 7.6.1: it is about the caller's connection.
            request.headers_mut().remove(CONNECTION);
            if let Ok(answer) = self.http.request(request).await {
                return answer.map(Either::Left);
            }
        }
        let mut answer = Response::new(Either::Right(Empty::new()));
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        answer
    }
}

async fn accept(socket: TcpListener, turn: Arc<Turn>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, Arc::clone(&turn), stop.clone()));
            }
            Err(error) => tracing::warn!(%error, "the balancer could not accept a connection"),
        }
    }
}

async fn serve(stream: TcpStream, turn: Arc<Turn>, stop: CancellationToken) {
    let service = service_fn(|request| {
        let turn = Arc::clone(&turn);
        async move { Ok::<_, Infallible>(turn.pass_on(request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a connection ends is its two ends' business.
        _ = connection => {}
        () = stop.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::demo::caller::{Caller, Sent};
    use crate::demo::upstream::{HELLO, Upstream};

    fn hello() -> Sent {
        Sent { method: Method::GET, target: HELLO, headers: HeaderMap::new(), body: Bytes::new() }
    }

    #[tokio::test]
    async fn one_caller_on_one_connection_reaches_each_in_turn() {
        let edges = [Upstream::start().await.unwrap(), Upstream::start().await.unwrap()];
        let reserved = Reserved::new(([127, 0, 0, 1], 0).into()).await.unwrap();
        let urls = edges.iter().map(|edge| format!("http://{}", edge.address)).collect();
        let balancer = reserved.serve(urls);
        let caller = Caller::new(&balancer.url);
        for _ in 0..6 {
            assert!(caller.answer(&hello()).await.is_passed());
        }
        assert_eq!(edges.map(|edge| edge.seen()), [3, 3]);
    }

    #[tokio::test]
    async fn an_edge_that_is_gone_is_no_answer_of_an_edge() {
        let gone = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", gone.local_addr().unwrap());
        drop(gone);
        let reserved = Reserved::new(([127, 0, 0, 1], 0).into()).await.unwrap();
        let balancer = reserved.serve(vec![url]);
        let answer = Caller::new(&balancer.url).answer(&hello()).await;
        assert_eq!(answer.to_string(), "502");
    }
}
