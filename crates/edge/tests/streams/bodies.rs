//! Bodies have a size, a pace and a time; what is refused for one of them costs no nonce.

use std::time::Duration;

use edgeward_testkit::{Agent, Conn, Signed, TestEdge, Upstream};
use tokio::time::Instant;

use crate::tools::manual_clock;

const KIB: usize = 1024;

/// A route that takes 2 KiB.
async fn scene() -> (Upstream, TestEdge, Agent) {
    let upstream = Upstream::start().await;
    let lines = "max_body = \"2KiB\"";
    let edge = TestEdge::builder().route_with("/v1/", &[&upstream.url()], lines).start().await;
    let agent = Agent::enroll(&edge).await;
    (upstream, edge, agent)
}

fn post(agent: &Agent, size: usize) -> Signed {
    agent.signed("POST", "/v1/").body(vec![b'a'; size])
}

/// The head of a request without its body.
fn head_of(bytes: &[u8], body: usize) -> &[u8] {
    &bytes[..bytes.len() - body]
}

#[tokio::test]
async fn a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent() {
    let (upstream, edge, agent) = scene().await;
    let fits = post(&agent, 2 * KIB).header("Expect", "100-continue").build();
    let mut conn = edge.connect().await;
    conn.send(head_of(&fits, 2 * KIB)).await;
    assert_eq!(conn.next_status().await, 100);
    conn.send(&fits[fits.len() - 2 * KIB..]).await;
    conn.answer().await.expect(200);

    let signed = post(&agent, 2 * KIB + 1);
    let too_large = signed.clone().header("Expect", "100-continue").build();
    let mut conn = edge.connect().await;
    conn.send(head_of(&too_large, 2 * KIB + 1)).await;
    assert_eq!(conn.next_status().await, 413, "the body was asked for");
    // Without the expectation as well, and nothing of the body is waited for.
    let plain = signed.build();
    let mut conn = edge.connect().await;
    conn.send(head_of(&plain, 2 * KIB + 1)).await;
    let refusal = conn.answer().await.expect(413).refused("body_too_large");
    assert_eq!(refusal.header("content-type"), Some("application/problem+json"));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_body_in_chunks_is_refused_as_soon_as_it_is_too_large() {
    let (upstream, edge, agent) = scene().await;
    let mut conn = edge.connect().await;
    let fits = post(&agent, 2 * KIB).parts().chunked(100);
    conn.exchange(&fits).await.expect(200);

    let endless = post(&agent, 2 * KIB).parts().chunked(100);
    let begun = &endless[..endless.len() - b"0\r\n\r\n".len()];
    let mut conn = edge.connect().await;
    conn.send(begun).await;
    conn.send(b"1\r\na\r\n").await;
    // Its end is not waited for.
    conn.answer().await.expect(413).refused("body_too_large");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn the_control_plane_takes_64_kib() {
    let (_upstream, edge, agent) = scene().await;
    let refresh = |size: usize| {
        let filled = format!("{{{}}}", " ".repeat(size - 2));
        agent.signed("POST", "/agent/token/refresh").body(filled).content_type("application/json")
    };
    refresh(64 * KIB).send(&edge).await.expect(200);
    refresh(65 * KIB).send(&edge).await.expect(413).refused("body_too_large");
    let mut conn = edge.connect().await;
    assert!(conn.try_send(&refresh(65 * KIB).parts().chunked(4096)).await);
    conn.answer().await.expect(413).refused("body_too_large");
    // The same without credentials.
    let code = |size: usize| {
        let body = format!("{{\"enroll_code\":\"0\"{}}}", " ".repeat(size - 19));
        edgeward_testkit::raw::request("POST", "/agent/enroll/challenge", &[], body.as_bytes())
    };
    edge.send(&code(64 * KIB)).await.expect(401).refused("enroll_code_invalid");
    edge.send(&code(65 * KIB)).await.expect(413).refused("body_too_large");
}

/// Announces ten bytes and sends one.
async fn trickle(edge: &TestEdge, signed: &Signed) -> (Conn, Vec<u8>) {
    let bytes = signed.build();
    let mut conn = edge.connect().await;
    conn.send(&bytes[..bytes.len() - 9]).await;
    (conn, bytes)
}

#[tokio::test]
async fn a_body_slower_than_its_pace_is_given_up_and_costs_no_nonce() {
    let (upstream, edge, agent) = scene().await;
    let since = Instant::now();
    let (mut conn, bytes) = trickle(&edge, &post(&agent, 10)).await;
    conn.answer().await.expect(400).refused("request_malformed");
    let took = since.elapsed();
    println!("a body that stands still was given up after {} ms", took.as_millis());
    assert!(took >= Duration::from_secs(5), "{took:?}");
    assert!(conn.is_closed().await, "the rest of the body is nobody's request");
    edge.send(&bytes).await.expect(200);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_body_that_outlasts_the_time_window_is_refused() {
    let upstream = Upstream::start().await;
    let clock = manual_clock();
    let edge = TestEdge::builder()
        .clock(&clock)
        .set("AGENT_HMAC_WINDOW_MS", 60_000)
        .route("/v1/", &upstream)
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    // The request is inside the edge once its body is asked for; then time passes.
    let begin = async |signed: &Signed| {
        let bytes = signed.clone().header("Expect", "100-continue").build();
        let mut conn = edge.connect().await;
        conn.send(head_of(&bytes, 10)).await;
        assert_eq!(conn.next_status().await, 100);
        (conn, bytes)
    };
    let (mut conn, bytes) = begin(&post(&agent, 10)).await;
    clock.advance(60_000);
    conn.send(&bytes[bytes.len() - 10..]).await;
    conn.answer().await.expect(200);

    let (mut conn, bytes) = begin(&post(&agent, 10)).await;
    clock.advance(60_001);
    conn.send(&bytes[bytes.len() - 10..]).await;
    conn.answer().await.expect(401).refused("timestamp_outside_window");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_session_that_ends_while_the_body_comes_is_seen() {
    let (upstream, edge, agent) = scene().await;
    let session = agent.session(&edge).await;
    let bytes = post(&agent, 10).in_session(&session).header("Expect", "100-continue").build();
    let mut conn = edge.connect().await;
    conn.send(head_of(&bytes, 10)).await;
    assert_eq!(conn.next_status().await, 100);
    crate::tools::end_session(&edge, &agent, &session).await;
    conn.send(&bytes[bytes.len() - 10..]).await;
    conn.answer().await.expect(401).refused("session_invalid");
    assert_eq!(upstream.count(), 0);
}
