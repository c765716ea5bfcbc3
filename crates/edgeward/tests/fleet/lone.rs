//! Without a Redis a node remembers by itself: there is one of it, and it may come back at once.

use std::sync::Arc;

use edgeward_testkit::{AsDoor as _, soon};

use crate::load::{Replays, doubles};
use crate::node::Plan;
use crate::scene::{Scene, Shared};

/// Requests that pass before it is killed.
const REQUESTS: usize = 100;
const AHEAD_MS: i64 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_is_refused_until_the_first_has_stopped() {
    let mut scene = Scene::start(1, Shared::Nothing, |plan| plan).await;
    let said = scene.plan.refused().await;
    assert!(said.contains("EDGE_REDIS_URL") && said.contains("could pass at both"), "{said}");
    scene.agent().await.signed("GET", "/v1/x").send(&scene.nodes[0]).await.expect(200);
    scene.nodes[0].stop().await;
    scene.add_node().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_with_redis_and_one_without_are_refused_together() {
    let mut scene = Scene::start(1, Shared::single(), |plan| plan).await;
    let mut alone = scene.plan.clone();
    let url = alone.env.remove("EDGE_REDIS_URL").unwrap();
    let said = alone.refused().await;
    assert!(said.contains("EDGE_REDIS_URL"), "{said}");
    scene.nodes[0].stop().await;
    let _first = alone.start().await;
    let said = alone.set("EDGE_REDIS_URL", url).refused().await;
    assert!(said.contains("remembers nonces by itself"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_comes_back_at_once_and_lets_no_replay_in() {
    let change = |plan: Plan| plan.set("AGENT_HMAC_AHEAD_MS", AHEAD_MS);
    let mut scene = Scene::start(1, Shared::Nothing, change).await;
    let agent = scene.agent().await;
    let mut kept: Vec<Arc<[u8]>> = Vec::new();
    for number in 0..REQUESTS {
        let offset = if number % 2 == 0 { 0 } else { AHEAD_MS - 20 };
        let request = agent.signed("GET", &format!("/v1/once/{number}"));
        let bytes = request.timestamp_offset_ms(offset).build();
        scene.nodes[0].door().send(&bytes).await.expect(200);
        kept.push(bytes.into());
    }
    scene.nodes[0].kill().await;
    let said = scene.plan.refused().await;
    assert!(said.contains("was up"), "another one would be a second: {said}");
    scene.nodes[0].restart().await;
    let while_starting = Replays::of(&kept, &scene.nodes).await;
    scene.nodes[0].takes_requests().await;
    let afterwards = Replays::of(&kept, &scene.nodes).await;
    assert_eq!((while_starting.passed, afterwards.passed), (0, 0));
    assert_eq!((while_starting.answered, afterwards.answered), (REQUESTS, REQUESTS));
    assert_eq!(doubles(&scene.upstream), 0);
    agent.signed("GET", "/v1/x").send(&scene.nodes[0]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stood_still_while_another_took_its_place_lets_nothing_in() {
    let mut scene = Scene::start(1, Shared::Nothing, |plan| plan).await;
    let agent = scene.agent().await;
    let request = |number: usize| agent.signed("GET", &format!("/v1/once/{number}"));
    let before = request(0).build();
    scene.nodes[0].door().send(&before).await.expect(200);
    scene.nodes[0].pause();
    let second = soon("a second node that starts", async {
        loop {
            match scene.plan.try_start().await {
                Ok(node) => break node,
                Err(said) => assert!(said.contains("was up"), "{said}"),
            }
        }
    })
    .await;
    second.takes_requests().await;
    let after = request(1).build();
    second.door().send(&after).await.expect(200);
    // what the first is sent while it stands still it answers when it goes on
    let mut conn = scene.nodes[0].door().connect().await;
    conn.send(&after).await;
    scene.nodes[0].resume();
    let answer = conn.try_head().await;
    assert!(answer.as_ref().is_none_or(|head| head.status == 503), "{answer:?}");
    scene.nodes[0].ended().await;
    let replayed = second.door().send(&before).await;
    assert!([401, 503].contains(&replayed.status()), "{replayed:?}");
    assert_eq!(doubles(&scene.upstream), 0);
}
