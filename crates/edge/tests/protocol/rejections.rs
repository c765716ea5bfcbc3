//! Every row of the protocol's table, produced by a request over a socket.

use std::future::Future;

use edgeward_core::time::WallMs;
use edgeward_store::clock::ManualClock;
use edgeward_testkit::{Agent, Answer, Conn, Enrolment, Nobody, Reply, TestEdge, Upstream, owner};
use edgeward_wire::{AgentId, Code, SessionId};
use serde_json::json;

use crate::problem::assert_refusal;

/// An edge with a route for every thing that a route can ask for.
struct Stage {
    edge: TestEdge,
    agent: Agent,
    upstream: Upstream,
    _dead: Nobody,
}

impl Stage {
    async fn set() -> Self {
        let (upstream, dead) = (Upstream::start().await, Nobody::here());
        let url = upstream.url();
        let route = |edge: edgeward_testkit::Builder, prefix: &str, lines: &str| {
            edge.route_with(prefix, &[&url], lines)
        };
        let mut plan = TestEdge::builder()
            // It stands still: a slow machine must not fill a rate up again.
            .clock(&ManualClock::at(WallMs(1_764_000_000_000)))
            .set("AGENT_SECRET_CACHE_MS", 0)
            .set("AGENT_MAX_STREAMS", 1)
            .route_with("/dead/", &[&dead.url()], "");
        for (prefix, lines) in [
            ("/v1/", ""),
            ("/nonce/", "require_nonce = true"),
            ("/session/", "require_session = true"),
            ("/sensitive/", "sensitive = true"),
            ("/scoped/", "scopes = [\"admin\"]"),
            ("/elsewhere/", "allowed_cidrs = [\"192.0.2.0/24\"]"),
            ("/rated/", "rate = { per_sec = 1, burst = 1 }"),
            ("/small/", "max_body = 10"),
            ("/hasty/", "timeouts = { first_byte_ms = 50 }"),
        ] {
            plan = route(plan, prefix, lines);
        }
        upstream.plan(|request| match request.target().as_str() {
            "/v1/hang-up" => Reply::HangUp,
            "/hasty/never" => Reply::Never,
            "/v1/events" => Reply::Events,
            _ => Reply::Echo,
        });
        let edge = plan.start().await;
        let agent = Agent::enroll(&edge).await;
        Self { edge, agent, upstream, _dead: dead }
    }

    async fn refused(&self, code: Code, reason: &str, answer: impl Future<Output = Answer>) {
        refused(&self.edge, code, reason, answer).await;
    }

    /// The same by a signed GET.
    async fn get(&self, target: &str) -> Answer {
        self.agent.signed("GET", target).send(&self.edge).await
    }

    async fn another(&self) -> Agent {
        Agent::enroll(&self.edge).await
    }

    async fn sql(&self, sql: &str) {
        assert_eq!(self.edge.store().execute_for_tests(sql).await.unwrap(), 1, "{sql}");
    }
}

fn count(edge: &TestEdge, reason: &str) -> u64 {
    let reading = edge.edge().meter().read();
    reading.reasons.iter().find(|(given, _)| *given == reason).map_or(0, |(_, count)| *count)
}

/// Asserts that an answer is this refusal outside, and that inside it is counted as this reason.
async fn refused(edge: &TestEdge, code: Code, reason: &str, answer: impl Future<Output = Answer>) {
    let before = count(edge, reason);
    let answer = answer.await;
    assert_refusal(&answer, code.as_str());
    let reasons = edge.edge().meter().read().reasons;
    assert_eq!(count(edge, reason), before + 1, "{reason} for {code}: {reasons:?}");
}

/// Rows that no request can reach yet: nobody can prepare a secret.
const LATER: &[Code] = &[Code::NothingPrepared];

#[test]
fn every_row_of_the_table_is_answered_as_it_says() {
    // All rows are one future, too large for the stack of a test in a debug build.
    let rows = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(every_row());
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(rows).unwrap().join().unwrap();
}

