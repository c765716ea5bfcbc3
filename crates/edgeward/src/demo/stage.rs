//! What the demo runs on: an upstream, an edge before it, and the folder that both leave nothing outside
//! of.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use edgeward_edge::meter::Reading;

use super::config::{Folder, Owner, settings};
use super::show::Show;
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

impl Stage {
    /// Sets it up; `None` when a step has failed, and then nothing is left of it.
    pub(super) async fn set(listen: SocketAddr, show: &mut Show) -> Option<Self> {
        let upstream = show
            .step("an upstream", async {
                let upstream = Upstream::start().await?;
                let found =
                    format!("http://{}: {HELLO} answers, {STREAM} streams", upstream.address);
                Ok((upstream, found))
            })
            .await?;
        let (folder, owner, edge) = show.step("the edge", start(listen, upstream.address)).await?;
        Some(Self { folder, owner, upstream, edge })
    }

    /// Where the edge is reached, without a slash at the end.
    pub(super) fn url(&self) -> &str {
        &self.edge.url
    }

    /// Who may give out codes.
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What stands behind the edge.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Where the first agent keeps its credentials.
    pub(super) fn credentials(&self) -> PathBuf {
        self.folder.credentials()
    }

    /// What the edge has counted.
    pub(super) fn meter(&self) -> Reading {
        self.edge.running.edge.meter().read()
    }

    /// Stops all of it in order and removes the folder.
    ///
    /// # Errors
    /// When something could not be stopped or removed; the rest is.
    pub(super) async fn strike(self) -> anyhow::Result<()> {
        let stopped = self.edge.stop().await.context("the edge did not stop in order");
        self.upstream.stop();
        self.folder.remove()?;
        stopped
    }
}

async fn start(
    listen: SocketAddr,
    upstream: SocketAddr,
) -> anyhow::Result<((Folder, Owner, Serving), String)> {
    let (folder, owner) = (Folder::make()?, Owner::new()?);
    let config = settings(&folder, listen, &owner, upstream)?;
    telemetry::start(&config.log).map_err(anyhow::Error::msg)?;
    let edge = assemble(config).await?.start();
    let found = format!("{} on SQLite in {}", edge.url, folder.path().display());
    Ok(((folder, owner, edge), found))
}
