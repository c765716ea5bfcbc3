//! Requests whose end two parsers could see in different places, and what rides behind them.

use edgeward_testkit::{Agent, Conn, TestEdge, Upstream};

async fn stage() -> (Upstream, TestEdge, Agent) {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    (upstream, edge, agent)
}

/// A signed head with these lines for its framing, and what comes after it.
fn framed(agent: &Agent, target: &str, framing: &str, after: &[u8]) -> Vec<u8> {
    let head = agent.signed("GET", target).parts().bytes();
    let head = String::from_utf8(head).unwrap();
    let head = head.strip_suffix("\r\n").unwrap();
    [format!("{head}{framing}\r\n").as_bytes(), after].concat()
}

#[tokio::test]
async fn a_body_that_is_delimited_twice_reaches_nobody_nor_does_what_follows() {
    let (upstream, edge, agent) = stage().await;
    let smuggled = agent.signed("GET", "/v1/smuggled").build();
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: +0\r\n",
        "Content-Length: 0,0\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "Host: edge.test\r\n",
    ] {
        let after = [b"0\r\n\r\n".as_slice(), &smuggled].concat();
        let mut conn = edge.connect().await;
        conn.try_send(&framed(&agent, "/v1/first", framing, &after)).await;
        let head = conn.head().await;
        assert_eq!(head.status, 400, "{framing:?}");
        while conn.piece().await != edgeward_testkit::Piece::End {}
        assert!(conn.is_closed().await, "{framing:?} {:?}", conn.buffered());
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn what_follows_a_refused_head_is_not_served_and_what_came_before_is() {
    let (upstream, edge, agent) = stage().await;
    let first = agent.signed("GET", "/v1/first").build();
    let broken = framed(&agent, "/v1/x", "Content-Length: 1\r\nContent-Length: 1\r\n", b"a");
    let last = agent.signed("GET", "/v1/last").build();
    let mut conn = edge.connect().await;
    conn.send(&[first, broken, last].concat()).await;
    assert_eq!(conn.answer().await.status(), 200);
    assert_eq!(conn.head().await.status, 400);
    let targets: Vec<_> = upstream.recorded().iter().map(|seen| seen.target()).collect();
    assert_eq!(targets, ["/v1/first"]);
}

#[tokio::test]
async fn a_request_in_a_body_is_a_body() {
    let (upstream, edge, agent) = stage().await;
    let inner = agent.signed("GET", "/v1/inner").build();
    let outer = agent.signed("POST", "/v1/outer").body(inner.clone());
    let mut conn = edge.connect().await;
    conn.exchange(&outer.build()).await.expect(200);
    conn.exchange(&agent.signed("GET", "/v1/after").build()).await.expect(200);
    let seen = upstream.recorded();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, inner);
    assert_eq!(seen[1].target(), "/v1/after");
}

#[tokio::test]
async fn the_signature_covers_the_body_after_its_chunks_are_joined() {
    let (upstream, edge, agent) = stage().await;
    let request = agent.signed("POST", "/v1/x").body("0123456789abcdef").parts();
    edge.send(&request.chunked(3)).await.expect(200);
    assert_eq!(upstream.last().body, b"0123456789abcdef");
    // The upstream gets it in one piece, of a length.
    assert_eq!(upstream.last().header("content-length").as_deref(), Some("16"));
    assert_eq!(upstream.last().header("transfer-encoding"), None);
}

#[tokio::test]
async fn trailers_are_dropped() {
    let (upstream, edge, agent) = stage().await;
    let parts = agent.signed("POST", "/v1/x").body("abc").header("TE", "trailers").parts();
    let chunked = String::from_utf8(parts.chunked(3)).unwrap();
    let trailed = chunked.strip_suffix("0\r\n\r\n").unwrap().to_owned()
        + "0\r\nX-Edgeward-Agent-Id: evil\r\nX-Signature: v2=00\r\n\r\n";
    let mut conn = Conn::connect(edge.address()).await;
    let answer = conn.exchange(trailed.as_bytes()).await;
    // Whether they are passed over or refused, they reach nobody.
    if answer.status() == 200 {
        assert_eq!(upstream.last().all("x-edgeward-agent-id"), [agent.id.to_string()]);
        assert_eq!(upstream.last().header("x-signature"), None);
        assert_eq!(upstream.last().header("te"), None);
    }
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[tokio::test]
async fn a_chunked_body_that_is_malformed_is_refused_and_reaches_nobody() {
    let (upstream, edge, agent) = stage().await;
    let smuggled = agent.signed("GET", "/v1/smuggled").build();
    for body in [
        "5\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
    ] {
        let mut parts = agent.signed("PUT", "/v1/x").body("abc").parts();
        parts.body.clear();
        let head = String::from_utf8(parts.bytes()).unwrap();
        let head = head.strip_suffix("\r\n").unwrap();
        let bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n{body}");
        let mut conn = edge.connect().await;
        conn.try_send(&[bytes.as_bytes(), &smuggled].concat()).await;
        let status = conn.try_head().await.map(|head| head.status);
        assert_ne!(status, Some(200), "{body:?}");
    }
    let targets: Vec<_> = upstream.recorded().iter().map(|seen| seen.target()).collect();
    assert!(!targets.contains(&"/v1/smuggled".to_owned()), "{targets:?}");
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_not_the_next_request() {
    let (upstream, edge, agent) = stage().await;
    let inner = agent.signed("GET", "/v1/smuggled").build();
    for refused in [
        agent.signed("POST", "/v1/x").body(inner.clone()).timestamp_offset_ms(-70_000),
        agent.signed("POST", "/v1/x").body(inner.clone()).wrong_signature(),
        agent.signed("POST", "/v1//x").body(inner.clone()),
        agent.signed("POST", "/v1/x").body(inner.clone()).bare().no_bearer(),
    ] {
        for bytes in [refused.parts().bytes(), refused.parts().chunked(7)] {
            let mut conn = edge.connect().await;
            assert!(conn.exchange(&bytes).await.code().is_some());
            // The connection goes on behind the body, or is closed.
            let after = agent.signed("GET", "/v1/after").build();
            if conn.try_send(&after).await && conn.try_head().await.is_some() {
                assert_eq!(upstream.take().pop().unwrap().target(), "/v1/after");
            }
        }
    }
    assert_eq!(upstream.count(), 0);
}
