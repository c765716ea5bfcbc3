//! What has ended stays so, also when Redis comes back as it was before.

use edgeward_services::{Redis, RedisOptions};
use edgeward_testkit::{Agent, Session, eventually};
use futures_util::future::join_all;
use serde_json::json;

use crate::node::Node;
use crate::pushes::PATIENCE_MS;
use crate::scene::{Scene, Shared};

async fn status(agent: &Agent, session: &Session, node: &Node) -> u16 {
    agent.signed("GET", "/v1/x").in_session(session).send(node).await.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_ended_stays_so_when_redis_comes_back_from_an_older_dump() {
    let redis = RedisOptions { snapshots: true, ..RedisOptions::default() };
    let shared = Shared::Single(Redis::start(redis).unwrap());
    let scene =
        Scene::start(2, shared, |plan| plan.set("EDGE_REDIS_TIMEOUT_MS", PATIENCE_MS)).await;
    let agents = join_all((0..4).map(|_| scene.agent())).await;
    let sessions = join_all(agents.iter().map(|agent| agent.session(&scene.nodes[0]))).await;
    let kept = agents[0].session(&scene.nodes[0]).await;
    scene.shared.redis().command(&["SAVE"]).unwrap();
    for (agent, session) in agents.iter().zip(&sessions) {
        let end = agent.call("/agent/session/end", &json!({})).in_session(session);
        end.send(&scene.nodes[0]).await.expect(204);
    }
    scene.shared.redis().kill().unwrap();
    scene.shared.redis().restart().unwrap();

    // The dump holds all of them, and the one that was not ended is good again once the floor has passed.
    let back = async || status(&agents[0], &kept, &scene.nodes[1]).await == 200;
    eventually("a session that goes on", back).await;
    for (agent, session) in agents.iter().zip(&sessions) {
        for node in &scene.nodes {
            for with_nonce in [true, false] {
                // Each bucket has a floor of its own, and they do not pass at the same moment.
                let refused = async || {
                    let request = agent.signed("GET", "/v1/x").in_session(session);
                    let request = if with_nonce { request } else { request.no_nonce() };
                    let answer = request.send(node).await;
                    assert!(answer.status() != 200, "{answer:?}");
                    answer.code() == Some("session_invalid")
                };
                eventually("a session that is told to be over", refused).await;
            }
        }
    }
}
