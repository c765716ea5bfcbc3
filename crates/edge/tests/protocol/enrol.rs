//! Enrolment: who may ask, who may complete, and what an agent that is enrolled anew leaves behind.

use edgeward_core::time::WallMs;
use edgeward_store::clock::ManualClock;
use edgeward_testkit::agent::completion;
use edgeward_testkit::{
    Agent, Answer, Device, Enrolment, Piece, TestEdge, Upstream, base64url, owner,
};
use edgeward_wire::api::{EnrollChallenged, EnrollStarted, Enrolled};
use serde_json::{Value, json};

use crate::problem::assert_refusal;

async fn challenge(edge: &TestEdge, code: &str) -> Answer {
    edge.post("/agent/enroll/challenge", &[], &json!({"enroll_code": code})).await
}

/// `enroll/start` by an owner who may grant `demo`.
async fn start(edge: &TestEdge, body: Value) -> Answer {
    let jwt = edge.owner_jwt("owner-1", &["demo"]);
    edge.enroll_start(Some(&jwt), body).await
}

#[tokio::test]
async fn an_owner_must_prove_itself() {
    let edge = TestEdge::builder()
        .set("OWNER_ISSUER", "https://issuer.test")
        .set("OWNER_AUDIENCE", "edgeward")
        .set("OWNER_ROLES", "authenticated,service")
        .start()
        .await;
    let now = edge.now_ms() / 1000;
    let good = || {
        let mut claims = owner::claims("owner-1", &["demo"], edge.now_ms());
        claims["iss"] = "https://issuer.test".into();
        claims["aud"] = "edgeward".into();
        claims
    };
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    for claims in [
        good(),
        with("aud", json!(["other", "edgeward"])),
        with("role", "service".into()),
        with("is_anonymous", false.into()),
        // 30 s of leeway on both sides.
        with("exp", (now - 20).into()),
        with("nbf", (now + 20).into()),
    ] {
        edge.enroll_start(Some(&owner::token(&claims)), json!({})).await.expect(200);
    }
    for claims in [
        with("exp", (now - 40).into()),
        with("nbf", (now + 60).into()),
        with("iss", "https://other.test".into()),
        with("aud", "other".into()),
        without("exp"),
        without("sub"),
        without("iss"),
        without("aud"),
        with("sub", "with a blank".into()),
        with("sub", "with,comma".into()),
    ] {
        let answer = edge.enroll_start(Some(&owner::token(&claims)), json!({})).await;
        assert_refusal(&answer, "token_invalid");
    }
    for claims in [
        with("is_anonymous", true.into()),
        with("is_anonymous", "true".into()),
        with("role", "anon".into()),
        without("role"),
    ] {
        let answer = edge.enroll_start(Some(&owner::token(&claims)), json!({})).await;
        assert_refusal(&answer, "owner_not_allowed");
    }
    let claims = good();
    let other = b"another secret of the owners, 32 bytes long";
    for jwt in [
        owner::sign(&json!({"alg": "HS256"}), &claims, other),
        owner::sign(&json!({"alg": "none"}), &claims, owner::SECRET.as_bytes()),
        owner::sign(&json!({"alg": "HS512"}), &claims, owner::SECRET.as_bytes()),
        owner::sign(&json!({"alg": "RS256"}), &claims, owner::SECRET.as_bytes()),
        format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(claims.to_string())),
        format!("{}x", owner::token(&claims)),
        "nonsense".to_owned(),
    ] {
        assert_refusal(&edge.enroll_start(Some(&jwt), json!({})).await, "token_invalid");
    }
    assert_refusal(&edge.enroll_start(None, json!({})).await, "token_required");
    let basic = [("Authorization", "Basic dXNlcg==")];
    let answer = edge.post("/agent/enroll/start", &basic, &json!({})).await;
    assert_refusal(&answer, "request_malformed");
}

