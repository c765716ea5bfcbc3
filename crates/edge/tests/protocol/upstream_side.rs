//! What the upstream sees: the verified caller by the edge's word, and nothing that the caller could
//! lie with or that would let the upstream act as it.

use edgeward_testkit::upstream::Recorded;
use edgeward_testkit::{Agent, Enrolment, Signed, TestEdge, Upstream};
use serde_json::Value;

const LIES: &[(&str, &str)] = &[
    ("X-Agent-Role", "admin"),
    ("X-Agent-Scopes", "admin"),
    ("X-Edgeward-Agent-Id", "evil"),
    ("X-Edgeward-Owner-User-Id", "evil"),
    ("X-Edgeward-Scopes", "admin"),
    ("X-Edgeward-Anything", "evil"),
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.test"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-Anything", "evil"),
    ("Forwarded", "for=203.0.113.7"),
    ("X-Real-IP", "203.0.113.7"),
    ("X-Client-IP", "203.0.113.7"),
    ("True-Client-IP", "203.0.113.7"),
    ("CF-Connecting-IP", "203.0.113.7"),
    ("X-Original-URL", "/admin"),
    ("X-Rewrite-URL", "/admin"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-HTTP-Method", "DELETE"),
    ("X-Method-Override", "DELETE"),
    ("apikey", "evil"),
    ("Cookie", "session=evil"),
    ("tracestate", "evil=1"),
    ("baggage", "evil=1"),
    ("traceparent", "00-11111111111111111111111111111111-2222222222222222-01"),
    ("Via", "1.1 evil"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Authorization", "Basic evil"),
    ("Proxy-Connection", "keep-alive"),
    ("TE", "gzip"),
    ("Trailer", "X-Evil"),
];

fn with_lies(signed: Signed) -> Signed {
    LIES.iter().fold(signed, |signed, (name, value)| signed.header(name, value))
}

fn names(seen: &Recorded) -> Vec<String> {
    let mut names: Vec<_> =
        seen.headers().into_iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names
}

async fn stage(lines: &str) -> (Upstream, TestEdge, Agent) {
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder().route_with("/v1/", &[&upstream.url()], lines).start().await;
    let agent = Agent::enroll_as(&edge, Enrolment::with_scopes(&["demo", "llm:chat"])).await;
    (upstream, edge, agent)
}

#[tokio::test]
async fn exactly_these_headers_arrive() {
    let (upstream, edge, agent) = stage("").await;
    let session = agent.session(&edge).await;
    for signed in [
        agent.signed("POST", "/v1/x").body("{}").content_type("application/json"),
        agent
            .signed("POST", "/v1/x")
            .body("{}")
            .content_type("application/json")
            .in_session(&session),
    ] {
        let answer = with_lies(signed)
            .header("Accept", "application/json")
            .header("X-Custom", "one")
            .header("X-Custom", "two")
            .header("Last-Event-ID", "42")
            .header("User-Agent", "agent/1")
            .send(&edge)
            .await
            .expect(200);
        let seen = upstream.last();
        assert_eq!(
            names(&seen),
            [
                "accept",
                "content-length",
                "content-type",
                "forwarded",
                "host",
                "last-event-id",
                "traceparent",
                "user-agent",
                "x-custom",
                "x-custom",
                "x-edgeward-agent-id",
                "x-edgeward-owner-user-id",
                "x-edgeward-scopes",
                "x-forwarded-for",
                "x-forwarded-proto",
            ]
        );
        let header = |name| seen.header(name).unwrap();
        assert_eq!(header("x-edgeward-agent-id"), agent.id.to_string());
        assert_eq!(header("x-edgeward-owner-user-id"), "owner-1");
        assert_eq!(header("x-edgeward-scopes"), "demo,llm:chat");
        assert_eq!(header("x-forwarded-for"), "127.0.0.1");
        assert_eq!(header("x-forwarded-proto"), "http");
        assert_eq!(header("forwarded"), "for=127.0.0.1;proto=http");
        assert_eq!(header("host"), upstream.address().to_string());
        assert_eq!(header("last-event-id"), "42");
        assert_eq!(seen.all("x-custom"), ["one", "two"]);
        let trace = answer.header("x-trace-id").unwrap();
        assert!(header("traceparent").starts_with(&format!("00-{trace}-")));
        assert_eq!(seen.body, b"{}");
        let head = String::from_utf8_lossy(&seen.head).into_owned();
        for secret in [agent.secret.expose(), &agent.jwt, session.id(), "evil", "203.0.113.7"] {
            assert!(!head.contains(secret), "{head}");
        }
    }
}

#[tokio::test]
async fn no_header_can_remove_what_the_edge_says() {
    let (upstream, edge, agent) = stage("").await;
    agent
        .signed("GET", "/v1/x")
        .header("Connection", "X-Edgeward-Agent-Id, x-forwarded-for, traceparent, X-Private, close")
        .header("X-Private", "for this hop")
        .send(&edge)
        .await
        .expect(200);
    let seen = upstream.last();
    assert_eq!(seen.all("x-edgeward-agent-id"), [agent.id.to_string()]);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert!(seen.header("traceparent").is_some());
    assert_eq!(seen.header("x-private"), None);
    assert_eq!(seen.header("connection"), None);
}

#[tokio::test]
async fn a_routes_list_lets_pass_only_what_it_names_and_sets_what_it_says() {
    let (upstream, edge, agent) = stage(
        "pass_headers = [\"accept\", \"cookie\"]\n\
         set_headers = { apikey = { value = \"the-upstreams-own\" }, x-custom = { value = \"set\" } }",
    )
    .await;
    agent
        .signed("POST", "/v1/x")
        .body("b")
        .content_type("text/plain")
        .header("Accept", "text/plain")
        .header("Cookie", "a=b")
        .header("apikey", "the-callers")
        .header("X-Custom", "the-callers")
        .header("User-Agent", "agent/1")
        .send(&edge)
        .await
        .expect(200);
    let seen = upstream.last();
    assert_eq!(seen.all("accept"), ["text/plain"]);
    assert_eq!(seen.all("cookie"), ["a=b"]);
    assert_eq!(seen.all("apikey"), ["the-upstreams-own"]);
    assert_eq!(seen.all("x-custom"), ["set"]);
    assert_eq!(seen.header("user-agent"), None);
    assert_eq!(seen.header("content-type"), None);
    assert_eq!(seen.all("x-edgeward-agent-id"), [agent.id.to_string()]);
}

#[tokio::test]
async fn identity_by_jwt_is_a_token_for_this_upstream_alone() {
    let (upstream, edge, agent) =
        stage("identity = \"jwt\"\nidentity_audience = \"postgrest\"").await;
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    let seen = upstream.last();
    assert_eq!(seen.all("x-edgeward-agent-id"), [agent.id.to_string()]);
    let bearer = seen.header("authorization").unwrap();
    let token = bearer.strip_prefix("Bearer ").unwrap();

    let set = edge.get("/.well-known/identity-jwks.json").await.expect(200);
    let set: jsonwebtoken::jwk::JwkSet = set.json();
    let head = jsonwebtoken::decode_header(token).unwrap();
    let kid = head.kid.clone().unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    rules.set_audience(&["postgrest"]);
    rules.set_issuer(&[edgeward_testkit::edge::PUBLIC_URL]);
    rules.set_required_spec_claims(&["exp", "aud", "iss", "sub", "nbf"]);
    let claims = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap().claims;
    assert_eq!(claims["sub"], agent.id.to_string());
    assert_eq!(claims["agent_id"], agent.id.to_string());
    assert_eq!(claims["owner_user_id"], "owner-1");
    assert!(claims["role"].is_string());
    let lives = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lives, 60);

    // It opens nothing at the edge, and its key is not among those of agents' tokens.
    let agents: jsonwebtoken::jwk::JwkSet = edge.get("/.well-known/jwks.json").await.json();
    assert!(agents.find(&kid).is_none());
    agent.signed("GET", "/v1/x").bearer(token).send(&edge).await.refused("token_invalid");
    // And without that setting the upstream gets none.
    let (upstream, edge, agent) = stage("").await;
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    assert_eq!(upstream.last().header("authorization"), None);
}

