//! What is written down: an agent's life, and refusals with whom they concern.

use edgeward_core::time::WallMs;
use edgeward_store::clock::ManualClock;
use edgeward_store::durable::Events as _;
use edgeward_store::{Event, EventKind};
use edgeward_testkit::{Agent, Enrolment, TestEdge, Upstream};
use serde_json::json;

/// All events so far, oldest first.
async fn events(edge: &TestEdge) -> Vec<Event> {
    edge.edge().flush_violations().await;
    let mut events = edge.store().newest_events(1_000).await.unwrap();
    events.reverse();
    events
}

#[tokio::test]
async fn an_agents_life_is_written_down_with_the_trace_of_each_request() {
    let edge = TestEdge::builder().start().await;
    let plan = Enrolment::default();
    let thumbprint = plan.device.public().thumbprint();
    let jwt = edge.owner_jwt("owner-1", &["demo"]);
    let started = edge.enroll_start(Some(&jwt), plan.start.clone()).await.expect(200);
    let done = Enrolment::complete(&edge, &plan.completion(&started.json())).await.expect(200);
    let agent = Agent::of(&edge, done.json(), plan.device);
    let opened = agent.call("/agent/session/start", &json!({})).send(&edge).await.expect(200);
    let session = agent.session_of(opened.json());
    let refresh = agent.call("/agent/token/refresh", &json!({})).in_session(&session);
    let refreshed = refresh.send(&edge).await.expect(200);
    let end = agent.call("/agent/session/end", &json!({})).in_session(&session);
    let ended = end.send(&edge).await.expect(204);

    let all = events(&edge).await;
    let own: Vec<_> = all
        .iter()
        .filter(|event| {
            event.kind != EventKind::JwtKeyPublished && event.kind != EventKind::JwtKeyActivated
        })
        .collect();
    let kinds: Vec<_> = own.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "agent_enroll_started",
            "agent_enroll_completed",
            "agent_session_started",
            "agent_token_refreshed",
            "agent_session_ended",
        ]
    );
    for (event, answer) in own.iter().zip([&started, &done, &opened, &refreshed, &ended]) {
        assert_eq!(Some(event.trace.to_string().as_str()), answer.header("x-trace-id"));
        assert_eq!(event.owner.as_ref().unwrap().as_str(), "owner-1");
        let of_agent = event.kind != EventKind::AgentEnrollStarted;
        assert_eq!(event.agent, of_agent.then_some(agent.id));
    }
    assert_eq!(own[1].payload["key_thumbprint"], thumbprint);
    let told = format!("{all:?}");
    let code = started.json::<serde_json::Value>()["enroll_code"].as_str().unwrap().to_owned();
    for secret in [agent.secret.expose(), &agent.jwt, session.id(), &jwt, &code] {
        assert!(!told.contains(secret), "{told}");
    }
    for kind in ["jwt_key_published", "jwt_key_activated"] {
        assert_eq!(all.iter().filter(|event| event.kind.as_str() == kind).count(), 2, "{kind}");
    }
}

#[tokio::test]
async fn refusals_are_folded_and_say_who_was_proven_and_who_only_named() {
    let clock = ManualClock::at(WallMs(1_764_000_000_000));
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .route("/v1/", &upstream)
        .route_with("/scoped/", &[&upstream.url()], "scopes = [\"admin\"]")
        .route_with("/elsewhere/", &[&upstream.url()], "allowed_cidrs = [\"192.0.2.0/24\"]")
        .clock(&clock)
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let other = Agent::enroll(&edge).await;
    for _ in 0..5 {
        agent.signed("GET", "/v1/x").other_secret().send(&edge).await.refused("signature_invalid");
    }
    other.signed("GET", "/v1/x").other_secret().send(&edge).await.refused("signature_invalid");
    clock.advance(1_000);
    agent.signed("GET", "/v1/x").other_secret().send(&edge).await.refused("signature_invalid");
    let proven = [
        ("scope_missing", agent.signed("GET", "/scoped/x")),
        ("route_address", agent.signed("GET", "/elsewhere/x")),
        ("route_unknown", agent.signed("GET", "/nowhere")),
        ("token_required", agent.signed("GET", "/v1/x").no_bearer()),
        ("token_signature", agent.signed("GET", "/v1/x").tampered_bearer()),
    ];
    for (_, request) in &proven {
        assert!(request.send(&edge).await.code().is_some());
    }
    let once = agent.signed("GET", "/v1/x");
    let bytes = once.build();
    edge.send(&bytes).await.expect(200);
    edge.send(&bytes).await.refused("nonce_replayed");

    let all = events(&edge).await;
    let of = |reason: &str| {
        let found = all.iter().filter(|event| {
            event.kind == EventKind::AuthViolation && event.payload["reason"] == reason
        });
        found.collect::<Vec<_>>()
    };
    let wrong = of("wrong_signature");
    let mut counts: Vec<_> = wrong
        .iter()
        .map(|event| {
            assert_eq!(event.agent, None, "whoever is only named is not the agent");
            assert_eq!(event.payload["code"], "signature_invalid");
            assert_eq!(event.payload["source"], "127.0.0.1");
            let named = event.payload["named_agent"].as_str().unwrap().to_owned();
            (named == agent.id.to_string(), event.payload["count"].as_u64().unwrap())
        })
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [(false, 1), (true, 1), (true, 5)]);
    for reason in proven.iter().map(|(reason, _)| *reason).chain(["nonce_replayed"]) {
        let found = of(reason);
        assert_eq!(found.len(), 1, "{reason}");
        assert_eq!(found[0].agent, Some(agent.id), "{reason}: the signature held");
    }
}
