//! What stands behind the demo's edge: an upstream that says what it saw, and one that streams.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::settings::now_ms;

/// Says in JSON what it saw of the request.
pub(super) const HELLO: &str = "/v1/hello";
/// Streams numbered events without end.
pub(super) const STREAM: &str = "/v1/stream";

/// From one event to the next.
const BEAT: Duration = Duration::from_millis(200);

type Answer = Response<Either<Full<Bytes>, Events>>;

/// A running upstream.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    seen: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Upstream {
    /// Listens on a free port of this machine.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let socket =
            TcpListener::bind(("127.0.0.1", 0)).await.context("no port for an upstream")?;
        let address = socket.local_addr()?;
        let (seen, stop) = (Arc::<AtomicU64>::default(), CancellationToken::new());
        tokio::spawn(accept(socket, Arc::clone(&seen), stop.clone()));
        Ok(Self { address, seen, stop })
    }

    /// How many requests have come through to it so far.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

async fn accept(socket: TcpListener, seen: Arc<AtomicU64>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                // Else an event could wait for the acknowledgement of the one before it.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, Arc::clone(&seen), stop.clone()));
            }
            Err(error) => tracing::warn!(%error, "the upstream could not accept a connection"),
        }
    }
}

async fn serve(stream: TcpStream, seen: Arc<AtomicU64>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        seen.fetch_add(1, Ordering::SeqCst);
        let answer = answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a connection ends is the edge's business: it closes those of streams that are over.
        _ = connection => {}
        () = stop.cancelled() => {}
    }
}

fn answer(request: &Request<Incoming>) -> Answer {
    match request.uri().path() {
        HELLO => json_answer(StatusCode::OK, &what_came(request)),
        STREAM => events(request),
        _ => json_answer(
            StatusCode::NOT_FOUND,
            &json!({"error": format!("here are {HELLO} and {STREAM}")}),
        ),
    }
}

/// The request as it came through the edge: no credentials, and who is calling.
fn what_came(request: &Request<Incoming>) -> Value {
    let headers: Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned().into())
        })
        .collect();
    json!({
        "hello": "this is the upstream; you came through the edge",
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "headers": headers,
    })
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(format!("{value:#}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn events(request: &Request<Incoming>) -> Answer {
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let last: u64 = last.and_then(|id| id.parse().ok()).unwrap_or(0);
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answer = Response::new(Either::Right(Events { last, opening: true, beat }));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// Events without end, numbered from the one that the reader has seen last.
struct Events {
    last: u64,
    opening: bool,
    beat: Interval,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.beat.poll_tick(cx));
        self.last = self.last.saturating_add(1);
        let retry = if std::mem::take(&mut self.opening) { "retry: 1000\n" } else { "" };
        let data = json!({"n": self.last, "sent_at_ms": now_ms()});
        let event = format!("{retry}id: {}\nevent: tick\ndata: {data}\n\n", self.last);
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