async fn every_row() {
    let stage = Stage::set().await;
    for code in Code::ALL {
        if !LATER.contains(code) {
            produce(*code, &stage).await;
        }
    }
    let seen: Vec<_> = stage.edge.edge().meter().read().refused;
    assert!(seen.iter().all(|(code, _)| !LATER.contains(code)), "a row for later came: {seen:?}");
}

async fn produce(code: Code, stage: &Stage) {
    let (edge, agent) = (&stage.edge, &stage.agent);
    match code {
        Code::RequestMalformed => malformed(stage).await,
        Code::TargetAmbiguous => {
            stage.refused(code, "target_ambiguous", stage.get("/v1//x")).await;
            // Of strangers too.
            stage.refused(code, "target_ambiguous", edge.get("/agent/../agent/healthz")).await;
        }
        Code::CredentialsMissing => {
            let signed = || agent.signed("GET", "/v1/x");
            for reason in [
                signed().bare().no_bearer(),
                signed().bare(),
                signed().no_signature(),
                signed().without("X-Timestamp"),
                signed().without("X-Agent-Id"),
            ] {
                stage.refused(code, "credentials_missing", reason.send(edge)).await;
            }
            let short_cut = signed().header_secret();
            stage.refused(code, "header_secret_refused", short_cut.send(edge)).await;
        }
        Code::TimestampOutsideWindow => {
            for offset in [-61_000, 8_000, -86_400_000] {
                let request = agent.signed("GET", "/v1/x").timestamp_offset_ms(offset);
                stage.refused(code, "clock_outside", request.send(edge)).await;
            }
            under_the_floor().await;
        }
        Code::SessionRequired => {
            stage.refused(code, "session_required", stage.get("/session/x")).await;
            stage.refused(code, "session_required", stage.get("/sensitive/x")).await;
            let extend = agent.call("/agent/session/extend", &json!({}));
            stage.refused(code, "session_required", extend.send(edge)).await;
        }
        Code::SessionInvalid => {
            let unknown = SessionId::from_random(&edgeward_testkit::random());
            let request = agent.signed("GET", "/v1/x").session_id(unknown.expose());
            stage.refused(code, "session_unknown", request.send(edge)).await;
            let other = stage.another().await;
            let session = other.session(edge).await;
            for request in [
                agent.signed("GET", "/v1/x").session_id(session.id()),
                agent.signed("GET", "/v1/x").in_session(&session),
            ] {
                stage.refused(code, "session_of_another", request.send(edge)).await;
            }
        }
        Code::SignatureInvalid => signature_invalid(stage).await,
        Code::NonceRequired => {
            let session = agent.session(edge).await;
            for request in [
                agent.signed("GET", "/nonce/x"),
                agent.signed("GET", "/sensitive/x").in_session(&session),
                agent.call("/agent/protected/echo", &json!({})),
                agent.call("/agent/session/start", &json!({})),
                agent.call("/agent/token/refresh", &json!({})),
            ] {
                stage.refused(code, "nonce_required", request.no_nonce().send(edge)).await;
            }
        }
        Code::NonceReplayed => {
            let request = agent.signed("GET", "/v1/x").build();
            edge.send(&request).await.expect(200);
            stage.refused(code, "nonce_replayed", edge.send(&request)).await;
            // The same nonce at another call is a replay too.
            let nonce = edgeward_testkit::agent::nonce();
            agent.signed("GET", "/v1/x").nonce(&nonce).send(edge).await.expect(200);
            let other = agent.signed("POST", "/nonce/y").nonce(&nonce);
            stage.refused(code, "nonce_replayed", other.send(edge)).await;
            // In a session as well: a nonce is the agent's, not the session's.
            let session = agent.session(edge).await;
            let inside = agent.signed("GET", "/v1/x").in_session(&session).nonce(&nonce);
            stage.refused(code, "nonce_replayed", inside.send(edge)).await;
            // Another agent's is its own.
            stage.another().await.signed("GET", "/v1/x").nonce(&nonce).send(edge).await.expect(200);
        }
        Code::TokenRequired => {
            let request = agent.signed("GET", "/v1/x").no_bearer();
            stage.refused(code, "token_required", request.send(edge)).await;
            let start = agent.call("/agent/session/start", &json!({})).no_bearer();
            stage.refused(code, "token_required", start.send(edge)).await;
            let enrol = edge.enroll_start(None, json!({}));
            stage.refused(code, "owner_token_required", enrol).await;
        }
        Code::TokenInvalid => token_invalid(stage).await,
        Code::EnrollCodeInvalid => {
            let body = json!({"enroll_code": "0000-0000-0000"});
            let unknown = edge.post("/agent/enroll/challenge", &[], &body);
            stage.refused(code, "enroll_code_invalid", unknown).await;
            let plan = Enrolment::default();
            let mut body = plan.completion(&plan.start(edge).await);
            body["signature"] = edgeward_testkit::base64url([7; 64]).into();
            stage.refused(code, "enroll_code_invalid", Enrolment::complete(edge, &body)).await;
        }
        Code::DeviceProofInvalid => {
            let wrong = edgeward_testkit::base64url([7; 64]);
            let start = agent.call("/agent/session/start", &json!({"device_proof": wrong}));
            stage.refused(code, "device_proof_wrong", start.send(edge)).await;
            let strict = TestEdge::builder().set("AGENT_DEVICE_PROOF", "session").start().await;
            let agent = Agent::enroll(&strict).await;
            let start = agent.call("/agent/session/start", &json!({}));
            refused(&strict, code, "device_proof_missing", start.send(&strict)).await;
        }
        Code::AgentBlocked => {
            for status in ["blocked", "retired"] {
                let agent = stage.another().await;
                let session = agent.session(edge).await;
                let sql = format!(
                    "UPDATE agent_devices SET status = '{status}' WHERE id = '{}'",
                    agent.id
                );
                stage.sql(&sql).await;
                let request = agent.signed("GET", "/v1/x");
                stage.refused(code, status, request.send(edge)).await;
                let request = agent.signed("GET", "/v1/x").in_session(&session);
                stage.refused(code, status, request.send(edge)).await;
                // Strangers do not learn it.
                let request = agent.signed("GET", "/v1/x").wrong_signature();
                let unproven = Code::SignatureInvalid;
                stage.refused(unproven, "wrong_signature", request.send(edge)).await;
            }
        }
        Code::AddressNotAllowed => address_not_allowed(stage).await,
        Code::ScopeMissing => stage.refused(code, "scope_missing", stage.get("/scoped/x")).await,
        Code::OwnerNotAllowed => {
            let jwt = edge.owner_jwt("owner-1", &["demo"]);
            let start = edge.enroll_start(Some(&jwt), json!({"scopes": ["admin"]}));
            stage.refused(code, "owner_not_allowed", start).await;
        }
        Code::RouteUnknown => {
            for target in ["/nowhere", "/agent/nothing", "/.well-known/other.json", "/v11/x"] {
                stage.refused(code, "route_unknown", stage.get(target)).await;
            }
            // Who has not proven itself does not learn which routes there are.
            stage
                .refused(Code::CredentialsMissing, "credentials_missing", edge.get("/nowhere"))
                .await;
            stage.refused(Code::CredentialsMissing, "credentials_missing", edge.get("/v1/x")).await;
        }
        Code::NothingPrepared => unreachable!("a row for later"),
        Code::BodyTooLarge => body_too_large(stage).await,
        Code::RateLimited => {
            let other = stage.another().await;
            agent.signed("GET", "/rated/x").send(edge).await.expect(200);
            let rated = async {
                let answer = stage.get("/rated/x").await;
                assert_eq!(answer.header("ratelimit-policy"), Some("\"agent\";q=1;w=1"));
                assert!(answer.header("ratelimit").unwrap().starts_with("\"agent\";r=0;t="));
                answer
            };
            stage.refused(code, "rate_limited", rated).await;
            // Neither another agent nor another route pays for it.
            other.signed("GET", "/rated/x").send(edge).await.expect(200);
            agent.signed("GET", "/v1/x").send(edge).await.expect(200);
        }
        Code::BackingOff => backing_off().await,
        Code::TooManyStreams => {
            let (head, conn) = agent.signed("GET", "/v1/events").accept_events().open(edge).await;
            assert_eq!(head.status, 200);
            let open = stage.upstream.next_stream().await;
            let second = agent.signed("GET", "/v1/events").accept_events();
            stage.refused(code, "too_many_streams", second.send(edge)).await;
            // The open one has not given way.
            assert!(open.event("still here").await && !open.is_gone());
            drop(conn);
        }
        Code::UpstreamFailed => {
            stage.refused(code, "upstream_connect", stage.get("/dead/x")).await;
            stage.refused(code, "upstream_broken", stage.get("/v1/hang-up")).await;
        }
        Code::UpstreamTimeout => {
            stage.refused(code, "upstream_first_byte_timeout", stage.get("/hasty/never")).await;
        }
        Code::DependencyUnavailable => database_gone().await,
        Code::Starting => starting().await,
        Code::Draining => {
            let edge = TestEdge::builder().start().await;
            let agent = Agent::enroll(&edge).await;
            edge.edge().drain();
            let echo = agent.call("/agent/protected/echo", &json!({}));
            refused(&edge, code, "draining", echo.send(&edge)).await;
            refused(&edge, code, "draining", edge.enroll_start(None, json!({}))).await;
            let health = edge.get("/agent/healthz").await.expect(503);
            assert_eq!(health.json::<serde_json::Value>()["status"], "draining");
        }
    }
}

