//! Connections of HTTP/2: many calls at once, and floods of work that asks for nothing.

use std::sync::{Arc, Mutex};

use edgeward_testkit::{Agent, Reply, TestEdge, Upstream, eventually, soon};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::h2;

#[tokio::test]
async fn a_hundred_signed_calls_are_served_at_once_on_one_connection() {
    const CALLS: usize = 100;
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let session = agent.session(&edge).await;
    // Nobody is answered before all have come.
    let gates: Arc<Mutex<Vec<oneshot::Sender<()>>>> = Arc::default();
    let waiting = Arc::clone(&gates);
    upstream.plan(move |_| {
        let (open, gate) = oneshot::channel();
        waiting.lock().unwrap().push(open);
        Reply::After(gate, Box::new(Reply::Echo))
    });
    let (client, _driver) = h2::connect(&edge).await;
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let client = client.clone();
        let signed = agent
            .signed("POST", &format!("/v1/{number}"))
            .in_session(&session)
            .body(format!("body {number}"));
        calls.spawn(async move {
            let answer = client.send(&signed).await;
            assert_eq!(answer.status(), 200);
            let echo: Value =
                serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes())
                    .unwrap();
            assert_eq!(echo["target"], format!("/v1/{number}"));
            assert_eq!(echo["body"], format!("body {number}"));
        });
    }
    eventually("all calls at the upstream", async || upstream.count() == CALLS).await;
    gates.lock().unwrap().clear();
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    assert_eq!(upstream.count(), CALLS);
}

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The preface and empty settings.
fn opening() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, b"")].concat()
}

/// GET / of edge.test without a body, by the static table of HPACK (RFC 7541, appendix A).
fn get(stream: u32) -> Vec<u8> {
    let block = [&[0x82, 0x86, 0x84, 0x41, 9][..], b"edge.test"].concat();
    frame(1, 0x5, stream, &block)
}

/// Sends a flood of up to 100,000 repetitions; how many were taken before the connection was closed.
async fn flood(edge: &TestEdge, mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let io = TcpStream::connect(edge.address()).await.unwrap();
    let (mut from, mut to) = io.into_split();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        // A reset is an end too.
        let _ = from.read_to_end(&mut all).await;
    });
    to.write_all(&opening()).await.unwrap();
    let mut taken = 0;
    while taken < 100_000 && !reading.is_finished() {
        if soon("a write", to.write_all(&next(taken))).await.is_err() {
            break;
        }
        taken += 1;
    }
    soon("the connection's end", reading).await.unwrap();
    taken
}

#[tokio::test]
async fn floods_of_resets_and_of_empty_work_end_the_connection() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let stream = |number: u32| 2 * number + 1;
    let resets = flood(&edge, |number| {
        [get(stream(number)), frame(3, 0, stream(number), &8u32.to_be_bytes())].concat()
    })
    .await;
    let pings = flood(&edge, |_| frame(6, 0, 0, &[0; 8])).await;
    let settings = flood(&edge, |_| frame(4, 0, 0, b"")).await;
    println!("taken: {resets} resets, {pings} pings, {settings} settings");
    for taken in [resets, pings, settings] {
        assert!(taken < 100_000, "the connection took everything");
    }
    // Everybody else is served as before.
    agent.signed("GET", "/v1/").send(&edge).await.expect(200);
    assert_eq!(upstream.count(), 1);
}
