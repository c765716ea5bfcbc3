//! The kit does what it says: an honest call passes, and the signer agrees with one that was written
//! from the protocol alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use aws_lc_rs::{digest, hmac};
use edgeward_testkit::edge::AUDIENCE;
use edgeward_testkit::{Agent, Piece, Reply, Signed, TestEdge, Upstream, eventually};
use serde_json::{Value, json};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes()).as_ref().to_vec()
}

/// The signature of what stands on the wire, by the page on the protocol.
fn by_hand(key: &[u8], parts: &edgeward_testkit::agent::Parts) -> String {
    let header = |name| parts.header(name).unwrap_or("");
    let lines = [
        "EDGEWARD-HMAC-SHA256-V2",
        AUDIENCE,
        header("X-Agent-Id"),
        header("X-Session-Id"),
        header("X-Timestamp"),
        header("X-Nonce"),
        &parts.method,
        &parts.target,
        header("Content-Type"),
        &hex(digest::digest(&digest::SHA256, &parts.body).as_ref()),
    ];
    format!("v2={}", hex(&mac(key, &lines.join("\n"))))
}

fn assert_by_hand(key: &[u8], signed: &Signed) {
    let parts = signed.parts();
    assert_eq!(parts.header("X-Signature"), Some(by_hand(key, &parts).as_str()), "{signed:?}");
}

#[tokio::test]
async fn the_signer_agrees_with_one_written_from_the_protocol() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let secret = agent.secret.expose().as_bytes();
    let session = agent.session(&edge).await;
    let started = &session.started;
    let label = format!(
        "edgeward-session-v2\n{}\n{}",
        started.session_id.expose(),
        started.session_salt.expose()
    );
    let session_key = mac(secret, &label);

    let requests = || {
        [
            agent.signed("GET", "/v1/a?b=c&d=%20"),
            agent.signed("GET", "/v1/a").no_nonce(),
            agent.signed("PUT", "/v1/a").body("no media type"),
            agent.signed("POST", "/v1/a").json(&json!({"a": "ä"})),
        ]
    };
    for signed in requests() {
        assert_by_hand(secret, &signed);
        signed.send(&edge).await.expect(200);
    }
    for signed in requests() {
        let signed = signed.in_session(&session);
        assert_by_hand(&session_key, &signed);
        signed.send(&edge).await.expect(200);
    }
    assert_eq!(upstream.count(), 8);
}

#[tokio::test]
async fn a_request_comes_out_at_the_upstream_whole_or_in_chunks() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let mut conn = edge.connect().await;
    for at in 0..3 {
        let parts = agent.signed("POST", "/v1/x?y").body(format!("body {at}")).parts();
        let bytes = if at == 1 { parts.chunked(2) } else { parts.bytes() };
        let echo: Value = conn.exchange(&bytes).await.expect(200).json();
        assert_eq!(echo["body"], format!("body {at}"));
        assert_eq!(echo["target"], "/v1/x?y");
    }
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn a_stream_is_fed_by_the_test_and_ends_at_both_ends() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let (head, mut conn) = agent.signed("GET", "/v1/events").accept_events().open(&edge).await;
    assert_eq!(head.status, 200);
    let stream = upstream.next_stream().await;
    assert!(stream.event("one").await);
    assert_eq!(conn.piece().await, Piece::Data(b"data: one\n\n".to_vec()));
    assert_eq!(edge.edge().streams().count(), 1);
    drop(conn);
    stream.gone().await;
    eventually("the lease's end", async || edge.edge().streams().count() == 0).await;

    let (_, mut conn) = agent.signed("GET", "/v1/events").accept_events().open(&edge).await;
    upstream.next_stream().await.end().await;
    assert_eq!(conn.piece().await, Piece::End);
}

#[tokio::test]
async fn an_edge_stops_crashes_and_starts_again() {
    let upstream = Upstream::start().await;
    upstream.plan(|_| Reply::Whole(200, Vec::new(), b"hello".to_vec()));
    let mut edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    edge.stop().await;
    edge.restart().await;
    assert_eq!(agent.signed("GET", "/v1/").send(&edge).await.expect(200).text(), "hello");
    edge.crash().await;
    edge.restart().await;
    edge.get("/agent/healthz").await.expect(503);
}
