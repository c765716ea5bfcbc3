//! Replay safety across a crash and a stop.

use edgeward_core::time::WallMs;
use edgeward_store::Clock as _;
use edgeward_store::clock::ManualClock;
use edgeward_testkit::{Agent, Session, TestEdge, Upstream, eventually};
use serde_json::{Value, json};

use crate::problem::assert_refusal;

const NOW: u64 = 1_764_000_000_000;
/// `AGENT_HMAC_AHEAD_MS`, and what the floor adds: a second's mark, half a second of skew.
const AHEAD: u64 = 5_000;
const FLOOR: u64 = 1_000 + AHEAD + 500;

struct Before {
    upstream: Upstream,
    edge: TestEdge,
    agent: Agent,
    session: Session,
    clock: ManualClock,
    /// Requests that were admitted, stamped all over the window.
    captured: Vec<Vec<u8>>,
}

async fn before() -> Before {
    let clock = ManualClock::at(WallMs(NOW));
    let upstream = Upstream::start().await;
    let edge = TestEdge::builder().route("/v1/", &upstream).clock(&clock).start().await;
    let agent = Agent::enroll(&edge).await;
    let session = agent.session(&edge).await;
    let mut captured = Vec::new();
    for offset in [-60_000, -30_000, -1, 0, 1, 2_500, 5_000] {
        let signed = || agent.signed("GET", "/v1/x").timestamp_offset_ms(offset);
        captured.push(signed().build());
        captured.push(signed().in_session(&session).build());
        captured.push(signed().no_nonce().build());
    }
    for request in &captured {
        edge.send(request).await.expect(200);
    }
    upstream.take();
    Before { upstream, edge, agent, session, clock, captured }
}