async fn malformed(stage: &Stage) {
    let code = Code::RequestMalformed;
    let (edge, agent) = (&stage.edge, &stage.agent);
    let signed = || agent.signed("GET", "/v1/x");
    for request in [
        signed().duplicate_header("X-Nonce"),
        signed().signature("v1=00"),
        signed().replaced("X-Agent-Id", "nobody"),
        signed().timestamp("123"),
        signed().nonce("short"),
        signed().nonce(&"n".repeat(129)),
        signed().header("Content-Encoding", "gzip"),
        signed().header("x_agent_id", "underscore"),
        signed().replaced("Authorization", "Basic dXNlcg=="),
        agent.call("/agent/session/start", &json!({"unknown": 1})),
        agent.call("/agent/session/start", &json!({"agent_id": AgentId::from_bytes([9; 16])})),
        agent.call("/agent/session/start", &json!([])),
    ] {
        stage.refused(code, "malformed", request.send(edge)).await;
    }
    // A body that does not come: the connection is there, and nothing arrives.
    let mut parts = agent.signed("POST", "/v1/x").body("1234567890").parts();
    parts.body = Vec::new();
    parts.add("Content-Length", "10");
    let head = String::from_utf8(parts.bytes()).unwrap().replace("Content-Length: 0\r\n", "");
    let slow = async {
        let mut conn = edge.connect().await;
        conn.send(head.as_bytes()).await;
        conn.answer().await
    };
    stage.refused(code, "body_too_slow", slow).await;
}