#[tokio::test]
async fn an_owner_grants_what_it_was_granted() {
    let edge = TestEdge::builder().set("OWNER_SCOPES", "all:have").start().await;
    for scopes in [json!([]), json!(["demo"]), json!(["all:have"]), json!(["all:have", "demo"])] {
        start(&edge, json!({"scopes": scopes})).await.expect(200);
    }
    for scopes in [json!(["admin"]), json!(["demo", "admin"]), json!(["Demo"]), json!(["demo "])] {
        let answer = start(&edge, json!({"scopes": scopes})).await;
        let code = if scopes[0] == "demo " { "request_malformed" } else { "owner_not_allowed" };
        assert_refusal(&answer, code);
    }
    // A claim that lists them in one text (RFC 8693).
    let mut claims = owner::claims("owner-1", &[], edge.now_ms());
    claims["scopes"] = "a b".into();
    let jwt = owner::token(&claims);
    edge.enroll_start(Some(&jwt), json!({"scopes": ["a", "b"]})).await.expect(200);
    let answer = edge.enroll_start(Some(&jwt), json!({"scopes": ["a b"]})).await;
    assert_refusal(&answer, "request_malformed");
    let agent = Agent::enroll_as(&edge, Enrolment::with_scopes(&["demo", "all:have"])).await;
    let echo = agent.call("/agent/protected/echo", &json!({})).send(&edge).await.expect(200);
    assert_eq!(echo.json::<Value>()["scopes"], json!(["demo", "all:have"]));
}

#[tokio::test]
async fn an_owner_has_so_many_agents_and_no_more() {
    let edge = TestEdge::builder().set("OWNER_MAX_AGENTS", 2).start().await;
    let plan = Enrolment::default();
    // Codes given out while there was room do not make room.
    let early = [plan.start(&edge).await, plan.start(&edge).await, plan.start(&edge).await];
    for started in &early[..2] {
        Enrolment::complete(&edge, &plan.completion(started)).await.expect(200);
    }
    let third = Enrolment::complete(&edge, &plan.completion(&early[2])).await;
    assert_refusal(&third, "owner_not_allowed");
    assert_refusal(&start(&edge, json!({})).await, "owner_not_allowed");
    // Another owner has its own.
    let jwt = edge.owner_jwt("owner-2", &[]);
    edge.enroll_start(Some(&jwt), json!({})).await.expect(200);
}

#[tokio::test]
async fn a_start_answers_as_the_page_says() {
    let edge = TestEdge::builder().start().await;
    let answer = start(&edge, json!({})).await.expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: Value = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
    assert_eq!(body["expires_in_sec"], 600);
    assert_eq!(body["challenge"].as_str().unwrap().len(), 43);
    let code = body["enroll_code"].as_str().unwrap();
    let groups: Vec<_> = code.split('-').map(str::len).collect();
    assert_eq!(groups, [4, 4, 4]);
    assert_eq!(body["enroll_url"], "http://edge.test/agent/enroll/complete");
    // An empty body is all defaults.
    let jwt = format!("Bearer {}", edge.owner_jwt("owner-1", &[]));
    let empty = edgeward_testkit::raw::request(
        "POST",
        "/agent/enroll/start",
        &[("Authorization", jwt.as_str())],
        b"",
    );
    edge.send(&empty).await.expect(200);
}

#[tokio::test]
async fn members_that_are_not_known_or_of_wrong_form_are_refused_by_name() {
    let edge = TestEdge::builder().start().await;
    for (body, named) in [
        (json!({"alais": "x"}), "alais"),
        (json!({"scopes": ["demo"], "role": "admin"}), "role"),
        (json!({"allowed_cidrs": ["nowhere"]}), "allowed_cidrs"),
        (json!({"key_thumbprint": "short"}), "key_thumbprint"),
        (json!({"alias": "a".repeat(129)}), "alias"),
        (json!({"platform": "a\nb"}), "platform"),
        (json!([]), "object"),
    ] {
        let problem = assert_refusal(&start(&edge, body).await, "request_malformed");
        let detail = problem.detail.unwrap();
        assert!(detail.contains(named), "{detail}");
    }
    let plan = Enrolment::default();
    let body = plan.completion(&plan.start(&edge).await);
    let mut more = body.clone();
    more["secret"] = "x".into();
    let problem = assert_refusal(&Enrolment::complete(&edge, &more).await, "request_malformed");
    assert!(problem.detail.unwrap().contains("secret"));
    // The same member twice can be read in two ways.
    let text = body.to_string();
    let twice = format!("{{\"enroll_code\":\"0000-0000-0000\",{}", &text[1..]);
    let request = edgeward_testkit::raw::request(
        "POST",
        "/agent/enroll/complete",
        &[("Content-Type", "application/json")],
        twice.as_bytes(),
    );
    assert_refusal(&edge.send(&request).await, "request_malformed");
    // None of it has used up or worn out the code.
    Enrolment::complete(&edge, &body).await.expect(200);
}

