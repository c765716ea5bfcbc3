//! A stream of events that comes back after a drop and keeps its session alive.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use edgeward_wire::Advice;
use futures_core::Stream;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::response::text_of;
use crate::sse::{Event, Parser};
use crate::target::Target;
use crate::{Agent, Error, Response, Result, entropy};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long to wait before coming back where the stream has not said.
const PAUSE: Duration = Duration::from_secs(1);
/// Beyond this, waits do not double.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After a renewal has failed: how long until the next.
const RENEWAL_PAUSE_MS: u64 = 5_000;

/// How a stream is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamOptions {
    /// The event to go on after.
    pub last_event_id: Option<String>,
    /// Whether the stream comes back after a drop or a clean end, as browsers do. Default true.
    pub resume: bool,
    /// Further headers of the request.
    pub headers: HeaderMap,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { last_event_id: None, resume: true, headers: HeaderMap::new() }
    }
}

/// The events of a stream. Ends after an error, and only then, unless the server says so with 204,
/// the edge with `agent.blocked`, or [`StreamOptions::resume`] is false.
///
/// While it is polled it extends the session that it lives on; left alone, it ends with it.
pub struct EventStream(Pin<Box<dyn Stream<Item = Result<Event>> + Send>>);

impl EventStream {
    pub(crate) fn new(agent: Agent, target: Target, options: StreamOptions) -> Self {
        let reader = Reader::new(agent, target, options);
        Self(Box::pin(futures_util::stream::unfold(reader, Reader::next)))
    }

    /// The next event; `None` at the end. May be dropped before it completes, and nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        std::future::poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl Stream for EventStream {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventStream")
    }
}

struct Reader {
    agent: Agent,
    target: Target,
    options: StreamOptions,
    last_event_id: String,
    /// What the stream asked to wait before coming back.
    retry: Option<Duration>,
    /// What the edge asked to wait at the last try.
    retry_after: Duration,
    open: Option<Open>,
    ready: VecDeque<Event>,
    /// How often in a row coming back has brought nothing.
    failures: u32,
    opened_once: bool,
    done: bool,
    no_renewal_before_ms: u64,
}

struct Open {
    response: Response,
    parser: Parser,
}

impl Reader {
    fn new(agent: Agent, target: Target, options: StreamOptions) -> Self {
        Self {
            last_event_id: options.last_event_id.clone().unwrap_or_default(),
            agent,
            target,
            options,
            retry: None,
            retry_after: Duration::ZERO,
            open: None,
            ready: VecDeque::new(),
            failures: 0,
            opened_once: false,
            done: false,
            no_renewal_before_ms: 0,
        }
    }

    async fn next(mut self) -> Option<(Result<Event>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if self.is_last(&event) {
                    self.done = true;
                    self.ready.clear();
                }
                return Some((Ok(event), self));
            }
            if self.done {
                return None;
            }
            let step = match self.open.take() {
                Some(open) => self.read(open).await,
                None => self.connect().await,
            };
            if let Err(error) = step {
                self.done = true;
                return Some((Err(error), self));
            }
        }
    }

    /// Only the edge's own stream can say so; an upstream's event of that name is just an event.
    fn is_last(&self, event: &Event) -> bool {
        let path = self.target.as_str().split('?').next();
        event.event == "agent.blocked" && path == Some("/agent/events")
    }

    async fn connect(&mut self) -> Result<()> {
        if self.opened_once {
            let pause = entropy::jittered(self.pause())?.max(self.retry_after);
            self.agent.settings().clock.wait(pause).await;
        }
        match self.try_open().await {
            Ok(Some(response)) => {
                let parser = Parser::resuming(&self.last_event_id);
                self.open = Some(Open { response, parser });
                self.opened_once = true;
                self.retry_after = Duration::ZERO;
                Ok(())
            }
            Ok(None) => {
                self.done = true;
                Ok(())
            }
            Err(error) if self.opened_once && is_passing(&error) => {
                let asked = error.refusal().and_then(|refusal| refusal.retry_after_ms);
                self.retry_after = Duration::from_millis(asked.unwrap_or(0));
                self.dropped(Some(error))
            }
            Err(error) => Err(error),
        }
    }

    /// The answer, if it is a stream; `None` if the server wants no more of this.
    async fn try_open(&self) -> Result<Option<Response>> {
        let headers = self.headers()?;
        let response = self.agent.send(&Method::GET, &self.target, &headers, Bytes::new()).await?;
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let kind = text_of(response.headers(), &CONTENT_TYPE).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if status != StatusCode::OK || !essence.eq_ignore_ascii_case("text/event-stream") {
            return Err(Error::NotAStream { status: status.as_u16() });
        }
        Ok(Some(response))
    }

    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = self.options.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if !self.last_event_id.is_empty() {
            let id = HeaderValue::from_bytes(self.last_event_id.as_bytes())
                .map_err(|_| Error::Protocol("an event id that no header can carry".to_owned()))?;
            headers.insert(LAST_EVENT_ID, id);
        }
        Ok(headers)
    }

    async fn read(&mut self, mut open: Open) -> Result<()> {
        let now = self.agent.now_ms();
        let quiet = Duration::from_millis(self.no_renewal_before_ms.saturating_sub(now));
        let due = self.agent.due_in().max(quiet);
        // Before reading: a stream that never pauses must not keep its session from being extended.
        if due.is_zero() {
            if let Err(error) = self.agent.freshen().await {
                tracing::warn!(%error, "a renewal failed under an open stream");
                self.no_renewal_before_ms = now.saturating_add(RENEWAL_PAUSE_MS);
            }
            self.open = Some(open);
            return Ok(());
        }
        tokio::select! {
            biased;
            chunk = open.response.chunk() => match chunk {
                Ok(Some(chunk)) => {
                    self.failures = 0;
                    self.ready.extend(open.parser.push(&chunk)?);
                    self.last_event_id = open.parser.last_event_id().to_owned();
                    self.retry = open.parser.retry().or(self.retry);
                    self.open = Some(open);
                    Ok(())
                }
                Ok(None) => self.dropped(None),
                Err(error) => self.dropped(Some(error)),
            },
            () = self.agent.settings().clock.wait(due) => {
                self.open = Some(open);
                Ok(())
            }
        }
    }

    /// Counts a drop, and says whether the stream comes back.
    fn dropped(&mut self, why: Option<Error>) -> Result<()> {
        self.failures = self.failures.saturating_add(1);
        if self.options.resume && self.failures <= self.agent.settings().stream_tries {
            let after = &self.last_event_id;
            tracing::info!(?why, after, "the stream has dropped and will be opened again");
            return Ok(());
        }
        self.done = true;
        match why {
            Some(error) => Err(error),
            None if !self.options.resume => Ok(()),
            None => Err(Error::Protocol("the stream ends again and again".to_owned())),
        }
    }

    /// Doubles with each failure in a row, the first one apart.
    fn pause(&self) -> Duration {
        let first = self.retry.unwrap_or(PAUSE);
        let doubled = first.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        doubled.min(LONGEST_PAUSE.max(first))
    }
}

/// Whether an open stream's return may fail like this and be tried again.
fn is_passing(error: &Error) -> bool {
    error.is_network()
        || error.refusal().is_some_and(|refusal| match refusal.advice() {
            Advice::Wait | Advice::Retry | Advice::RetryIfIdempotent => true,
            Advice::FixRequest
            | Advice::Sign
            | Advice::CorrectClock
            | Advice::StartSession
            | Advice::RenewSecret
            | Advice::NewNonce
            | Advice::RefreshToken
            | Advice::Stop => false,
        })
}
