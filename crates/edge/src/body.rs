//! Bodies of answers, and the reading of bodies of requests.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use edgeward_core::Rejection;
use edgeward_core::flow::{BodyHasher, HashedBody};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::conn::InFlight;
use crate::forward::Relay;

/// An answer's body: at hand, or relayed as it comes. It keeps its exchange in flight.
#[derive(Debug)]
pub struct AnswerBody {
    kind: Kind,
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
enum Kind {
    Whole(Bytes),
    Relay(Box<Relay>),
}

impl AnswerBody {
    /// A body that is at hand.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Whole(bytes.into()), in_flight: None }
    }

    /// A body that comes from an upstream.
    pub fn relay(relay: Relay) -> Self {
        Self { kind: Kind::Relay(Box::new(relay)), in_flight: None }
    }

    /// Keeps the exchange in flight until the body was sent or given up.
    pub(crate) fn hold(&mut self, in_flight: InFlight) {
        in_flight.handed();
        self.in_flight = Some(in_flight);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = crate::forward::Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // Whoever asks for more has got rid of what it had.
        if let Some(in_flight) = &self.in_flight {
            in_flight.taken();
        }
        let polled = match &mut self.kind {
            Kind::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Relay(relay) => Pin::new(relay.as_mut()).poll_frame(cx),
        };
        if let (Poll::Ready(Some(Ok(_))), Some(in_flight)) = (&polled, &self.in_flight) {
            in_flight.handed();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Relay(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Relay(relay) => relay.size_hint(),
        }
    }
}

/// Time that a body gets on top of its pace.
const GRACE: Duration = Duration::from_secs(5);
/// The slowest pace of a body, in bytes a second.
const PACE: u64 = 1024;

/// Reads a body of at most `limit` bytes, hashing it as it arrives; trailers are dropped.
///
/// # Errors
/// [`Rejection::BodyTooLarge`], [`Rejection::BodyTooSlow`] below 1 KiB a second, and
/// [`Rejection::Malformed`] where its framing breaks.
pub(crate) async fn read(mut incoming: Incoming, limit: u64) -> Result<HashedBody, Rejection> {
    let mut hasher = BodyHasher::new(limit);
    if incoming.is_end_stream() {
        return Ok(hasher.finish());
    }
    // What is announced as too large is not read at all.
    if incoming.size_hint().lower() > limit {
        return Err(Rejection::BodyTooLarge);
    }
    let started = Instant::now();
    let mut received = 0u64;
    loop {
        let deadline =
            started + GRACE + Duration::from_millis(received.saturating_mul(1000) / PACE);
        match timeout_at(deadline, incoming.frame()).await {
            Err(_) => return Err(Rejection::BodyTooSlow),
            Ok(None) => return Ok(hasher.finish()),
            Ok(Some(Err(_))) => {
                return Err(Rejection::Malformed(
                    "the body breaks off or its framing is wrong".into(),
                ));
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(chunk) = frame.into_data() {
                    received = received.saturating_add(chunk.len() as u64);
                    hasher.push(chunk)?;
                }
            }
        }
    }
}
