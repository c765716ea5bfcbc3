use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use edgeward_client::clock::Clock as _;
use edgeward_wire::enroll::device_proof_message;
use edgeward_wire::signature::BodyDigest;
use edgeward_wire::{
    AgentId, AgentSecret, Code, DevicePublicKey, MacKey, Nonce, Problem, SessionId, SessionKey,
    SessionSalt, Signature, StringToSign, TraceId,
};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::{AUDIENCE, FakeClock};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// The raw target.
    pub target: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The target without the base path.
    pub fn path(&self) -> &str {
        self.target.strip_prefix("/base").unwrap_or(&self.target)
    }
}

/// A piece of a streamed answer.
pub enum Piece {
    Bytes(&'static str),
    /// The connection breaks off.
    Break,
}

/// What the edge answers.
pub enum Reply {
    Json(u16, Value),
    /// A refusal, with what to change of the problem.
    Refusal(Code, Value),
    /// Anything else: status, headers, body.
    Plain(u16, Vec<(&'static str, String)>, String),
    /// `text/event-stream`, piece by piece until the sender is dropped.
    Stream(mpsc::UnboundedReceiver<Piece>),
}

impl Reply {
    pub fn refusal(code: Code) -> Option<Self> {
        Some(Self::Refusal(code, json!({})))
    }

    /// A stream of these pieces, which then ends, or breaks off at [`Piece::Break`].
    pub fn stream(pieces: Vec<Piece>) -> Option<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for piece in pieces {
            sender.send(piece).ok().unwrap();
        }
        Some(Self::Stream(receiver))
    }
}

type Script = dyn Fn(&Seen, usize) -> Option<Reply> + Send + Sync;

/// A server that answers like an edge, or as its script says, and keeps what it saw.
pub struct Edge {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    agent_id: AgentId,
    secrets: Mutex<Vec<AgentSecret>>,
    device: DevicePublicKey,
    sessions: Mutex<HashMap<String, SessionKey>>,
    seen: watch::Sender<Vec<Seen>>,
    clock: Arc<FakeClock>,
    script: Box<Script>,
}

impl Edge {
    pub async fn start(
        agent_id: AgentId,
        secret: AgentSecret,
        device: DevicePublicKey,
        clock: Arc<FakeClock>,
        script: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            agent_id,
            secrets: Mutex::new(vec![secret]),
            device,
            sessions: Mutex::default(),
            seen: watch::Sender::new(Vec::new()),
            clock,
            script: Box::new(script),
        });
        tokio::spawn(serve(listener, state.clone()));
        Self { address, state }
    }

    pub fn url(&self, base_path: &str) -> String {
        format!("http://{}{base_path}", self.address)
    }

    /// Everything seen so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.borrow().clone()
    }

    /// `METHOD path` of everything seen so far.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path())).collect()
    }

    /// Waits until `enough` holds for what was seen.
    pub async fn until(&self, mut enough: impl FnMut(&[Seen]) -> bool) {
        let mut watched = self.state.seen.subscribe();
        super::soon(watched.wait_for(|seen| enough(seen))).await.unwrap();
    }

    /// Checks what must hold of every request: the signature and that no nonce came twice.
    pub fn check_signatures(&self) {
        let mut nonces = HashSet::new();
        for seen in self.seen() {
            self.check_signature(&seen);
            let nonce = seen.header("x-nonce").to_owned();
            Nonce::parse(&nonce).unwrap();
            assert!(nonces.insert(nonce), "a nonce came twice");
        }
    }

    fn check_signature(&self, seen: &Seen) {
        let rendered = StringToSign {
            audience: AUDIENCE,
            agent_id: self.state.agent_id,
            session_id: seen.header("x-session-id"),
            timestamp: seen.header("x-timestamp"),
            nonce: seen.header("x-nonce"),
            method: &seen.method,
            target: &seen.target,
            content_type: seen.header("content-type"),
            body: BodyDigest::of(&seen.body),
        }
        .render();
        let keys: Vec<MacKey> = match seen.header("x-session-id") {
            "" => self.state.secrets.lock().unwrap().iter().map(MacKey::of_secret).collect(),
            id => vec![MacKey::of_session(&self.state.sessions.lock().unwrap()[id])],
        };
        let signature = Signature::parse(seen.header("x-signature")).unwrap();
        assert!(keys.iter().any(|key| key.accepts(rendered.as_bytes(), &signature)), "{rendered}");
        assert_eq!(seen.header("x-agent-id"), self.state.agent_id.to_string());
        assert_eq!(seen.header("x-timestamp").len(), 13);
    }
}

