//! An agent has so many streams and no more; what is refused costs it nothing.

use edgeward_testkit::{Agent, Piece, Reply, TestEdge, Upstream};

use crate::h2;
use crate::tools::{assert_open, events, octets, open};

async fn edge_with(upstream: &Upstream, cap: u32) -> TestEdge {
    TestEdge::builder().set("AGENT_MAX_STREAMS", cap).route("/v1/", upstream).start().await
}

#[tokio::test]
async fn one_stream_too_many_is_refused_until_there_is_room() {
    let upstream = Upstream::start().await;
    let edge = edge_with(&upstream, 2).await;
    let agent = Agent::enroll(&edge).await;
    let session = agent.session(&edge).await;
    // The cap is the agent's, in whatever session.
    let (_, mut first) = open(&edge, &events(&agent)).await;
    let first_stream = upstream.next_stream().await;
    let (_, second) = open(&edge, &events(&agent).in_session(&session)).await;
    let second_stream = upstream.next_stream().await;

    let third = events(&agent).build();
    let refusal = edge.send(&third).await.expect(429).refused("too_many_streams");
    assert_eq!(refusal.header("retry-after"), Some("1"));
    assert_eq!(refusal.header("ratelimit-policy"), Some("\"streams\""));
    assert_eq!(refusal.header("ratelimit"), Some("\"streams\";r=0"));
    assert_eq!(refusal.json::<serde_json::Value>()["retry_after_ms"], 1000);
    assert_eq!(upstream.count(), 2, "a stream that was refused reached the upstream");

    // Nobody else has less room for it, and what is no stream passes.
    let neighbour = Agent::enroll(&edge).await;
    let (_, _neighbours) = open(&edge, &events(&neighbour)).await;
    let _neighbours_stream = upstream.next_stream().await;
    agent.signed("GET", "/v1/").send(&edge).await.expect(200);
    assert_open(&edge, &first_stream, &mut first).await;

    drop(second);
    second_stream.gone().await;
    edgeward_testkit::eventually("a place", async || edge.edge().streams().count() == 2).await;
    // Its nonce was not used up: the very same bytes pass.
    let mut conn = edge.connect().await;
    conn.send(&third).await;
    assert_eq!(conn.head().await.status, 200);
    assert_open(&edge, &first_stream, &mut first).await;
}

#[tokio::test]
async fn an_answer_that_turns_out_to_be_a_stream_counts_too() {
    let upstream = Upstream::start().await;
    let edge = edge_with(&upstream, 2).await;
    let agent = Agent::enroll(&edge).await;
    upstream.plan(|request| match request.target().as_str() {
        "/v1/events" => Reply::Events,
        "/v1/bytes" => octets(),
        _ => Reply::Echo,
    });
    let mut open_ones = Vec::new();
    for target in ["/v1/events", "/v1/bytes"] {
        let (_, conn) = open(&edge, &agent.signed("GET", target)).await;
        open_ones.push((upstream.next_stream().await, conn));
    }
    for target in ["/v1/events", "/v1/bytes"] {
        let refused = agent.signed("GET", target).send(&edge).await;
        refused.expect(429).refused("too_many_streams");
        upstream.next_stream().await.gone().await;
    }
    agent.signed("GET", "/v1/short").send(&edge).await.expect(200);
    // Over one connection of HTTP/2 it is the same.
    let (client, _driver) = h2::connect(&edge).await;
    assert_eq!(client.send(&agent.signed("GET", "/v1/events")).await.status(), 429);
    for (stream, conn) in &mut open_ones {
        assert_open(&edge, stream, conn).await;
    }
    // A place is free as soon as a stream has ended.
    let (stream, mut conn) = open_ones.pop().unwrap();
    stream.end().await;
    assert_eq!(conn.piece().await, Piece::End);
    open(&edge, &agent.signed("GET", "/v1/events")).await;
}
