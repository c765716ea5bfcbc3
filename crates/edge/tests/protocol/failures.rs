//! Upstreams that are not there, do not answer, or break off; and what is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use edgeward_testkit::{Agent, Nobody, Reply, TestEdge, Upstream, soon};
use tokio::sync::oneshot;

use crate::problem::assert_refusal;

#[tokio::test]
async fn a_safe_method_goes_to_the_next_upstream_and_no_other_does() {
    let upstream = Upstream::start().await;
    let (nobody, live) = (Nobody::here(), upstream.url());
    let dead = nobody.url();
    for method in ["GET", "HEAD", "OPTIONS"] {
        // The dead one stands first and is tried first.
        let edge = TestEdge::builder().route_with("/v1/", &[&dead, &live], "").start().await;
        let agent = Agent::enroll(&edge).await;
        agent.signed(method, "/v1/x").send(&edge).await.expect(200);
        assert_eq!(upstream.take().len(), 1, "{method}");
        // Now it pauses, so that others get through at once.
        agent.signed("POST", "/v1/x").body("b").send(&edge).await.expect(200);
        assert_eq!(upstream.take().len(), 1, "{method}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let edge = TestEdge::builder().route_with("/v1/", &[&dead, &live], "").start().await;
        let agent = Agent::enroll(&edge).await;
        let answer = agent.signed(method, "/v1/x").send(&edge).await;
        assert_refusal(&answer, "upstream_failed");
        assert_eq!(upstream.count(), 0, "{method}");
    }
    let other = Nobody::here();
    let edge = TestEdge::builder().route_with("/v1/", &[&dead, &other.url()], "").start().await;
    let agent = Agent::enroll(&edge).await;
    assert_refusal(&agent.signed("GET", "/v1/x").send(&edge).await, "upstream_failed");
}

#[tokio::test]
async fn what_an_upstream_has_seen_is_sent_to_no_other() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.plan(|_| Reply::HangUp);
    let edge =
        TestEdge::builder().route_with("/v1/", &[&first.url(), &second.url()], "").start().await;
    let agent = Agent::enroll(&edge).await;
    for method in ["GET", "POST"] {
        let answer = agent.signed(method, "/v1/x").send(&edge).await;
        assert_refusal(&answer, "upstream_failed");
    }
    assert_eq!((first.count(), second.count()), (2, 0));
}

#[tokio::test]
async fn the_least_busy_upstream_gets_the_next_request() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let (release, gate) = oneshot::channel();
    let mut gate = Some(gate);
    first.plan(move |_| match gate.take() {
        Some(gate) => Reply::After(gate, Box::new(Reply::Echo)),
        None => Reply::Echo,
    });
    let edge =
        TestEdge::builder().route_with("/v1/", &[&first.url(), &second.url()], "").start().await;
    let agent = Agent::enroll(&edge).await;
    let mut slow = edge.connect().await;
    slow.send(&agent.signed("GET", "/v1/slow").build()).await;
    edgeward_testkit::eventually("the slow one", async || first.count() == 1).await;
    for _ in 0..5 {
        agent.signed("GET", "/v1/quick").send(&edge).await.expect(200);
    }
    assert_eq!((first.count(), second.count()), (1, 5));
    release.send(()).unwrap();
    slow.answer().await.expect(200);
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_a_timeout_and_is_let_go() {
    let upstream = Upstream::start().await;
    upstream.plan(|_| Reply::Never);
    let edge = TestEdge::builder()
        .route_with("/v1/", &[&upstream.url()], "timeouts = { first_byte_ms = 100 }")
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    for method in ["GET", "POST"] {
        let answer = agent.signed(method, "/v1/x").send(&edge).await;
        assert_refusal(&answer, "upstream_timeout");
    }
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn an_answer_that_falls_silent_is_broken_off() {
    let upstream = Upstream::start().await;
    let headers = vec![("content-type".to_owned(), "application/octet-stream".to_owned())];
    upstream.plan(move |_| Reply::Stream(200, headers.clone()));
    let edge = TestEdge::builder()
        .route_with("/v1/", &[&upstream.url()], "timeouts = { idle_ms = 100 }")
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let (head, mut conn) = agent.signed("GET", "/v1/x").open(&edge).await;
    assert_eq!(head.status, 200);
    let stream = upstream.next_stream().await;
    stream.send("some").await;
    assert_eq!(conn.piece().await, edgeward_testkit::Piece::Data(b"some".to_vec()));
    assert_eq!(conn.piece().await, edgeward_testkit::Piece::Broken);
    stream.gone().await;
}

#[tokio::test]
async fn a_failure_of_the_upstream_is_not_held_against_the_agent() {
    let upstream = Upstream::start().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    upstream.plan(move |_| {
        if counted.fetch_add(1, Ordering::SeqCst) < 5 { Reply::HangUp } else { Reply::Echo }
    });
    let edge = TestEdge::builder()
        .route("/v1/", &upstream)
        .set("AGENT_BACKOFF_FREE", 0)
        .set("AGENT_BACKOFF_BASE_MS", 60_000)
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    for _ in 0..5 {
        let answer = agent.signed("GET", "/v1/x").send(&edge).await;
        assert_refusal(&answer, "upstream_failed");
    }
    soon("an answer", agent.signed("GET", "/v1/x").send(&edge)).await.expect(200);
}

#[tokio::test]
async fn a_request_is_forwarded_whole_or_not_at_all() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let request = agent.signed("POST", "/v1/x").body("0123456789").build();
    let mut conn = edge.connect().await;
    conn.send(&request[..request.len() - 3]).await;
    drop(conn);
    let other = agent.signed("POST", "/v1/after").body("0123456789");
    other.send(&edge).await.expect(200);
    let targets: Vec<_> = upstream.recorded().iter().map(|seen| seen.target()).collect();
    assert_eq!(targets, ["/v1/after"]);
}
