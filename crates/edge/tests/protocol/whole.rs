//! What must not stop half way, must not be charged to others, and must not be said twice.

use edgeward_store::durable::Agents as _;
use edgeward_testkit::raw::Conn;
use edgeward_testkit::{Agent, Enrolment, Reply, Session, TestEdge, Upstream, eventually};
use serde_json::json;
use tokio::sync::oneshot;

use crate::problem::assert_refusal;

/// Keeps the database's one writer busy for a while, and changes nothing.
const LONG: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 4000000) \
                    SELECT max(x) FROM c";

/// Whether the agent's old session is refused by now.
async fn is_void(edge: &TestEdge, old: &Agent, session: &Session) -> bool {
    old.signed("GET", "/v1/x").in_session(session).send(edge).await.code()
        == Some("session_invalid")
}

/// Sends a completion while the database is busy, and is gone before the code is redeemed.
async fn complete_and_hang_up(edge: &TestEdge, body: &str) {
    let request = format!(
        "POST /agent/enroll/complete HTTP/1.1\r\nHost: edge\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let store = edge.store().clone();
    let busy = tokio::spawn(async move { store.execute_for_tests(LONG.to_owned()).await });
    let mut conn = edge.connect().await;
    conn.send(request.as_bytes()).await;
    // Meanwhile the edge gets as far as the database.
    for _ in 0..100 {
        edge.get(&edge.path("/agent/healthz")).await.expect(200);
    }
    drop(conn);
    busy.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_re_enrolment_and_its_revocation_go_to_their_end_though_the_caller_hangs_up() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let old = Agent::enroll(&edge).await;
    let session = old.session(&edge).await;
    // A caller may be gone before the edge has read what it sent; then there is another try.
    for _ in 0..5 {
        let mut plan = Enrolment::default();
        plan.start["agent_id"] = json!(old.id);
        let started = plan.start(&edge).await;
        complete_and_hang_up(&edge, &plan.completion(&started).to_string()).await;
        for _ in 0..200 {
            if edge.store().agent(old.id).await.unwrap().unwrap().epoch > 1 {
                eventually("the old session is void", async || {
                    is_void(&edge, &old, &session).await
                })
                .await;
                return;
            }
        }
    }
    panic!("no re-enrolment went to its end");
}

#[tokio::test]
async fn replays_do_not_use_up_the_turns_of_the_agent() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .route("/v1/", &upstream)
        .set("AGENT_REQUIRE_JWT_EVERY_N", 5)
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let session = agent.session(&edge).await;
    let captured = agent.signed("GET", "/v1/x").in_session(&session).no_bearer().build();
    edge.send(&captured).await.expect(200);
    for _ in 0..20 {
        assert_refusal(&edge.send(&captured).await, "nonce_replayed");
    }
    // One of five was the agent's; three more may come without a JWT, whatever strangers did.
    for _ in 0..3 {
        agent.signed("GET", "/v1/x").in_session(&session).no_bearer().send(&edge).await.expect(200);
    }
    let fifth = agent.signed("GET", "/v1/x").in_session(&session).no_bearer();
    assert_refusal(&fifth.send(&edge).await, "token_required");
}

#[tokio::test]
async fn what_an_unsafe_request_did_is_not_answered_by_advice_to_repeat_it() {
    for (method, code) in [("GET", "session_invalid"), ("POST", "upstream_failed")] {
        let upstream = Upstream::start().await;
        let edge = TestEdge::start(&upstream).await;
        let agent = Agent::enroll(&edge).await;
        let session = agent.session(&edge).await;
        let (release, gate) = oneshot::channel();
        let mut gate = Some(gate);
        upstream.plan(move |_| match gate.take() {
            Some(gate) => Reply::After(gate, Box::new(Reply::Events)),
            None => Reply::Echo,
        });
        let request = agent.signed(method, "/v1/x").in_session(&session).build();
        let mut conn = edge.connect().await;
        conn.send(&request).await;
        eventually("the upstream sees it", async || upstream.count() > 0).await;
        let end = agent.call("/agent/session/end", &json!({})).in_session(&session);
        end.send(&edge).await.expect(204);
        release.send(()).unwrap();
        assert_refusal(&conn.answer().await, code);
    }
}

#[tokio::test]
async fn who_comes_while_the_edge_stops_is_told_so() {
    let upstream = Upstream::start().await;
    let mut edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let (release, gate) = oneshot::channel();
    let mut gate = Some(gate);
    upstream.plan(move |_| match gate.take() {
        Some(gate) => Reply::After(gate, Box::new(Reply::Echo)),
        None => Reply::Echo,
    });
    let mut pending = edge.connect().await;
    pending.send(&agent.signed("GET", "/v1/x").build()).await;
    eventually("the upstream sees it", async || upstream.count() > 0).await;
    let (address, health) = (edge.address(), edge.path("/agent/healthz"));
    let late = agent.signed("GET", "/v1/x").build();
    let asked = tokio::spawn(async move {
        let request = format!("GET {health} HTTP/1.1\r\nHost: edge\r\n\r\n");
        // Until the stop is noticed the answer is 200; connections from before it are closed.
        let answer = loop {
            let mut conn = Conn::connect(address).await;
            conn.send(request.as_bytes()).await;
            if let Some(head) = conn.try_head().await
                && head.status != 200
            {
                break head;
            }
        };
        let mut conn = Conn::connect(address).await;
        let refused = conn.exchange(&late).await;
        release.send(()).unwrap();
        (answer, refused)
    });
    edge.stop().await;
    let (health, refused) = asked.await.unwrap();
    assert_eq!(health.status, 503);
    assert_refusal(&refused, "draining");
    // What was in flight got its answer.
    pending.answer().await.expect(200);
}

#[tokio::test]
async fn a_body_that_came_fast_at_first_may_not_stand_still_after_it() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let request = agent.signed("POST", "/v1/x").body(vec![b'x'; 500_000]).build();
    let mut conn = edge.connect().await;
    // By its average the half of it would be good for four minutes.
    conn.send(&request[..250_000]).await;
    assert_refusal(&conn.answer().await, "request_malformed");
    assert_eq!(upstream.count(), 0);
}