#[tokio::test]
async fn a_completion_answers_as_the_page_says() {
    let edge = TestEdge::builder().start().await;
    let plan = Enrolment::default();
    let mut body = plan.completion(&plan.start(&edge).await);
    body["alias"] = "named at last".into();
    body["platform"] = "test".into();
    let answer = Enrolment::complete(&edge, &body).await.expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let told: Value = answer.json();
    assert_eq!(told.as_object().unwrap().len(), 9, "{told}");
    assert_eq!(told["secret_version"], 1);
    assert_eq!(told["owner_user_id"], "owner-1");
    assert_eq!(told["scopes"], json!(["demo"]));
    assert_eq!(told["audience"], edgeward_testkit::edge::AUDIENCE);
    assert_eq!(told["jwt_expires_in_sec"], 3600);
    let secret = told["agent_secret"].as_str().unwrap();
    assert!(secret.starts_with("ewk_") && secret.len() == 53);
    let expires = told["secret_expires_at_ms"].as_u64().unwrap();
    assert!(expires.abs_diff(edge.now_ms() + 90 * 86_400_000) < 60_000);
    // Version 7 of RFC 9562.
    let id = told["agent_id"].as_str().unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "7"));
    let enrolled: Enrolled = answer.json();
    Agent::of(&edge, enrolled, plan.device).session(&edge).await;
}

#[tokio::test]
async fn a_code_is_forgiving_and_tells_its_challenge() {
    let edge = TestEdge::builder().start().await;
    let plan = Enrolment::default();
    // Until there is one with a 0 or a 1 in it.
    let started = loop {
        let started = plan.start(&edge).await;
        if started.enroll_code.contains(['0', '1']) {
            break started;
        }
    };
    let code = &started.enroll_code;
    for typed in [
        code.clone(),
        code.to_lowercase(),
        code.replace('-', ""),
        code.replace('0', "O").replace('1', "I"),
        code.to_lowercase().replace('0', "o").replace('1', "l"),
    ] {
        let answer = challenge(&edge, &typed).await.expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.json::<Value>().as_object().unwrap().len(), 4);
        let told: EnrollChallenged = answer.json();
        assert_eq!(told.challenge, started.challenge);
        assert!((1..=600).contains(&told.expires_in_sec));
        assert_eq!(told.owner_user_id.as_str(), "owner-1");
        assert_eq!(told.scopes.len(), 1);
    }
    let typed = code.to_lowercase().replace('0', "o").replace('1', "l");
    let body = completion(&plan.device, &typed, started.challenge.as_str());
    Enrolment::complete(&edge, &body).await.expect(200);
    assert_refusal(&challenge(&edge, code).await, "enroll_code_invalid");
    assert_refusal(&challenge(&edge, "no code").await, "enroll_code_invalid");
}

#[tokio::test]
async fn five_wrong_completions_end_a_code() {
    let edge = TestEdge::builder().start().await;
    let plan = Enrolment::default();
    for wrong in [4, 5] {
        let started = plan.start(&edge).await;
        let right = plan.completion(&started);
        for at in 0..wrong {
            let mut body = right.clone();
            if at % 2 == 0 {
                body["signature"] = base64url([at; 64]).into();
            } else {
                // A right signature by a key over another challenge.
                let other = base64url([at; 32]);
                body = completion(&plan.device, &started.enroll_code, &other);
            }
            assert_refusal(&Enrolment::complete(&edge, &body).await, "enroll_code_invalid");
        }
        let answer = Enrolment::complete(&edge, &right).await;
        if wrong < 5 {
            answer.expect(200);
        } else {
            assert_refusal(&answer, "enroll_code_invalid");
            assert_refusal(&challenge(&edge, &started.enroll_code).await, "enroll_code_invalid");
        }
    }
}

