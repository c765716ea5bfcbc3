//! `edgeward demo --cluster`: three edges behind a load balancer, over one PostgreSQL and one Redis.

mod balancer;
mod node;
mod outage;
mod revoke;
mod services;
mod share;

use std::net::SocketAddr;
use std::path::PathBuf;

use edgeward_client::Agent;
use edgeward_keys::{Kek, SystemEntropy};

use super::caller::Caller;
use super::config::{Folder, Owner, Plan, settings};
use super::refusals::Cast;
use super::show::{Authentication, Show};
use super::upstream::Upstream;
use super::{Scene, stage, story};
use crate::telemetry;
use balancer::{Balancer, Reserved};
use node::Node;
use services::Services;

/// Everything that runs.
pub(super) struct Cluster {
    folder: Folder,
    owner: Owner,
    upstream: Upstream,
    services: Services,
    edges: [Node; 3],
    balancer: Balancer,
}

impl Scene for Cluster {
    const TITLE: &'static str = "Edgeward: three edges that act as one, on this machine";

    async fn set(listen: SocketAddr, show: &mut Show) -> Option<Self> {
        let services = show.step("PostgreSQL and Redis", Services::start()).await?;
        let database = show.step("the tables", services.migrate()).await?;
        let upstream = show.step("an upstream", stage::upstream()).await?;
        let shared =
            [("EDGE_DATABASE_URL", database.to_string()), ("EDGE_REDIS_URL", services.redis_url())];
        let (folder, owner, edges, balancer) =
            show.step("three edges", start(listen, upstream.address, &shared)).await?;
        Some(Self { folder, owner, upstream, services, edges, balancer })
    }

    async fn tell(&self, show: &mut Show) -> Option<Agent> {
        let (owner, [one, two, three]) = (&self.owner, &self.edges);
        let balanced = Caller::new(self.url());
        let code = show.step("an owner's code", story::code(owner, &balanced)).await?;
        let kept = self.credentials();
        let agent = show.step("the agent enrols", story::enrol(self.url(), &kept, &code)).await?;
        show.step("it opens a session", story::open_session(&agent)).await?;
        show.step("calls in turn", share::in_turn(self, &agent)).await?;

        let other = show.step("another, at edge 1", story::another(owner, &one.caller)).await?;
        show.step("its session elsewhere", share::elsewhere(&other, [two, three])).await?;
        show.step("a replay elsewhere", share::replay(&other, &self.edges)).await?;
        show.step("the same bytes at once", share::at_once(self, &other)).await?;
        show.step("a session's end", revoke::session(&other, &self.edges)).await?;
        let blocked = show.step("agents block", revoke::block(&agent, &self.edges)).await?;
        show.step("agents unblock", revoke::unblock(&agent, &blocked, &self.edges)).await?;

        let captured = show.step("Redis killed", outage::kill(self, &agent)).await?;
        show.step("Redis back, empty", outage::restart(self, (&agent, &other), &captured)).await?;

        let cast =
            Cast { caller: &balanced, upstream: &self.upstream, agent: &agent, other: &other };
        story::refusals(show, &cast).await?;
        show.authentication(self.authentication());
        Some(agent)
    }

    fn url(&self) -> &str {
        &self.balancer.url
    }

    fn credentials(&self) -> PathBuf {
        self.folder.credentials()
    }

    async fn strike(self) -> anyhow::Result<()> {
        self.balancer.stop();
        let [one, two, three] = self.edges;
        let stopped = tokio::join!(one.stop(), two.stop(), three.stop());
        self.upstream.stop();
        self.services.stop().await?;
        self.folder.remove()?;
        stopped.0.and(stopped.1).and(stopped.2)
    }
}

impl Cluster {
    /// How long authentication took at the slowest edge, over all requests of all edges.
    fn authentication(&self) -> Authentication {
        let nothing = Authentication { admitted: 0, p50_us: 0, p95_us: 0 };
        self.edges.iter().map(Node::meter).fold(nothing, |all, one| Authentication {
            admitted: all.admitted.saturating_add(one.admitted),
            p50_us: all.p50_us.max(one.p50_us),
            p95_us: all.p95_us.max(one.p95_us),
        })
    }
}

async fn start(
    listen: SocketAddr,
    upstream: SocketAddr,
    shared: &[(&'static str, String)],
) -> anyhow::Result<((Folder, Owner, [Node; 3], Balancer), String)> {
    let (folder, owner) = (Folder::make()?, Owner::new()?);
    // Agents know one address, which every edge must stand for; and what one has sealed, all must open.
    let reserved = Reserved::new(listen).await?;
    let kek = folder.path().join("kek");
    Kek::generate_file(&kek, &SystemEntropy)?;
    let node = async |number: usize| {
        let more = [
            ("EDGE_PUBLIC_URL", reserved.url().to_owned()),
            ("EDGE_KEK", format!("file:{}", kek.display())),
            ("EDGE_NODE", format!("edge-{number}")),
            // A refusal is to mean that something is gone, not that this machine is busy.
            ("EDGE_REDIS_TIMEOUT_MS", "2s".to_owned()),
            ("EDGE_DATABASE_TIMEOUT_MS", "10s".to_owned()),
            // What it says of a Redis that is killed is shown here, and in its place.
            ("EDGE_LOG_FILTER", "off".to_owned()),
        ];
        let config = settings(Plan {
            data: folder.path().join(format!("edge-{number}")),
            listen: (listen.ip(), 0).into(),
            owner: &owner,
            upstream,
            more: more.into_iter().chain(shared.iter().cloned()).collect(),
        })?;
        telemetry::start(&config.log).map_err(anyhow::Error::msg)?;
        Node::start(format!("edge {number}"), config).await
    };
    let edges = [node(1).await?, node(2).await?, node(3).await?];
    let urls: Vec<String> = edges.iter().map(|node| node.url().to_owned()).collect();
    let listed = urls.join(", ").replace("http://", "");
    let found = format!("{listed}; before them a load balancer, {}", reserved.url());
    let balancer = reserved.serve(urls);
    Ok(((folder, owner, edges, balancer), found))
}