async fn health(edge: &TestEdge) -> (u16, String) {
    let answer = edge.get("/agent/healthz").await;
    (answer.status(), answer.json::<Value>()["status"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn after_a_crash_nothing_captured_before_it_is_accepted_again() {
    let Before { upstream, mut edge, agent, session, clock, captured } = before().await;
    edge.crash().await;
    edge.restart().await;

    // Behind the floor nothing at all is taken, not even what is fresh.
    for step in [0, 1_000, AHEAD, FLOOR - 1_000 - AHEAD] {
        clock.advance(step);
        assert_eq!(health(&edge).await, (503, "starting".to_owned()));
        for request in &captured {
            let answer = edge.send(request).await;
            let problem = assert_refusal(&answer, "starting");
            let left = NOW + FLOOR - edge.now_ms();
            // What is left and the jitter that spreads a fleet.
            let told = problem.retry_after_ms.unwrap();
            assert!((left..left + 1_001).contains(&told), "{told} of {left}");
            assert_eq!(problem.server_time_ms, Some(edge.now_ms()));
        }
        let fresh = agent.signed("GET", "/v1/x").send(&edge).await;
        assert_refusal(&fresh, "starting");
    }

    // One millisecond above it honest stamps are taken, and old ones until they leave the window.
    assert_eq!(edge.now_ms(), NOW + FLOOR);
    clock.advance(1);
    assert_eq!(health(&edge).await, (200, "ok".to_owned()));
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    for offset in [0, -1, -1_500] {
        let stamped = agent.signed("GET", "/v1/x").timestamp_offset_ms(offset).send(&edge).await;
        let code = if offset == 0 { None } else { Some("timestamp_outside_window") };
        assert_eq!(stamped.code(), code, "{offset}");
    }
    upstream.take();
    for _ in 0..14 {
        for request in &captured {
            let answer = edge.send(request).await;
            assert!(
                ["timestamp_outside_window", "session_invalid"].contains(&answer.code().unwrap()),
                "{}",
                answer.text()
            );
        }
        clock.advance(5_000);
    }
    assert_eq!(upstream.count(), 0);

    // The session went with the memory.
    let old = agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await;
    assert_refusal(&old, "session_invalid");
    agent.session(&edge).await;
}

#[tokio::test]
async fn a_clock_that_goes_back_over_a_crash_opens_no_window() {
    let Before { upstream, mut edge, agent, clock, captured, .. } = before().await;
    edge.crash().await;
    clock.set_wall(WallMs(NOW - 3_600_000));
    edge.restart().await;
    for request in captured.iter().chain([&agent.signed("GET", "/v1/x").build()]) {
        assert_refusal(&edge.send(request).await, "starting");
    }
    clock.set_wall(WallMs(NOW - 1));
    for request in &captured {
        assert_refusal(&edge.send(request).await, "starting");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn after_a_stop_in_order_sessions_and_nonces_are_there() {
    let Before { upstream, mut edge, agent, session, captured, clock } = before().await;
    edge.stop().await;
    clock.advance(100);
    edge.restart().await;
    assert_eq!(health(&edge).await, (200, "ok".to_owned()));
    for (at, request) in captured.iter().enumerate() {
        match at % 3 {
            // Without a nonce there is nothing to remember, here as before; and the oldest stamps
            // have left the window.
            2 => continue,
            _ if at < 3 => {
                edge.send(request).await.refused("timestamp_outside_window");
            }
            _ => {
                edge.send(request).await.refused("nonce_replayed");
            }
        }
    }
    assert_eq!(upstream.count(), 0);
    agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await.expect(200);
    agent
        .call("/agent/session/extend", &json!({}))
        .in_session(&session)
        .send(&edge)
        .await
        .expect(200);
}

#[tokio::test]
async fn what_a_stop_left_counts_once() {
    let Before { upstream, mut edge, agent, session, captured, .. } = before().await;
    edge.stop().await;
    edge.restart().await;
    // It has answered nothing since; the nonces that it took over are in memory alone.
    edge.crash().await;
    edge.restart().await;
    assert_eq!(health(&edge).await, (503, "starting".to_owned()));
    for request in &captured {
        assert_refusal(&edge.send(request).await, "starting");
    }
    let old = agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await;
    assert_refusal(&old, "starting");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_edge_that_never_admitted_anything_has_no_floor() {
    let clock = ManualClock::at(WallMs(NOW));
    let mut edge = TestEdge::builder().clock(&clock).start().await;
    let agent = Agent::enroll(&edge).await;
    // Enrolment and refusals admit nothing.
    let wrong = agent.call("/agent/protected/echo", &json!({})).wrong_signature();
    wrong.send(&edge).await.refused("signature_invalid");
    edge.crash().await;
    edge.restart().await;
    assert_eq!(health(&edge).await, (200, "ok".to_owned()));
    agent.call("/agent/protected/echo", &json!({})).send(&edge).await.expect(200);
    edge.crash().await;
    edge.restart().await;
    assert_eq!(health(&edge).await, (503, "starting".to_owned()));
}

#[tokio::test]
async fn an_honest_client_is_served_soon_after_a_crash() {
    let upstream = Upstream::start().await;
    let mut edge =
        TestEdge::builder().route("/v1/", &upstream).set("AGENT_HMAC_AHEAD_MS", 500).start().await;
    let agent = Agent::enroll(&edge).await;
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    edge.crash().await;
    edge.restart().await;
    let restarted = edge.now_ms();
    eventually("an honest request served", async || {
        agent.signed("GET", "/v1/x").send(&edge).await.status() == 200
    })
    .await;
    let took = edge.now_ms() - restarted;
    // A second's mark, ahead and half a second; five times that is too late.
    assert!(took < 5 * 2_000, "{took} ms");
}

#[tokio::test]
async fn a_clock_that_is_set_back_under_a_running_edge_opens_no_window() {
    for back in [100_000, 3_600_000] {
        let Before { upstream, edge, agent, clock, captured, .. } = before().await;
        clock.set_wall(WallMs(NOW - back));
        // Time passes until nonces are forgotten, and the clock shows the old stamps once more.
        let mut accepted = 0;
        let step = back / 100;
        for _ in 0..100 + 60_000 / step + 2 {
            clock.advance(step);
            for (at, request) in captured.iter().enumerate() {
                let answer = edge.send(request).await;
                // Without a nonce there is nothing to remember.
                accepted += usize::from(at % 3 != 2 && answer.status() == 200);
            }
        }
        assert_eq!(accepted, 0, "replays after {back} ms back");
        assert!(upstream.recorded().iter().all(|seen| seen.target() == "/v1/x"));
        // And who is honest is served again.
        agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    }
}

/// Sends what was captured until every stamp has left the window for good; how many pass whose nonce
/// had to be remembered.
async fn passed_again(
    edge: &TestEdge,
    clock: &ManualClock,
    captured: &[Vec<u8>],
    ms: u64,
) -> usize {
    let mut passed = 0;
    for _ in 0..=ms / 2_000 {
        for (at, request) in captured.iter().enumerate() {
            passed += usize::from(edge.send(request).await.status() == 200 && at % 3 != 2);
        }
        clock.advance(2_000);
    }
    passed
}

#[tokio::test]
async fn a_clock_that_is_set_back_after_a_restart_opens_no_window() {
    let Before { upstream: _upstream, mut edge, agent, clock, captured, .. } = before().await;
    edge.stop().await;
    clock.advance(1_000);
    edge.restart().await;
    // Before anybody has claimed anything, and further than nonces are remembered.
    clock.set_wall(WallMs(NOW - 150_000));
    assert_eq!(passed_again(&edge, &clock, &captured, 250_000).await, 0);
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
}

#[tokio::test]
async fn two_steps_back_are_one() {
    // Each is less than nonces are remembered beyond the window: 120 s less 65 s and half a second.
    for (run, stopped, again) in [(50_000, 40_000, 0), (50_000, 0, 40_000), (0, 50_000, 40_000)] {
        let Before { upstream: _upstream, mut edge, agent, clock, captured, .. } = before().await;
        clock.set_wall(WallMs(NOW - run));
        edge.stop().await;
        clock.set_wall(WallMs(NOW - run - stopped));
        edge.restart().await;
        clock.set_wall(WallMs(NOW - run - stopped - again));
        let passed = passed_again(&edge, &clock, &captured, 190_000).await;
        assert_eq!(passed, 0, "{run} {stopped} {again}");
        agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
    }
}

#[tokio::test]
async fn a_clock_that_is_corrected_by_a_little_interrupts_nothing() {
    let Before { upstream: _upstream, edge, agent, session, clock, captured } = before().await;
    clock.set_wall(WallMs(NOW - 1_000));
    // The JWT was minted in what is the future now.
    let inside = || agent.signed("GET", "/v1/x").in_session(&session).no_bearer();
    inside().send(&edge).await.expect(200);
    for (at, request) in captured.iter().enumerate() {
        if at % 3 != 2 {
            assert!(edge.send(request).await.code().is_some());
        }
    }
    // Slewed back, a little at a time.
    clock.set_wall(WallMs(NOW));
    inside().send(&edge).await.expect(200);
}

#[tokio::test]
async fn after_a_step_of_the_clock_nothing_is_taken_until_it_has_been_steady() {
    for wall in [NOW - 1_001, NOW + 1_001, NOW - 30_000, NOW + 30_000] {
        let Before { upstream, edge, agent, session, clock, .. } = before().await;
        let inside = || agent.signed("GET", "/v1/x").in_session(&session).no_bearer();
        upstream.take();
        clock.set_wall(WallMs(wall));
        for wait in [10_000, 1] {
            assert_eq!(health(&edge).await, (503, "starting".to_owned()));
            let problem = assert_refusal(&inside().send(&edge).await, "starting");
            let told = problem.retry_after_ms.unwrap();
            assert!((wait..wait + 1_001).contains(&told), "{told} of {wait}");
            // No token is issued either, to nobody, and no code is given out.
            let refresh = agent.call("/agent/token/refresh", &serde_json::json!({}));
            assert_refusal(&refresh.send(&edge).await, "starting");
            let owner = edge.owner_jwt("owner-1", &[]);
            let asked = edge.enroll_start(Some(&owner), serde_json::json!({})).await;
            assert_refusal(&asked, "starting");
            assert_eq!(edge.get("/.well-known/jwks.json").await.status(), 200);
            clock.advance(9_999);
        }
        assert!(upstream.take().is_empty(), "nothing was forwarded");
        clock.advance(1);
        assert_eq!(health(&edge).await, (200, "ok".to_owned()));
        inside().send(&edge).await.expect(200);
    }
}

#[tokio::test]
async fn a_crash_that_follows_a_crash_moves_no_floor() {
    let Before { upstream: _upstream, mut edge, agent, clock, .. } = before().await;
    for _ in 0..3 {
        edge.crash().await;
        clock.advance(2_000);
        edge.restart().await;
        assert_eq!(health(&edge).await, (503, "starting".to_owned()));
        let refused = agent.signed("GET", "/v1/x").send(&edge).await;
        assert_refusal(&refused, "starting");
    }
    clock.advance(FLOOR + 1 - 6_000);
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
}

#[tokio::test]
async fn a_smaller_allowance_ahead_after_a_crash_opens_no_window() {
    let Before { upstream, mut edge, agent, clock, captured, .. } = before().await;
    edge.crash().await;
    edge.restart_with(|plan| plan.set("AGENT_HMAC_AHEAD_MS", 0)).await;
    for _ in 0..80 {
        clock.advance(1_000);
        for request in &captured {
            assert_ne!(edge.send(request).await.status(), 200, "at {}", edge.now_ms() - NOW);
        }
    }
    assert_eq!(upstream.count(), 0);
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
}

#[tokio::test]
async fn a_wider_window_after_a_stop_accepts_nothing_that_is_forgotten() {
    let Before { upstream, mut edge, agent, session, clock, captured } = before().await;
    clock.advance(110_000);
    edge.stop().await;
    let wider = |plan: edgeward_testkit::Builder| {
        plan.set("AGENT_HMAC_WINDOW_MS", 300_000).set("AGENT_NONCE_TTL_MS", 400_000)
    };
    edge.restart_with(wider).await;
    for _ in 0..50 {
        for (at, request) in captured.iter().enumerate() {
            // Without a nonce there is nothing to remember.
            if at % 3 != 2 {
                assert_ne!(edge.send(request).await.status(), 200, "at {}", edge.now_ms() - NOW);
            }
        }
        clock.advance(5_000);
    }
    upstream.take();
    agent.signed("GET", "/v1/x").in_session(&session).send(&edge).await.expect(200);

    // Once it is in force a stop forgets nothing of it.
    let request = agent.signed("GET", "/v1/x").build();
    edge.send(&request).await.expect(200);
    edge.stop().await;
    edge.restart().await;
    assert_eq!(health(&edge).await, (200, "ok".to_owned()));
    clock.advance(200_000);
    edge.send(&request).await.refused("nonce_replayed");
}

#[tokio::test]
async fn a_window_that_becomes_wider_in_two_steps_accepts_nothing_that_is_forgotten() {
    let Before { upstream: _upstream, mut edge, agent, clock, captured, .. } = before().await;
    clock.advance(10_000);
    edge.stop().await;
    edge.restart_with(|plan| plan.set("AGENT_NONCE_TTL_MS", 400_000)).await;
    clock.advance(100_000);
    edge.stop().await;
    edge.restart().await;
    // The nonces of the first run are forgotten by now, after 120 s.
    clock.advance(20_000);
    edge.stop().await;
    edge.restart_with(|plan| plan.set("AGENT_HMAC_WINDOW_MS", 300_000)).await;
    assert_eq!(passed_again(&edge, &clock, &captured, 250_000).await, 0);
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
}

#[tokio::test]
async fn a_window_that_becomes_wider_late_enough_interrupts_nothing() {
    let Before { upstream: _upstream, mut edge, agent, clock, .. } = before().await;
    edge.stop().await;
    edge.restart_with(|plan| plan.set("AGENT_NONCE_TTL_MS", 400_000)).await;
    for _ in 0..2 {
        clock.advance(203_000);
        edge.stop().await;
        edge.restart().await;
    }
    let request = agent.signed("GET", "/v1/x").build();
    edge.send(&request).await.expect(200);
    edge.stop().await;
    edge.restart_with(|plan| plan.set("AGENT_HMAC_WINDOW_MS", 300_000)).await;
    assert_eq!(health(&edge).await, (200, "ok".to_owned()));
    edge.send(&request).await.refused("nonce_replayed");
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
}

#[tokio::test]
async fn a_stop_behind_the_floor_does_not_lift_it() {
    let Before { upstream, mut edge, clock, captured, .. } = before().await;
    edge.crash().await;
    edge.restart().await;
    edge.stop().await;
    clock.advance(1_000);
    edge.restart().await;
    assert_eq!(health(&edge).await, (503, "starting".to_owned()));
    for request in &captured {
        assert_refusal(&edge.send(request).await, "starting");
    }
    clock.advance(FLOOR);
    assert_eq!(health(&edge).await, (200, "ok".to_owned()));
    // Also once the floor is behind the clock, and after one more stop.
    for _ in 0..2 {
        for request in &captured {
            assert_ne!(edge.send(request).await.status(), 200);
        }
        edge.stop().await;
        edge.restart().await;
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn what_a_stop_left_and_nobody_can_read_is_a_crash() {
    unreadable_after(0).await;
    // The mark tells what was granted, also when the clock does not.
    unreadable_after(30_000).await;
}

/// A stop, a clock that goes back by so much, and a start that cannot read what was left.
async fn unreadable_after(back: u64) {
    let Before { upstream, mut edge, agent, clock, captured, .. } = before().await;
    edge.stop().await;
    clock.set_wall(WallMs(NOW - back));
    let path = edge.folder().join("edgeward.db");
    let store = edgeward_testkit::open_store(&path).await;
    let sql = "UPDATE run_state SET snapshot = CAST(x'0102030405' || snapshot AS BLOB) WHERE snapshot NOTNULL";
    assert_eq!(store.execute_for_tests(sql).await.unwrap(), 1);
    store.close().await;
    drop(store);
    edge.restart().await;
    assert_eq!(health(&edge).await, (503, "starting".to_owned()));
    for request in &captured {
        assert_refusal(&edge.send(request).await, "starting");
    }
    while clock.now().wall < WallMs(NOW + FLOOR + 1) {
        clock.advance(500);
        for request in &captured {
            assert_ne!(edge.send(request).await.status(), 200);
        }
    }
    assert_eq!(upstream.count(), 0);
    clock.advance(1_000);
    agent.signed("GET", "/v1/x").send(&edge).await.expect(200);
}
