//! How Redis tells nodes of changes, as far as their ACL user permits it.

use edgeward_services::{Redis, RedisOptions};

use crate::node::Plan;
use crate::scene::{Scene, Shared};

/// The password of that user.
pub(crate) const PASSWORD: &str = "password-of-nodes-at-redis";

/// Where it is not what is looked at, Redis may be slow: other tests keep the machine busy.
pub(crate) const PATIENCE_MS: u64 = 1_000;

/// The best way that is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushes {
    /// Client tracking: keys that change are told of.
    Tracking,
    /// A channel, on which whoever changes something says so.
    Channel,
    /// None: nodes hear nothing from Redis.
    Cut,
}

impl Pushes {
    /// The ACL user of the page on Redis, with less.
    pub(crate) fn user(self) -> String {
        let page = include_str!("../../../../docs/redis.md");
        let user = page.lines().find(|line| line.starts_with("user edgeward on ")).unwrap();
        let mut user = user.replace(">PASSWORD", &format!(">{PASSWORD}"));
        let mut take = |rule: &str| {
            assert!(user.contains(rule), "{user}");
            user = user.replace(rule, "");
        };
        match self {
            Self::Tracking => {}
            Self::Channel => take(" +client|tracking"),
            Self::Cut => {
                take(" +client|tracking");
                take(" &edgeward:told");
            }
        }
        user
    }

    /// So many nodes over a Redis that permits just this.
    pub(crate) async fn scene(self, nodes: usize, change: impl FnOnce(Plan) -> Plan) -> Scene {
        let (shared, url) = self.redis();
        let change = |plan: Plan| {
            change(plan.set("EDGE_REDIS_URL", url).set("EDGE_REDIS_TIMEOUT_MS", PATIENCE_MS))
        };
        let scene = Scene::start(nodes, shared, change).await;
        for node in &scene.nodes {
            let log = node.log();
            let channel = log.contains("changes are told on a channel");
            let cut = log.contains("permits neither client tracking nor the channel");
            assert_eq!((channel, cut), (self == Self::Channel, self == Self::Cut), "{}", *log);
        }
        scene
    }

    /// Such a Redis, and its URL for nodes.
    pub(crate) fn redis(self) -> (Shared, String) {
        let users = vec![self.user()];
        let redis = Redis::start(RedisOptions { users, ..Default::default() }).unwrap();
        let url = format!("redis://edgeward:{PASSWORD}@{}", redis.address());
        (Shared::Single(redis), url)
    }
}
