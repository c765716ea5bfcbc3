//! The same at once, many times: one of them passes.

use std::sync::Arc;

use edgeward_testkit::{Agent, Enrolment, TestEdge, Upstream};
use edgeward_wire::api::Enrolled;
use tokio::sync::Barrier;

const AT_ONCE: usize = 64;

/// Rounds of a race: many when everything is to be proven, fewer in between.
fn rounds() -> usize {
    let rounds = if std::env::var_os("EDGEWARD_FULL").is_some() { 5_000 } else { 1_000 };
    println!("{rounds} rounds of {AT_ONCE}");
    rounds
}

/// Sends the bytes of each round on all connections at once; gives what each round answered.
async fn race(edge: &TestEdge, requests: Vec<Vec<u8>>) -> Vec<Vec<(u16, Option<String>, Vec<u8>)>> {
    let requests = Arc::new(requests);
    let barrier = Arc::new(Barrier::new(AT_ONCE));
    let mut tasks = Vec::new();
    for _ in 0..AT_ONCE {
        let mut conn = edge.connect().await;
        let (requests, barrier) = (Arc::clone(&requests), Arc::clone(&barrier));
        tasks.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            for request in requests.iter() {
                barrier.wait().await;
                let answer = conn.exchange(request).await;
                answers.push((answer.status(), answer.code().map(str::to_owned), answer.body));
            }
            answers
        }));
    }
    let mut rounds: Vec<Vec<_>> = requests.iter().map(|_| Vec::new()).collect();
    for task in tasks {
        for (round, answer) in rounds.iter_mut().zip(task.await.unwrap()) {
            round.push(answer);
        }
    }
    rounds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_same_bytes_sent_at_once_exactly_one_passes() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .route("/v1/", &upstream)
        // A slow machine must not let stamps get old before their round.
        .set("AGENT_HMAC_WINDOW_MS", 300_000)
        .set("AGENT_NONCE_TTL_MS", 400_000)
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let requests: Vec<_> =
        (0..rounds()).map(|at| agent.signed("GET", &format!("/v1/{at}")).build()).collect();
    let count = requests.len();
    for (at, answers) in race(&edge, requests).await.into_iter().enumerate() {
        let passed = answers.iter().filter(|(status, ..)| *status == 200).count();
        let replays =
            answers.iter().filter(|(_, code, _)| code.as_deref() == Some("nonce_replayed")).count();
        assert_eq!((passed, replays), (1, AT_ONCE - 1), "round {at}");
    }
    let mut targets: Vec<_> = upstream.recorded().iter().map(|seen| seen.target()).collect();
    targets.sort();
    targets.dedup();
    assert_eq!((upstream.count(), targets.len()), (count, count));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_completions_of_one_code_at_once_exactly_one_enrols() {
    let edge = TestEdge::builder().start().await;
    let plan = Enrolment::default();
    let body = plan.completion(&plan.start(&edge).await).to_string();
    let head = [("Content-Type", "application/json")];
    let target = "/agent/enroll/complete";
    let request = edgeward_testkit::raw::request("POST", target, &head, body.as_bytes());
    let answers = race(&edge, vec![request]).await.remove(0);
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|(status, ..)| *status == 200);
    assert_eq!(won.len(), 1);
    for (_, code, _) in lost {
        assert_eq!(code.as_deref(), Some("enroll_code_invalid"));
    }
    let enrolled: Enrolled = serde_json::from_slice(&won[0].2).unwrap();
    let rows = "UPDATE agent_devices SET alias = alias";
    assert_eq!(edge.store().execute_for_tests(rows).await.unwrap(), 1);
    let rows = "UPDATE agent_tokens SET version = version";
    assert_eq!(edge.store().execute_for_tests(rows).await.unwrap(), 1);
    let agent = Agent::of(&edge, enrolled, plan.device);
    agent.session(&edge).await;
}

