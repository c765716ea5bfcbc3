//! Deployments that ask for less or for more than the default: each switch changes what it says.

use edgeward_testkit::{Agent, Enrolment, TestEdge, Upstream};
use serde_json::{Value, json};

use crate::problem::assert_refusal;

async fn with(name: &str, value: &str) -> (Upstream, TestEdge, Agent) {
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder().route("/v1/", &upstream).set(name, value).start().await;
    let agent = Agent::enroll(&edge).await;
    (upstream, edge, agent)
}

#[tokio::test]
async fn without_required_signatures_a_jwt_alone_speaks_for_its_agent_on_routes() {
    let (upstream, edge, agent) = with("EDGE_REQUIRE_HMAC", "false").await;
    let alone = || agent.signed("GET", "/v1/x").bare();
    let bearer = format!("Bearer {}", agent.jwt);
    let plain = edgeward_testkit::raw::request("GET", "/v1/x", &[("Authorization", &bearer)], b"");
    edge.send(&plain).await.expect(200);
    assert_eq!(upstream.last().all("x-edgeward-agent-id"), [agent.id.to_string()]);
    assert_eq!(upstream.last().header("authorization"), None);
    assert_refusal(&alone().tampered_bearer().send(&edge).await, "token_invalid");
    assert_refusal(&alone().unsigned_bearer().send(&edge).await, "token_invalid");
    assert_refusal(&alone().no_bearer().send(&edge).await, "credentials_missing");
    // A signature that is there is checked.
    let wrong = agent.signed("GET", "/v1/x").wrong_signature();
    assert_refusal(&wrong.send(&edge).await, "signature_invalid");
    // The agent's own calls are signed whatever the switch says.
    for path in ["/agent/session/start", "/agent/token/refresh"] {
        let call = agent.call(path, &json!({})).bare();
        assert_refusal(&call.send(&edge).await, "credentials_missing");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn without_verified_jwts_a_signature_alone_will_do() {
    let (upstream, edge, agent) = with("EDGE_VERIFY_JWT", "false").await;
    agent.signed("GET", "/v1/x").no_bearer().send(&edge).await.expect(200);
    let start = agent.call("/agent/session/start", &json!({})).no_bearer();
    let session = agent.session_of(start.send(&edge).await.expect(200).json());
    agent.signed("GET", "/v1/x").in_session(&session).no_bearer().send(&edge).await.expect(200);
    assert_eq!(upstream.count(), 2);
    let alone = agent.signed("GET", "/v1/x").bare();
    assert_refusal(&alone.send(&edge).await, "credentials_missing");
    let wrong = agent.signed("GET", "/v1/x").wrong_signature();
    assert_refusal(&wrong.send(&edge).await, "signature_invalid");
}

#[tokio::test]
async fn the_secret_itself_is_a_short_cut_on_routes_where_it_is_allowed() {
    let (upstream, edge, agent) = with("EDGE_ALLOW_HEADER_SECRET", "true").await;
    let short_cut = || agent.signed("GET", "/v1/x").header_secret();
    short_cut().send(&edge).await.expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-agent-secret"), None);
    assert!(!String::from_utf8_lossy(&seen.head).contains(agent.secret.expose()));
    let other = Agent::enroll(&edge).await;
    let wrong = short_cut().replaced("X-Agent-Secret", other.secret.expose());
    assert_refusal(&wrong.send(&edge).await, "signature_invalid");
    assert_refusal(&short_cut().no_bearer().send(&edge).await, "token_required");
    let start = agent.call("/agent/session/start", &json!({})).header_secret();
    assert_refusal(&start.send(&edge).await, "credentials_missing");
    assert_eq!(upstream.count(), 1);
    // Refused otherwise even when it is right.
    let (upstream, edge, agent) = with("EDGE_ALLOW_HEADER_SECRET", "false").await;
    let right = agent.signed("GET", "/v1/x").header_secret();
    assert_refusal(&right.send(&edge).await, "credentials_missing");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn the_older_signature_is_for_legacy_agents_where_it_is_allowed() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .route("/v1/", &upstream)
        .route_with("/sensitive/", &[&upstream.url()], "sensitive = true")
        .set("EDGE_ALLOW_BODY_SIGNATURE", "true")
        .set("AGENT_SECRET_CACHE_MS", 0)
        .start()
        .await;
    let (legacy, modern) = (Agent::enroll(&edge).await, Agent::enroll(&edge).await);
    let sql = format!("UPDATE agent_devices SET legacy = 1 WHERE id = '{}'", legacy.id);
    edge.store().execute_for_tests(sql).await.unwrap();
    let by = |agent: &Agent, target: &str| agent.signed("POST", target).body("b").body_signature();
    let answer = by(&legacy, "/v1/x").send(&edge).await.expect(200);
    assert!(answer.header("deprecation").is_some(), "{:?}", answer.head);
    let fails = [
        by(&modern, "/v1/x"),
        by(&legacy, "/v1/x").swapped_body("c"),
        by(&legacy, "/sensitive/x"),
        by(&legacy, "/agent/protected/echo"),
        legacy.signed("POST", "/v1/x").body_signature(),
        legacy.signed("POST", "/v1/x").body("b"),
        legacy.call("/agent/session/start", &json!({})),
    ];
    for fail in fails {
        assert_refusal(&fail.send(&edge).await, "signature_invalid");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn required_sessions_are_required_on_every_route() {
    let (upstream, edge, agent) = with("AGENT_SESSION_REQUIRED", "true").await;
    let without = agent.signed("GET", "/v1/x");
    assert_refusal(&without.send(&edge).await, "session_required");
    let session = agent.session(&edge).await;
    agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await.expect(200);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_base_path_stands_before_everything() {
    const BASE: &str = "/functions/v1";
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .route("/functions/v1/api/", &upstream)
        .set("EDGE_BASE_PATH", BASE)
        .start()
        .await;
    let plan = Enrolment::default();
    let started = plan.start(&edge).await;
    assert_eq!(started.enroll_url, "http://edge.test/functions/v1/agent/enroll/complete");
    let enrolled = Enrolment::complete(&edge, &plan.completion(&started)).await.expect(200);
    let agent = Agent::of(&edge, enrolled.json(), plan.device);
    let session = agent.session(&edge).await;
    let call = |target: &str| agent.signed("GET", target).in_session(&session);
    call("/functions/v1/api/x?y").send(&edge).await.expect(200);
    assert_eq!(upstream.last().target(), "/functions/v1/api/x?y");
    assert_refusal(&call("/api/x?y").send(&edge).await, "route_unknown");
    edge.get("/functions/v1/agent/healthz").await.expect(200);
    edge.get("/functions/v1/.well-known/jwks.json").await.expect(200);
    assert_refusal(&edge.get("/agent/healthz").await, "credentials_missing");
    assert_refusal(&edge.get("/.well-known/jwks.json").await, "credentials_missing");
    // The base path is signed too.
    let without = agent
        .signed("POST", "/agent/protected/echo")
        .swapped_target("/functions/v1/agent/protected/echo");
    assert_refusal(&without.send(&edge).await, "signature_invalid");
    agent.call("/agent/session/end", &json!({})).in_session(&session).send(&edge).await.expect(204);
}

#[tokio::test]
async fn a_deployment_without_owners_enrols_nobody() {
    let edge = TestEdge::builder().unset("OWNER_JWT_SECRET").start().await;
    let jwt = edge.owner_jwt("owner-1", &["demo"]);
    let answer = edge.enroll_start(Some(&jwt), json!({})).await;
    assert_refusal(&answer, "owner_not_allowed");
}

#[tokio::test]
async fn owners_by_a_jwks_at_a_url_are_verified_and_kept_while_it_is_down() {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use edgeward_testkit::{Reply, base64url, owner};
    let key = Ed25519KeyPair::generate().unwrap();
    let jwk = |kid: &str, key: &Ed25519KeyPair| json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": base64url(key.public_key().as_ref())});
    let issuer = Upstream::start().await;
    let set = json!({"keys": [jwk("one", &key)]}).to_string().into_bytes();
    issuer.plan(move |_| Reply::Whole(200, Vec::new(), set.clone()));
    let edge = TestEdge::builder()
        .unset("OWNER_JWT_SECRET")
        .set("OWNER_JWKS_URL", format!("{}/jwks.json", issuer.url()))
        .start()
        .await;
    let sign = |kid: &str, key: &Ed25519KeyPair| {
        let head = json!({"alg": "EdDSA", "typ": "JWT", "kid": kid});
        let claims = owner::claims("owner-1", &["demo"], edge.now_ms());
        let signed = format!("{}.{}", base64url(head.to_string()), base64url(claims.to_string()));
        format!("{signed}.{}", base64url(key.sign(signed.as_bytes())))
    };
    let good = sign("one", &key);
    edge.enroll_start(Some(&good), json!({"scopes": ["demo"]})).await.expect(200);
    assert_eq!(issuer.last().target(), "/jwks.json");
    issuer.plan(|_| Reply::HangUp);
    edge.enroll_start(Some(&good), json!({})).await.expect(200);
    let stranger = sign("one", &Ed25519KeyPair::generate().unwrap());
    assert_refusal(&edge.enroll_start(Some(&stranger), json!({})).await, "token_invalid");
    // The secret of the other kind of source is none here.
    let jwt = edge.owner_jwt("owner-1", &["demo"]);
    assert_refusal(&edge.enroll_start(Some(&jwt), json!({})).await, "token_invalid");
    let _: Value = edge.get("/agent/healthz").await.json();
}
