//! Agents with sessions, and their requests as bytes.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgeward_wire::api::{EnrollStarted, Enrolled, SessionStarted};
use edgeward_wire::enroll::enroll_message;
use edgeward_wire::signature::BodyDigest;
use edgeward_wire::{
    AgentId, DevicePublicKey, EnrollCode, MacKey, Nonce, SessionKey, StringToSign,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::load::message_length;
use super::process::OWNER_SECRET;

struct Member {
    agent: AgentId,
    session: String,
    key: MacKey,
    token: String,
}

/// All agents of a run.
pub(crate) struct Fleet {
    host: String,
    members: Vec<Member>,
    count: Cell<u64>,
}

impl Fleet {
    /// Enrols as many agents and opens a session for each.
    pub(crate) async fn enrol(host: &str, agents: usize) -> Self {
        let mut connection =
            Connection { stream: TcpStream::connect(host).await.unwrap(), host: host.to_owned() };
        let mut members = Vec::with_capacity(agents);
        for _ in 0..agents {
            members.push(connection.member().await);
        }
        Self { host: host.to_owned(), members, count: Cell::new(0) }
    }

    /// Requests that pass.
    pub(crate) fn signed(&self, count: usize, size: usize) -> Vec<Vec<u8>> {
        let body = vec![b'x'; size];
        (0..count).map(|_| self.request(&body, &body)).collect()
    }

    /// Requests whose body is not the one that was signed.
    pub(crate) fn wrong(&self, count: usize, size: usize) -> Vec<Vec<u8>> {
        let (body, other) = (vec![b'x'; size], vec![b'y'; size]);
        (0..count).map(|_| self.request(&body, &other)).collect()
    }

    fn request(&self, body: &[u8], signed: &[u8]) -> Vec<u8> {
        let count = self.count.get();
        self.count.set(count + 1);
        let member = &self.members[count as usize % self.members.len()];
        let (timestamp, nonce) = (now_ms().to_string(), fresh_nonce(count));
        let to_sign = StringToSign {
            audience: "edgeward",
            agent_id: member.agent,
            session_id: &member.session,
            timestamp: &timestamp,
            nonce: nonce.as_str(),
            method: "POST",
            target: "/v1/chat",
            content_type: "application/json",
            body: BodyDigest::of(signed),
        };
        let signature = member.key.sign(&to_sign).header();
        let mut bytes = format!(
            "POST /v1/chat HTTP/1.1\r\nhost: {}\r\naccept: */*\r\nuser-agent: bench\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nx-agent-id: {}\r\n\
             x-timestamp: {timestamp}\r\nx-nonce: {nonce}\r\nx-session-id: {}\r\n\
             x-signature: {signature}\r\nauthorization: Bearer {}\r\n\r\n",
            self.host,
            body.len(),
            member.agent,
            member.session,
            member.token,
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// One connection to the edge, for the handshakes.
struct Connection {
    stream: TcpStream,
    host: String,
}

impl Connection {
    async fn member(&mut self) -> Member {
        let owner = owner_jwt();
        let bearer = format!("authorization: Bearer {owner}\r\n");
        let started = self.post("/agent/enroll/start", &bearer, r#"{"scopes":["bench"]}"#).await;
        let started: EnrollStarted = serde_json::from_value(started).unwrap();
        let mut seed = [0u8; 32];
        aws_lc_rs::rand::fill(&mut seed).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let raw: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let key = DevicePublicKey::ed25519(raw).unwrap();
        let code = EnrollCode::parse(&started.enroll_code).unwrap();
        let message = enroll_message("edgeward", &code, &started.challenge, &key.thumbprint());
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()).as_ref());
        let complete = json!({
            "enroll_code": started.enroll_code,
            "public_key": key.jwk(),
            "signature": signature,
        });
        let enrolled = self.post("/agent/enroll/complete", "", &complete.to_string()).await;
        let enrolled: Enrolled = serde_json::from_value(enrolled).unwrap();
        let session = self.session(&enrolled).await;
        let key =
            SessionKey::derive(&enrolled.agent_secret, &session.session_id, &session.session_salt);
        Member {
            agent: enrolled.agent_id,
            session: session.session_id.expose().to_owned(),
            key: MacKey::of_session(&key),
            token: enrolled.agent_jwt,
        }
    }

    async fn session(&mut self, enrolled: &Enrolled) -> SessionStarted {
        let (timestamp, nonce) = (now_ms().to_string(), fresh_nonce(u64::MAX));
        let to_sign = StringToSign {
            audience: "edgeward",
            agent_id: enrolled.agent_id,
            session_id: "",
            timestamp: &timestamp,
            nonce: nonce.as_str(),
            method: "POST",
            target: "/agent/session/start",
            content_type: "application/json",
            body: BodyDigest::of(b"{}"),
        };
        let signature = MacKey::of_secret(&enrolled.agent_secret).sign(&to_sign).header();
        let headers = format!(
            "x-agent-id: {}\r\nx-timestamp: {timestamp}\r\nx-nonce: {nonce}\r\n\
             x-signature: {signature}\r\nauthorization: Bearer {}\r\n",
            enrolled.agent_id, enrolled.agent_jwt
        );
        serde_json::from_value(self.post("/agent/session/start", &headers, "{}").await).unwrap()
    }

    async fn post(&mut self, target: &str, headers: &str, body: &str) -> Value {
        let request = format!(
            "POST {target} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{headers}\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut buffer = Vec::new();
        while message_length(&buffer).is_none() {
            assert_ne!(self.stream.read_buf(&mut buffer).await.unwrap(), 0, "closed early");
        }
        let text = String::from_utf8(buffer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        serde_json::from_str(body).unwrap()
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn fresh_nonce(count: u64) -> Nonce {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes[..8].copy_from_slice(&count.to_be_bytes());
    Nonce::from_random(bytes)
}

fn owner_jwt() -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!(
        "{}.{}",
        part(json!({"alg": "HS256", "typ": "JWT"})),
        part(json!({"sub": "bench", "exp": now_ms() / 1000 + 600}))
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, OWNER_SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}
