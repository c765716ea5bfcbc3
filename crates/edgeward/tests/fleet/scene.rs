//! A whole deployment: a database, a Redis, an upstream, and nodes.

use std::net::SocketAddr;

use edgeward_postgres::{DatabaseUrl, SchemaName};
use edgeward_services::{Postgres, Redis, RedisCluster, RedisOptions, RedisWithSentinel};
use edgeward_testkit::edge::{AUDIENCE, PUBLIC_URL};
use edgeward_testkit::{Agent, Upstream, owner};
use tempfile::TempDir;

use crate::node::{Node, Plan};

/// The password of `edgeward_edge` in every database of these tests.
pub(crate) const PASSWORD: &str = "edge-password";

/// Where nodes share what they remember.
#[expect(clippy::large_enum_variant, reason = "there is one in a test")]
pub(crate) enum Shared {
    /// One Redis.
    Single(Redis),
    /// A primary and its replica under three sentinels.
    Sentinel(RedisWithSentinel),
    /// Three primaries.
    Cluster(RedisCluster),
    /// Nowhere: each node remembers by itself.
    Nothing,
}

impl Shared {
    pub(crate) fn single() -> Self {
        Self::Single(Redis::start(RedisOptions::default()).unwrap())
    }

    pub(crate) fn cluster() -> Self {
        Self::Cluster(RedisCluster::start(RedisOptions::default(), 3, 0).unwrap())
    }

    /// `EDGE_REDIS_URL`.
    pub(crate) fn url(&self) -> Option<String> {
        let list = |addresses: Vec<SocketAddr>| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        Some(match self {
            Self::Single(redis) => redis.url(),
            Self::Sentinel(sentinel) => {
                let sentinels = list(sentinel.sentinel_addresses());
                format!("redis-sentinel://{sentinels}/{}", sentinel.master_name())
            }
            Self::Cluster(cluster) => format!("redis-cluster://{}", list(cluster.addresses())),
            Self::Nothing => return None,
        })
    }

    /// The one Redis.
    pub(crate) fn redis(&self) -> &Redis {
        match self {
            Self::Single(redis) => redis,
            Self::Sentinel(_) | Self::Cluster(_) => panic!("there is more than one"),
            Self::Nothing => panic!("there is none"),
        }
    }

    /// The servers under sentinels.
    pub(crate) fn sentinel(&self) -> &RedisWithSentinel {
        match self {
            Self::Sentinel(servers) => servers,
            Self::Single(_) | Self::Cluster(_) | Self::Nothing => panic!("there are no sentinels"),
        }
    }
}

/// A deployment.
pub(crate) struct Scene {
    pub(crate) nodes: Vec<Node>,
    pub(crate) upstream: Upstream,
    pub(crate) shared: Shared,
    /// The database as its superuser.
    pub(crate) database: String,
    pub(crate) plan: Plan,
    _kek: TempDir,
}

impl Scene {
    /// So many nodes over a fresh database of the one server of this process, with limits out of the
    /// way; `change` has the last word on their settings.
    pub(crate) async fn start(
        nodes: usize,
        shared: Shared,
        change: impl FnOnce(Plan) -> Plan,
    ) -> Self {
        let postgres = Postgres::shared().unwrap();
        let database = postgres.fresh_database().unwrap();
        Self::start_on(postgres, database, nodes, shared, change).await
    }

    /// The same over a database of this server.
    pub(crate) async fn start_on(
        postgres: &Postgres,
        database: String,
        nodes: usize,
        shared: Shared,
        change: impl FnOnce(Plan) -> Plan,
    ) -> Self {
        let url = DatabaseUrl::new(database.clone());
        edgeward_postgres::migrate(&url, &SchemaName::default()).await.unwrap();
        let password = format!("ALTER ROLE edgeward_edge PASSWORD '{PASSWORD}'");
        postgres.psql(&database, &password).unwrap();
        let upstream = Upstream::start().await;
        let kek = tempfile::tempdir().unwrap();
        let name = database.rsplit('/').next().unwrap();
        let url = postgres.url_for("edgeward_edge", PASSWORD, name);
        let plan = change(plan(&upstream, &kek, &url, shared.url().as_deref()));
        let mut scene = Self { nodes: Vec::new(), upstream, shared, database, plan, _kek: kek };
        for _ in 0..nodes {
            scene.add_node().await;
        }
        scene
    }

    /// Another node.
    pub(crate) async fn add_node(&mut self) {
        let node = self.plan.start().await;
        node.takes_requests().await;
        self.nodes.push(node);
    }

    /// An agent, enrolled at the first node.
    pub(crate) async fn agent(&self) -> Agent {
        Agent::enroll(&self.nodes[0]).await
    }
}

fn plan(upstream: &Upstream, kek: &TempDir, database: &str, redis: Option<&str>) -> Plan {
    let path = kek.path().join("kek");
    std::fs::write(&path, "5f".repeat(16) + &"a7".repeat(16)).unwrap();
    let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    std::fs::set_permissions(&path, private).unwrap();
    let route = format!("[[routes]]\nmatch = \"/v1/\"\nupstream = [{:?}]\n", upstream.url());
    let plan = Plan { toml: route, ..Plan::default() }
        .set("EDGE_AUDIENCE", AUDIENCE)
        .set("EDGE_PUBLIC_URL", PUBLIC_URL)
        .set("EDGE_KEK", format!("file:{}", path.display()))
        .set("EDGE_DATABASE_URL", database)
        .set("OWNER_JWT_SECRET", owner::SECRET)
        .set("OWNER_SCOPES_CLAIM", "scopes")
        .set("AGENT_RATELIMIT_PER_SEC", 1_000_000)
        .set("AGENT_RATELIMIT_BURST", 1_000_000)
        .set("AGENT_BACKOFF_FREE", 1_000_000)
        .set("AGENT_MAX_STREAMS", 10_000);
    match redis {
        Some(url) => plan.set("EDGE_REDIS_URL", url),
        None => plan,
    }
}
