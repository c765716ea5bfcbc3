//! Nodes by clocks that are wrong: libfaketime stands between them and the machine's.

use std::path::PathBuf;

use edgeward_testkit::{AsDoor as _, eventually};

use crate::node::Plan;
use crate::scene::{Scene, Shared};

impl Plan {
    /// By a clock that is so far ahead, in seconds with their sign.
    fn clock_ahead(self, seconds: &str) -> Self {
        self.by_another_clock().set("FAKETIME", seconds)
    }

    fn by_another_clock(self) -> Self {
        self.set("LD_PRELOAD", libfaketime().display()).set("FAKETIME_DONT_FAKE_MONOTONIC", 1)
    }
}

/// Debian's package libfaketime.
fn libfaketime() -> PathBuf {
    let machines = std::fs::read_dir("/usr/lib").unwrap();
    let library = |folder: std::fs::DirEntry| folder.path().join("faketime/libfaketimeMT.so.1");
    let mut found = machines.map(|folder| library(folder.unwrap())).filter(|path| path.exists());
    found.next().expect("libfaketime is not here: install Debian's faketime")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_more_than_the_window_is_refused_at_the_start() {
    let scene = Scene::start(1, Shared::single(), |plan| plan).await;
    for seconds in ["+90", "-90"] {
        let said = scene.plan.clone().clock_ahead(seconds).refused().await;
        assert!(said.contains("this machine's clock and the database's are"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_more_than_half_a_second_off_redis_is_not_ready() {
    let mut scene = Scene::start(1, Shared::single(), |plan| plan).await;
    let agent = scene.agent().await;
    for seconds in ["+2", "-2"] {
        let node = scene.plan.clone().clock_ahead(seconds).start().await;
        eventually("a node that is not ready", async || node.health().await == "starting").await;
        let answer = agent.signed("GET", "/v1/x").send(&node).await;
        answer.expect(503).refused("starting");
        scene.nodes.push(node);
    }
    let answer = agent.signed("GET", "/v1/x").send(&scene.nodes[0]).await;
    answer.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_astray_closes_the_node_until_it_is_right_again() {
    let scene = Scene::start(1, Shared::single(), |plan| plan).await;
    let agent = scene.agent().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let says = |offset: &str| std::fs::write(file.path(), offset).unwrap();
    says("+0");
    let plan = scene.plan.clone().by_another_clock();
    let plan = plan.set("FAKETIME_TIMESTAMP_FILE", file.path().display());
    let node = plan.set("FAKETIME_NO_CACHE", 1).start().await;
    node.takes_requests().await;
    agent.signed("GET", "/v1/x").send(&node).await.expect(200);
    // less than a step
    says("+0.8");
    eventually("a node that is not ready", async || node.health().await == "starting").await;
    let stamped = agent.signed("GET", "/v1/x").build();
    node.door().send(&stamped).await.expect(503).refused("starting");
    says("+0");
    node.takes_requests().await;
    agent.signed("GET", "/v1/x").send(&node).await.expect(200);
}
