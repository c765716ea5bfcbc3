//! One signed request and its answer, sent again as the protocol advises.

use bytes::Bytes;
use edgeward_wire::{Code, SessionId};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Url;

use super::Agent;
use crate::SecretText;
use crate::credentials::Session;
use crate::response;
use crate::retry::{Action, Spent};
use crate::sign::{self, Stamp, StringSigned, Unsigned};
use crate::target::Target;
use crate::{Error, Result, entropy};

/// What is to be sent; each attempt is stamped and signed anew.
pub(super) struct Exchange<'a> {
    pub(super) method: &'a Method,
    pub(super) target: &'a Target,
    pub(super) headers: &'a HeaderMap,
    pub(super) content: Content,
    pub(super) signer: Signer,
    /// Whether the JWT goes along.
    pub(super) token: bool,
    pub(super) renewing: Renewing,
}

/// The body.
pub(super) enum Content {
    /// As it is.
    Given(Bytes),
    /// JSON around the device key's proof of this very attempt.
    Proof(fn(String) -> serde_json::Result<Vec<u8>>),
}

/// Which key signs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signer {
    /// The secret, with no session named.
    Secret,
    /// The session, or the secret while none is held.
    SessionIfHeld,
}

/// What an exchange may renew when the edge says so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewing {
    /// Session and token, when it is its turn.
    Freely,
    /// The token; it is this exchange's turn already.
    TokenInTurn,
    /// Nothing.
    Nothing,
}

/// A request of one attempt, and what it was made with.
struct Attempt {
    request: reqwest::Request,
    session: Option<SessionId>,
    token: Option<SecretText>,
    signed: StringSigned,
}

impl Agent {
    /// Sends until there is an answer that is no refusal, or nothing more is to be done about it.
    pub(super) async fn exchange(&self, exchange: &Exchange<'_>) -> Result<reqwest::Response> {
        let mut spent = Spent::default();
        loop {
            let sent_at_ms = self.now_ms();
            let attempt = self.attempt(exchange)?;
            let (session, token) = (attempt.session, attempt.token);
            let answer = self.transmit(attempt.request).await?;
            let refusal = match response::refusal(answer).await? {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            if refusal.code == Some(Code::SignatureInvalid) {
                let (trace_id, lines) = (&refusal.trace_id, attempt.signed.line_hashes().join(" "));
                tracing::warn!(trace_id, lines, "the signature was refused");
            }
            match spent.decide(&refusal, exchange.method, self.settings()) {
                Action::GiveUp => return Err(refusal.into()),
                Action::CorrectClock { server_time_ms } => {
                    self.correct_clock(server_time_ms, sent_at_ms)?;
                }
                Action::StartSession => match exchange.renewing {
                    Renewing::Freely => Box::pin(self.replace_session(session)).await?,
                    Renewing::TokenInTurn | Renewing::Nothing => return Err(refusal.into()),
                },
                Action::RefreshToken => match exchange.renewing {
                    Renewing::Freely => Box::pin(self.replace_token(token)).await?,
                    Renewing::TokenInTurn => Box::pin(self.refresh_in_turn()).await?,
                    Renewing::Nothing => return Err(refusal.into()),
                },
                Action::SignAgain => {}
                Action::Wait(wait) => {
                    self.settings().clock.wait(entropy::jittered(wait)?).await;
                }
            }
        }
    }

    /// Stamps and signs.
    fn attempt(&self, exchange: &Exchange<'_>) -> Result<Attempt> {
        let stamp = Stamp::fresh(self.signing_time_ms())?;
        let session = match exchange.signer {
            Signer::Secret => None,
            Signer::SessionIfHeld => self.session(),
        };
        let now = self.now_ms();
        let held = self.held();
        let (url, target) = held.edge_url.locate(exchange.target)?;
        let method = exchange.method.clone();
        let mut headers = exchange.headers.clone();
        let body = match &exchange.content {
            Content::Given(body) => body.clone(),
            Content::Proof(wrap) => {
                let message = edgeward_wire::enroll::device_proof_message(
                    &held.audience,
                    held.agent_id,
                    method.as_str(),
                    &target,
                    &stamp.timestamp,
                    stamp.nonce.as_str(),
                );
                let proof = self.inner.device.sign(message.as_bytes())?;
                wrap(proof).map_err(|error| Error::Protocol(error.to_string()))?.into()
            }
        };
        let content_type = sign::check(&method, exchange.headers)?;
        let unsigned = Unsigned { method: &method, target: &target, content_type, body: &body };
        let signed = sign::sign(&held, session.as_ref(), &stamp, &unsigned, &mut headers)?;
        let token = held.token.as_ref().filter(|token| exchange.token && token.expires_at_ms > now);
        let token = token.map(|token| token.jwt.clone());
        if let Some(jwt) = &token {
            headers.insert(http::header::AUTHORIZATION, sign::bearer(jwt.expose())?);
        }
        let request = assemble(method, url, headers, body);
        let session = session.map(|session: Session| session.id);
        Ok(Attempt { request, session, token, signed })
    }

    async fn transmit(&self, request: reqwest::Request) -> Result<reqwest::Response> {
        transmit(&self.inner.http, self.settings(), request).await
    }
}

/// Sends, and waits for the head of the answer as long as `settings` allow.
pub(super) async fn transmit(
    http: &reqwest::Client,
    settings: &crate::Settings,
    request: reqwest::Request,
) -> Result<reqwest::Response> {
    let allowed = settings.head_timeout;
    match tokio::time::timeout(allowed, http.execute(request)).await {
        Ok(answer) => answer.map_err(|source| Error::Transport { during: "sending", source }),
        Err(_) => Err(Error::TimedOut { after_ms: allowed.as_millis() }),
    }
}

pub(super) fn assemble(
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
) -> reqwest::Request {
    let mut request = reqwest::Request::new(method, url);
    *request.headers_mut() = headers;
    if !body.is_empty() {
        *request.body_mut() = Some(body.into());
    }
    request
}

/// Headers of the edge's own calls.
pub(super) fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )])
}
