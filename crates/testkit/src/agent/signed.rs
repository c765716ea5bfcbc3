//! A request that starts out right and is made wrong, one defect at a time.

use std::sync::Arc;

use edgeward_wire::signature::{BodyDigest, StringToSign};
use edgeward_wire::{AgentId, AgentSecret, MacKey};
use serde_json::Value;

use super::{Agent, Session, nonce};
use crate::door::AsDoor;
use crate::edge::AUDIENCE;
use crate::raw::{self, Answer, Conn};

/// What goes on the wire.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// Header lines, `Host` first; the framing's are added by [`Parts::bytes`].
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Parts {
    /// Replaces a header's line, or adds it.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.headers.iter_mut().find(|(given, _)| given.eq_ignore_ascii_case(name)) {
            Some((_, old)) => value.clone_into(old),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Adds a line, also where the header is there.
    pub fn add(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a header out.
    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn head(&self, framing: &str) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str(framing);
        out.push_str("\r\n");
        out.into_bytes()
    }

    /// The bytes of the request with a `Content-Length`.
    pub fn bytes(&self) -> Vec<u8> {
        let framing = if self.body.is_empty() && self.method != "POST" {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", self.body.len())
        };
        [self.head(&framing), self.body.clone()].concat()
    }

    /// The bytes of the request with its body in chunks.
    pub fn chunked(&self, size: usize) -> Vec<u8> {
        let head = self.head("Transfer-Encoding: chunked\r\n");
        [head, raw::chunked(&self.body, size)].concat()
    }
}

type Change = Arc<dyn Fn(&mut Parts) + Send + Sync>;

/// What is signed, and what is changed after.
#[derive(Clone)]
pub struct Signed {
    agent: Agent,
    named: AgentId,
    key: MacKey,
    audience: String,
    session: Option<String>,
    offset_ms: i64,
    stamp: Option<String>,
    nonce: Option<String>,
    method: String,
    target: String,
    content_type: Option<String>,
    bearer: Option<String>,
    body: Vec<u8>,
    device_proof: bool,
    changes: Vec<Change>,
}

impl Signed {
    pub(super) fn new(agent: Agent, method: &str, target: &str) -> Self {
        Self {
            named: agent.id,
            key: MacKey::of_secret(&agent.secret),
            audience: AUDIENCE.to_owned(),
            session: None,
            offset_ms: 0,
            stamp: None,
            nonce: Some(nonce()),
            method: method.to_owned(),
            target: target.to_owned(),
            content_type: None,
            bearer: Some(format!("Bearer {}", agent.jwt)),
            body: Vec::new(),
            device_proof: false,
            changes: Vec::new(),
            agent,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Changes what goes on the wire after it was signed.
    #[must_use]
    pub fn after(mut self, change: impl Fn(&mut Parts) + Send + Sync + 'static) -> Self {
        self.changes.push(Arc::new(change));
        self
    }

    // What is right.

    /// With this body.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        self.with(|this| this.body = body.into())
    }

    /// With JSON and its media type.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body(body.to_string()).content_type("application/json")
    }

    /// With this media type, signed.
    #[must_use]
    pub fn content_type(self, value: &str) -> Self {
        self.with(|this| this.content_type = Some(value.to_owned()))
    }

    /// In a session, by its key.
    #[must_use]
    pub fn in_session(self, session: &Session) -> Self {
        self.with(|this| {
            this.session = Some(session.id().to_owned());
            this.key = session.key.clone();
        })
    }

    /// With a device proof as the one member more of its JSON body.
    #[must_use]
    pub fn with_device_proof(self) -> Self {
        self.with(|this| this.device_proof = true)
    }

