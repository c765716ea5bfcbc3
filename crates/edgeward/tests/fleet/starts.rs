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
