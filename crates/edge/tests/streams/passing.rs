//! Streams pass as they come: every byte, nothing held back, nothing added.

use std::time::Duration;

use bytes::Bytes;
use edgeward_testkit::upstream::UpstreamStream;
use edgeward_testkit::{Agent, Piece, Reply, TestEdge, Upstream, eventually};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::h2;
use crate::tools::{events, header, manual_clock, open, read_exactly, read_to_end};

/// Five times what the first event may take more than at the upstream.
const FIRST_EVENT_DEADLINE: Duration = Duration::from_millis(250);

const EVENTS: usize = 10_000;

/// An event of 200 bytes that is unlike every other.
fn event(number: usize) -> Vec<u8> {
    let mut event = format!("id: {number}\ndata: ").into_bytes();
    event.resize(198, b'a' + u8::try_from(number % 26).unwrap());
    event.extend(b"\n\n");
    event
}

/// Sends all events and ends the body; what was sent.
async fn feed(stream: UpstreamStream) -> Vec<u8> {
    let mut sent = Vec::with_capacity(EVENTS * 200);
    for number in 0..EVENTS {
        let event = event(number);
        assert!(stream.send(event.clone()).await, "the edge has gone after {number} events");
        sent.extend(event);
    }
    stream.end().await;
    sent
}

#[tokio::test]
async fn ten_thousand_events_arrive_as_they_were_sent() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let (_, mut conn) = open(&edge, &events(&agent)).await;
    let feeding = tokio::spawn(feed(upstream.next_stream().await));
    let (received, end) = read_to_end(&mut conn).await;
    let sent = feeding.await.unwrap();
    assert_eq!(sent.len(), EVENTS * 200);
    assert!(received == sent, "{} bytes received, {} sent", received.len(), sent.len());
    assert_eq!(end, Piece::End);
}

#[tokio::test]
async fn ten_thousand_events_arrive_as_they_were_sent_over_http2() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let (client, _driver) = h2::connect(&edge).await;
    let answer = client.send(&events(&agent)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "no-cache, no-transform");
    let feeding = tokio::spawn(feed(upstream.next_stream().await));
    let received = answer.into_body().collect().await.unwrap().to_bytes();
    let sent = feeding.await.unwrap();
    assert!(received == sent, "{} bytes received, {} sent", received.len(), sent.len());
}

#[tokio::test]
async fn the_first_event_passes_while_the_second_is_not_there_yet() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let (_, mut conn) = open(&edge, &events(&agent)).await;
    let stream = upstream.next_stream().await;
    let mut took = Vec::new();
    for number in 0..20 {
        // Each is read before the next is sent: an edge that gathers never gets beyond the first.
        let sent_at = Instant::now();
        assert!(stream.send(event(number)).await);
        assert_eq!(read_exactly(&mut conn, 200).await, event(number));
        took.push(sent_at.elapsed());
    }
    println!("the first event took {:?}, the slowest of 20 {:?}", took[0], took.iter().max());
    assert!(took[0] < FIRST_EVENT_DEADLINE, "{took:?}");
}

#[tokio::test]
async fn the_first_event_passes_over_http2_while_the_second_is_not_there_yet() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let (client, _driver) = h2::connect(&edge).await;
    let mut body = client.send(&events(&agent)).await.into_body();
    let stream = upstream.next_stream().await;
    for number in 0..20 {
        let sent_at = Instant::now();
        assert!(stream.send(event(number)).await);
        assert_eq!(h2::piece(&mut body).await.unwrap(), Some(Bytes::from(event(number))));
        let took = sent_at.elapsed();
        if number == 0 {
            println!("the first event took {took:?} over HTTP/2");
            assert!(took < FIRST_EVENT_DEADLINE, "{took:?}");
        }
    }
}

#[tokio::test]
async fn the_head_of_a_stream_says_what_proxies_and_clients_need() {
    let upstream = Upstream::start().await;
    let clock = manual_clock();
    let edge = TestEdge::builder()
        .clock(&clock)
        .set("AGENT_SESSION_TTL_MS", 90_000)
        .route("/v1/", &upstream)
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let session = agent.session(&edge).await;
    upstream.plan(|_| {
        let lines = [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "public, max-age=9"),
            ("x-accel-buffering", "yes"),
            ("x-session-expires-ms", "1"),
            ("x-of-the-upstream", "stays"),
        ];
        Reply::Stream(200, lines.map(|(name, value)| header(name, value)).to_vec())
    });
    clock.advance(10_000);
    let asks = || events(&agent).header("Accept-Encoding", "gzip, br");
    let (head, _conn) = open(&edge, &asks().in_session(&session)).await;
    for (name, value) in [
        ("content-type", Some("text/event-stream; charset=utf-8")),
        ("cache-control", Some("no-cache, no-transform")),
        ("x-accel-buffering", Some("no")),
        ("content-encoding", None),
        ("x-of-the-upstream", Some("stays")),
        ("transfer-encoding", Some("chunked")),
        ("x-session-expires-ms", Some(session.started.expires_at_ms.to_string().as_str())),
    ] {
        assert_eq!(head.header(name), value, "{name}");
    }
    // Without a session it is the stream's own life that counts.
    let (head, _conn) = open(&edge, &asks()).await;
    let ends = (edge.now_ms() + 90_000).to_string();
    assert_eq!(head.header("x-session-expires-ms"), Some(ends.as_str()));
}

#[tokio::test]
async fn last_event_id_and_a_posted_body_reach_the_upstream() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let session = agent.session(&edge).await;
    let prompt = "a question, ".repeat(20_000);
    let ask = agent
        .signed("POST", "/v1/chat?stream=true")
        .in_session(&session)
        .content_type("text/plain")
        .body(prompt.clone())
        .accept_events()
        .header("Last-Event-ID", "event 41");
    let (_, mut conn) = open(&edge, &ask).await;
    let stream = upstream.next_stream().await;
    assert_eq!(stream.request.header("last-event-id").as_deref(), Some("event 41"));
    assert_eq!(stream.request.header("accept").as_deref(), Some("text/event-stream"));
    assert_eq!(stream.request.line()[..2], ["POST", "/v1/chat?stream=true"]);
    assert_eq!(stream.request.body, prompt.as_bytes());
    assert!(stream.event("an answer").await);
    stream.end().await;
    assert_eq!(read_to_end(&mut conn).await, (b"data: an answer\n\n".to_vec(), Piece::End));
}

#[tokio::test]
async fn a_stream_that_the_agent_leaves_is_left_at_the_upstream() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let (_, conn) = open(&edge, &events(&agent)).await;
    let stream = upstream.next_stream().await;
    drop(conn);
    stream.gone().await;

    let (client, _driver) = h2::connect(&edge).await;
    let answer = client.send(&events(&agent)).await;
    let stream = upstream.next_stream().await;
    // One stream is reset, the connection stays.
    drop(answer);
    stream.gone().await;
    client.send(&agent.signed("GET", "/v1/")).await;
    eventually("the leases' end", async || edge.edge().streams().count() == 0).await;
}
