//! A primary that is cut off from its replica and its sentinels, and not from every node: two servers
//! take claims at once, and only the strict mode promises that none passes at both.

use std::net::SocketAddr;
use std::time::Duration;

use edgeward_services::{Gate, REDIS_SUPERUSER, RedisOptions, RedisWithSentinel};

use crate::load::Load;
use crate::node::Plan;
use crate::replay_loss::{Trial, decisive, losses, only_with_a_replica, order, rejoined};
use crate::scene::{Scene, Shared};
use crate::times::proof;

/// How far ahead a stamp may be. With it the floor is 2 s long.
const AHEAD_MS: i64 = 500;

/// How long the two servers stand side by side once the sentinels have made the second a primary:
/// longer than its floor.
const SIDE_BY_SIDE: Duration = Duration::from_secs(4);

/// The node that does not hear of the new primary.
const ASTRAY: usize = 1;

/// The servers and the gates to their sentinels.
struct Split {
    gates: Vec<Gate>,
    trial: Trial,
}

impl Split {
    async fn start(config: Vec<String>, strict: bool) -> Self {
        let users = ["user default off", "user edge on >edge-password ~* &* +@all"];
        let users = users.map(str::to_owned).into();
        let servers = order(|| decisive(RedisOptions { users, config, ..Default::default() }));
        let sentinels = servers.sentinel_addresses();
        let gates: Vec<_> = sentinels.iter().map(|to| Gate::to(*to).unwrap()).collect();
        let url = |sentinels: Vec<SocketAddr>| {
            let list: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
            let name = servers.master_name();
            format!("redis-sentinel://edge:edge-password@{}/{name}", list.join(","))
        };
        let behind_gates = url(gates.iter().map(Gate::address).collect());
        let direct = url(sentinels);
        let settings = |plan: Plan| {
            plan.set("EDGE_REDIS_URL", &direct)
                .set("EDGE_REDIS_STRICT", strict)
                .set("AGENT_HMAC_AHEAD_MS", AHEAD_MS)
        };
        let mut scene = Scene::start(1, Shared::Sentinel(servers), settings).await;
        let astray = scene.plan.clone().set("EDGE_REDIS_URL", behind_gates).start().await;
        astray.takes_requests().await;
        scene.nodes.push(astray);
        Self { gates, trial: Trial::on(scene, AHEAD_MS).await }
    }

    /// One split: the old primary loses its replica and its sentinels at once, and one node the
    /// sentinels; then they find together again.
    async fn once(&mut self) {
        let Self { gates, trial } = self;
        trial
            .over(async |scene, load| {
                let servers = scene.shared.sentinel();
                let old = order(|| part(servers, gates));
                let new = order(|| servers.next_primary(old.address())).unwrap();
                side_by_side(load).await;
                order(|| old.kill().unwrap());
                gates.iter().for_each(Gate::mend);
                order(|| {
                    old.restart().unwrap();
                    new.wait_for("connected_slaves", "1").unwrap();
                });
            })
            .await;
        order(|| rejoined(trial.scene.shared.sentinel()));
    }
}

/// Whoever was logged in as a server or a sentinel is cut off, and nodes are not.
fn part<'a>(servers: &'a RedisWithSentinel, gates: &[Gate]) -> &'a edgeward_services::Redis {
    servers.settle().unwrap();
    let old = servers.primary().unwrap();
    gates.iter().for_each(Gate::cut);
    old.command(&["ACL", "DELUSER", REDIS_SUPERUSER.0]).unwrap();
    old
}

/// The agents go on at the node that does not know better, if it lets them in.
async fn side_by_side(load: &Load) {
    let before = load.accepted_at(ASTRAY);
    tokio::time::sleep(SIDE_BY_SIDE).await;
    let let_in = load.accepted_at(ASTRAY) - before;
    proof("  let in by the old primary in 4 s beside the new one", let_in);
}

async fn passed_twice(name: &str, config: Vec<String>, strict: bool) -> usize {
    let mut split = Split::start(config, strict).await;
    for _ in 0..losses() {
        split.once().await;
    }
    split.trial.tell(name)
}

/// As the page on Redis advises; here the servers would stop by themselves.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long; `just prove` runs it"]
async fn in_the_strict_mode_nothing_passes_twice() {
    let name = "a cut-off primary that takes writes, strict";
    assert_eq!(passed_twice(name, only_with_a_replica(), true).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strict_mode_needs_nothing_of_the_servers() {
    let name = "a cut-off primary that takes writes for ever, strict";
    assert_eq!(passed_twice(name, Vec::new(), true).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "promises nothing; `just prove` tells what it measures"]
async fn a_primary_that_stops_without_its_replica() {
    let name = "a cut-off primary that takes writes for a second, not strict";
    passed_twice(name, only_with_a_replica(), false).await;
}

/// The worst case: shows that these tests would see a replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_goes_on_by_itself_lets_replays_in_without_the_strict_mode() {
    let name = "a cut-off primary that takes writes for ever, not strict";
    assert!(passed_twice(name, Vec::new(), false).await > 0);
}
