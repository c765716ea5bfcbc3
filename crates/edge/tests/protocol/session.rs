//! Sessions: their start, extension and end, the keys that sign in them, and the JWTs they ask for.

use edgeward_core::time::WallMs;
use edgeward_store::clock::ManualClock;
use edgeward_testkit::{Agent, TestEdge, Upstream, base64url};
use edgeward_wire::api::{SessionExtended, SessionStarted, TokenRefreshed};
use serde_json::{Value, json};

use crate::problem::assert_refusal;

const NOW: u64 = 1_764_000_000_000;

async fn at(
    change: impl FnOnce(edgeward_testkit::Builder) -> edgeward_testkit::Builder,
) -> (Upstream, TestEdge, Agent, ManualClock) {
    let clock = ManualClock::at(WallMs(NOW));
    let upstream = Upstream::start().await;
    let edge = change(TestEdge::builder().clock(&clock).route("/v1/", &upstream)).start().await;
    let agent = Agent::enroll(&edge).await;
    (upstream, edge, agent, clock)
}

#[tokio::test]
async fn a_start_answers_as_the_page_says() {
    let (_upstream, edge, agent, _) = at(|plan| plan).await;
    for body in [json!({}), json!({"agent_id": agent.id})] {
        let answer = agent.call("/agent/session/start", &body).send(&edge).await.expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-secret-version"), Some("1"));
        let told: Value = answer.json();
        assert_eq!(told.as_object().unwrap().len(), 8, "{told}");
        let session = told["session_id"].as_str().unwrap();
        assert!(session.starts_with("ews_") && session.len() == 47);
        assert_eq!(told["session_salt"].as_str().unwrap().len(), 43);
        assert_eq!(told["ttl_ms"], 600_000);
        assert_eq!(told["expires_at_ms"], NOW + 600_000);
        assert_eq!(told["max_expires_at_ms"], NOW + 86_400_000);
        assert_eq!(told["audience"], edgeward_testkit::edge::AUDIENCE);
        assert_eq!(told["require_nonce"], false);
        assert_eq!(told["server_time_ms"], NOW);
    }
    let (_upstream, edge, agent, _) = at(|plan| plan.set("AGENT_REQUIRE_NONCE", true)).await;
    assert!(agent.session(&edge).await.started.require_nonce);
    let plain = agent.signed("GET", "/v1/x").no_nonce();
    assert_refusal(&plain.send(&edge).await, "nonce_required");
}

#[tokio::test]
async fn a_session_has_no_place_on_its_own_start() {
    let (_upstream, edge, agent, _) = at(|plan| plan).await;
    let session = agent.session(&edge).await;
    let start = agent.call("/agent/session/start", &json!({}));
    let inside = start.in_session(&session).send(&edge).await;
    let problem = assert_refusal(&inside, "request_malformed");
    assert!(problem.detail.unwrap().contains("x-session-id"));
}

#[tokio::test]
async fn an_extension_moves_the_end_and_never_past_the_maximum() {
    let (_upstream, edge, agent, clock) =
        at(|plan| plan.set("AGENT_SESSION_TTL_MS", 60_000).set("AGENT_SESSION_MAX_MS", 150_000))
            .await;
    let session = agent.session(&edge).await;
    let extend = async || {
        let call = agent.call("/agent/session/extend", &json!({})).in_session(&session);
        call.send(&edge).await
    };
    for (after, ttl) in [(0, 60_000), (50_000, 60_000), (50_000, 50_000), (40_000, 10_000)] {
        clock.advance(after);
        let answer = extend().await.expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.json::<Value>().as_object().unwrap().len(), 2);
        let told: SessionExtended = answer.json();
        assert_eq!((told.ttl_ms, told.expires_at_ms), (ttl, edge.now_ms() + ttl));
        agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await.expect(200);
    }
    clock.advance(9_999);
    agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await.expect(200);
    clock.advance(1);
    let late = agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await;
    assert_refusal(&late, "session_invalid");
    assert_refusal(&extend().await, "session_invalid");
}

#[tokio::test]
async fn an_extension_needs_a_jwt_and_the_sessions_key() {
    let (_upstream, edge, agent, _) = at(|plan| plan).await;
    let session = agent.session(&edge).await;
    let extend = || agent.call("/agent/session/extend", &json!({}));
    assert_refusal(&extend().in_session(&session).no_bearer().send(&edge).await, "token_required");
    assert_refusal(&extend().send(&edge).await, "session_required");
    let by_secret = extend().session_id(session.id());
    assert_refusal(&by_secret.send(&edge).await, "signature_invalid");
    let more = agent.call("/agent/session/extend", &json!({"ttl_ms": 1})).in_session(&session);
    assert_refusal(&more.send(&edge).await, "request_malformed");
}

