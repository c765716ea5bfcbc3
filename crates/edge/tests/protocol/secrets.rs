//! Which version of a secret signs, and for how long.

use edgeward_core::time::WallMs;
use edgeward_store::clock::ManualClock;
use edgeward_testkit::{Agent, Enrolment, TestEdge, Upstream};
use serde_json::json;

use crate::problem::assert_refusal;

const NOW: u64 = 1_764_000_000_000;

async fn stage() -> (Upstream, TestEdge, ManualClock) {
    let clock = ManualClock::at(WallMs(NOW));
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .clock(&clock)
        .route("/v1/", &upstream)
        .set("AGENT_SECRET_CACHE_MS", 0)
        .set("AGENT_SECRET_TTL_MS", 200_000)
        .set("AGENT_SECRET_GRACE_MS", 100_000)
        .start()
        .await;
    (upstream, edge, clock)
}

async fn set(edge: &TestEdge, agent: &Agent, version: u32, change: &str) {
    let sql = format!(
        "UPDATE agent_tokens SET {change} WHERE agent_id = '{}' AND version = {version}",
        agent.id
    );
    assert_eq!(edge.store().execute_for_tests(sql).await.unwrap(), 1);
}

#[tokio::test]
async fn an_expired_secret_starts_nothing_and_a_session_that_it_started_goes_on() {
    let (_upstream, edge, clock) = stage().await;
    let agent = Agent::enroll(&edge).await;
    assert_eq!(agent.enrolled.secret_expires_at_ms, NOW + 200_000);
    let session = agent.session(&edge).await;
    clock.advance(199_999);
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    clock.advance(1);
    for request in [
        agent.signed("GET", "/v1/x"),
        agent.call("/agent/session/start", &json!({})),
        agent.call("/agent/token/refresh", &json!({})),
    ] {
        assert_refusal(&request.send(&edge).await, "signature_invalid");
    }
    agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await.expect(200);
    let refresh = agent.call("/agent/token/refresh", &json!({})).in_session(&session);
    refresh.send(&edge).await.expect(200);
}

#[tokio::test]
async fn a_secret_in_grace_is_taken_until_grace_or_secret_ends_and_hears_of_the_newest() {
    for (grace_until, expires_at, ends_at) in [
        (NOW + 50_000, NOW + 200_000, NOW + 50_000),
        // Expiry ends grace too.
        (NOW + 150_000, NOW + 50_000, NOW + 50_000),
    ] {
        let (_upstream, edge, clock) = stage().await;
        let old = Agent::enroll(&edge).await;
        let mut plan = Enrolment::default();
        plan.start["agent_id"] = json!(old.id);
        let new = Agent::enroll_as(&edge, plan).await;
        let by_old = || old.signed("GET", "/v1/x").bearer(&new.jwt);
        assert_refusal(&by_old().send(&edge).await, "signature_invalid");
        let grace =
            format!("status = 'grace', grace_until = {grace_until}, expires_at = {expires_at}");
        set(&edge, &old, 1, &grace).await;
        let answer = by_old().send(&edge).await.expect(200);
        assert_eq!(answer.header("x-secret-version"), Some("2"));
        new.signed("GET", "/v1/x").send(&edge).await.expect(200);
        clock.advance(ends_at - NOW - 1);
        by_old().send(&edge).await.expect(200);
        clock.advance(1);
        assert_refusal(&by_old().send(&edge).await, "signature_invalid");
        new.signed("GET", "/v1/x").send(&edge).await.expect(200);
    }
}

#[tokio::test]
async fn a_compromised_secret_is_taken_by_nobody() {
    let (_upstream, edge, _) = stage().await;
    let agent = Agent::enroll(&edge).await;
    set(&edge, &agent, 1, "status = 'compromised'").await;
    for request in [
        agent.signed("GET", "/v1/x"),
        agent.call("/agent/session/start", &json!({})),
        agent.call("/agent/token/refresh", &json!({})),
    ] {
        assert_refusal(&request.send(&edge).await, "signature_invalid");
    }
}
