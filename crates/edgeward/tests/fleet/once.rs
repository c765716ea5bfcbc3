//! The same bytes at three nodes at once: exactly one passes.

use futures_util::future::join_all;

use crate::scene::{Scene, Shared};
use crate::times::{proof, rounds};

async fn one_of_three_passes(shared: Shared, name: &str) {
    let rounds = rounds(200);
    let scene = Scene::start(3, shared, |plan| plan).await;
    let agents = join_all((0..8).map(|_| scene.agent())).await;
    let mut sessions = Vec::new();
    for agent in &agents {
        sessions.push(agent.session(&scene.nodes[1]).await);
    }
    scene.upstream.take();
    for round in 0..rounds {
        let at = round % agents.len();
        let request = agents[at].signed("GET", "/v1/x").in_session(&sessions[at]);
        let answers = join_all(scene.nodes.iter().map(|node| request.send(node))).await;
        let passed = answers.iter().filter(|answer| answer.status() == 200).count();
        let replayed =
            answers.iter().filter(|answer| answer.code() == Some("nonce_replayed")).count();
        assert_eq!((passed, replayed), (1, 2), "round {round}: {answers:?}");
        assert_eq!(scene.upstream.take().len(), 1, "round {round}");
    }
    proof(name, format!("{rounds} rounds, exactly one passed in each"));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_one_redis() {
    one_of_three_passes(Shared::single(), "three copies at three nodes, one Redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster() {
    one_of_three_passes(Shared::cluster(), "three copies at three nodes, a cluster").await;
}
