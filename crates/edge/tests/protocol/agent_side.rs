//! What the agent sees of the upstream's answer, and of the edge's own pages.

use edgeward_testkit::{Agent, Piece, Reply, TestEdge, Upstream};
use serde_json::Value;

async fn stage() -> (Upstream, TestEdge, Agent) {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    (upstream, edge, agent)
}

fn lines(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn an_upstream_cannot_speak_for_the_edge() {
    let (upstream, edge, agent) = stage().await;
    let own = [
        ("X-Edgeward-Code", "signature_invalid"),
        ("X-Edgeward-Anything", "lie"),
        ("X-Trace-Id", "lie"),
        ("X-Secret-Version", "99"),
        ("X-Session-Expires-Ms", "1"),
        ("RateLimit", "lie"),
        ("RateLimit-Policy", "lie"),
        ("RateLimit-Limit", "1"),
        ("RateLimit-Remaining", "1"),
        ("Connection", "X-Hop"),
        ("X-Hop", "lie"),
        ("Keep-Alive", "timeout=5"),
    ];
    let kept = [
        ("Content-Type", "text/plain"),
        ("WWW-Authenticate", "Basic realm=\"upstream\""),
        ("Set-Cookie", "a=b"),
        ("Set-Cookie", "c=d"),
        ("X-Custom", "kept"),
        ("ETag", "\"1\""),
    ];
    let all = lines(&[own.as_slice(), kept.as_slice()].concat());
    upstream.plan(move |_| Reply::Whole(401, all.clone(), b"the upstream's own".to_vec()));
    let answer = agent.signed("GET", "/v1/x").send(&edge).await.expect(401);
    assert_eq!(answer.text(), "the upstream's own");
    assert_eq!(answer.code(), None);
    let trace = answer.header("x-trace-id").unwrap();
    assert_eq!(trace.len(), 32);
    assert!(upstream.last().header("traceparent").unwrap().contains(trace));
    assert_eq!(answer.header("x-secret-version"), Some("1"));
    for (name, value) in &answer.head.headers {
        assert!(!value.contains("lie"), "{name}: {value}");
    }
    for name in [
        "x-session-expires-ms",
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-limit",
        "keep-alive",
        "connection",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    for (name, value) in kept {
        let has = answer
            .head
            .headers
            .iter()
            .any(|(given, other)| given.eq_ignore_ascii_case(name) && other == value);
        assert!(has, "{name}: {:?}", answer.head.headers);
    }
}

#[tokio::test]
async fn statuses_and_bodies_pass_as_they_are() {
    let (upstream, edge, agent) = stage().await;
    let mut conn = edge.connect().await;
    for (status, body) in [
        (200, "ok"),
        (201, ""),
        (204, ""),
        (304, ""),
        (404, "no"),
        (409, "x"),
        (500, "oops"),
        (503, "busy"),
    ] {
        let body = body.as_bytes().to_vec();
        let whole = body.clone();
        upstream.plan(move |_| Reply::Whole(status, Vec::new(), whole.clone()));
        let answer = conn.exchange(&agent.signed("GET", "/v1/x").build()).await;
        assert_eq!((answer.status(), &answer.body), (status, &body));
        assert_eq!(answer.code(), None, "{status}");
    }
    let large = vec![b'x'; 3_000_000];
    let whole = large.clone();
    upstream.plan(move |_| Reply::Whole(200, Vec::new(), whole.clone()));
    let answer = conn.exchange(&agent.signed("GET", "/v1/x").build()).await.expect(200);
    assert!(answer.body == large);
    let head = conn.exchange(&agent.signed("HEAD", "/v1/x").build()).await.expect(200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), Some("3000000"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let (upstream, edge, agent) = stage().await;
    for begun in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
    ] {
        upstream.plan(|_| Reply::Raw(begun.to_vec()));
        let mut conn = edge.connect().await;
        conn.send(&agent.signed("GET", "/v1/x").build()).await;
        // What came of it may be lost with the connection.
        if conn.try_head().await.is_none() {
            continue;
        }
        let mut last = conn.piece().await;
        while let Piece::Data(_) = last {
            last = conn.piece().await;
        }
        assert_eq!(last, Piece::Broken);
    }
}

#[tokio::test]
async fn an_upstream_cannot_switch_protocols() {
    let (upstream, edge, agent) = stage().await;
    upstream.plan(|_| {
        Reply::Raw(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec())
    });
    let answer = agent.signed("GET", "/v1/x").send(&edge).await;
    crate::problem::assert_refusal(&answer, "upstream_failed");
}

#[tokio::test]
async fn the_public_pages_are_for_anyone() {
    let (upstream, edge, _) = stage().await;
    let health = edge.get("/agent/healthz").await.expect(200);
    let body: Value = health.json();
    assert_eq!(body["status"], "ok");
    assert!(body["version"].is_string());
    assert!(edge.now_ms().abs_diff(body["time_ms"].as_u64().unwrap()) < 60_000);
    assert_eq!(body.as_object().unwrap().len(), 3);
    assert!(health.header("x-trace-id").is_some());
    for path in ["/.well-known/jwks.json", "/.well-known/identity-jwks.json"] {
        let answer = edge.get(path).await.expect(200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.header("cache-control").unwrap().contains("max-age="));
        let set: Value = answer.json();
        let keys = set["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 1, "{set}");
        assert!(keys[0].get("d").is_none());
        assert!(keys[0]["kid"].is_string() && keys[0]["alg"] == "EdDSA");
    }
    // A HEAD has the head alone; other methods are not these pages.
    let head = edge.send(&edgeward_testkit::raw::request("HEAD", "/agent/healthz", &[], b"")).await;
    assert_eq!((head.status(), head.body.len()), (200, 0));
    edge.post("/agent/healthz", &[], &Value::Null).await.refused("credentials_missing");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_upstream_cannot_speak_for_the_edge_in_trailers_either() {
    let folder = tempfile::tempdir().unwrap();
    let own = crate::tls::certificate();
    crate::tls::write(folder.path(), &own);
    let upstream = Upstream::start().await;
    upstream.plan(|_| {
        Reply::Raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-edgeward-code, x-kept\r\n\r\n\
              2\r\nok\r\n0\r\nX-Edgeward-Code: lie\r\nX-Trace-Id: lie\r\nX-Kept: kept\r\n\r\n"
                .to_vec(),
        )
    });
    let plan = TestEdge::builder().route("/v1/", &upstream);
    let edge = crate::tls::with_tls(plan, folder.path()).start().await;
    let agent = crate::tls::enroll(&edge, &own).await;
    let request = || agent.signed("GET", "/v1/x").header("TE", "trailers");
    let (answer, trailers) = crate::tls::over_h2(&edge, &own, &request().parts()).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert!(!format!("{trailers:?}").contains("lie"), "{trailers:?}");
    let answer = crate::tls::over_h1(&edge, &own, &request().build()).await.expect(200);
    assert_eq!(answer.text(), "ok");
}

#[tokio::test]
async fn an_answer_that_is_delimited_twice_comes_out_delimited_once() {
    let (upstream, edge, agent) = stage().await;
    for framing in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 3\r\nContent-Length: 30\r\n",
        "Content-Type: text/event-stream\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\na\r\n0123456789\r\n0\r\n\r\n");
        upstream.plan(move |_| Reply::Raw(answer.clone().into_bytes()));
        let mut conn = edge.connect().await;
        conn.send(&agent.signed("GET", "/v1/x").build()).await;
        let Some(head) = conn.try_head().await else {
            continue;
        };
        if head.status != 200 {
            assert_eq!(head.header("x-edgeward-code"), Some("upstream_failed"), "{framing}");
            continue;
        }
        let mut body = Vec::new();
        let last = loop {
            match conn.piece().await {
                Piece::Data(bytes) => body.extend(bytes),
                last @ (Piece::End | Piece::Broken) => break last,
            }
        };
        assert_eq!((body.as_slice(), last), (b"0123456789".as_slice(), Piece::End), "{framing}");
        // Nothing is left over that could pass for the next answer.
        assert!(conn.buffered().is_empty(), "{framing}");
        let next = conn.exchange(&agent.signed("GET", "/agent/healthz").build()).await;
        assert_eq!(next.status(), 200, "{framing}");
    }
}
