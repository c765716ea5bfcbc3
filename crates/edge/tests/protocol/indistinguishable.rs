//! Who has not proven itself learns nothing about which agents and secrets there are.

use edgeward_testkit::{Agent, Answer, TestEdge, Upstream};
use edgeward_wire::AgentId;
use serde_json::Value;

/// All that an answer says but its date and its trace: status, headers in their order, body.
fn said(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let headers = answer.head.headers.iter().map(|(name, value)| {
        let own = ["date", "x-trace-id"].contains(&name.to_ascii_lowercase().as_str());
        (name.clone(), if own { String::new() } else { value.clone() })
    });
    let mut body: Value = answer.json();
    assert!(body["trace_id"].is_string());
    body["trace_id"] = Value::Null;
    (answer.status(), headers.collect(), body)
}

#[tokio::test]
async fn an_unknown_agent_a_wrong_secret_and_one_past_its_grace_are_one_answer() {
    let upstream = Upstream::start().await;
    let edge =
        TestEdge::builder().route("/v1/", &upstream).set("AGENT_SECRET_CACHE_MS", 0).start().await;
    let agent = Agent::enroll(&edge).await;
    let past = Agent::enroll(&edge).await;
    let live = past.signed("GET", "/v1/x");
    live.send(&edge).await.expect(200);
    let ended = format!(
        "UPDATE agent_tokens SET status = 'grace', grace_until = {} WHERE agent_id = '{}'",
        edge.now_ms() - 1,
        past.id
    );
    assert_eq!(edge.store().execute_for_tests(ended).await.unwrap(), 1);
    let retired = Agent::enroll(&edge).await;
    let sql =
        format!("UPDATE agent_tokens SET status = 'retired' WHERE agent_id = '{}'", retired.id);
    assert_eq!(edge.store().execute_for_tests(sql).await.unwrap(), 1);
    let blocked = Agent::enroll(&edge).await;
    let sql = format!("UPDATE agent_devices SET status = 'blocked' WHERE id = '{}'", blocked.id);
    assert_eq!(edge.store().execute_for_tests(sql).await.unwrap(), 1);

    let requests = [
        ("a wrong secret", agent.signed("GET", "/v1/x").other_secret()),
        ("a wrong signature", agent.signed("GET", "/v1/x").wrong_signature()),
        ("an unknown agent", agent.signed("GET", "/v1/x").named(AgentId::from_bytes([7; 16]))),
        ("a secret past its grace", past.signed("GET", "/v1/x")),
        ("a retired secret", retired.signed("GET", "/v1/x")),
        ("a blocked agent, a wrong secret", blocked.signed("GET", "/v1/x").other_secret()),
        ("no such route", agent.signed("GET", "/nowhere").other_secret()),
        ("the older form", agent.signed("GET", "/v1/x").body_signature()),
    ];
    let mut answers = Vec::new();
    for (what, request) in requests {
        answers.push((what, request.send(&edge).await.refused("signature_invalid")));
    }
    let first = said(&answers[0].1);
    for (what, answer) in &answers {
        assert_eq!(said(answer), first, "{what}");
        assert_eq!(answer.header("x-secret-version"), None, "{what}");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_code_that_never_was_is_used_or_gets_a_wrong_proof_are_one_answer() {
    use edgeward_testkit::Enrolment;
    let edge = TestEdge::builder().start().await;
    let plan = Enrolment::default();
    let started = plan.start(&edge).await;
    let body = plan.completion(&started);
    let mut wrong = body.clone();
    wrong["signature"] = edgeward_testkit::base64url([1; 64]).into();
    let mut unknown = body.clone();
    unknown["enroll_code"] = "0000-0000-0000".into();
    let mut nonsense = body.clone();
    nonsense["enroll_code"] = "UUUU".into();
    let wrong = Enrolment::complete(&edge, &wrong).await;
    let unknown = Enrolment::complete(&edge, &unknown).await;
    let nonsense = Enrolment::complete(&edge, &nonsense).await;
    Enrolment::complete(&edge, &body).await.expect(200);
    let used = Enrolment::complete(&edge, &body).await.refused("enroll_code_invalid");
    for answer in [wrong, unknown, nonsense] {
        assert_eq!(said(&answer), said(&used));
    }
}
