//! Agents' JWTs that a stranger has made or changed.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgeward_testkit::{Agent, TestEdge, Upstream, base64url, owner};
use serde_json::{Value, json};

use crate::problem::assert_refusal;

fn part(jwt: &str, at: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(at).unwrap()).unwrap())
        .unwrap()
}

#[tokio::test]
async fn no_forged_jwt_is_taken() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let (head, claims) = (part(&agent.jwt, 0), part(&agent.jwt, 1));
    assert_eq!((&head["alg"], &head["typ"]), (&json!("EdDSA"), &json!("JWT")));
    let set: Value = edge.get("/.well-known/jwks.json").await.json();
    let public = &set["keys"][0];
    assert_eq!(head["kid"], public["kid"]);
    let x = public["x"].as_str().unwrap();
    let raw = URL_SAFE_NO_PAD.decode(x).unwrap();

    let alg = |alg: &str| {
        let mut head = head.clone();
        head["alg"] = alg.into();
        head
    };
    let by = |head: &Value, claims: &Value, key: &Ed25519KeyPair| {
        let signed = format!("{}.{}", base64url(head.to_string()), base64url(claims.to_string()));
        format!("{signed}.{}", base64url(key.sign(signed.as_bytes())))
    };
    let mine = Ed25519KeyPair::generate().unwrap();
    let mut with_jwk = head.clone();
    with_jwk["jwk"] =
        json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(mine.public_key().as_ref())});
    let mut unknown = head.clone();
    unknown["kid"] = "unknown".into();
    let mut no_kid = head.clone();
    no_kid.as_object_mut().unwrap().remove("kid");
    let parts: Vec<&str> = agent.jwt.split('.').collect();
    let changed =
        |claims: Value| format!("{}.{}.{}", parts[0], base64url(claims.to_string()), parts[2]);
    let mut more = claims.clone();
    more["scopes"] = json!(["admin"]);
    let mut longer = claims.clone();
    longer["exp"] = json!(claims["exp"].as_u64().unwrap() + 1);

    let forged = [
        ("none", format!("{}.{}.", base64url(alg("none").to_string()), parts[1])),
        ("None", format!("{}.{}.", base64url(alg("None").to_string()), parts[1])),
        (
            "none with its signature",
            format!("{}.{}.{}", base64url(alg("none").to_string()), parts[1], parts[2]),
        ),
        ("HS256 under the public key", owner::sign(&alg("HS256"), &claims, &raw)),
        ("HS256 under its text", owner::sign(&alg("HS256"), &claims, x.as_bytes())),
        ("HS256 under the JWK", owner::sign(&alg("HS256"), &claims, public.to_string().as_bytes())),
        ("EdDSA by name, an HMAC by nature", owner::sign(&head, &claims, &raw)),
        (
            "HS256 under the owners' secret",
            owner::sign(&alg("HS256"), &claims, owner::SECRET.as_bytes()),
        ),
        ("ES256 by name", by(&alg("ES256"), &claims, &mine)),
        ("another key", by(&head, &claims, &mine)),
        ("another key that it brings along", by(&with_jwk, &claims, &mine)),
        ("an unknown key", by(&unknown, &claims, &mine)),
        ("no key", by(&no_kid, &claims, &mine)),
        ("scopes added", changed(more)),
        ("a longer life", changed(longer)),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("a signature of another length", format!("{}A", agent.jwt)),
        ("four parts", format!("{}.x", agent.jwt)),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("padding", format!("{}=", agent.jwt)),
        ("nothing", "..".to_owned()),
    ];
    let session = agent.session(&edge).await;
    upstream.take();
    for (what, jwt) in &forged {
        for request in [
            agent.signed("GET", "/v1/x").bearer(jwt),
            agent.signed("GET", "/v1/x").in_session(&session).bearer(jwt),
            agent.call("/agent/session/start", &json!({})).bearer(jwt),
        ] {
            let answer = request.send(&edge).await;
            assert_eq!(answer.code(), Some("token_invalid"), "{what}: {}", answer.text());
            assert_refusal(&answer, "token_invalid");
        }
    }
    assert_eq!(upstream.count(), 0);
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
}

#[tokio::test]
async fn a_jwt_of_another_deployment_is_none_here() {
    let (here, there) = (TestEdge::builder().start().await, TestEdge::builder().start().await);
    let (agent, other) = (Agent::enroll(&here).await, Agent::enroll(&there).await);
    let call = agent.call("/agent/session/start", &json!({})).bearer(&other.jwt);
    assert_refusal(&call.send(&here).await, "token_invalid");
}

#[tokio::test]
async fn a_jwt_by_the_other_algorithm_is_taken_where_that_is_the_keys() {
    let upstream = Upstream::start().await;
    let edge =
        TestEdge::builder().route("/v1/", &upstream).set("EDGE_JWT_ALG", "ES256").start().await;
    let agent = Agent::enroll(&edge).await;
    assert_eq!(part(&agent.jwt, 0)["alg"], "ES256");
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    let claims = part(&agent.jwt, 1);
    let mut head = part(&agent.jwt, 0);
    head["alg"] = "EdDSA".into();
    let jwt = owner::sign(&head, &claims, b"anything at all, at least 32 bytes long");
    assert_refusal(&agent.signed("GET", "/v1/x").bearer(&jwt).send(&edge).await, "token_invalid");
}
