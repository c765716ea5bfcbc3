//! However slow a reader is, the edge holds no more than 64 KiB for it, and reads no more from the
//! upstream than it can pass on.

use edgeward_testkit::upstream::UpstreamStream;
use edgeward_testkit::{Conn, Piece, Reply, TestEdge, Upstream};

use crate::h2;
use crate::standing::{PROMISE, Watch, byte_at, narrow, push, scene, turn_to_tls};
use crate::tools::{events, header, read_exactly};

/// Far more than all buffers on the way take.
const TOTAL: usize = 8 * 1024 * 1024;

/// What TLS is allowed to hold back, with the overhead of its records, in bytes.
const TLS_BUFFER: u64 = 17 * 1024;

/// Opens a stream over `conn` of which `begun` is read, so that nothing is on its way.
async fn opened(conn: &mut Conn, upstream: &Upstream, request: &[u8]) -> UpstreamStream {
    conn.send(request).await;
    assert_eq!(conn.head().await.status, 200);
    let stream = upstream.next_stream().await;
    assert!(stream.send(*b"begun").await);
    assert_eq!(read_exactly(conn, 5).await, b"begun");
    stream
}

/// Reads all, and holds every byte against what was pushed.
async fn read_all(conn: &mut Conn) {
    let mut offset = 0;
    while offset < TOTAL {
        let Piece::Data(bytes) = conn.piece().await else { panic!("an end after {offset}") };
        for byte in bytes {
            assert_eq!(byte, byte_at(offset), "at {offset}");
            offset += 1;
        }
    }
}

/// A reader stands still, then reads on: never more than `allowed` is held, and nothing is missing.
async fn stand_and_go_on(
    what: &str,
    upstream: &Upstream,
    edge: &TestEdge,
    mut conn: Conn,
    request: &[u8],
    allowed: u64,
) {
    let stream = opened(&mut conn, upstream, request).await;
    let mut watch = Watch::begin(edge);
    let pushing = tokio::spawn(async move { (push(&stream, TOTAL).await, stream) });
    watch.until_standing().await;
    println!(
        "{what}: the edge held {} bytes at most; {} were read from the upstream",
        watch.most,
        watch.read()
    );
    assert!(watch.read() < TOTAL as u64 / 2, "the upstream was never held up");
    assert!(watch.most > 0);
    watch.during(read_all(&mut conn)).await;
    assert!(watch.most <= allowed, "{what}: {} bytes", watch.most);
    assert_eq!(pushing.await.unwrap().0, TOTAL);
}

#[tokio::test]
async fn a_reader_that_stands_still_holds_the_upstream_up() {
    let (upstream, edge, agent) = scene(|builder| builder).await;
    let conn = Conn::over(narrow(edge.address()).await);
    let request = agent.signed("GET", "/v1/").build();
    stand_and_go_on("HTTP/1.1", &upstream, &edge, conn, &request, PROMISE).await;
}

#[tokio::test]
async fn a_reader_of_events_that_stands_still_holds_the_upstream_up() {
    let (upstream, edge, agent) = scene(|builder| builder).await;
    upstream.plan(|_| Reply::Stream(200, vec![header("content-type", "text/event-stream")]));
    let conn = Conn::over(narrow(edge.address()).await);
    let request = events(&agent).build();
    stand_and_go_on("HTTP/1.1, events", &upstream, &edge, conn, &request, PROMISE).await;
}

#[tokio::test]
async fn a_reader_over_tls_that_stands_still_holds_the_upstream_up() {
    let (upstream, mut edge, agent) = scene(|builder| builder).await;
    let (tls, _folder) = turn_to_tls(&mut edge).await;
    let conn = tls.over(narrow(edge.address()).await).await;
    let request = agent.signed("GET", "/v1/").build();
    // Written counts from here on what TLS has taken, which holds a record's worth of it back.
    let allowed = PROMISE - TLS_BUFFER;
    stand_and_go_on("TLS", &upstream, &edge, conn, &request, allowed).await;
}

#[tokio::test]
async fn a_reader_over_http2_that_grants_no_window_holds_the_upstream_up() {
    let (upstream, edge, agent) = scene(|builder| builder).await;
    let (client, _driver) = h2::connect(&edge).await;
    let mut body = client.send(&agent.signed("GET", "/v1/")).await.into_body();
    let stream = upstream.next_stream().await;
    assert!(stream.send(*b"begun").await);
    assert_eq!(h2::piece(&mut body).await.unwrap().as_deref(), Some(&b"begun"[..]));
    let mut watch = Watch::begin(&edge);
    let pushing = tokio::spawn(async move { (push(&stream, TOTAL).await, stream) });
    watch.until_standing().await;
    println!(
        "HTTP/2: the edge held {} bytes at most; {} were read from the upstream",
        watch.most,
        watch.read()
    );
    // The window is all that was sent.
    assert!(watch.read() < 2 * PROMISE, "{}", watch.read());
    let mut offset = 0;
    let reading = async {
        while offset < TOTAL {
            for byte in h2::piece(&mut body).await.unwrap().expect("more") {
                assert_eq!(byte, byte_at(offset), "at {offset}");
                offset += 1;
            }
        }
    };
    watch.during(reading).await;
    assert!(watch.most <= PROMISE, "{} bytes", watch.most);
    assert_eq!(pushing.await.unwrap().0, TOTAL);
}
