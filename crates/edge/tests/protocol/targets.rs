//! Targets and header lines that two parsers could read differently are refused before anything else,
//! and nothing of them is forwarded.

use edgeward_testkit::{Agent, TestEdge, Upstream, raw};

use crate::problem::assert_refusal;

const AMBIGUOUS: &[&str] = &[
    "//v1/x",
    "/v1//x",
    "/v1/x//",
    "/v1/./x",
    "/v1/../x",
    "/v1/x/..",
    "/v1/x/.",
    "/v1\\x",
    "/v1/x;a=b",
    "/v1/%41",
    "/v1/%7e",
    "/v1/%2e%2e/x",
    "/v1/%2fx",
    "/v1/%2Fx",
    "/v1/%5cx",
    "/v1/x%00",
    "/v1/%252f",
    "/v1/%25",
    "/v1/%zz",
    "/v1/x%",
    "/v1/x%4",
    "/v1/x?a=%",
    "/v1/x?a=%4",
    "/v1/x?a=%zz",
    "/v1/x?a=%00",
    "/v1/x#fragment",
    "/v1/x?a=b#fragment",
    "/v1/x?#",
];

const PLAIN: &[&str] = &[
    "/v1",
    "/v1/",
    "/v1/x?",
    "/v1/x?a=b&c=%20d",
    "/v1/x?path=/../y//z;w",
    "/v1/x?a=%2f%5c%25%41",
    "/v1/%20%C3%A9%3B",
    "/v1/a.b/..c/d..",
    "/v1/a:b@c,d=e+f!$&'()*~",
];

async fn stage() -> (Upstream, TestEdge, Agent) {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    (upstream, edge, agent)
}

