//! Nothing that was accepted is accepted again when the memory of nonces is lost.

use std::time::Duration;

use edgeward_services::{Redis, RedisOptions, RedisWithSentinel};
use edgeward_testkit::Agent;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::load::{Load, Replays, doubles};
use crate::node::Plan;
use crate::pushes::Pushes;
use crate::scene::{Scene, Shared};
use crate::times::{Times, proof};

/// How far ahead a stamp may be: the usual in the long form, so that the proof tells the usual wait.
fn ahead_ms() -> i64 {
    if std::env::var_os("EDGEWARD_FULL").is_some() { 5_000 } else { 1_500 }
}

/// How often each loss happens (`EDGEWARD_LOSSES`).
pub(crate) fn losses() -> usize {
    std::env::var("EDGEWARD_LOSSES").map_or(1, |text| text.parse().unwrap())
}

/// Agents at nodes that lose their memory again and again.
pub(crate) struct Trial {
    pub(crate) scene: Scene,
    agents: Vec<Agent>,
    /// How far ahead the nodes take stamps.
    ahead_ms: i64,
    outages: Times,
    returns: Times,
    accepted: usize,
    replays: Replays,
    doubles: usize,
}

impl Trial {
    pub(crate) async fn start(shared: Shared, change: impl FnOnce(Plan) -> Plan) -> Self {
        let change = |plan: Plan| change(plan.set("AGENT_HMAC_AHEAD_MS", ahead_ms()));
        Self::on(Scene::start(2, shared, change).await, ahead_ms()).await
    }

    pub(crate) async fn on(scene: Scene, ahead_ms: i64) -> Self {
        let agents = join_all((0..4).map(|_| scene.agent())).await;
        scene.upstream.take();
        Self {
            scene,
            agents,
            ahead_ms,
            outages: Times::default(),
            returns: Times::default(),
            accepted: 0,
            replays: Replays::default(),
            doubles: 0,
        }
    }

    /// One loss, under load and under attack; `loss` ends when the store could be used again.
    pub(crate) async fn over(&mut self, loss: impl AsyncFnOnce(&Scene, &Load)) {
        let load = Load::start(&self.scene.nodes, &self.agents, self.ahead_ms);
        load.goes_on(20).await;
        let attack = load.attack();
        loss(&self.scene, &load).await;
        let back = Instant::now();
        load.goes_on(1).await;
        self.returns.extend([back.elapsed()]);
        let mut replays = attack.end().await;
        let (kept, outage) = load.end().await;
        replays.extend(Replays::of(&kept, &self.scene.nodes).await);
        self.outages.extend([outage]);
        self.accepted += kept.len();
        self.replays.extend(replays);
        self.doubles += doubles(&self.scene.upstream);
    }

    /// Tells the proof; how many passed twice.
    pub(crate) fn tell(&self, name: &str) -> usize {
        let Self { accepted, replays, doubles, outages, returns, .. } = self;
        assert!(replays.answered > *accepted, "not everything was replayed");
        proof(name, format!("{accepted} accepted, {replays}, {doubles} twice at the upstream"));
        proof("  honest agents were refused for", outages);
        proof("  of that, after Redis could be used again", returns);
        assert!(*doubles <= replays.passed, "more came twice than passed twice");
        replays.passed.max(*doubles)
    }
}

/// Has a server do something that takes a while.
pub(crate) fn order<T>(what: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(what)
}