#[tokio::test]
async fn an_ended_session_is_over_and_its_agent_is_not() {
    let (_upstream, edge, agent, _) = at(|plan| plan).await;
    let (session, other) = (agent.session(&edge).await, agent.session(&edge).await);
    let end = || agent.call("/agent/session/end", &json!({})).in_session(&session);
    let ended = end().no_bearer().send(&edge).await.expect(204);
    assert!(ended.body.is_empty());
    assert!(ended.header("x-trace-id").is_some());
    for again in [end(), agent.signed("GET", "/v1/x").in_session(&session)] {
        assert_refusal(&again.send(&edge).await, "session_invalid");
    }
    agent.signed("GET", "/v1/x").in_session(&other).send(&edge).await.expect(200);
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    assert_refusal(&end().tampered_bearer().send(&edge).await, "session_invalid");
    let garbled = agent.call("/agent/session/end", &json!({})).in_session(&other).tampered_bearer();
    assert_refusal(&garbled.send(&edge).await, "token_invalid");
}

#[tokio::test]
async fn an_unextended_session_ends_by_itself() {
    let (_upstream, edge, agent, clock) = at(|plan| plan).await;
    let session = agent.session(&edge).await;
    clock.advance(599_999);
    agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await.expect(200);
    clock.advance(1);
    let late = agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await;
    assert_refusal(&late, "session_invalid");
}

#[tokio::test]
async fn every_nth_request_of_a_session_brings_its_jwt() {
    let (_upstream, edge, agent, _) = at(|plan| plan.set("AGENT_REQUIRE_JWT_EVERY_N", 3)).await;
    let session = agent.session(&edge).await;
    let call = || agent.signed("GET", "/v1/x").in_session(&session);
    for round in 0..3 {
        for _ in 0..2 {
            call().no_bearer().send(&edge).await.expect(200);
        }
        // It stays due until it comes.
        for _ in 0..2 {
            assert_refusal(&call().no_bearer().send(&edge).await, "token_required");
        }
        assert_refusal(&call().tampered_bearer().send(&edge).await, "token_invalid");
        call().send(&edge).await.expect(200);
        if round == 1 {
            // One that is volunteered counts as well.
            call().no_bearer().send(&edge).await.expect(200);
            call().send(&edge).await.expect(200);
        }
    }
    // Another session counts for itself.
    let other = agent.session(&edge).await;
    for _ in 0..2 {
        agent.signed("GET", "/v1/x").in_session(&other).no_bearer().send(&edge).await.expect(200);
    }
    let (_upstream, edge, agent, _) = at(|plan| plan.set("AGENT_REQUIRE_JWT_EVERY_N", 0)).await;
    let session = agent.session(&edge).await;
    for _ in 0..30 {
        let call = agent.signed("GET", "/v1/x").in_session(&session).no_bearer();
        call.send(&edge).await.expect(200);
    }
}

/// The claims of a JWT, unverified.
fn claims(jwt: &str) -> Value {
    use base64::Engine as _;
    let body = jwt.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_refresh_gives_a_jwt_that_ends_with_its_session_at_the_latest() {
    let (_upstream, edge, agent, clock) =
        at(|plan| plan.set("AGENT_SESSION_TTL_MS", 60_000).set("AGENT_SESSION_MAX_MS", 100_000))
            .await;
    let session = agent.session(&edge).await;
    clock.advance(5_500);
    let refresh = || agent.call("/agent/token/refresh", &json!({}));
    let answer = refresh().in_session(&session).no_bearer().send(&edge).await.expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.json::<Value>().as_object().unwrap().len(), 2);
    let told: TokenRefreshed = answer.json();
    let body = claims(&told.agent_jwt);
    assert_eq!(body["exp"].as_u64(), Some((NOW + 100_000) / 1000));
    assert_eq!(told.jwt_expires_in_sec, 95);
    assert_eq!(body["iss"], edgeward_testkit::edge::PUBLIC_URL);
    assert_eq!(body["aud"], edgeward_testkit::edge::AUDIENCE);
    assert_eq!(body["sub"], agent.id.to_string());
    assert_eq!(body["owner_user_id"], "owner-1");
    assert_eq!(body["scopes"], json!(["demo"]));
    assert_eq!(body["epoch"], 1);
    for name in ["iat", "nbf", "jti", "role"] {
        assert!(!body[name].is_null(), "{name}");
    }
    // By the secret it lives as long as any.
    let told: TokenRefreshed = refresh().no_bearer().send(&edge).await.expect(200).json();
    assert_eq!(told.jwt_expires_in_sec, 3600);
    // What JWT comes along does not matter.
    refresh().tampered_bearer().send(&edge).await.expect(200);
    refresh().bearer("nonsense").send(&edge).await.expect(200);
    agent.signed("GET", "/v1/x").bearer(&told.agent_jwt).send(&edge).await.expect(200);
    assert_refusal(&refresh().wrong_signature().send(&edge).await, "signature_invalid");
}

