//! A stream that is opened while its session ends does not stay open.

use edgeward_testkit::agent::Session;
use edgeward_testkit::{
    Agent, Conn, Enrolment, Piece, Reply, TestEdge, Upstream, eventually, soon,
};
use serde_json::json;
use tokio::sync::oneshot;

use crate::tools::{end_session, events, no_streams, octets, read_to_end};

const ROUNDS: usize = 200;

/// Opens a stream and ends its session at the same time, again and again, on connections that stand
/// ready. `accept`: whether the stream is asked for, and so registered before it is forwarded.
async fn race(accept: bool) {
    let upstream = Upstream::start().await;
    upstream.plan(move |_| if accept { Reply::Events } else { octets() });
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let (mut refused, mut cut) = (0, 0);
    let mut ending = edge.connect().await;
    for round in 0..ROUNDS {
        let session = agent.session(&edge).await;
        let mut opening = edge.connect().await;
        let asks = events(&agent).in_session(&session);
        let asks = if accept { asks } else { asks.without("Accept") }.build();
        let end = agent.call("/agent/session/end", &json!({})).in_session(&session).build();
        // Now the one is a little ahead, now the other.
        let opened = async {
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
            opening.send(&asks).await;
            // A body that is broken off at once may take its head with it.
            let head = opening.try_head().await?;
            let (body, end) = read_to_end(&mut opening).await;
            Some((head, body, end))
        };
        let ended = async {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            ending.exchange(&end).await
        };
        let (opened, ended) = tokio::join!(opened, ended);
        ended.expect(204);
        let Some((head, body, end)) = opened else {
            assert!(!accept, "events end in order");
            cut += 1;
            continue;
        };
        match head.status {
            200 => {
                cut += 1;
                assert_eq!(body, b"");
                assert_eq!(end, if accept { Piece::End } else { Piece::Broken });
            }
            401 => {
                refused += 1;
                assert_eq!(head.header("x-edgeward-code"), Some("session_invalid"));
            }
            other => panic!("{other}: {}", String::from_utf8_lossy(&body)),
        }
    }
    println!("of {ROUNDS} streams {refused} were refused and {cut} were cut");
    no_streams(&edge).await;
}

#[tokio::test]
async fn no_stream_of_events_slips_through_the_end_of_its_session() {
    race(true).await;
}

#[tokio::test]
async fn no_other_stream_slips_through_the_end_of_its_session() {
    race(false).await;
}

/// A request for a stream that stands at the upstream, which thinks until it is told not to.
struct Thinking {
    edge: TestEdge,
    agent: Agent,
    session: Session,
    conn: Conn,
    think: oneshot::Sender<()>,
    _upstream: Upstream,
}

impl Thinking {
    async fn begin(accept: bool) -> Self {
        let upstream = Upstream::start().await;
        let (think, gate) = oneshot::channel();
        let mut gate = Some(gate);
        upstream.plan(move |_| Reply::After(gate.take().unwrap(), Box::new(Reply::Events)));
        let edge = TestEdge::start(&upstream).await;
        let agent = Agent::enroll(&edge).await;
        let session = agent.session(&edge).await;
        let asks = events(&agent).in_session(&session);
        let asks = if accept { asks } else { asks.without("Accept") };
        let mut conn = edge.connect().await;
        conn.send(&asks.build()).await;
        eventually("the request at the upstream", async || upstream.count() == 1).await;
        Self { edge, agent, session, conn, think, _upstream: upstream }
    }

    /// Now it answers; the agent must get this refusal instead of a stream.
    async fn assert_refused(mut self, status: u16, code: &str) {
        self.think.send(()).unwrap();
        self.conn.answer().await.expect(status).refused(code);
        no_streams(&self.edge).await;
    }
}

#[tokio::test]
async fn a_session_that_ends_while_the_upstream_thinks_opens_no_stream() {
    for accept in [true, false] {
        let thinking = Thinking::begin(accept).await;
        end_session(&thinking.edge, &thinking.agent, &thinking.session).await;
        thinking.assert_refused(401, "session_invalid").await;
    }
}

#[tokio::test]
async fn an_enrolment_while_the_upstream_thinks_opens_no_stream() {
    for accept in [true, false] {
        let thinking = Thinking::begin(accept).await;
        let start = json!({"agent_id": thinking.agent.id, "scopes": ["demo"]});
        Agent::enroll_as(&thinking.edge, Enrolment { start, ..Enrolment::default() }).await;
        thinking.assert_refused(401, "signature_invalid").await;
    }
}

#[tokio::test]
async fn a_stop_while_the_upstream_thinks_opens_no_stream() {
    for accept in [true, false] {
        let mut thinking = Thinking::begin(accept).await;
        let (edge, think) = (std::sync::Arc::clone(thinking.edge.edge()), thinking.think);
        let answer = async {
            eventually("the stop", async || edge.is_draining()).await;
            think.send(()).unwrap();
            thinking.conn.answer().await.expect(503).refused("draining");
        };
        let stopped = async {
            tokio::join!(thinking.edge.stop(), answer);
        };
        soon("the stop", stopped).await;
    }
}