#[tokio::test]
async fn what_is_refused_before_the_claim_does_not_use_up_its_nonce() {
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .route_with("/v1/", &[&upstream.url()], "scopes = [\"demo\"]")
        .route_with("/scoped/", &[&upstream.url()], "scopes = [\"admin\"]")
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let nonce = edgeward_testkit::agent::nonce();
    let with = |target: &str| agent.signed("GET", target).nonce(&nonce);
    with("/v1/x").wrong_signature().send(&edge).await.refused("signature_invalid");
    with("/v1/x").other_secret().send(&edge).await.refused("signature_invalid");
    with("/v1/x").tampered_bearer().send(&edge).await.refused("token_invalid");
    with("/v1/x").no_bearer().send(&edge).await.refused("token_required");
    with("/scoped/x").send(&edge).await.refused("scope_missing");
    with("/nowhere").send(&edge).await.refused("route_unknown");
    with("/v1/x")
        .timestamp_offset_ms(-70_000)
        .send(&edge)
        .await
        .refused("timestamp_outside_window");
    with("/v1/x").send(&edge).await.expect(200);
    with("/v1/x").send(&edge).await.refused("nonce_replayed");
}

#[tokio::test]
async fn a_refusal_by_rate_does_not_use_up_the_nonce_and_a_replay_is_not_charged() {
    use edgeward_core::time::WallMs;
    let clock = edgeward_store::clock::ManualClock::at(WallMs(1_764_000_000_000));
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder()
        .route("/v1/", &upstream)
        .clock(&clock)
        .set("AGENT_RATELIMIT_PER_SEC", 1)
        .set("AGENT_RATELIMIT_BURST", 2)
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let first = agent.signed("GET", "/v1/x").build();
    edge.send(&first).await.expect(200);
    for _ in 0..5 {
        edge.send(&first).await.refused("nonce_replayed");
    }
    // The second of the burst is still there.
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    let limited = agent.signed("GET", "/v1/x").build();
    let wait = edge.send(&limited).await.refused("rate_limited");
    let wait: u64 = wait.json::<serde_json::Value>()["retry_after_ms"].as_u64().unwrap();
    assert!((1..=60_000).contains(&wait), "{wait}");
    clock.advance(wait);
    edge.send(&limited).await.expect(200);
    edge.send(&limited).await.refused("nonce_replayed");
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn whoever_does_not_wait_waits_twice_as_long() {
    use edgeward_core::time::WallMs;
    let clock = edgeward_store::clock::ManualClock::at(WallMs(1_764_000_000_000));
    let edge = TestEdge::builder()
        .clock(&clock)
        .set("AGENT_RATELIMIT_PER_SEC", 1)
        .set("AGENT_RATELIMIT_BURST", 1)
        .start()
        .await;
    let agent = Agent::enroll(&edge).await;
    let echo = async || {
        let call = agent.call("/agent/protected/echo", &serde_json::json!({}));
        call.send(&edge).await
    };
    echo().await.expect(200);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let refused = echo().await.refused("rate_limited");
        waits.push(refused.json::<serde_json::Value>()["retry_after_ms"].as_u64().unwrap());
    }
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    clock.advance(59_999);
    let early = echo().await;
    early.refused("rate_limited");
    clock.advance(60_000);
    echo().await.expect(200);
}

#[tokio::test]
async fn an_agents_own_rate_goes_before_the_deployments() {
    use edgeward_core::time::WallMs;
    let clock = edgeward_store::clock::ManualClock::at(WallMs(1_764_000_000_000));
    let edge = TestEdge::builder().clock(&clock).set("AGENT_SECRET_CACHE_MS", 0).start().await;
    let (slow, other) = (Agent::enroll(&edge).await, Agent::enroll(&edge).await);
    let sql = format!(
        "UPDATE agent_devices SET rate = '{{\"per_sec\":1,\"burst\":2}}' WHERE id = '{}'",
        slow.id
    );
    assert_eq!(edge.store().execute_for_tests(sql).await.unwrap(), 1);
    let call = async |agent: &Agent| {
        let call = agent.call("/agent/protected/echo", &serde_json::json!({}));
        call.send(&edge).await
    };
    for _ in 0..2 {
        call(&slow).await.expect(200);
    }
    let refused = call(&slow).await.refused("rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"agent\";q=2;w=2"));
    for _ in 0..5 {
        call(&other).await.expect(200);
    }
}
