//! The same bytes at three nodes at once: exactly one passes.

use futures_util::future::join_all;

use crate::scene::{Scene, Shared};

/// So many rounds where nobody asks for more (`EDGEWARD_ROUNDS`).
const ROUNDS: usize = 200;

fn rounds() -> usize {
    std::env::var("EDGEWARD_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap())
}

async fn one_of_three_passes(shared: Shared) {
    let scene = Scene::start(3, shared, |plan| plan).await;
    let agents = join_all((0..8).map(|_| scene.agent())).await;
    let mut sessions = Vec::new();
    for agent in &agents {
        sessions.push(agent.session(&scene.nodes[1]).await);
    }
    scene.upstream.take();
    for round in 0..rounds() {
        let at = round % agents.len();
        let request = agents[at].signed("GET", "/v1/x").in_session(&sessions[at]);
        let answers = join_all(scene.nodes.iter().map(|node| request.send(node))).await;
        let passed = answers.iter().filter(|answer| answer.status() == 200).count();
        let replayed =
            answers.iter().filter(|answer| answer.code() == Some("nonce_replayed")).count();
        assert_eq!((passed, replayed), (1, 2), "round {round}: {answers:?}");
        assert_eq!(scene.upstream.take().len(), 1, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_one_redis() {
    one_of_three_passes(Shared::single()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster() {
    one_of_three_passes(Shared::cluster()).await;
}
