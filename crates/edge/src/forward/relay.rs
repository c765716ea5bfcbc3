//! A stream on its way from an upstream to an agent: passed on frame by frame, nothing gathered,
//! until it ends, is cut or falls silent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::headers;
use super::upstream::Outstanding;
use crate::streams::StreamLease;

/// Why a relayed body breaks off. The connection is reset, so that nobody takes it for whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Upstream,
    /// The upstream fell silent.
    #[error("the upstream fell silent")]
    Silent,
    /// What the stream lived on has ended.
    #[error("the stream was cut")]
    Cut,
}

/// How a body is to be relayed.
#[derive(Debug)]
pub struct RelayPlan {
    /// Its place among the streams, unless it is short.
    pub lease: Option<StreamLease>,
    /// Whether an early end looks like an end: events have none of their own, so a reader takes an
    /// end for what it is and comes back.
    pub ends_cleanly: bool,
}

/// A body on its way.
#[derive(Debug)]
pub struct Relay {
    upstream: Option<Incoming>,
    plan: RelayPlan,
    idle: Duration,
    heard_at: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
    _outstanding: Outstanding,
}

impl Relay {
    pub(crate) fn new(
        upstream: Incoming,
        idle: Duration,
        plan: RelayPlan,
        outstanding: Outstanding,
    ) -> Self {
        Self {
            upstream: Some(upstream),
            plan,
            idle,
            heard_at: Instant::now(),
            alarm: None,
            _outstanding: outstanding,
        }
    }

    fn end(&mut self, broken: Broken) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        // Dropping it closes the upstream's connection, and with it whatever was on its way.
        self.upstream = None;
        if self.plan.ends_cleanly { Poll::Ready(None) } else { Poll::Ready(Some(Err(broken))) }
    }

    /// Ready once nothing was heard for too long. One alarm serves the whole stream: when it rings
    /// too early, it is set to the time that is left.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.heard_at + self.idle;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(due);
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(lease) = &self.plan.lease
            && lease.signal.poll_cut(cx).is_ready()
        {
            return self.end(Broken::Cut);
        }
        let Some(upstream) = &mut self.upstream else {
            return Poll::Ready(None);
        };
        match Pin::new(upstream).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.heard_at = Instant::now();
                if let Some(trailers) = frame.trailers_mut() {
                    headers::clean_answer(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => self.end(Broken::Upstream),
            Poll::Ready(None) => {
                self.upstream = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.poll_silence(cx));
                self.end(Broken::Silent)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.upstream.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // A stream of events has no length, whatever its upstream announced: it may be cut.
        match &self.upstream {
            Some(upstream) if !self.plan.ends_cleanly => upstream.size_hint(),
            Some(_) | None => SizeHint::default(),
        }
    }
}
