//! What is logged, at the most talkative level there is: enough to find a request, and no secret.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use edgeward_testkit::{Agent, Enrolment, Reply, TestEdge, Upstream, owner};
use serde_json::json;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let upstream = Upstream::start().await;
    upstream.plan(|request| match request.target().as_str() {
        "/v1/hang-up" => Reply::HangUp,
        _ => Reply::Echo,
    });
    let mut edge = TestEdge::builder()
        .route_with(
            "/v1/",
            &[&upstream.url()],
            "set_headers = { apikey = { value = \"the-upstreams-own-key\" } }",
        )
        .start()
        .await;
    let plan = Enrolment::default();
    let owner_jwt = edge.owner_jwt("owner-1", &["demo"]);
    let started = edge.enroll_start(Some(&owner_jwt), plan.start.clone()).await.expect(200);
    let started: edgeward_wire::api::EnrollStarted = started.json();
    let completion = plan.completion(&started);
    let mut wrong = completion.clone();
    wrong["signature"] = edgeward_testkit::base64url([1; 64]).into();
    Enrolment::complete(&edge, &wrong).await.refused("enroll_code_invalid");
    let done = Enrolment::complete(&edge, &completion).await.expect(200);
    let agent = Agent::of(&edge, done.json(), plan.device);
    let session = agent.session(&edge).await;

    let signed = || agent.signed("POST", "/v1/x?token=in-the-query").body("the body's secret");
    let good = signed().in_session(&session).parts();
    edge.send(&good.bytes()).await.expect(200);
    let replayed = edge.send(&good.bytes()).await.refused("nonce_replayed");
    for request in [
        signed().wrong_signature(),
        signed().other_secret(),
        signed().header_secret(),
        signed().body_signature(),
        signed().tampered_bearer(),
        signed().unsigned_bearer(),
        signed().in_session(&session).duplicate_header("X-Session-Id"),
        signed().duplicate_header("Authorization"),
        signed().header("X-Agent-Secret", agent.secret.expose()),
        signed().replaced("X-Agent-Id", agent.secret.expose()),
        signed().replaced("X-Timestamp", agent.secret.expose()),
        signed().session_id(&session.id()[..40]),
        agent.call("/agent/session/start", &json!({agent.secret.expose(): 1})),
        agent.call("/agent/session/start", &json!({"agent_id": agent.secret.expose()})),
        agent.signed("GET", "/v1/hang-up"),
    ] {
        let answer = request.send(&edge).await;
        assert_ne!(answer.status(), 200);
        // Nor does an answer give any of it back.
        let shown = format!("{:?} {}", answer.head, answer.text());
        assert!(!shown.contains(session.id()) && !shown.contains(&agent.jwt), "{shown}");
    }
    let refresh = agent.call("/agent/token/refresh", &json!({})).in_session(&session);
    let refreshed: edgeward_wire::api::TokenRefreshed = refresh.send(&edge).await.json();
    edge.stop().await;
    edge.restart().await;
    signed().in_session(&session).send(&edge).await.expect(200);
    edge.crash().await;
    edge.restart().await;
    signed().send(&edge).await.refused("starting");

    let text = log.text();
    assert!(text.contains(&agent.id.to_string()), "the log is caught");
    assert!(text.contains(replayed.header("x-trace-id").unwrap()), "and finds a request");
    let code = started.enroll_code.replace('-', "");
    let signature = |jwt: &str| jwt.rsplit('.').next().unwrap().to_owned();
    let header = |name: &str| good.header(name).unwrap().to_owned();
    for (what, secret) in [
        ("the agent's secret", agent.secret.expose()[4..].to_owned()),
        ("a session id", session.id()[4..].to_owned()),
        ("a part of one", session.id()[4..40].to_owned()),
        ("a salt", session.started.session_salt.expose().to_owned()),
        ("a JWT", signature(&agent.jwt)),
        ("a refreshed JWT", signature(&refreshed.agent_jwt)),
        ("an owner's JWT", signature(&owner_jwt)),
        ("the owners' secret", owner::SECRET.to_owned()),
        ("a code", started.enroll_code),
        ("a code without hyphens", code),
        ("a challenge", started.challenge.as_str().to_owned()),
        ("a signature", header("X-Signature")[3..].to_owned()),
        ("a device key's signature", completion["signature"].as_str().unwrap().to_owned()),
        ("an upstream's key", "the-upstreams-own-key".to_owned()),
        ("a body", "the body's secret".to_owned()),
        ("a query", "in-the-query".to_owned()),
    ] {
        let line = text.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{what} is logged");
    }
}
