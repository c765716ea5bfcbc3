//! Bodies of answers, and the reading of bodies of requests.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use edgeward_core::Rejection;
use edgeward_core::flow::{BodyHasher, HashedBody};
use edgeward_core::rejection::Dependency;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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

/// Time that a body gets on top of its pace, and between two pieces of it.
const GRACE: Duration = Duration::from_secs(5);
/// The slowest pace of a body, in bytes a second.
const PACE: u64 = 1024;

/// Bytes of a body that are free of the common budget: most bodies never touch it.
const FREE: u64 = 16 * 1024;
/// What bodies of callers that have proven nothing yet may hold together beyond that, in KiB.
const BUDGET_KIB: u32 = 256 * 1024;

/// Memory for bodies whose signature has not been checked yet: strangers share it, and when it is
/// used up, those with large bodies are refused for a while.
#[derive(Debug, Clone)]
pub(crate) struct BodyMemory(Arc<Semaphore>);

impl Default for BodyMemory {
    fn default() -> Self {
        Self::of_kib(BUDGET_KIB)
    }
}

/// A share of the common budget, given back when it is dropped.
#[derive(Debug, Default)]
struct Share {
    held: Option<OwnedSemaphorePermit>,
    kib: u64,
}

impl BodyMemory {
    fn of_kib(kib: u32) -> Self {
        Self(Arc::new(Semaphore::new(kib as usize)))
    }

    /// Grows a share to hold `received` bytes.
    fn grow(&self, share: &mut Share, received: u64) -> Result<(), Rejection> {
        let wanted = received.saturating_sub(FREE).div_ceil(1024);
        let more = wanted.saturating_sub(share.kib);
        if more == 0 {
            return Ok(());
        }
        let full = || Rejection::Unavailable(Dependency::BodyMemory);
        let permits = u32::try_from(more).map_err(|_| full())?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(permits).map_err(|_| full())?;
        match &mut share.held {
            Some(held) => held.merge(permit),
            None => share.held = Some(permit),
        }
        share.kib = wanted;
        Ok(())
    }
}

/// Reads a body of at most `limit` bytes, hashing it as it arrives; trailers are dropped. It may take
/// `within` at most: by then the timestamp that signs it has left the window.
///
/// # Errors
/// [`Rejection::BodyTooLarge`], [`Rejection::BodyTooSlow`] below 1 KiB a second,
/// [`Rejection::Malformed`] where its framing breaks, and [`Rejection::Unavailable`] when strangers'
/// bodies hold all the memory that they may.
pub(crate) async fn read(
    mut incoming: Incoming,
    limit: u64,
    within: Duration,
    memory: &BodyMemory,
) -> Result<HashedBody, Rejection> {
    let mut hasher = BodyHasher::new(limit);
    let mut share = Share::default();
    if incoming.is_end_stream() {
        return Ok(hasher.finish());
    }
    // What is announced as too large is not read at all.
    if incoming.size_hint().lower() > limit {
        return Err(Rejection::BodyTooLarge);
    }
    let started = Instant::now();
    let (mut received, mut heard) = (0u64, started);
    loop {
        let paced = GRACE + Duration::from_millis(received.saturating_mul(1000) / PACE);
        // What came fast at first does not buy time to stand still in.
        let deadline = (started + paced.min(within)).min(heard + GRACE);
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
                    heard = Instant::now();
                    memory.grow(&mut share, received)?;
                    hasher.push(chunk)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bodies_are_free_and_large_ones_share_what_there_is() {
        let memory = BodyMemory::of_kib(100);
        let mut shares: Vec<Share> = (0..1000).map(|_| Share::default()).collect();
        for share in &mut shares {
            assert_eq!(memory.grow(share, FREE), Ok(()));
        }
        let (mut one, mut other) = (Share::default(), Share::default());
        assert_eq!(memory.grow(&mut one, FREE + 60 * 1024), Ok(()));
        assert_eq!(memory.grow(&mut one, FREE + 60 * 1024), Ok(()));
        let full = Err(Rejection::Unavailable(Dependency::BodyMemory));
        assert_eq!(memory.grow(&mut other, FREE + 60 * 1024), full);
        assert_eq!(memory.grow(&mut other, FREE + 40 * 1024), Ok(()));
        assert_eq!(memory.grow(&mut one, FREE + 60 * 1024 + 1), full);
        drop(other);
        assert_eq!(memory.grow(&mut one, FREE + 100 * 1024), Ok(()));
    }
}
