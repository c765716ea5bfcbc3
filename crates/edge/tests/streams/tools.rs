//! What the tests of this binary have in common.

use std::time::Duration;

use edgeward_core::time::WallMs;
use edgeward_store::clock::ManualClock;
use edgeward_testkit::agent::Session;
use edgeward_testkit::raw::Head;
use edgeward_testkit::{Agent, Answer, Conn, Piece, Reply, Signed, TestEdge, soon};
use serde_json::json;
use tokio::time::Instant;

/// Five times the second within which a revoked stream ends.
pub(crate) const CUT_DEADLINE: Duration = Duration::from_secs(5);

/// A clock that tests move by hand.
pub(crate) fn manual_clock() -> ManualClock {
    ManualClock::at(WallMs(1_800_000_000_000))
}

/// A GET that asks for events.
pub(crate) fn events(agent: &Agent) -> Signed {
    agent.signed("GET", "/v1/events").accept_events()
}

/// A stream that is not one of events: its end is to be seen only where it ends.
pub(crate) fn octets() -> Reply {
    Reply::Stream(200, vec![header("content-type", "application/octet-stream")])
}

/// Name and value.
pub(crate) fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Opens a stream that must be granted.
pub(crate) async fn open(edge: &TestEdge, signed: &Signed) -> (Head, Conn) {
    let (head, conn) = signed.open(edge).await;
    assert_eq!(head.status, 200, "{head:?}");
    (head, conn)
}

/// Ends a session, over a connection of its own.
pub(crate) async fn end_session(edge: &TestEdge, agent: &Agent, session: &Session) {
    session_call("/agent/session/end", edge, agent, session).await.expect(204);
}

/// Extends a session; when it ends now.
pub(crate) async fn extend_session(edge: &TestEdge, agent: &Agent, session: &Session) -> u64 {
    let answer = session_call("/agent/session/extend", edge, agent, session).await.expect(200);
    answer.json::<serde_json::Value>()["expires_at_ms"].as_u64().unwrap()
}

async fn session_call(path: &str, edge: &TestEdge, agent: &Agent, session: &Session) -> Answer {
    agent.call(path, &json!({})).in_session(session).send(edge).await
}

/// Reads exactly so much of a body.
pub(crate) async fn read_exactly(conn: &mut Conn, size: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < size {
        match conn.piece().await {
            Piece::Data(bytes) => body.extend(bytes),
            other @ (Piece::End | Piece::Broken) => {
                panic!("{other:?} after {} of {size} bytes", body.len())
            }
        }
    }
    assert_eq!(body.len(), size, "more than was awaited");
    body
}

/// Reads to the end of a body, and tells how it ended.
pub(crate) async fn read_to_end(conn: &mut Conn) -> (Vec<u8>, Piece) {
    let mut body = Vec::new();
    loop {
        match conn.piece().await {
            Piece::Data(bytes) => body.extend(bytes),
            end @ (Piece::End | Piece::Broken) => return (body, end),
        }
    }
}

/// How a body ends, within the deadline of a revocation that began at `since`.
pub(crate) async fn cut_since(what: &str, since: Instant, conn: &mut Conn) -> Piece {
    let (_, end) = read_to_end(conn).await;
    let took = since.elapsed();
    println!("{what}: the stream had ended after {} ms", took.as_millis());
    assert!(took < CUT_DEADLINE, "{what}: {took:?}");
    end
}

/// Waits until no stream is registered any more.
pub(crate) async fn no_streams(edge: &TestEdge) {
    edgeward_testkit::eventually("the end of all leases", async || {
        edge.edge().streams().count() == 0
    })
    .await;
}

/// Lets everything end that has come to its end by the edge's clock, and passes one event through a
/// stream to see that it is still there.
pub(crate) async fn assert_open(
    edge: &TestEdge,
    stream: &edgeward_testkit::upstream::UpstreamStream,
    conn: &mut Conn,
) {
    edge.edge().streams().reap(edge.clock().now().mono);
    assert!(soon("an event", stream.event("still here")).await, "the edge has gone");
    assert_eq!(read_exactly(conn, 18).await, b"data: still here\n\n");
}
