//! Requests made by hand: signed like an agent's, but kept, so that they can be changed and sent again.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use edgeward_client::{Agent, Credentials, Session};
use edgeward_keys::{EntropyExt as _, SystemEntropy};
use edgeward_wire::api::{EnrollStart, EnrollStarted};
use edgeward_wire::signature::BodyDigest;
use edgeward_wire::{MacKey, Nonce, Scope, StringToSign, header};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::config::SCOPE;
use super::upstream::HELLO;
use super::verdict::Answer;
use crate::settings::now_ms;

/// Far beyond what any answer takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// No answer of the edge to the demo is longer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
const JSON: &str = "application/json";

/// A request as it goes out; a copy of it is the same request.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) method: Method,
    pub(super) target: &'static str,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Sent {
    /// Replaces a header.
    pub(super) fn set(&mut self, name: HeaderName, value: &str) -> anyhow::Result<()> {
        self.headers.insert(name, HeaderValue::from_str(value)?);
        Ok(())
    }
}

/// One agent as it stands: what it holds, and its session, without which its secret signs.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) credentials: Credentials,
    pub(super) session: Option<Session>,
}

impl Holder {
    /// With the session that it must hold.
    pub(super) fn of(agent: &Agent) -> anyhow::Result<Self> {
        let session = agent.session().context("no session is held")?;
        Ok(Self { credentials: agent.credentials(), session: Some(session) })
    }

    /// A request with a body (none if empty), signed now.
    pub(super) fn sign(
        &self,
        request: (Method, &'static str, &'static str),
    ) -> anyhow::Result<Sent> {
        sign(self, request, now_ms())
    }

    /// The plainest call.
    pub(super) fn hello(&self) -> anyhow::Result<Sent> {
        self.sign((Method::GET, HELLO, ""))
    }
}

/// Signs by the session, or by the secret without one, with the JWT, as if it were `at_ms` (epoch
/// milliseconds).
pub(super) fn sign(
    Holder { credentials, session }: &Holder,
    (method, target, body): (Method, &'static str, &'static str),
    at_ms: i64,
) -> anyhow::Result<Sent> {
    let nonce = nonce()?;
    let content_type = if body.is_empty() { "" } else { JSON };
    let to_sign = StringToSign {
        audience: &credentials.audience,
        agent_id: credentials.agent_id,
        session_id: session.as_ref().map_or("", |session| session.id.expose()),
        timestamp: &at_ms.to_string(),
        nonce: nonce.as_str(),
        method: method.as_str(),
        target,
        content_type,
        body: BodyDigest::of(body.as_bytes()),
    };
    let key = match session {
        Some(session) => MacKey::of_session(&session.key),
        None => MacKey::of_secret(&credentials.agent_secret),
    };
    let signature = key.sign(&to_sign).header();
    let token = credentials.token.as_ref().context("no JWT is held")?;
    let mut sent = Sent { method, target, headers: HeaderMap::new(), body: body.into() };
    sent.set(header::X_AGENT_ID, &credentials.agent_id.to_string())?;
    if let Some(session) = session {
        sent.set(header::X_SESSION_ID, session.id.expose())?;
    }
    sent.set(header::X_TIMESTAMP, &at_ms.to_string())?;
    sent.set(header::X_NONCE, nonce.as_str())?;
    sent.set(header::X_SIGNATURE, &signature)?;
    sent.set(AUTHORIZATION, &format!("Bearer {}", token.jwt.expose()))?;
    if !content_type.is_empty() {
        sent.set(CONTENT_TYPE, content_type)?;
    }
    Ok(sent)
}

pub(super) fn nonce() -> anyhow::Result<Nonce> {
    Ok(Nonce::from_random(SystemEntropy.bytes()?))
}

/// Sends requests to the demo's edge as they are.
pub(super) struct Caller {
    http: Client<HttpConnector, Full<Bytes>>,
    edge: String,
}

impl Caller {
    /// For an edge at this URL.
    pub(super) fn new(edge: &str) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { http, edge: edge.to_owned() }
    }

    /// Where it sends them.
    pub(super) fn url(&self) -> &str {
        &self.edge
    }

    /// The answer, its body not read yet.
    pub(super) async fn send(&self, sent: &Sent) -> anyhow::Result<Response<Incoming>> {
        let mut request = http::Request::new(Full::new(sent.body.clone()));
        *request.method_mut() = sent.method.clone();
        *request.uri_mut() = format!("{}{}", self.edge, sent.target).parse()?;
        *request.headers_mut() = sent.headers.clone();
        Ok(tokio::time::timeout(PATIENCE, self.http.request(request)).await??)
    }

    /// What the answer was, as far as a refusal goes.
    pub(super) async fn answer(&self, sent: &Sent) -> Answer {
        match self.send(sent).await {
            Ok(response) => {
                let code = response.headers().get(header::X_EDGEWARD_CODE);
                Answer::Http {
                    status: response.status().as_u16(),
                    code: code.and_then(|code| code.to_str().ok()).map(str::to_owned),
                }
            }
            Err(error) => Answer::Odd(format!("no answer: {error:#}")),
        }
    }

    /// Asks for an enrolment code, as an owner.
    pub(super) async fn enroll_code(&self, owner_jwt: &str) -> anyhow::Result<EnrollStarted> {
        let start = EnrollStart { scopes: vec![Scope::parse(SCOPE)?], ..EnrollStart::default() };
        let mut sent = Sent {
            method: Method::POST,
            target: "/agent/enroll/start",
            headers: HeaderMap::new(),
            body: serde_json::to_vec(&start)?.into(),
        };
        sent.set(AUTHORIZATION, &format!("Bearer {owner_jwt}"))?;
        sent.set(CONTENT_TYPE, JSON)?;
        let response = self.send(&sent).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}
