//! Heads have so many fields and so many bytes and no more, in both versions of HTTP.

use edgeward_testkit::{Agent, Answer, Conn, Reply, Signed, TestEdge, Upstream};

use crate::h2;

/// Fields of a signed GET: `Host` and what [`Signed`] makes.
const OWN_FIELDS: usize = 6;

async fn scene() -> (Upstream, TestEdge, Agent) {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    (upstream, edge, agent)
}

/// With so many fields in all.
fn with_fields(agent: &Agent, fields: usize) -> Signed {
    (OWN_FIELDS..fields).fold(agent.signed("GET", "/v1/"), |signed, number| {
        signed.header(&format!("X-Field-{number}"), "1")
    })
}

/// With a head of so many bytes.
fn with_head_of(agent: &Agent, size: usize) -> Vec<u8> {
    let bare = agent.signed("GET", "/v1/").header("X-Long", "");
    let padding = "a".repeat(size - bare.build().len());
    // The nonce stays; the first one is never sent.
    let bytes = bare.replaced("X-Long", &padding).build();
    assert_eq!(bytes.len(), size);
    bytes
}

/// A refusal by the parser: it says nothing more, and the connection is closed.
async fn assert_bare_400(mut conn: Conn, bytes: &[u8]) {
    conn.try_send(bytes).await;
    let answer: Answer = conn.answer().await;
    assert_eq!((answer.status(), answer.body.len()), (400, 0), "{:?}", answer.head);
    assert_eq!(answer.code(), None);
    assert!(conn.is_closed().await);
}

#[tokio::test]
async fn sixty_four_fields_pass_and_one_more_does_not() {
    let (upstream, edge, agent) = scene().await;
    with_fields(&agent, 64).send(&edge).await.expect(200);
    assert_eq!(upstream.count(), 1);
    assert_bare_400(edge.connect().await, &with_fields(&agent, 65).build()).await;
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn sixteen_kib_of_head_pass_and_one_byte_more_does_not() {
    let (upstream, edge, agent) = scene().await;
    edge.send(&with_head_of(&agent, 16 * 1024)).await.expect(200);
    assert_eq!(upstream.count(), 1);
    for size in [16 * 1024 + 1, 17 * 1024] {
        assert_bare_400(edge.connect().await, &with_head_of(&agent, size)).await;
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn eight_kib_of_target_pass_and_one_byte_more_does_not() {
    let (upstream, edge, agent) = scene().await;
    let target = |size: usize| format!("/v1/{}", "a".repeat(size - 4));
    agent.signed("GET", &target(8 * 1024)).send(&edge).await.expect(200);
    for size in [8 * 1024 + 1, 9 * 1024] {
        let signed = agent.signed("GET", &target(size));
        let refusal = signed.send(&edge).await.expect(400).refused("request_malformed");
        assert_eq!(refusal.header("content-type"), Some("application/problem+json"));
        assert_eq!(refusal.header("x-trace-id").map(str::len), Some(32));
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn http2_has_the_same_limits() {
    let (upstream, edge, agent) = scene().await;
    let (client, _driver) = h2::connect(&edge).await;
    // The authority is no field.
    assert_eq!(client.send(&with_fields(&agent, 65)).await.status(), 200);
    let refused = client.send(&with_fields(&agent, 66)).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.headers()["x-edgeward-code"], "request_malformed");
    let long = agent.signed("GET", &format!("/v1/{}", "a".repeat(9 * 1024)));
    assert_eq!(client.send(&long).await.status(), 400);
    assert_eq!(upstream.count(), 1);
    // More than the edge has said that it takes: the stream does not get beyond the library, and
    // the others go on.
    let long = agent.signed("GET", "/v1/").header("X-Long", &"a".repeat(17 * 1024));
    if let Ok(answer) = client.try_send(&long).await {
        assert!(answer.status().is_client_error(), "{answer:?}");
    }
    assert_eq!(client.send(&agent.signed("GET", "/v1/")).await.status(), 200);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn an_upstreams_head_may_have_32_kib_and_a_larger_one_is_its_failure() {
    let (upstream, edge, agent) = scene().await;
    for (size, status) in [(24 * 1024, 200), (31 * 1024, 200), (40 * 1024, 502)] {
        let line = ("x-long".to_owned(), "a".repeat(size));
        upstream.plan(move |_| Reply::Whole(200, vec![line.clone()], b"whole".to_vec()));
        let answer = agent.signed("GET", "/v1/").send(&edge).await.expect(status);
        if status == 200 {
            assert_eq!(answer.header("x-long").map(str::len), Some(size));
            assert_eq!(answer.body, b"whole");
        } else {
            assert_eq!(answer.code(), Some("upstream_failed"));
        }
    }
}