async fn loses(name: &str, options: RedisOptions, loss: impl AsyncFn(&Redis, &Load)) {
    let redis = Redis::start(options).unwrap();
    let change = |plan: Plan| plan.set("EDGE_REDIS_MAX_LAG_MS", 0);
    let mut trial = Trial::start(Shared::Single(redis), change).await;
    for _ in 0..losses() {
        trial.over(async |scene, load| loss(scene.shared.redis(), load).await).await;
    }
    assert_eq!(trial.tell(name), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_and_starts_empty() {
    let kill = async |redis: &Redis, _: &Load| {
        order(|| redis.kill()).unwrap();
        order(|| redis.restart()).unwrap();
    };
    loses("Redis killed and started empty", RedisOptions::default(), kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_flushed() {
    let flush = async |redis: &Redis, _: &Load| {
        order(|| redis.command(&["FLUSHALL"])).unwrap();
    };
    loses("FLUSHALL", RedisOptions::default(), flush).await;
}

/// Without client tracking nothing tells nodes of a flush: every claim has to see for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_nobody_is_told_of() {
    let (shared, url) = Pushes::Channel.redis();
    let settings = |plan: Plan| plan.set("EDGE_REDIS_URL", url).set("EDGE_REDIS_MAX_LAG_MS", 0);
    let mut trial = Trial::start(shared, settings).await;
    for _ in 0..losses() {
        trial
            .over(async |scene, _| {
                order(|| scene.shared.redis().command(&["FLUSHALL"])).unwrap();
            })
            .await;
    }
    assert_eq!(trial.tell("FLUSHALL without client tracking"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_as_it_was_a_while_ago() {
    let back = async |redis: &Redis, load: &Load| {
        order(|| redis.command(&["SAVE"])).unwrap();
        load.goes_on(20).await;
        order(|| redis.kill()).unwrap();
        order(|| redis.restart()).unwrap();
    };
    let options = RedisOptions { snapshots: true, ..Default::default() };
    loses("Redis killed and started from an old dump", options, back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_and_redis_that_are_killed_together() {
    let change = |plan: Plan| plan.set("AGENT_HMAC_AHEAD_MS", ahead_ms());
    let scene = Scene::start(1, Shared::single(), change).await;
    let mut trial = Trial::on(scene, ahead_ms()).await;
    let load = Load::start(&trial.scene.nodes, &trial.agents, ahead_ms());
    load.goes_on(20).await;
    let (kept, _) = load.end().await;
    let redis = trial.scene.shared.redis();
    order(|| redis.kill()).unwrap();
    trial.scene.nodes[0].kill().await;
    order(|| redis.restart()).unwrap();
    trial.scene.nodes[0].restart().await;
    let while_starting = Replays::of(&kept, &trial.scene.nodes).await;
    trial.scene.nodes[0].takes_requests().await;
    let afterwards = Replays::of(&kept, &trial.scene.nodes).await;
    assert_eq!((while_starting.passed, afterwards.passed), (0, 0));
    assert_eq!(doubles(&trial.scene.upstream), 0);
}

/// Two servers that take writes only while the replica follows within a second.
pub(crate) fn only_with_a_replica() -> Vec<String> {
    ["min-replicas-to-write 1", "min-replicas-max-lag 1"].map(str::to_owned).into()
}

/// A primary and a replica whose sentinels come to a decision on a busy machine too: if all found out at
/// the same moment that the primary is down, each would vote for itself, again and again; and what they
/// know of the replica, which they ask every second then, is old to them after five pings.
pub(crate) fn decisive(options: RedisOptions) -> RedisWithSentinel {
    let servers = RedisWithSentinel::start(options).unwrap();
    let name = servers.master_name();
    for (sentinel, down_after) in servers.sentinels().iter().zip(["800", "1000", "2000"]) {
        sentinel.command(&["SENTINEL", "DEBUG", "ping-period", "400"]).unwrap();
        let down_after = ["SENTINEL", "SET", name, "down-after-milliseconds", down_after];
        sentinel.command(&down_after).unwrap();
    }
    servers
}

/// Has the replica follow again, and both servers keep that for their next start.
pub(crate) fn rejoined(servers: &RedisWithSentinel) {
    servers.join_replica().unwrap();
    for server in servers.servers() {
        server.command(&["CONFIG", "REWRITE"]).unwrap();
    }
}

/// From half a second to three.
fn gap(turn: usize) -> Duration {
    let part = if losses() > 1 { turn as f64 / (losses() - 1) as f64 } else { 0.2 };
    Duration::from_millis((500.0 + 2_500.0 * part) as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_cut_off_and_takes_over() {
    let options = RedisOptions { config: only_with_a_replica(), ..Default::default() };
    let shared = Shared::Sentinel(order(|| decisive(options)));
    let lag = |plan: Plan| plan.set("EDGE_REDIS_MAX_LAG_MS", 1_000);
    let mut trial = Trial::start(shared, lag).await;
    for turn in 0..losses() {
        trial
            .over(async |scene, _| {
                let servers = scene.shared.sentinel();
                let old = order(|| {
                    servers.settle().unwrap();
                    servers.part_replica().unwrap();
                    servers.primary().unwrap()
                });
                // what is written in this time is lost
                tokio::time::sleep(gap(turn)).await;
                order(|| {
                    old.kill().unwrap();
                    let new = servers.next_primary(old.address()).unwrap();
                    old.restart().unwrap();
                    new.wait_for("min_slaves_good_slaves", "1").unwrap();
                });
            })
            .await;
        order(|| rejoined(trial.scene.shared.sentinel()));
    }
    let name = "a failover to a replica that was cut off 0.5 to 3 s before";
    assert_eq!(trial.tell(name), 0);
}
