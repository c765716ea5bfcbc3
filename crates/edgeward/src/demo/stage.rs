//! What the demo runs on: an upstream, an edge before it, and the folder that both leave nothing outside
//! of.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use edgeward_client::Agent;
use edgeward_edge::meter::Reading;

use super::Scene;
use super::config::{Folder, Owner, Plan, settings};
use super::show::Show;
use super::story;
use super::upstream::{HELLO, STREAM, Upstream};
use crate::assemble::{Serving, assemble};
use crate::telemetry;

/// Everything that runs.
pub(super) struct Stage {
    folder: Folder,
    owner: Owner,
    upstream: Upstream,
    edge: Serving,
}

impl Scene for Stage {
    const TITLE: &'static str = "Edgeward: an agent's life, and what is refused, on this machine";

    async fn set(listen: SocketAddr, show: &mut Show) -> Option<Self> {
        let upstream = show.step("an upstream", upstream()).await?;
        let (folder, owner, edge) = show.step("the edge", start(listen, upstream.address)).await?;
        Some(Self { folder, owner, upstream, edge })
    }

    async fn tell(&self, show: &mut Show) -> Option<Agent> {
        story::tell(self, show).await
    }

    fn url(&self) -> &str {
        &self.edge.url
    }

    fn credentials(&self) -> PathBuf {
        self.folder.credentials()
    }

    async fn strike(self) -> anyhow::Result<()> {
        let stopped = self.edge.stop().await.context("the edge did not stop in order");
        self.upstream.stop();
        self.folder.remove()?;
        stopped
    }
}

impl Stage {
    /// Who may give out codes.
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What stands behind the edge.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What the edge has counted.
    pub(super) fn meter(&self) -> Reading {
        self.edge.running.edge.meter().read()
    }
}

/// Starts what stands behind edges.
pub(super) async fn upstream() -> anyhow::Result<(Upstream, String)> {
    let upstream = Upstream::start().await?;
    let found = format!("http://{}: {HELLO} answers, {STREAM} streams", upstream.address);
    Ok((upstream, found))
}

async fn start(
    listen: SocketAddr,
    upstream: SocketAddr,
) -> anyhow::Result<((Folder, Owner, Serving), String)> {
    let (folder, owner) = (Folder::make()?, Owner::new()?);
    let data = folder.path().join("data");
    let config = settings(Plan { data, listen, owner: &owner, upstream, more: Vec::new() })?;
    telemetry::start(&config.log).map_err(anyhow::Error::msg)?;
    let edge = assemble(config).await?.start();
    let found = format!("{} on SQLite in {}", edge.url, folder.path().display());
    Ok(((folder, owner, edge), found))
}