    /// With one more header line.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.after(move |parts| parts.add(&name, &value))
    }

    /// Asks for a stream of events.
    #[must_use]
    pub fn accept_events(self) -> Self {
        self.header("Accept", "text/event-stream")
    }

    /// With this nonce, signed.
    #[must_use]
    pub fn nonce(self, nonce: &str) -> Self {
        self.with(|this| this.nonce = Some(nonce.to_owned()))
    }

    /// Stamped so far after the clock (before it when negative), signed.
    #[must_use]
    pub fn timestamp_offset_ms(self, offset: i64) -> Self {
        self.with(|this| this.offset_ms = offset)
    }

    /// With this text as its timestamp, signed.
    #[must_use]
    pub fn timestamp(self, text: &str) -> Self {
        self.with(|this| this.stamp = Some(text.to_owned()))
    }

    // What is wrong, and consistently signed.

    /// Without a nonce.
    #[must_use]
    pub fn no_nonce(self) -> Self {
        self.with(|this| this.nonce = None)
    }

    /// Signed by another secret.
    #[must_use]
    pub fn other_secret(self) -> Self {
        let secret = AgentSecret::from_random(&crate::random());
        self.key(MacKey::of_secret(&secret))
    }

    /// Signed by this key.
    #[must_use]
    pub fn key(self, key: MacKey) -> Self {
        self.with(|this| this.key = key)
    }

    /// For another audience.
    #[must_use]
    pub fn audience(self, audience: &str) -> Self {
        self.with(|this| this.audience = audience.to_owned())
    }

    /// Names another agent.
    #[must_use]
    pub fn named(self, agent: AgentId) -> Self {
        self.with(|this| this.named = agent)
    }

    /// Names a session of somebody else, signed by this agent's secret or session.
    #[must_use]
    pub fn session_id(self, id: &str) -> Self {
        self.with(|this| this.session = Some(id.to_owned()))
    }

    // What is wrong because it was changed after.

    /// Without its signature.
    #[must_use]
    pub fn no_signature(self) -> Self {
        self.without("X-Signature")
    }

    /// With a well-formed signature that is not its own.
    #[must_use]
    pub fn wrong_signature(self) -> Self {
        self.after(|parts| {
            let old = parts.header("X-Signature").unwrap_or_default().to_owned();
            let last = if old.ends_with('0') { "1" } else { "0" };
            parts.set("X-Signature", &format!("{}{last}", &old[..old.len() - 1]));
        })
    }

    /// With a signature of another form.
    #[must_use]
    pub fn signature(self, text: &str) -> Self {
        self.replaced("X-Signature", text)
    }

    /// Stamped anew after it was signed.
    #[must_use]
    pub fn restamped(self, later_ms: i64) -> Self {
        self.after(move |parts| {
            let old: i64 = parts.header("X-Timestamp").unwrap().parse().unwrap();
            parts.set("X-Timestamp", &(old + later_ms).to_string());
        })
    }

    /// With a fresh nonce after it was signed.
    #[must_use]
    pub fn swapped_nonce(self) -> Self {
        self.after(|parts| parts.set("X-Nonce", &nonce()))
    }

    /// In another session after it was signed.
    #[must_use]
    pub fn swapped_session(self, id: &str) -> Self {
        self.replaced("X-Session-Id", id)
    }

    /// With another body after it was signed.
    #[must_use]
    pub fn swapped_body(self, body: &str) -> Self {
        let body = body.as_bytes().to_vec();
        self.after(move |parts| parts.body.clone_from(&body))
    }

    /// For another target after it was signed.
    #[must_use]
    pub fn swapped_target(self, target: &str) -> Self {
        let target = target.to_owned();
        self.after(move |parts| parts.target.clone_from(&target))
    }

    /// With another query after it was signed.
    #[must_use]
    pub fn swapped_query(self, query: &str) -> Self {
        let query = query.to_owned();
        self.after(move |parts| {
            let path = parts.target.split('?').next().unwrap().to_owned();
            parts.target = format!("{path}?{query}");
        })
    }

    /// By another method after it was signed.
    #[must_use]
    pub fn swapped_method(self, method: &str) -> Self {
        let method = method.to_owned();
        self.after(move |parts| parts.method.clone_from(&method))
    }

    /// With another media type after it was signed.
    #[must_use]
    pub fn content_type_changed(self, value: &str) -> Self {
        self.replaced("Content-Type", value)
    }

    /// With a header's line twice.
    #[must_use]
    pub fn duplicate_header(self, name: &str) -> Self {
        let name = name.to_owned();
        self.after(move |parts| {
            let value = parts.header(&name).expect("a header to double").to_owned();
            parts.add(&name, &value);
        })
    }

    /// With another value of a header after it was signed.
    #[must_use]
    pub fn replaced(self, name: &str, value: &str) -> Self {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.after(move |parts| parts.set(&name, &value))
    }

    /// Without a header.
    #[must_use]
    pub fn without(self, name: &str) -> Self {
        let name = name.to_owned();
        self.after(move |parts| parts.remove(&name))
    }

    // The JWT.

    /// Without a JWT.
    #[must_use]
    pub fn no_bearer(self) -> Self {
        self.with(|this| this.bearer = None)
    }

    /// With this JWT.
    #[must_use]
    pub fn bearer(self, jwt: &str) -> Self {
        self.with(|this| this.bearer = Some(format!("Bearer {jwt}")))
    }

    /// With its JWT changed by one character of the signature.
    #[must_use]
    pub fn tampered_bearer(self) -> Self {
        let (head, signature) = self.agent.jwt.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let jwt = format!("{head}.{first}{}", &signature[1..]);
        self.bearer(&jwt)
    }

    /// With the claims of its JWT under `alg: none`.
    #[must_use]
    pub fn unsigned_bearer(self) -> Self {
        let claims = self.agent.jwt.split('.').nth(1).unwrap();
        let head = crate::base64url(r#"{"alg":"none","typ":"JWT"}"#);
        let jwt = format!("{head}.{claims}.");
        self.bearer(&jwt)
    }

    // Other credentials in place of the signature.

    /// The secret itself in a header, and nothing else but the JWT.
    #[must_use]
    pub fn header_secret(self) -> Self {
        let secret = self.agent.secret.expose().to_owned();
        self.bare().after(move |parts| parts.set("X-Agent-Secret", &secret))
    }

    /// The older signature over the body alone.
    #[must_use]
    pub fn body_signature(self) -> Self {
        let key = aws_lc_rs::hmac::Key::new(
            aws_lc_rs::hmac::HMAC_SHA256,
            self.agent.secret.expose().as_bytes(),
        );
        self.without("X-Nonce").without("X-Session-Id").after(move |parts| {
            let tag = aws_lc_rs::hmac::sign(&key, &parts.body);
            parts.set("X-Signature", &hex(tag.as_ref()));
        })
    }

    /// No signature and nothing that goes with one; agent id and JWT stay.
    #[must_use]
    pub fn bare(self) -> Self {
        self.no_signature().without("X-Timestamp").without("X-Nonce").without("X-Session-Id")
    }

    // What comes of it.

    /// Signs, changes, and gives what goes on the wire.
    pub fn parts(&self) -> Parts {
        let now = i64::try_from(self.agent.now_ms()).unwrap();
        let stamp = self.stamp.clone().unwrap_or_else(|| (now + self.offset_ms).to_string());
        let nonce = self.nonce.as_deref().unwrap_or("");
        let body =
            if self.device_proof { self.proven_body(&stamp, nonce) } else { self.body.clone() };
        let to_sign = StringToSign {
            audience: &self.audience,
            agent_id: self.named,
            session_id: self.session.as_deref().unwrap_or(""),
            timestamp: &stamp,
            nonce,
            method: &self.method,
            target: &self.target,
            content_type: self.content_type.as_deref().unwrap_or(""),
            body: BodyDigest::of(&body),
        };
        let signature = self.key.sign(&to_sign).header();
        let mut headers = vec![("Host".to_owned(), "edge.test".to_owned())];
        let mut line = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
        line("X-Agent-Id", &self.named.to_string());
        line("X-Timestamp", &stamp);
        for (name, value) in [
            ("X-Nonce", &self.nonce),
            ("X-Session-Id", &self.session),
            ("Content-Type", &self.content_type),
            ("Authorization", &self.bearer),
        ] {
            if let Some(value) = value {
                line(name, value);
            }
        }
        line("X-Signature", &signature);
        let (method, target) = (self.method.clone(), self.target.clone());
        let mut parts = Parts { method, target, headers, body };
        for change in &self.changes {
            change(&mut parts);
        }
        parts
    }

    fn proven_body(&self, stamp: &str, nonce: &str) -> Vec<u8> {
        let message = format!(
            "edgeward-device-v2\n{}\n{}\n{}\n{}\n{stamp}\n{nonce}",
            self.audience, self.named, self.method, self.target
        );
        let mut body: Value = serde_json::from_slice(&self.body).expect("a JSON body");
        body["device_proof"] = self.agent.device.sign(message.as_bytes()).into();
        body.to_string().into_bytes()
    }

    /// The bytes of the request.
    pub fn build(&self) -> Vec<u8> {
        self.parts().bytes()
    }

    /// Sends it on a connection of its own.
    pub async fn send(&self, edge: &impl AsDoor) -> Answer {
        edge.door().send(&self.build()).await
    }

    /// Sends it and reads the head of the answer; the body is to be read from the connection.
    pub async fn open(&self, edge: &impl AsDoor) -> (raw::Head, Conn) {
        let mut conn = edge.door().connect().await;
        conn.send(&self.build()).await;
        let head = conn.head().await;
        (head, conn)
    }
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed({} {} of {})", self.method, self.target, self.named)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
