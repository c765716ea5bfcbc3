//! Starts that fail.

use crate::scene::{Scene, Shared};

/// A node that remembers by itself leaves no room for another one: what did not start must not either.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_after_it_has_joined_leaves() {
    let mut scene = Scene::start(0, Shared::Nothing, |plan| plan).await;
    let mut broken = scene.plan.clone();
    broken.env.retain(|name, _| !name.contains("OWNER_J"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no keys").unwrap();
    let said = broken.set("OWNER_JWKS_FILE", file.path().display()).refused().await;
    assert!(said.contains("owner keys"), "{said}");
    scene.add_node().await;
}

/// Two nodes that remember in two places would each let the same request in.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shares_another_store_is_refused_and_disturbs_nobody() {
    let mut scene = Scene::start(1, Shared::single(), |plan| plan).await;
    let agent = scene.agent().await;
    let other = Shared::single();
    let elsewhere = other.url().unwrap();
    for (name, value) in [("EDGE_REDIS_PREFIX", "another"), ("EDGE_REDIS_URL", &elsewhere)] {
        let said = scene.plan.clone().set(name, value).refused().await;
        for word in ["could pass at both", "EDGE_REDIS_URL", "EDGE_REDIS_PREFIX"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    agent.signed("GET", "/v1/x").send(&scene.nodes[0]).await.expect(200);
    scene.add_node().await;
    agent.signed("GET", "/v1/x").send(&scene.nodes[1]).await.expect(200);
}