#[tokio::test]
async fn an_expired_jwt_is_refused_and_the_agent_can_still_refresh_it() {
    let (_upstream, edge, mut agent, clock) = at(|plan| plan.set("AGENT_JWT_TTL_MS", 60_000)).await;
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    clock.advance(59_999);
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    clock.advance(1);
    // Also one that was remembered while it was good.
    assert_refusal(&agent.signed("GET", "/v1/x").send(&edge).await, "token_invalid");
    let start = agent.call("/agent/session/start", &json!({}));
    assert_refusal(&start.send(&edge).await, "token_invalid");
    agent.refresh(&edge).await;
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
}

#[tokio::test]
async fn the_echo_tells_who_was_verified_and_what_was_sent() {
    let (_upstream, edge, agent, _) = at(|plan| plan).await;
    let session = agent.session(&edge).await;
    for (body, told) in [
        (r#"{"a":[1,2]}"#.to_owned(), json!({"a": [1, 2]})),
        ("no JSON".to_owned(), json!("no JSON")),
        (String::new(), json!("")),
    ] {
        let call = agent.signed("POST", "/agent/protected/echo").body(body);
        for call in
            [call.clone(), call.nonce(&edgeward_testkit::agent::nonce()).in_session(&session)]
        {
            let answer = call.send(&edge).await.expect(200);
            let echo: Value = answer.json();
            assert_eq!(echo.as_object().unwrap().len(), 5);
            assert_eq!(echo["agent_id"], agent.id.to_string());
            assert_eq!(echo["owner_user_id"], "owner-1");
            assert_eq!(echo["scopes"], json!(["demo"]));
            assert_eq!(echo["trace_id"], answer.header("x-trace-id").unwrap());
            assert_eq!(echo["body"], told);
        }
    }
}

#[tokio::test]
async fn a_device_proof_covers_this_very_request() {
    let (_upstream, edge, agent, _) = at(|plan| plan.set("AGENT_DEVICE_PROOF", "session")).await;
    let start = || agent.call("/agent/session/start", &json!({}));
    let refresh = || agent.call("/agent/token/refresh", &json!({}));
    assert_refusal(&start().send(&edge).await, "device_proof_invalid");
    assert_refusal(&refresh().send(&edge).await, "device_proof_invalid");
    let answer = start().with_device_proof().send(&edge).await.expect(200);
    refresh().with_device_proof().send(&edge).await.expect(200);
    let session = agent.session_of(answer.json::<SessionStarted>());
    // The session stands for it.
    refresh().in_session(&session).send(&edge).await.expect(200);
    // One that is sent is always checked.
    let wrong = json!({"device_proof": base64url([1; 64])});
    let call = agent.call("/agent/token/refresh", &wrong).in_session(&session);
    assert_refusal(&call.send(&edge).await, "device_proof_invalid");

    // A proof for one request is none for another.
    let proven = start().with_device_proof().parts();
    let body: Value = serde_json::from_slice(&proven.body).unwrap();
    for other in [
        agent.call("/agent/session/start", &body),
        agent.call("/agent/session/start", &body).timestamp(proven.header("X-Timestamp").unwrap()),
        agent
            .call("/agent/session/start", &body)
            .nonce(proven.header("X-Nonce").unwrap())
            .timestamp_offset_ms(-1),
        agent
            .call("/agent/token/refresh", &body)
            .nonce(proven.header("X-Nonce").unwrap())
            .timestamp(proven.header("X-Timestamp").unwrap()),
    ] {
        assert_refusal(&other.send(&edge).await, "device_proof_invalid");
    }
    edge.send(&proven.bytes()).await.expect(200);
}

#[tokio::test]
async fn no_other_agents_session_or_jwt_will_do() {
    let (upstream, edge, agent, _) = at(|plan| plan).await;
    let other = Agent::enroll(&edge).await;
    let (session, others) = (agent.session(&edge).await, other.session(&edge).await);
    for path in ["/agent/session/extend", "/agent/session/end", "/agent/token/refresh"] {
        let call = agent.call(path, &json!({}));
        let stolen = call.in_session(&others);
        assert_refusal(&stolen.send(&edge).await, "session_invalid");
    }
    let mixed = agent.signed("GET", "/v1/x").session_id(others.id()).key(session.key.clone());
    assert_refusal(&mixed.send(&edge).await, "session_invalid");
    let as_other = agent.signed("GET", "/v1/x").named(other.id).in_session(&session);
    assert_refusal(&as_other.send(&edge).await, "session_invalid");
    let as_other = agent.signed("GET", "/v1/x").named(other.id);
    assert_refusal(&as_other.send(&edge).await, "signature_invalid");
    let lent = agent.signed("GET", "/v1/x").in_session(&session).bearer(&other.jwt);
    assert_refusal(&lent.send(&edge).await, "token_invalid");
    assert_eq!(upstream.count(), 0);
    other.signed("GET", "/v1/x").in_session(&others).send(&edge).await.expect(200);
}
