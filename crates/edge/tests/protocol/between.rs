//! What changes while a body is on its way counts: a request is judged as the world is when it is
//! whole.

use edgeward_core::time::WallMs;
use edgeward_store::clock::ManualClock;
use edgeward_testkit::{Agent, Answer, Conn, Enrolment, Signed, TestEdge, Upstream};
use serde_json::json;

use crate::problem::assert_refusal;

const BODY: &str = "a body that comes late";

/// A request whose head was judged and whose body is owed.
struct Begun(Conn);

impl Begun {
    async fn of(edge: &TestEdge, signed: Signed) -> Self {
        let bytes = signed.body(BODY).header("Expect", "100-continue").build();
        let mut conn = edge.connect().await;
        conn.send(&bytes[..bytes.len() - BODY.len()]).await;
        conn.continued().await;
        Self(conn)
    }

    async fn finish(mut self) -> Answer {
        self.0.send(BODY.as_bytes()).await;
        self.0.answer().await
    }
}

async fn stage() -> (Upstream, TestEdge, Agent, ManualClock) {
    let clock = ManualClock::at(WallMs(1_764_000_000_000));
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .clock(&clock)
        .route("/v1/", &upstream)
        .set("AGENT_SECRET_CACHE_MS", 0)
        .set("AGENT_SESSION_TTL_MS", 60_000)
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    (upstream, edge, agent, clock)
}

#[tokio::test]
async fn a_body_that_comes_in_time_is_admitted() {
    let (upstream, edge, agent, clock) = stage().await;
    let begun = Begun::of(&edge, agent.signed("POST", "/v1/x")).await;
    clock.advance(60_000);
    begun.finish().await.expect(200);
    assert_eq!(upstream.last().body, BODY.as_bytes());
    assert_eq!(upstream.last().header("expect"), None);
}

#[tokio::test]
async fn a_body_may_not_outlast_its_timestamp() {
    let (upstream, edge, agent, clock) = stage().await;
    let begun = Begun::of(&edge, agent.signed("POST", "/v1/x")).await;
    clock.advance(60_001);
    assert_refusal(&begun.finish().await, "timestamp_outside_window");
    // By the request's own clock, before anything was claimed.
    assert_eq!(edge.edge().meter().read().reasons, [("clock_outside", 1)]);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_body_may_not_outlast_its_session() {
    let (upstream, edge, agent, clock) = stage().await;
    let session = agent.session(&edge).await;
    clock.advance(30_000);
    let begun = Begun::of(&edge, agent.signed("POST", "/v1/x").in_session(&session)).await;
    clock.advance(30_000);
    assert_refusal(&begun.finish().await, "session_invalid");
    assert_eq!(edge.edge().meter().read().reasons, [("session_expired", 1)]);

    let session = agent.session(&edge).await;
    let begun = Begun::of(&edge, agent.signed("POST", "/v1/x").in_session(&session)).await;
    let end = agent.call("/agent/session/end", &json!({})).in_session(&session);
    end.send(&edge).await.expect(204);
    assert_refusal(&begun.finish().await, "session_invalid");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn who_is_blocked_meanwhile_does_not_pass() {
    let (upstream, edge, agent, _) = stage().await;
    let begun = Begun::of(&edge, agent.signed("POST", "/v1/x")).await;
    let sql = format!("UPDATE agent_devices SET status = 'blocked' WHERE id = '{}'", agent.id);
    edge.store().execute_for_tests(sql).await.unwrap();
    assert_refusal(&begun.finish().await, "agent_blocked");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn who_is_enrolled_anew_meanwhile_does_not_pass_as_the_old_one() {
    let (upstream, edge, agent, _) = stage().await;
    let session = agent.session(&edge).await;
    let by_secret = Begun::of(&edge, agent.signed("POST", "/v1/x")).await;
    let in_session = Begun::of(&edge, agent.signed("POST", "/v1/x").in_session(&session)).await;
    let start = agent.signed("POST", "/v1/x");
    let mut plan = Enrolment::default();
    plan.start["agent_id"] = json!(agent.id);
    let anew = Agent::enroll_as(&edge, plan).await;
    for begun in [by_secret, in_session] {
        let answer = begun.finish().await;
        assert!(
            ["signature_invalid", "session_invalid"].contains(&answer.code().unwrap()),
            "{}",
            answer.text()
        );
    }
    assert_refusal(&start.send(&edge).await, "signature_invalid");
    assert_eq!(upstream.count(), 0);
    anew.signed("POST", "/v1/x").send(&edge).await.expect(200);
}

#[tokio::test]
async fn what_cannot_be_marked_on_disk_is_not_admitted() {
    let clock = ManualClock::at(WallMs(1_764_000_000_000));
    let upstream = Upstream::start().await;
    // The agent and its secret are in memory: only the mark needs the disk.
    let edge = TestEdge::builder().clock(&clock).route("/v1/", &upstream).start().await;
    let agent = Agent::enroll(&edge).await;
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    edge.store().close().await;
    // Under the mark that is there it goes on: a crash now would forget nothing beyond its floor.
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    clock.advance(1_001);
    assert_refusal(&agent.signed("GET", "/v1/x").send(&edge).await, "dependency_unavailable");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_session_whose_event_cannot_be_written_does_not_begin() {
    let edge = TestEdge::builder().start().await;
    let agent = Agent::enroll(&edge).await;
    agent.session(&edge).await;
    edge.store().close().await;
    let start = agent.call("/agent/session/start", &json!({}));
    assert_refusal(&start.send(&edge).await, "dependency_unavailable");
    assert_eq!(edge.running().continuity.as_ref().unwrap().memory().sessions_held(), 1);
}

#[tokio::test]
async fn two_codes_for_one_agent_at_once_leave_it_with_one_live_secret() {
    let edge = TestEdge::builder().start().await;
    for _ in 0..10 {
        let agent = Agent::enroll(&edge).await;
        let plan = || {
            let mut plan = Enrolment::default();
            plan.start["agent_id"] = json!(agent.id);
            plan
        };
        let plans = [plan(), plan()];
        let mut bodies = Vec::new();
        for plan in &plans {
            bodies.push(plan.completion(&plan.start(&edge).await));
        }
        let (one, other) = tokio::join!(
            Enrolment::complete(&edge, &bodies[0]),
            Enrolment::complete(&edge, &bodies[1])
        );
        let mut live = 0;
        for (answer, plan) in [one, other].into_iter().zip(plans) {
            if answer.status() != 200 {
                assert_refusal(&answer, "dependency_unavailable");
                continue;
            }
            let anew = Agent::of(&edge, answer.json(), plan.device);
            let echo = anew.call("/agent/protected/echo", &json!({})).send(&edge).await;
            live += usize::from(echo.status() == 200);
        }
        assert_eq!(live, 1);
    }
}