impl State {
    fn reply(&self, seen: &Seen, nth: usize) -> Reply {
        if let Some(reply) = (self.script)(seen, nth) {
            return reply;
        }
        let now = self.clock.now_ms();
        match seen.path() {
            "/agent/session/start" => {
                assert_eq!(seen.header("x-session-id"), "");
                self.check_proof(seen);
                self.start_session(now)
            }
            "/agent/session/extend" => {
                Reply::Json(200, json!({"ttl_ms": 600_000, "expires_at_ms": now + 600_000}))
            }
            "/agent/session/end" => Reply::Plain(204, vec![], String::new()),
            "/agent/token/refresh" => {
                if seen.header("x-session-id").is_empty() {
                    self.check_proof(seen);
                }
                let jwt = format!("jwt.of.{now}");
                Reply::Json(200, json!({"agent_jwt": jwt, "jwt_expires_in_sec": 3600}))
            }
            "/agent/secret/rotate" => Reply::Refusal(Code::RouteUnknown, json!({})),
            _ => Reply::Plain(200, vec![], "ok".to_owned()),
        }
    }

    fn start_session(&self, now: u64) -> Reply {
        let mut sessions = self.sessions.lock().unwrap();
        let number = u8::try_from(sessions.len()).unwrap();
        let (id, salt) =
            (SessionId::from_random(&[number; 32]), SessionSalt::from_random(&[number + 100; 32]));
        let secret = self.secrets.lock().unwrap().last().cloned().unwrap();
        sessions.insert(id.expose().to_owned(), SessionKey::derive(&secret, &id, &salt));
        Reply::Json(
            200,
            json!({
                "session_id": id, "session_salt": salt, "ttl_ms": 600_000,
                "expires_at_ms": now + 600_000, "max_expires_at_ms": now + 1_500_000,
                "audience": AUDIENCE, "require_nonce": true, "server_time_ms": now,
                "something_of_a_later_version": 1,
            }),
        )
    }

    fn check_proof(&self, seen: &Seen) {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let message = device_proof_message(
            AUDIENCE,
            self.agent_id,
            &seen.method,
            &seen.target,
            seen.header("x-timestamp"),
            seen.header("x-nonce"),
        );
        assert!(self.device.accepts(message.as_bytes(), body["device_proof"].as_str().unwrap()));
    }

    /// A new secret, prepared: the next requests may be signed by it.
    fn rotate(&self, version: u64, now: u64) -> Reply {
        let secret = AgentSecret::from_random(&[u8::try_from(version).unwrap() + 50; 32]);
        self.secrets.lock().unwrap().push(secret.clone());
        Reply::Json(
            200,
            json!({
                "agent_secret": secret, "secret_version": version,
                "secret_expires_at_ms": now + 90 * super::DAY_MS,
            }),
        )
    }
}

impl Edge {
    /// The answer to `secret/rotate` of an edge that has this call.
    pub fn rotated(version: u64) -> Option<Reply> {
        // The state is not at hand in a script: the server fills it in.
        Some(Reply::Json(299, json!({"version": version})))
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        let state = state.clone();
        let service = hyper::service::service_fn(move |request| answer(request, state.clone()));
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(socket), service),
        );
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<BoxBody<Bytes, std::io::Error>>, Infallible> {
    let (parts, body) = request.into_parts();
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().unwrap().to_string(),
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    };
    let nth = state.seen.borrow().iter().filter(|other| other.target == seen.target).count();
    state.seen.send_modify(|all| all.push(seen.clone()));
    let reply = match state.reply(&seen, nth) {
        Reply::Json(299, value) => {
            state.check_proof(&seen);
            state.rotate(value["version"].as_u64().unwrap(), state.clock.now_ms())
        }
        other @ (Reply::Json(..) | Reply::Refusal(..) | Reply::Plain(..) | Reply::Stream(_)) => {
            other
        }
    };
    Ok(render(reply))
}

fn render(reply: Reply) -> Response<BoxBody<Bytes, std::io::Error>> {
    let full = |text: String| Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    match reply {
        Reply::Json(status, value) => Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(full(value.to_string()))
            .unwrap(),
        Reply::Refusal(code, change) => {
            let problem = Problem::new(code, TraceId::from_random([9; 16]));
            let mut problem = serde_json::to_value(problem).unwrap();
            problem.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            Response::builder()
                .status(code.status())
                .header("content-type", Problem::MEDIA_TYPE)
                .header("x-edgeward-code", code.as_str())
                .header("x-trace-id", TraceId::from_random([9; 16]).to_string())
                .body(full(problem.to_string()))
                .unwrap()
        }
        Reply::Plain(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(full(body)).unwrap()
        }
        Reply::Stream(mut pieces) => {
            let mut breaks = false;
            let frames = futures_util::stream::poll_fn(move |cx| {
                if breaks {
                    return Poll::Ready(Some(Err(std::io::Error::other("breaks off"))));
                }
                match pieces.poll_recv(cx) {
                    Poll::Ready(Some(Piece::Bytes(text))) => {
                        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
                    }
                    Poll::Ready(Some(Piece::Break)) => {
                        // One turn later, so that what stands before it has been sent.
                        breaks = true;
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    Poll::Ready(None) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            });
            Response::builder()
                .header("content-type", "text/event-stream; charset=utf-8")
                .body(StreamBody::new(frames).boxed())
                .unwrap()
        }
    }
}