#[tokio::test]
async fn a_code_ends_after_ten_minutes() {
    let clock = ManualClock::at(WallMs(1_764_000_000_000));
    let edge = TestEdge::builder().clock(&clock).start().await;
    let plan = Enrolment::default();
    let (one, other) = (plan.start(&edge).await, plan.start(&edge).await);
    clock.advance(599_999);
    Enrolment::complete(&edge, &plan.completion(&one)).await.expect(200);
    clock.advance(1);
    let late = Enrolment::complete(&edge, &plan.completion(&other)).await;
    assert_refusal(&late, "enroll_code_invalid");
}

#[tokio::test]
async fn every_form_of_a_key_is_taken_and_proves_itself() {
    let edge = TestEdge::builder().set("AGENT_DEVICE_PROOF", "session").start().await;
    type Form = fn(&Device) -> Value;
    let forms: [(fn() -> Device, Form); 5] = [
        (Device::ed25519, |device| device.public().jwk()),
        (Device::ed25519, |device| device.pem().into()),
        (Device::ed25519, |device| device.public().jwk()["x"].clone()),
        (Device::p256, |device| device.public().jwk()),
        (Device::p256, |device| device.pem().into()),
    ];
    for (make, form) in forms {
        let plan = Enrolment { device: make(), ..Enrolment::default() };
        let mut body = plan.completion(&plan.start(&edge).await);
        body["public_key"] = form(&plan.device);
        let enrolled = Enrolment::complete(&edge, &body).await.expect(200).json();
        let agent = Agent::of(&edge, enrolled, plan.device);
        let start = agent.call("/agent/session/start", &json!({}));
        assert_refusal(&start.send(&edge).await, "device_proof_invalid");
        start
            .nonce(&edgeward_testkit::agent::nonce())
            .with_device_proof()
            .send(&edge)
            .await
            .expect(200);
    }
    let plan = Enrolment::default();
    let started = plan.start(&edge).await;
    let right = plan.completion(&started);
    for key in [
        json!({"kty": "OKP", "crv": "Ed25519", "x": base64url([0; 32])}),
        json!({"kty": "oct", "k": base64url([1; 32])}),
        json!({"kty": "EC", "crv": "P-384", "x": "a", "y": "b"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": base64url([1; 31])}),
        json!(42),
        json!("-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----"),
        json!(""),
    ] {
        let mut body = right.clone();
        body["public_key"] = key;
        assert_refusal(&Enrolment::complete(&edge, &body).await, "request_malformed");
    }
    let mut private = right.clone();
    private["public_key"]["d"] = base64url([1; 32]).into();
    assert_refusal(&Enrolment::complete(&edge, &private).await, "request_malformed");
    Enrolment::complete(&edge, &right).await.expect(200);
}

#[tokio::test]
async fn a_pinned_key_is_the_only_one_that_may_complete() {
    let edge = TestEdge::builder().start().await;
    let pinned = Enrolment::default();
    let thumbprint = pinned.device.public().thumbprint();
    let answer = start(&edge, json!({"key_thumbprint": thumbprint})).await.expect(200);
    let started: EnrollStarted = answer.json();
    let other = Enrolment::default();
    let stolen = Enrolment::complete(&edge, &other.completion(&started)).await;
    assert_refusal(&stolen, "enroll_code_invalid");
    Enrolment::complete(&edge, &pinned.completion(&started)).await.expect(200);
}

#[tokio::test]
async fn an_agents_networks_hold_when_it_completes() {
    let edge = TestEdge::builder().set("EDGE_TRUSTED_PROXIES", "127.0.0.1/32").start().await;
    let plan = Enrolment::default();
    let cidrs = json!({"allowed_cidrs": ["198.51.100.0/24", "2001:db8::/32"]});
    let started: EnrollStarted = start(&edge, cidrs).await.expect(200).json();
    let body = plan.completion(&started);
    let complete = async |from: &str| {
        let head = [("X-Forwarded-For", from)];
        edge.post("/agent/enroll/complete", &head, &body).await
    };
    assert_refusal(&complete("203.0.113.7").await, "address_not_allowed");
    let enrolled: Enrolled = complete("198.51.100.7").await.expect(200).json();
    let agent = Agent::of(&edge, enrolled, plan.device);
    let echo = |from: &str| {
        agent.call("/agent/protected/echo", &json!({})).header("X-Forwarded-For", from)
    };
    echo("198.51.100.8").send(&edge).await.expect(200);
    echo("2001:db8:1::1").send(&edge).await.expect(200);
    assert_refusal(&echo("203.0.113.7").send(&edge).await, "address_not_allowed");
}

#[tokio::test]
async fn an_agent_enrolled_anew_keeps_its_id_and_nothing_else() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let old = Agent::enroll(&edge).await;
    let session = old.session(&edge).await;
    let open = old.signed("GET", "/v1/events").in_session(&session).accept_events();
    let (head, mut stream) = open.open(&edge).await;
    assert_eq!(head.status, 200);
    let at_upstream = upstream.next_stream().await;

    // A stranger's agent cannot be named, nor one that there is not.
    let jwt = edge.owner_jwt("owner-2", &["demo"]);
    let stranger = edge.enroll_start(Some(&jwt), json!({"agent_id": old.id})).await;
    assert_refusal(&stranger, "owner_not_allowed");
    let nobody = json!({"agent_id": edgeward_wire::AgentId::from_bytes([3; 16])});
    assert_refusal(&start(&edge, nobody).await, "owner_not_allowed");

    let mut plan = Enrolment::default();
    plan.start["agent_id"] = json!(old.id);
    let started = plan.start(&edge).await;
    // Until it is complete, nothing has changed.
    old.signed("GET", "/v1/x").in_session(&session).send(&edge).await.expect(200);
    let anew = Enrolment::complete(&edge, &plan.completion(&started)).await.expect(200);
    let anew = Agent::of(&edge, anew.json(), plan.device);

    assert_eq!(anew.id, old.id);
    assert_eq!(anew.enrolled.secret_version, 2);
    let with_old = old.signed("GET", "/v1/x");
    assert_refusal(&with_old.send(&edge).await, "signature_invalid");
    let in_old = old.signed("GET", "/v1/x").in_session(&session);
    assert_refusal(&in_old.send(&edge).await, "session_invalid");
    let by_old_jwt = anew.signed("GET", "/v1/x").bearer(&old.jwt);
    assert_refusal(&by_old_jwt.send(&edge).await, "token_invalid");
    at_upstream.gone().await;
    assert_eq!(stream.piece().await, Piece::End);

    anew.signed("GET", "/v1/x").send(&edge).await.expect(200);
    let session = anew.session(&edge).await;
    anew.signed("GET", "/v1/x").in_session(&session).send(&edge).await.expect(200);
    // The old device key is void too.
    let mut by_old_key = anew.clone();
    by_old_key.device = old.device.clone();
    let proof = by_old_key.call("/agent/session/start", &json!({})).with_device_proof();
    assert_refusal(&proof.send(&edge).await, "device_proof_invalid");
    let proof = anew.call("/agent/session/start", &json!({})).with_device_proof();
    proof.send(&edge).await.expect(200);
}

#[tokio::test]
async fn a_blocked_agent_stays_blocked_when_it_is_enrolled_anew() {
    let edge = TestEdge::builder().start().await;
    let old = Agent::enroll(&edge).await;
    let sql = format!("UPDATE agent_devices SET status = 'blocked' WHERE id = '{}'", old.id);
    edge.store().execute_for_tests(sql).await.unwrap();
    let mut plan = Enrolment::default();
    plan.start["agent_id"] = json!(old.id);
    let anew = Agent::enroll_as(&edge, plan).await;
    let echo = anew.call("/agent/protected/echo", &json!({}));
    assert_refusal(&echo.send(&edge).await, "agent_blocked");
}