async fn signature_invalid(stage: &Stage) {
    let code = Code::SignatureInvalid;
    let (edge, agent) = (&stage.edge, &stage.agent);
    let stranger = agent.signed("GET", "/v1/x").named(AgentId::from_bytes([9; 16]));
    stage.refused(code, "unknown_agent", stranger.send(edge)).await;
    let signed = || agent.signed("POST", "/v1/x?a=1").json(&json!({"a": 1}));
    let other = stage.another().await;
    let sessions = [agent.session(edge).await, agent.session(edge).await];
    let forwarded = stage.upstream.count();
    for request in [
        signed().other_secret(),
        signed().wrong_signature(),
        signed().audience("edge-elsewhere"),
        signed().restamped(1),
        signed().swapped_nonce(),
        signed().without("X-Nonce"),
        signed().swapped_body("{}"),
        signed().swapped_query("a=2"),
        signed().swapped_target("/v1/y?a=1"),
        signed().swapped_method("PUT"),
        signed().content_type_changed("text/plain"),
        signed().without("Content-Type"),
        signed().replaced("X-Agent-Id", &other.id.to_string()),
        signed().in_session(&sessions[0]).swapped_session(sessions[1].id()),
        signed().in_session(&sessions[0]).without("X-Session-Id"),
        // The secret signs no request of a session, and a session's key none without.
        signed().session_id(sessions[0].id()),
        signed().key(sessions[0].key.clone()),
    ] {
        stage.refused(code, "wrong_signature", request.send(edge)).await;
    }
    assert_eq!(stage.upstream.count(), forwarded);
    let older = signed().body_signature();
    stage.refused(code, "body_signature_refused", older.send(edge)).await;
    stage.sql(&format!("UPDATE agent_devices SET legacy = 1 WHERE id = '{}'", other.id)).await;
    let request = other.signed("GET", "/v1/x");
    stage.refused(code, "legacy_secret", request.send(edge)).await;
}

