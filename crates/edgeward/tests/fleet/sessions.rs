//! A session is the whole fleet's: begun, extended and ended at one node, it is so at every other.

use std::time::Duration;

use edgeward_testkit::{Agent, Answer, Session, soon};
use futures_util::future::{join, join_all};
use serde_json::json;
use tokio::time::Instant;

use crate::node::Node;
use crate::pushes::{PATIENCE_MS, Pushes};
use crate::scene::{Scene, Shared};
use crate::stream::Stream;
use crate::times::{Times, proof, rounds};

/// A request that no nonce's claim refuses: what the node knows of the session decides.
async fn ask(agent: &Agent, session: &Session, node: &Node) -> Answer {
    agent.signed("GET", "/v1/x").in_session(session).no_nonce().send(node).await
}

async fn known_at_once(shared: Shared, name: &str) {
    let scene =
        Scene::start(3, shared, |plan| plan.set("EDGE_REDIS_TIMEOUT_MS", PATIENCE_MS)).await;
    let agents = join_all((0..8).map(|_| scene.agent())).await;
    let (rounds, mut refused) = (rounds(100), Vec::new());
    for round in 0..rounds {
        let agent = &agents[round % agents.len()];
        let session = agent.session(&scene.nodes[round % 3]).await;
        let request = agent.signed("GET", "/v1/x").in_session(&session);
        let answer = request.send(&scene.nodes[(round + 1 + round / 3 % 2) % 3]).await;
        refused.extend((answer.status() != 200).then_some(answer));
    }
    proof(name, format!("{rounds} times, {} refused", refused.len()));
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_one_node_is_good_at_the_others_at_once() {
    let name = "a session started at one node and used at another as soon as its answer is read";
    known_at_once(Shared::single(), name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_one_node_is_good_at_the_others_at_once_on_a_cluster() {
    let name = "the same on a cluster";
    known_at_once(Shared::cluster(), name).await;
}

/// Has a session end in Redis after so many milliseconds, unless it is extended: the least that a
/// node gives one is a minute.
fn shorten(scene: &Scene, agent: &Agent, session: &Session, ms: u64) {
    let redis = scene.shared.redis();
    let hash = session.started.session_id.hash().to_string();
    let key = redis.command(&["KEYS", &format!("*:{hash}")]).unwrap().texts().remove(0);
    let value = redis.command(&["GET", &key]).unwrap().text().unwrap();
    let (head, ends) = value.split_once("\"exp_ms\":").unwrap();
    let (_, tail) = ends.split_once(',').unwrap();
    let shorter = format!("{head}\"exp_ms\":{},{tail}", agent.now_ms() + ms);
    redis.command(&["SET", &key, &shorter, "PX", &ms.to_string()]).unwrap();
}

async fn lives_on_when_extended_elsewhere(pushes: Pushes) {
    const SHORT_MS: u64 = 2_500;
    let scene = pushes.scene(3, |plan| plan.set("AGENT_SESSION_TTL_MS", 60_000)).await;
    let agent = scene.agent().await;
    let mut sessions = Vec::new();
    let mut streams = Vec::new();
    // Two sessions that end at about the same time, with streams at nodes that did not start them.
    for _ in 0..2 {
        let session = agent.session(&scene.nodes[0]).await;
        shorten(&scene, &agent, &session, SHORT_MS);
        for node in &scene.nodes[1..] {
            let request = agent.signed("GET", "/v1/x").in_session(&session);
            streams.push(Stream::open(&scene.upstream, request, node).await);
        }
        sessions.push(session);
    }
    let others = streams.split_off(2);
    let extend = agent.call("/agent/session/extend", &json!({})).in_session(&sessions[0]);
    extend.send(&scene.nodes[0]).await.expect(200);
    let since = Instant::now();
    join_all(others.into_iter().map(Stream::cut)).await;
    // They end with their session and not, as ones whose node hears nothing, before it.
    assert!(since.elapsed() >= Duration::from_millis(SHORT_MS - 1_000), "{:?}", since.elapsed());
    for stream in &mut streams {
        stream.carries("after the end of the session that was not extended").await;
    }
    let echo = ask(&agent, &sessions[0], &scene.nodes[2]).await;
    echo.expect(200);
    ask(&agent, &sessions[1], &scene.nodes[2]).await.refused("session_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_live_on_when_their_session_is_extended_at_another_node() {
    lives_on_when_extended_elsewhere(Pushes::Tracking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_live_on_when_their_session_is_extended_and_nodes_hear_nothing() {
    lives_on_when_extended_elsewhere(Pushes::Cut).await;
}

/// Ends sessions at one node; how long until each node refuses them, and until each stream is cut.
async fn end_everywhere(pushes: Pushes, rounds: usize) -> (Times, Times) {
    let scene = pushes.scene(3, |plan| plan).await;
    let agent = scene.agent().await;
    let (mut refused, mut cut) = (Times::default(), Times::default());
    for round in 0..rounds {
        let at = round % 3;
        let session = agent.session(&scene.nodes[at]).await;
        let mut streams = Vec::new();
        for node in &scene.nodes {
            // Every node knows it.
            ask(&agent, &session, node).await.expect(200);
            let request = agent.signed("GET", "/v1/x").in_session(&session);
            streams.push(Stream::open(&scene.upstream, request, node).await);
        }
        let end = agent.call("/agent/session/end", &json!({})).in_session(&session);
        end.send(&scene.nodes[at]).await.expect(204);
        let since = Instant::now();
        ask(&agent, &session, &scene.nodes[at]).await.refused("session_invalid");
        let refusals = scene.nodes.iter().map(async |node| {
            let refused = async {
                loop {
                    let answer = ask(&agent, &session, node).await;
                    if answer.status() != 200 {
                        break answer;
                    }
                }
            };
            soon("a refusal", refused).await.refused("session_invalid");
            since.elapsed()
        });
        let cuts = streams.into_iter().map(async |stream| {
            stream.cut().await;
            since.elapsed()
        });
        let (refusals, cuts) = join(join_all(refusals), join_all(cuts)).await;
        refused.extend(refusals);
        cut.extend(cuts);
    }
    (refused, cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_at_one_node_ends_at_all() {
    let (refused, cut) = end_everywhere(Pushes::Tracking, rounds(100) / 5).await;
    proof("a session ended at one node: refused by each", &refused);
    proof("a session ended at one node: its streams are cut at each", &cut);
    refused.assert_within(Duration::from_secs(1));
    cut.assert_within(Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_at_one_node_ends_at_all_by_the_channel() {
    let (refused, cut) = end_everywhere(Pushes::Channel, rounds(100) / 10).await;
    proof("the same by the channel, without client tracking: refused by each", &refused);
    proof("the same by the channel, without client tracking: streams cut", &cut);
    refused.assert_within(Duration::from_secs(1));
    cut.assert_within(Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_at_one_node_ends_at_all_when_they_hear_nothing() {
    let (refused, cut) = end_everywhere(Pushes::Cut, (rounds(100) / 25).min(50)).await;
    proof("the same with pub/sub and invalidation cut: refused by each", &refused);
    proof("the same with pub/sub and invalidation cut: streams cut", &cut);
    refused.assert_within(Duration::from_secs(3));
    cut.assert_within(Duration::from_secs(3));
}
