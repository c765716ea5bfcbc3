//! Whatever ends what a stream lives on ends the stream: of events in order, of anything else so that
//! nobody takes it for whole.

use edgeward_testkit::agent::{Device, Session};
use edgeward_testkit::upstream::UpstreamStream;
use edgeward_testkit::{Agent, Conn, Enrolment, Piece, TestEdge, Upstream};
use serde_json::json;
use tokio::time::Instant;

use crate::h2;
use crate::tools::{
    CUT_DEADLINE, assert_open, cut_since, end_session, events, no_streams, octets, open,
    read_exactly,
};

/// An edge with one stream of events and one of bytes, both begun.
struct Scene {
    upstream: Upstream,
    edge: TestEdge,
    agent: Agent,
    session: Session,
    events: (UpstreamStream, Conn),
    octets: (UpstreamStream, Conn),
}

impl Scene {
    async fn set() -> Self {
        let upstream = Upstream::start().await;
        let edge = TestEdge::start(&upstream).await;
        let agent = Agent::enroll(&edge).await;
        let session = agent.session(&edge).await;
        let (_, events) = open(&edge, &events(&agent).in_session(&session)).await;
        let events = (upstream.next_stream().await, events);
        upstream.plan(|_| octets());
        let asks = agent.signed("GET", "/v1/bytes").in_session(&session);
        let (_, octets) = open(&edge, &asks).await;
        let octets = (upstream.next_stream().await, octets);
        let mut scene = Self { upstream, edge, agent, session, events, octets };
        for (stream, conn) in [&mut scene.events, &mut scene.octets] {
            assert!(stream.send(*b"begun").await);
            assert_eq!(read_exactly(conn, 5).await, b"begun");
        }
        scene
    }

    /// Both streams are over, at both ends.
    async fn assert_ended(mut self, what: &str, since: Instant) {
        let end = cut_since(&format!("{what}, events"), since, &mut self.events.1).await;
        assert_eq!(end, Piece::End, "events end in order");
        let end = cut_since(&format!("{what}, bytes"), since, &mut self.octets.1).await;
        assert_eq!(end, Piece::Broken, "bytes never look whole");
        self.events.0.gone().await;
        self.octets.0.gone().await;
    }
}

#[tokio::test]
async fn the_end_of_its_session_ends_a_stream() {
    let scene = Scene::set().await;
    let other = scene.agent.session(&scene.edge).await;
    scene.upstream.plan(|_| octets());
    let asks = scene.agent.signed("GET", "/v1/bytes").in_session(&other);
    let (_, mut kept) = open(&scene.edge, &asks).await;
    let stream = scene.upstream.next_stream().await;
    let since = Instant::now();
    end_session(&scene.edge, &scene.agent, &scene.session).await;
    // The streams of the agent's other session stay.
    assert!(stream.send(*b"here").await);
    assert_eq!(read_exactly(&mut kept, 4).await, b"here");
    scene.assert_ended("the session's end", since).await;
}

#[tokio::test]
async fn the_end_of_its_session_ends_a_stream_over_http2() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let session = agent.session(&edge).await;
    let (client, _driver) = h2::connect(&edge).await;
    let mut events = client.send(&events(&agent).in_session(&session)).await.into_body();
    upstream.plan(|_| octets());
    let asks = agent.signed("GET", "/v1/bytes").in_session(&session);
    let mut octets = client.send(&asks).await.into_body();
    let streams = [upstream.next_stream().await, upstream.next_stream().await];

    let since = Instant::now();
    end_session(&edge, &agent, &session).await;
    assert_eq!(h2::piece(&mut events).await.unwrap(), None, "events end in order");
    h2::piece(&mut octets).await.expect_err("bytes never look whole");
    let took = since.elapsed();
    println!("the session's end, HTTP/2: both streams had ended after {} ms", took.as_millis());
    assert!(took < CUT_DEADLINE, "{took:?}");
    for stream in streams {
        stream.gone().await;
    }
    no_streams(&edge).await;
    // Both ends were said on their streams; the connection is as good as before.
    upstream.plan(|_| edgeward_testkit::Reply::Echo);
    assert_eq!(client.send(&agent.signed("GET", "/v1/")).await.status(), 200);
}

#[tokio::test]
async fn enrolling_an_agent_anew_ends_its_streams_and_nobody_elses() {
    let scene = Scene::set().await;
    let neighbour = Agent::enroll(&scene.edge).await;
    scene.upstream.plan(|_| edgeward_testkit::Reply::Events);
    let (_, mut kept) = open(&scene.edge, &events(&neighbour)).await;
    let stream = scene.upstream.next_stream().await;
    let (_, mut without_session) = open(&scene.edge, &events(&scene.agent)).await;

    let start = json!({"agent_id": scene.agent.id, "scopes": ["demo"]});
    let plan = Enrolment { start, device: Device::ed25519(), ..Enrolment::default() };
    let since = Instant::now();
    let anew = Agent::enroll_as(&scene.edge, plan).await;
    assert_eq!(anew.id, scene.agent.id);
    let end = cut_since("enrolment, without a session", since, &mut without_session).await;
    assert_eq!(end, Piece::End);
    assert_open(&scene.edge, &stream, &mut kept).await;
    scene.assert_ended("enrolment", since).await;
}

#[tokio::test]
async fn a_fresh_jwt_does_not_touch_streams() {
    let mut scene = Scene::set().await;
    let refresh = scene.agent.call("/agent/token/refresh", &json!({}));
    refresh.clone().send(&scene.edge).await.expect(200);
    let refresh = scene.agent.call("/agent/token/refresh", &json!({})).in_session(&scene.session);
    refresh.send(&scene.edge).await.expect(200);
    let (stream, conn) = &mut scene.events;
    assert_open(&scene.edge, stream, conn).await;
    let (stream, conn) = &mut scene.octets;
    assert_open(&scene.edge, stream, conn).await;
}

#[tokio::test]
async fn a_stop_of_the_edge_ends_streams() {
    let mut scene = Scene::set().await;
    let since = Instant::now();
    let reading = async {
        let end = cut_since("the stop, events", since, &mut scene.events.1).await;
        assert_eq!(end, Piece::End, "events end in order");
        let end = cut_since("the stop, bytes", since, &mut scene.octets.1).await;
        assert_eq!(end, Piece::Broken, "bytes never look whole");
    };
    tokio::join!(scene.edge.stop(), reading);
    scene.events.0.gone().await;
    scene.octets.0.gone().await;
}