async fn token_invalid(stage: &Stage) {
    let code = Code::TokenInvalid;
    let (edge, agent) = (&stage.edge, &stage.agent);
    let other = stage.another().await;
    let signed = || agent.signed("GET", "/v1/x");
    stage.refused(code, "token_signature", signed().tampered_bearer().send(edge)).await;
    stage.refused(code, "token_subject", signed().bearer(&other.jwt).send(edge)).await;
    stage.refused(code, "token_form", signed().bearer("a.b").send(edge)).await;
    let owner = edge.owner_jwt("owner-1", &[]);
    stage.refused(code, "token_header", signed().bearer(&owner).send(edge)).await;
    // Also where none is asked for.
    let session = agent.session(edge).await;
    let volunteered = signed().in_session(&session).tampered_bearer();
    stage.refused(code, "token_signature", volunteered.send(edge)).await;
    for jwt in [
        owner::sign(
            &json!({"alg": "HS256"}),
            &owner::claims("owner-1", &[], edge.now_ms()),
            b"another secret of the owners, 32 bytes long",
        ),
        agent.jwt.clone(),
    ] {
        let start = edge.enroll_start(Some(&jwt), json!({}));
        stage.refused(code, "owner_token_invalid", start).await;
    }
}

async fn address_not_allowed(stage: &Stage) {
    let code = Code::AddressNotAllowed;
    let edge = &stage.edge;
    stage.refused(code, "route_address", stage.get("/elsewhere/x")).await;
    let agent = stage.another().await;
    let sql = format!(
        "UPDATE agent_devices SET allowed_cidrs = '[\"192.0.2.0/24\"]' WHERE id = '{}'",
        agent.id
    );
    stage.sql(&sql).await;
    stage.refused(code, "agent_address", agent.signed("GET", "/v1/x").send(edge)).await;
    // A thief without the secret does not learn that the address is wrong.
    let stolen = agent.signed("GET", "/v1/x").other_secret();
    stage.refused(Code::SignatureInvalid, "wrong_signature", stolen.send(edge)).await;

    let shut = TestEdge::builder().set("EDGE_IP_ALLOWLIST", "192.0.2.0/24").start().await;
    refused(&shut, code, "deployment_address", shut.get("/v1/x")).await;
    let start = shut.enroll_start(None, json!({}));
    refused(&shut, code, "deployment_address", start).await;
    let body = json!({});
    let complete = shut.post("/agent/enroll/complete", &[], &body);
    refused(&shut, code, "deployment_address", complete).await;
}

async fn body_too_large(stage: &Stage) {
    let code = Code::BodyTooLarge;
    let (edge, agent) = (&stage.edge, &stage.agent);
    let request = |size: usize| agent.signed("POST", "/small/x").body("b".repeat(size));
    request(10).send(edge).await.expect(200);
    stage.refused(code, "body_too_large", request(11).send(edge)).await;
    let mut conn = edge.connect().await;
    // Unannounced.
    stage.refused(code, "body_too_large", conn.exchange(&request(11).parts().chunked(5))).await;
    // Announced: it is refused before a byte of it is there.
    let mut parts = request(0).parts();
    parts.method = "PUT".to_owned();
    parts.add("Content-Length", "1000000000000");
    let announced = async {
        let mut conn = edge.connect().await;
        conn.send(&parts.bytes()).await;
        conn.answer().await
    };
    stage.refused(code, "body_too_large", announced).await;
    let control = agent.call("/agent/session/start", &json!({"x": "y".repeat(70_000)}));
    let large = async {
        let mut conn = edge.connect().await;
        conn.try_send(&control.build()).await;
        conn.answer().await
    };
    stage.refused(code, "body_too_large", large).await;
}