#[tokio::test]
async fn an_ambiguous_target_is_refused_signed_or_not() {
    let (upstream, edge, agent) = stage().await;
    for target in AMBIGUOUS {
        let signed = agent.signed("GET", target).send(&edge).await;
        let problem = assert_refusal(&signed, "target_ambiguous");
        assert!(problem.detail.is_some(), "{target}");
        let unsigned = edge.send(&raw::request("GET", target, &[], b"")).await;
        assert_refusal(&unsigned, "target_ambiguous");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn what_is_signed_is_forwarded_byte_for_byte() {
    let (upstream, edge, agent) = stage().await;
    for target in PLAIN {
        agent.signed("GET", target).send(&edge).await.expect(200);
        assert_eq!(upstream.last().target(), *target);
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_signs_its_path_and_agrees_with_the_host() {
    let (upstream, edge, agent) = stage().await;
    let to = |target: &str| agent.signed("GET", "/v1/x?a=b").swapped_target(target);
    to("http://edge.test/v1/x?a=b").send(&edge).await.expect(200);
    assert_eq!(upstream.last().target(), "/v1/x?a=b");
    to("http://EDGE.test/v1/x?a=b").send(&edge).await.expect(200);
    for other in [
        "http://elsewhere.test/v1/x?a=b",
        "http://edge.test:81/v1/x?a=b",
        "http://user@edge.test/v1/x?a=b",
        "http://edge.test@elsewhere.test/v1/x?a=b",
    ] {
        assert_refusal(&to(other).send(&edge).await, "request_malformed");
    }
    for ambiguous in ["http://edge.test//v1/x?a=b", "http://edge.test/v1/y/../x?a=b"] {
        assert_refusal(&to(ambiguous).send(&edge).await, "target_ambiguous");
    }
    to("http://edge.test/v1/y?a=b").send(&edge).await.refused("signature_invalid");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_header_of_the_protocol_stands_once_and_in_its_form() {
    let (upstream, edge, agent) = stage().await;
    let session = agent.session(&edge).await;
    let signed =
        || agent.signed("POST", "/v1/x").body("b").content_type("text/plain").in_session(&session);
    const NAMES: [&str; 7] = [
        "X-Agent-Id",
        "X-Timestamp",
        "X-Nonce",
        "X-Session-Id",
        "X-Signature",
        "Authorization",
        "Content-Type",
    ];
    signed().send(&edge).await.expect(200);
    for name in NAMES {
        let problem =
            assert_refusal(&signed().duplicate_header(name).send(&edge).await, "request_malformed");
        assert!(problem.detail.unwrap().contains(&name.to_ascii_lowercase()), "{name}");
        let value = signed().parts().header(name).unwrap().to_owned();
        for wrong in [
            format!("{value},{value}"),
            format!("{value}, "),
            String::new(),
            "\t".to_owned(),
            format!("{value}\t{value}"),
        ] {
            let request = signed().replaced(name, &wrong);
            assert_refusal(&request.send(&edge).await, "request_malformed");
        }
        let request = signed().replaced(name, &format!("{value}é"));
        assert_refusal(&request.send(&edge).await, "request_malformed");
    }
    // Blanks around a value are no part of it.
    for name in NAMES {
        let request = signed().parts();
        let mut spaced = request.clone();
        spaced.set(name, &format!(" \t{} \t", request.header(name).unwrap()));
        edge.send(&spaced.bytes()).await.expect(200);
    }
    let traced = signed().header("traceparent", "00-0-0-00").duplicate_header("traceparent");
    assert_refusal(&traced.send(&edge).await, "request_malformed");
    assert_eq!(upstream.count(), 1 + NAMES.len());
}

#[tokio::test]
async fn what_a_server_behind_could_misread_is_refused() {
    let (upstream, edge, agent) = stage().await;
    let signed = || agent.signed("POST", "/v1/x").body("b");
    for request in [
        signed().header("X_Agent_Id", "a"),
        signed().header("x-edgeward_agent-id", "a"),
        signed().header("Content-Encoding", "gzip"),
        signed().header("Content-Encoding", "identity, gzip"),
        signed().header("Upgrade", "websocket").header("Connection", "upgrade"),
        signed().header("Upgrade", "h2c"),
        signed().swapped_method("post"),
        signed().swapped_method("PoST"),
        signed().swapped_target("v1/x"),
        signed().swapped_target("*"),
        signed().swapped_method("CONNECT").swapped_target("edge.test:80"),
        signed().header("X-Agent-Secret", agent.secret.expose()),
    ] {
        let answer = request.send(&edge).await;
        assert_eq!(
            answer.status(),
            400,
            "{:?}: {:?} {}",
            request.parts(),
            answer.head,
            answer.text()
        );
    }
    assert_eq!(upstream.count(), 0);
    signed().header("Content-Encoding", "identity").send(&edge).await.expect(200);
}

#[tokio::test]
async fn a_target_has_at_most_8_kib() {
    let (upstream, edge, agent) = stage().await;
    let of = |length: usize| agent.signed("GET", &format!("/v1/{}", "x".repeat(length - 4)));
    of(8 * 1024).send(&edge).await.expect(200);
    assert_refusal(&of(8 * 1024 + 1).send(&edge).await, "request_malformed");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn no_credential_is_read_from_a_url() {
    let (upstream, edge, agent) = stage().await;
    let parts = agent.signed("GET", "/v1/x").parts();
    let mut query = String::new();
    for (name, value) in parts.headers.iter().skip(1) {
        query.push_str(&format!("{name}={}&", value.replace(' ', "%20").replace('=', "%3D")));
    }
    let target = format!("/v1/x?{query}");
    assert_refusal(&edge.get(&target).await, "credentials_missing");
    assert_refusal(
        &edge.get(&format!("/v1/x?access_token={}", agent.jwt)).await,
        "credentials_missing",
    );
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_prefix_covers_itself_at_a_segments_boundary_and_the_longest_wins() {
    let (short, long) = (Upstream::start().await, Upstream::start().await);
    let edge = TestEdge::builder().route("/a/", &short).route("/a/b/", &long).start().await;
    let agent = Agent::enroll(&edge).await;
    for target in ["/a", "/a/", "/a?x", "/a/bc", "/a/x/b/"] {
        agent.signed("GET", target).send(&edge).await.expect(200);
        assert_eq!(short.last().target(), target);
    }
    for target in ["/a/b", "/a/b/", "/a/b/c", "/a/b?x"] {
        agent.signed("GET", target).send(&edge).await.expect(200);
        assert_eq!(long.last().target(), target);
    }
    for target in ["/ab", "/", "/A/", "/b/a/"] {
        agent.signed("GET", target).send(&edge).await.refused("route_unknown");
    }
    assert_eq!((short.count(), long.count()), (5, 4));
}
