//! Upstreams that die, fall silent or say what is not theirs to say, in the middle of a stream.

use edgeward_testkit::{Agent, Conn, Piece, Reply, TestEdge, Upstream};

use crate::h2;
use crate::tools::{events, header, no_streams, octets, open, read_exactly, read_to_end};

/// An edge with a stream of events and one of bytes; the upstream may be silent for 300 ms.
async fn scene(lines: &str) -> (Upstream, TestEdge, Agent, [Conn; 2]) {
    let upstream = Upstream::start().await;
    upstream.plan(|request| if request.target() == "/v1/bytes" { octets() } else { Reply::Events });
    let edge = TestEdge::builder().route_with("/v1/", &[&upstream.url()], lines).start().await;
    let agent = Agent::enroll(&edge).await;
    let (_, events) = open(&edge, &events(&agent)).await;
    let (_, octets) = open(&edge, &agent.signed("GET", "/v1/bytes")).await;
    (upstream, edge, agent, [events, octets])
}

#[tokio::test]
async fn an_upstream_that_dies_ends_events_and_breaks_everything_else() {
    let (upstream, edge, agent, conns) = scene("").await;
    let streams = [upstream.next_stream().await, upstream.next_stream().await];
    for (stream, (mut conn, end)) in
        streams.into_iter().zip(conns.into_iter().zip([Piece::End, Piece::Broken]))
    {
        assert!(stream.send(*b"begun").await);
        assert_eq!(read_exactly(&mut conn, 5).await, b"begun");
        drop(stream);
        assert_eq!(read_to_end(&mut conn).await, (Vec::new(), end));
    }
    let (client, _driver) = h2::connect(&edge).await;
    let mut body = client.send(&events(&agent)).await.into_body();
    drop(upstream.next_stream().await);
    assert_eq!(h2::piece(&mut body).await.unwrap(), None);
    let mut body = client.send(&agent.signed("GET", "/v1/bytes")).await.into_body();
    drop(upstream.next_stream().await);
    h2::piece(&mut body).await.expect_err("bytes never look whole");
    no_streams(&edge).await;
}

#[tokio::test]
async fn an_announced_length_that_does_not_come_is_seen() {
    let (upstream, edge, agent, _) = scene("").await;
    for kind in ["application/octet-stream", "application/json"] {
        for length in [100, 1_000_000] {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\nbegun"
            );
            upstream.plan(move |_| Reply::Raw(head.clone().into_bytes()));
            let mut conn = edge.connect().await;
            conn.send(&agent.signed("GET", "/v1/").build()).await;
            // A body that is broken off at once may take its head with it.
            let Some(head) = conn.try_head().await else { continue };
            assert_eq!(head.header("content-length"), Some(length.to_string().as_str()));
            let (body, end) = read_to_end(&mut conn).await;
            assert!(b"begun".starts_with(&body));
            assert_eq!(end, Piece::Broken);
        }
    }
    // Events end in order, whatever their upstream had announced.
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n";
    upstream.plan(move |_| Reply::Raw(format!("{head}data: 1\n\n").into_bytes()));
    let (head, mut conn) = open(&edge, &events(&agent)).await;
    assert_eq!(head.header("content-length"), None);
    assert_eq!(read_to_end(&mut conn).await, (b"data: 1\n\n".to_vec(), Piece::End));
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_given_up() {
    let (upstream, edge, _, conns) = scene("timeouts = { idle_ms = 300 }").await;
    for (mut conn, end) in conns.into_iter().zip([Piece::End, Piece::Broken]) {
        let stream = upstream.next_stream().await;
        assert_eq!(read_to_end(&mut conn).await.1, end);
        stream.gone().await;
    }
    no_streams(&edge).await;
}

#[tokio::test]
async fn an_upstream_that_speaks_in_time_is_not_given_up() {
    let (upstream, edge, _, [mut conn, _octets]) = scene("timeouts = { idle_ms = 1000 }").await;
    let stream = upstream.next_stream().await;
    // Together far more than the patience between two pieces.
    let mut beat = tokio::time::interval(std::time::Duration::from_millis(100));
    for _ in 0..15 {
        beat.tick().await;
        assert!(stream.event("x").await);
        assert_eq!(read_exactly(&mut conn, 9).await, b"data: x\n\n");
    }
    drop(edge);
}

#[tokio::test]
async fn what_is_the_edges_to_say_is_taken_from_the_upstreams_answer() {
    let (upstream, edge, agent, _) = scene("").await;
    upstream.plan(|_| {
        let lines = [
            ("content-type", "text/event-stream"),
            ("x-edgeward-code", "agent_blocked"),
            ("x-edgeward-anything", "1"),
            ("x-trace-id", "of the upstream"),
            ("x-secret-version", "99"),
            ("x-session-expires-ms", "1"),
            ("ratelimit", "\"agent\";r=0"),
            ("ratelimit-policy", "\"agent\";q=0"),
            ("keep-alive", "timeout=1"),
            ("connection", "x-of-this-hop"),
            ("x-of-this-hop", "1"),
            ("x-its-own", "stays"),
        ];
        Reply::Stream(200, lines.map(|(name, value)| header(name, value)).to_vec())
    });
    let (head, _conn) = open(&edge, &events(&agent)).await;
    for name in [
        "x-edgeward-code",
        "x-edgeward-anything",
        "ratelimit",
        "ratelimit-policy",
        "keep-alive",
        "x-of-this-hop",
    ] {
        assert_eq!(head.header(name), None, "{name}");
    }
    assert_eq!(head.header("x-its-own"), Some("stays"));
    assert_eq!(head.header("x-secret-version"), Some("1"));
    assert_eq!(head.header("x-trace-id").map(str::len), Some(32));
    let ends: u64 = head.header("x-session-expires-ms").unwrap().parse().unwrap();
    assert!(ends > edge.now_ms());
}