async fn backing_off() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .route("/v1/", &upstream)
        .set("AGENT_BACKOFF_FREE", 2)
        .set("AGENT_BACKOFF_BASE_MS", 60_000)
        .start()
        .await;
    let honest = Agent::enroll(&edge).await;
    let thief = Agent::enroll(&edge).await;
    honest.signed("GET", "/v1/x").send(&edge).await.expect(200);
    for _ in 0..3 {
        let guess = thief.signed("GET", "/v1/x").other_secret();
        guess.send(&edge).await.refused("signature_invalid");
    }
    let code = Code::BackingOff;
    refused(&edge, code, "backing_off", thief.signed("GET", "/v1/x").send(&edge)).await;
    let start = edge.enroll_start(None, json!({}));
    refused(&edge, code, "backing_off", start).await;
    // Who has succeeded from there lately is not silenced by a neighbour.
    honest.signed("GET", "/v1/x").send(&edge).await.expect(200);
}

async fn database_gone() {
    let code = Code::DependencyUnavailable;
    let upstream = Upstream::start().await;
    let edge =
        TestEdge::builder().route("/v1/", &upstream).set("AGENT_SECRET_CACHE_MS", 0).start().await;
    let agent = Agent::enroll(&edge).await;
    let session = agent.session(&edge).await;
    edge.store().close().await;
    let reason = "database_unavailable";
    refused(&edge, code, reason, agent.signed("GET", "/v1/x").send(&edge)).await;
    let in_session = agent.signed("GET", "/v1/x").in_session(&session);
    refused(&edge, code, reason, in_session.send(&edge)).await;
    // Not even a stranger hears 401: nobody could look.
    let stranger = agent.signed("GET", "/v1/x").named(AgentId::from_bytes([8; 16]));
    refused(&edge, code, reason, stranger.send(&edge)).await;
    let jwt = edge.owner_jwt("owner-1", &[]);
    let start = edge.enroll_start(Some(&jwt), json!({}));
    refused(&edge, code, reason, start).await;
    assert_eq!(upstream.count(), 0);
}

/// An edge that has crashed after it admitted a request, and its clock.
async fn crashed() -> (TestEdge, Agent, ManualClock) {
    let clock = ManualClock::at(WallMs(1_764_000_000_000));
    let mut edge = TestEdge::builder().clock(&clock).start().await;
    let agent = Agent::enroll(&edge).await;
    agent.call("/agent/protected/echo", &json!({})).send(&edge).await.expect(200);
    edge.crash().await;
    edge.restart().await;
    (edge, agent, clock)
}

async fn starting() {
    let (edge, agent, _clock) = crashed().await;
    let echo = agent.call("/agent/protected/echo", &json!({}));
    refused(&edge, Code::Starting, "starting", echo.send(&edge)).await;
}

async fn under_the_floor() {
    let (edge, agent, clock) = crashed().await;
    let old = agent.call("/agent/protected/echo", &json!({})).build();
    clock.advance(7_000);
    refused(&edge, Code::TimestampOutsideWindow, "under_floor", edge.send(&old)).await;
}

#[tokio::test]
async fn what_is_not_http_gets_the_parsers_bare_400() {
    let stage = Stage::set().await;
    for bytes in [
        b"GET /v1/x HTTP/1.1\r\n\r\n".as_slice(),
        b"GET /v1/x HTTP/9.9\r\nHost: a\r\n\r\n",
        b"nonsense\r\n\r\n",
    ] {
        let answer = Conn::connect(stage.edge.address()).await.exchange(bytes).await;
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.code(), None);
        assert!(answer.body.is_empty());
    }
    assert_eq!(stage.upstream.count(), 0);
}