#[tokio::test]
async fn a_proxy_is_believed_when_it_is_listed_and_read_from_the_right() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .route("/v1/", &upstream)
        .route_with("/inside/", &[&upstream.url()], "allowed_cidrs = [\"198.51.100.0/24\"]")
        .set("EDGE_TRUSTED_PROXIES", "127.0.0.1/32,10.0.0.0/8")
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let from = |list: &str| agent.signed("GET", "/v1/x").header("X-Forwarded-For", list);
    for (list, client) in [
        ("198.51.100.7", "198.51.100.7"),
        ("203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("203.0.113.9, 198.51.100.7, 10.1.2.3", "198.51.100.7"),
        ("203.0.113.9, 198.51.100.7:4711, 10.1.2.3:80", "198.51.100.7"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        // Unknown, and never the proxy.
        ("198.51.100.7, unknown", "0.0.0.0"),
        ("198.51.100.7, unknown, 10.1.2.3", "0.0.0.0"),
    ] {
        from(list).send(&edge).await.expect(200);
        assert_eq!(upstream.last().all("x-forwarded-for"), [client], "{list}");
    }
    from("198.51.100.7").header("X-Forwarded-Proto", "https").send(&edge).await.expect(200);
    assert_eq!(upstream.last().all("x-forwarded-proto"), ["https"]);
    assert_eq!(upstream.last().all("forwarded"), ["for=198.51.100.7;proto=https"]);
    from("2001:db8::1").send(&edge).await.expect(200);
    assert_eq!(upstream.last().all("forwarded"), ["for=\"[2001:db8::1]\";proto=http"]);

    let inside = |list: &str| agent.signed("GET", "/inside/x").header("X-Forwarded-For", list);
    inside("198.51.100.7").send(&edge).await.expect(200);
    inside("198.51.100.7, 203.0.113.9").send(&edge).await.refused("address_not_allowed");
    // Two lines are one list, and one that cannot be read ends it like an entry that is no address.
    for last in ["203.0.113.9", "\u{e9}", "\u{e9}, 203.0.113.9", "", "unknown"] {
        let lines = inside("198.51.100.7").header("X-Forwarded-For", last);
        lines.send(&edge).await.refused("address_not_allowed");
    }

    // Whoever is not listed is not believed.
    let edge = TestEdge::builder()
        .route_with("/inside/", &[&upstream.url()], "allowed_cidrs = [\"198.51.100.0/24\"]")
        .set("EDGE_TRUSTED_PROXIES", "10.0.0.0/8")
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let lie = agent.signed("GET", "/inside/x").header("X-Forwarded-For", "198.51.100.7");
    lie.send(&edge).await.refused("address_not_allowed");
}

#[tokio::test]
async fn connection_takes_nothing_away_that_is_signed() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let request = agent.signed("POST", "/v1/x").content_type("application/json").body("{}");
    let request = request.header("connection", "content-type, x-other").header("x-other", "1");
    request.send(&edge).await.expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(seen.header("x-other"), None);
}
