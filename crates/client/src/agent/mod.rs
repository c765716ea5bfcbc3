//! An enrolled agent: calls, streams, its session, its token, its secret.

mod enroll;
mod exchange;
mod renew;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method};

pub use enroll::Enrollment;
pub use renew::Rotation;

use crate::credentials::{Credentials, Session};
use crate::sign::{self, SignedBy, SignedRequest, Stamp, Unsigned};
use crate::stream::{EventStream, StreamOptions};
use crate::target::Target;
use crate::{DeviceKey, Error, Response, Result, Settings};
use exchange::{Content, Exchange, Renewing, Signer};
use renew::Quiet;

/// An enrolled agent.
///
/// Cheap to clone; clones share session, token and secret. Whatever is due is renewed before a call
/// is signed: the session is extended when two thirds of its time are over and started anew when it
/// is gone, the JWT is refreshed and the secret rotated at 80 % of their lives. A session is opened
/// when the caller says so or the edge asks for one, and kept from then on.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    http: reqwest::Client,
    device: DeviceKey,
    /// What is held. Locked for moments only, never across an await.
    held: Mutex<Credentials>,
    /// Whose turn it is to renew something: one handshake at a time.
    turn: tokio::sync::Mutex<()>,
    quiet: Mutex<Quiet>,
    /// The edge's clock less this machine's, as far as it has been followed.
    offset_ms: AtomicI64,
    /// Where the credentials are kept, if they are.
    kept: Option<PathBuf>,
}

impl Agent {
    /// Opens the credentials in `path` and keeps them there as they change.
    ///
    /// # Errors
    /// When the file or the device key cannot be read, or others may read them.
    pub fn open(path: &Path, settings: Settings) -> Result<Self> {
        let credentials = Credentials::read(path)?;
        let device = credentials.read_device_key(path.parent().unwrap_or(Path::new("")))?;
        Self::assemble(credentials, device, settings, Some(path.to_owned()))
    }

    /// Takes credentials that the caller keeps: those that change are lost with the agent, unless
    /// the caller asks for [`credentials`](Self::credentials) and keeps them.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(credentials: Credentials, device: DeviceKey, settings: Settings) -> Result<Self> {
        Self::assemble(credentials, device, settings, None)
    }

    fn assemble(
        credentials: Credentials,
        device: DeviceKey,
        settings: Settings,
        path: Option<PathBuf>,
    ) -> Result<Self> {
        let http = settings.http()?;
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                http,
                device,
                held: Mutex::new(credentials),
                turn: tokio::sync::Mutex::new(()),
                quiet: Mutex::new(Quiet::default()),
                offset_ms: AtomicI64::new(0),
                kept: path,
            }),
        })
    }

    /// Everything the agent holds at this moment.
    pub fn credentials(&self) -> Credentials {
        self.held().clone()
    }

    /// The session that is held, if it has not ended.
    pub fn session(&self) -> Option<Session> {
        let now = self.now_ms();
        self.held().session.clone().filter(|session| session.ends_at_ms > now)
    }

    /// Sends a signed call and hands back the upstream's answer, whatever its status.
    ///
    /// `target` stands under the edge's base path. The call is sent again by the edge's advice, and
    /// only then: see [`Settings::tries`]. Methods that are not idempotent are never sent again
    /// after an upstream may have seen them.
    ///
    /// # Errors
    /// [`Error::Refused`] when the edge refuses; the other variants as they say.
    pub async fn call(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: impl Into<Bytes> + Send,
    ) -> Result<Response> {
        let target = Target::parse(target)?;
        self.send(&method, &target, &headers, body.into()).await
    }

    /// Opens a stream of server-sent events that comes back by itself after a drop, from the last
    /// event id that was seen. Nothing is sent before the stream is first polled.
    ///
    /// # Errors
    /// When `target` cannot be sent.
    pub fn stream(&self, target: &str, options: StreamOptions) -> Result<EventStream> {
        let target = Target::parse(target)?;
        self.held().edge_url.locate(&target)?;
        Ok(EventStream::new(self.clone(), target, options))
    }

    /// Signs without sending. What comes back is good for one request within the edge's window.
    ///
    /// Uses the session if one is held and opens none; the JWT is sent as it is.
    ///
    /// # Errors
    /// When the request cannot be sent as it is.
    pub fn sign(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<SignedRequest> {
        let target = Target::parse(target)?;
        let content_type = sign::check(method, headers)?;
        let stamp = Stamp::fresh(self.signing_time_ms())?;
        let session = self.session();
        let held = self.held();
        let (url, target) = held.edge_url.locate(&target)?;
        let request = Unsigned { method, target: &target, content_type, body };
        let mut headers = headers.clone();
        let string_to_sign = sign::sign(&held, session.as_ref(), &stamp, &request, &mut headers)?;
        if let Some(token) = &held.token {
            headers.insert(http::header::AUTHORIZATION, sign::bearer(token.jwt.expose())?);
        }
        let signed_by = if session.is_some() { SignedBy::Session } else { SignedBy::Secret };
        Ok(SignedRequest {
            method: method.clone(),
            url: url.into(),
            headers,
            string_to_sign,
            signed_by,
        })
    }

    pub(crate) async fn send(
        &self,
        method: &Method,
        target: &Target,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response> {
        sign::check(method, headers)?;
        self.held().edge_url.locate(target)?;
        self.freshen().await?;
        let exchange = Exchange {
            method,
            target,
            headers,
            content: Content::Given(body),
            signer: Signer::SessionIfHeld,
            token: true,
            renewing: Renewing::Freely,
        };
        self.exchange(&exchange).await.map(Response::new)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// This machine's clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.inner.settings.clock.now_ms()
    }

    /// What is written into `X-Timestamp`.
    fn signing_time_ms(&self) -> u64 {
        self.now_ms().saturating_add_signed(self.inner.offset_ms.load(Ordering::Relaxed))
    }

    /// Follows the edge's clock, if it is near enough to this machine's.
    fn correct_clock(&self, server_time_ms: u64, sent_at_ms: u64) -> Result<()> {
        // The answer was written somewhere between sending and now.
        let here = sent_at_ms.midpoint(self.now_ms());
        let skew_ms =
            i64::try_from(i128::from(server_time_ms) - i128::from(here)).unwrap_or(i64::MAX);
        let bound = self.inner.settings.max_clock_correction.as_millis();
        let bound_ms = u64::try_from(bound).unwrap_or(u64::MAX);
        if skew_ms.unsigned_abs() > bound_ms {
            return Err(Error::ClockSkew { skew_ms, bound_ms });
        }
        tracing::warn!(skew_ms, "following the edge's clock");
        self.inner.offset_ms.store(skew_ms, Ordering::Relaxed);
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Credentials> {
        // Nothing that holds the lock can panic half way; should it, the values are still whole.
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is held, after it has been written where it is kept: nothing is used that would
    /// be lost with the process. Only for whoever's turn it is.
    async fn keep(&self, change: impl FnOnce(&mut Credentials)) -> Result<()> {
        let mut next = self.credentials();
        change(&mut next);
        if let Some(path) = &self.inner.kept {
            let place = path.clone();
            next = tokio::task::spawn_blocking(move || next.save(&place))
                .await
                .map_err(|_| Error::unfit(path, "writing was given up"))??;
        }
        *self.held() = next;
        Ok(())
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held();
        f.debug_struct("Agent")
            .field("agent_id", &held.agent_id)
            .field("edge_url", &held.edge_url)
            .field("secret_version", &held.secret_version)
            .finish_non_exhaustive()
    }
}
