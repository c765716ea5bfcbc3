//! Peers that are many, slow or noisy: closed in time, and nothing of it reaches the database.

use edgeward_core::time::WallMs;
use edgeward_edge::conn::Limits;
use edgeward_store::EventKind;
use edgeward_store::durable::Events as _;
use edgeward_testkit::{Agent, Answer, Conn, TestEdge, Upstream, raw};
use tokio::task::JoinSet;
use tokio::time::Instant;

const CONNECTIONS: usize = 200;

#[tokio::test]
async fn connections_with_slow_heads_are_all_closed_and_nobody_waits_for_them() {
    let upstream = Upstream::start().await;
    let limits = Limits { header_ms: 1_000, ..Limits::default() };
    let edge = TestEdge::builder().route("/v1/", &upstream).limits(limits).start().await;
    let agent = Agent::enroll(&edge).await;
    let since = Instant::now();
    let mut slow = JoinSet::new();
    for number in 0..CONNECTIONS {
        let mut conn = edge.connect().await;
        slow.spawn(async move {
            // Some never begin, some never end, some come byte by byte.
            let begun: &[u8] = match number % 3 {
                0 => b"",
                1 => b"GET /v1/ HTTP/1.1\r\nHost: edge.test\r\nX-Agent-Id: 0",
                _ => b"G",
            };
            conn.send(begun).await;
            if number % 3 == 2 {
                let mut beat = tokio::time::interval(std::time::Duration::from_millis(100));
                for _ in 0..100 {
                    beat.tick().await;
                    if !conn.try_send(b"E").await {
                        break;
                    }
                }
            }
            assert!(conn.is_closed().await);
        });
    }
    // Meanwhile others are served.
    agent.signed("GET", "/v1/").send(&edge).await.expect(200);
    while let Some(closed) = slow.join_next().await {
        closed.unwrap();
    }
    println!("{CONNECTIONS} slow heads were closed within {} ms", since.elapsed().as_millis());
    agent.signed("GET", "/v1/").send(&edge).await.expect(200);
}

/// Refusals that the database knows of.
async fn recorded(edge: &TestEdge) -> usize {
    edge.edge().flush_violations().await;
    let events = edge.store().newest_events(100_000).await.unwrap();
    events.iter().filter(|event| event.kind == EventKind::AuthViolation).count()
}

#[tokio::test]
async fn a_flood_of_unsigned_requests_leaves_nothing_in_the_database() {
    let upstream = Upstream::start().await;
    let mut edge = TestEdge::builder()
        .route_with("/v1/", &[&upstream.url()], "max_body = \"1KiB\"\nrequire_session = true")
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let before = edge.store().newest_events(100_000).await.unwrap().len();
    let old = agent.signed("GET", "/v1/").timestamp_offset_ms(-10_000_000);
    let flood: Vec<(u16, Vec<u8>)> = vec![
        (401, raw::request("GET", "/v1/", &[], b"")),
        (401, raw::request("POST", "/agent/session/start", &[], b"{}")),
        (401, raw::request("GET", "/no/such/route", &[], b"")),
        (400, raw::request("GET", "/v1/a//b", &[], b"")),
        (400, raw::request("GET", "/v1/", &[("X-Agent-Id", "nobody")], b"")),
        (400, raw::request("POST", "/agent/enroll/challenge", &[], b"no JSON")),
        (413, raw::request("POST", "/agent/enroll/challenge", &[], &[b'a'; 65 * 1024])),
        (401, old.build()),
        (401, agent.signed("GET", "/v1/").build()),
    ];
    let mut conns: Vec<Conn> = Vec::new();
    for number in 0..2_000 {
        let (status, bytes) = &flood[number % flood.len()];
        if *status == 413 {
            // Its connection does not outlive it.
            edge.send(bytes).await.expect(413);
            continue;
        }
        if conns.len() < 8 {
            conns.push(edge.connect().await);
        }
        let at = number % conns.len();
        let answer: Answer = conns[at].exchange(bytes).await;
        assert_eq!(answer.status(), *status, "{}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(recorded(&edge).await, 0);
    assert_eq!(edge.store().newest_events(100_000).await.unwrap().len(), before);

    // What was tried with a signature is another matter.
    agent.signed("GET", "/agent/protected/echo").wrong_signature().send(&edge).await.expect(401);
    let wrong = agent.call("/agent/protected/echo", &serde_json::json!({})).wrong_signature();
    for _ in 0..100 {
        wrong.send(&edge).await.expect(401).refused("signature_invalid");
    }
    let rows = recorded(&edge).await;
    assert!((1..20).contains(&rows), "{rows} rows");

    // Nor does an edge that stops write any of it.
    edge.send(&flood[0].1).await.expect(401);
    edge.stop().await;
    edge.restart().await;
    let after = edge.store().newest_events(100_000).await.unwrap();
    let violations = after.iter().filter(|event| event.kind == EventKind::AuthViolation).count();
    assert_eq!(violations, rows);
    assert!(after.iter().all(|event| event.occurred_at > WallMs(0)));
}
