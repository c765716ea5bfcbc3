//! Streams end when their time has come, by the edge's clock, and not before.

use edgeward_store::clock::ManualClock;
use edgeward_testkit::agent::Session;
use edgeward_testkit::edge::Builder;
use edgeward_testkit::{Agent, Piece, Reply, TestEdge, Upstream, eventually};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::tools::{
    assert_open, cut_since, events, extend_session, manual_clock, octets, open, read_to_end,
};

const TTL_MS: u64 = 60_000;

struct Scene {
    upstream: Upstream,
    clock: ManualClock,
    edge: TestEdge,
    agent: Agent,
    session: Session,
}

impl Scene {
    async fn set(change: impl FnOnce(Builder) -> Builder) -> Self {
        let (upstream, clock) = (Upstream::start().await, manual_clock());
        let builder = TestEdge::builder()
            .clock(&clock)
            .set("AGENT_SESSION_TTL_MS", TTL_MS)
            .route("/v1/", &upstream);
        let edge = change(builder).start().await;
        let agent = Agent::enroll(&edge).await;
        let session = agent.session(&edge).await;
        Self { upstream, clock, edge, agent, session }
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_session_and_not_before() {
    let Scene { upstream, clock, edge, agent, session } = Scene::set(|builder| builder).await;
    clock.advance(10_000);
    let (_, mut conn) = open(&edge, &events(&agent).in_session(&session)).await;
    let stream = upstream.next_stream().await;
    upstream.plan(|_| octets());
    let asks = agent.signed("GET", "/v1/").in_session(&session);
    let (_, mut bytes) = open(&edge, &asks).await;

    clock.advance(TTL_MS - 10_000 - 1);
    assert_open(&edge, &stream, &mut conn).await;
    let since = Instant::now();
    clock.advance(1);
    assert_eq!(cut_since("expiry, events", since, &mut conn).await, Piece::End);
    assert_eq!(cut_since("expiry, bytes", since, &mut bytes).await, Piece::Broken);
    stream.gone().await;
    events(&agent).in_session(&session).send(&edge).await.expect(401).refused("session_invalid");
}

#[tokio::test]
async fn a_stream_without_a_session_lives_as_long_as_one() {
    let Scene { upstream, clock, edge, agent, .. } = Scene::set(|builder| builder).await;
    clock.advance(10_000);
    let (_, mut conn) = open(&edge, &events(&agent)).await;
    let stream = upstream.next_stream().await;
    clock.advance(TTL_MS - 1);
    assert_open(&edge, &stream, &mut conn).await;
    let since = Instant::now();
    clock.advance(1);
    assert_eq!(cut_since("expiry, no session", since, &mut conn).await, Piece::End);
}

#[tokio::test]
async fn extending_a_session_keeps_all_its_streams_up_to_its_greatest_age() {
    let Scene { upstream, clock, edge, agent, session } =
        Scene::set(|builder| builder.set("AGENT_SESSION_MAX_MS", 2 * TTL_MS)).await;
    let began = edge.now_ms();
    let mut streams = Vec::new();
    for _ in 0..3 {
        let (_, conn) = open(&edge, &events(&agent).in_session(&session)).await;
        streams.push((upstream.next_stream().await, conn));
    }
    // Of the same agent, and not extended.
    let other = agent.session(&edge).await;
    let (_, mut ending) = open(&edge, &events(&agent).in_session(&other)).await;

    clock.advance(50_000);
    assert_eq!(extend_session(&edge, &agent, &session).await, began + 50_000 + TTL_MS);
    clock.advance(20_000);
    let since = Instant::now();
    assert_eq!(cut_since("expiry of the other", since, &mut ending).await, Piece::End);
    for (stream, conn) in &mut streams {
        assert_open(&edge, stream, conn).await;
    }

    clock.advance(30_000);
    let greatest = session.started.max_expires_at_ms;
    assert_eq!(greatest, began + 2 * TTL_MS);
    assert_eq!(extend_session(&edge, &agent, &session).await, greatest);
    clock.advance(2 * TTL_MS - 100_000 - 1);
    for (stream, conn) in &mut streams {
        assert_open(&edge, stream, conn).await;
    }
    let since = Instant::now();
    clock.advance(1);
    for (_, conn) in &mut streams {
        assert_eq!(cut_since("the greatest age", since, conn).await, Piece::End);
    }
}

/// The session is extended while the upstream thinks; whether the stream has its place among the
/// streams by then or not, it lives as long as its session.
async fn extended_while_the_upstream_thinks(accept: bool) {
    let Scene { upstream, clock, edge, agent, session } = Scene::set(|builder| builder).await;
    let (think, gate) = oneshot::channel();
    let mut gate = Some(gate);
    upstream.plan(move |_| Reply::After(gate.take().unwrap(), Box::new(Reply::Events)));
    let asks = agent.signed("GET", "/v1/").in_session(&session);
    let asks = if accept { asks.accept_events() } else { asks };
    let mut conn = edge.connect().await;
    conn.send(&asks.build()).await;
    eventually("the request at the upstream", async || upstream.count() == 1).await;

    clock.advance(50_000);
    let until = extend_session(&edge, &agent, &session).await;
    think.send(()).unwrap();
    let head = conn.head().await;
    assert_eq!(head.header("x-session-expires-ms"), Some(until.to_string().as_str()));
    let stream = upstream.next_stream().await;
    clock.advance(TTL_MS - 1);
    assert_open(&edge, &stream, &mut conn).await;
    clock.advance(1);
    assert_eq!(read_to_end(&mut conn).await.1, Piece::End);
}

#[tokio::test]
async fn an_extension_reaches_a_stream_that_is_opening() {
    extended_while_the_upstream_thinks(true).await;
}

#[tokio::test]
async fn an_extension_reaches_an_answer_that_turns_out_to_be_a_stream() {
    extended_while_the_upstream_thinks(false).await;
}
