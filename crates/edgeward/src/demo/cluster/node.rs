//! One of the edges, with the operators' socket that commands on this machine use.

use std::time::Duration;

use anyhow::Context as _;
use edgeward_admin::AdminClient;
use edgeward_config::Config;
use edgeward_edge::clock::SystemClock;
use edgeward_edge::meter::Reading;
use edgeward_wire::AgentId;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::assemble::{Serving, assemble};
use crate::demo::caller::Caller;
use crate::operators;

/// Between two looks at what is waited for.
const REST: Duration = Duration::from_millis(5);
/// Far beyond what an edge takes until it takes requests.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running edge among others.
pub(super) struct Node {
    /// As messages call it.
    pub(super) name: String,
    /// Sends requests to this edge itself, past the balancer.
    pub(super) caller: Caller,
    serving: Serving,
    operators: AdminClient,
    stop_operators: CancellationToken,
    operated: JoinHandle<()>,
}

impl Node {
    /// Starts it and waits until it takes requests.
    pub(super) async fn start(name: String, config: Config) -> anyhow::Result<Self> {
        let admin = operators::bind(&config).await?;
        let operators = AdminClient::new(operators::socket_path(&config));
        let serving = assemble(config).await.context(name.clone())?.start();
        let stop_operators = CancellationToken::new();
        let operated = tokio::spawn(admin.serve(serving.operators(), stop_operators.clone()));
        let caller = Caller::new(&serving.url);
        let node = Self { name, caller, serving, operators, stop_operators, operated };
        until("ready", READY_WITHIN, async || Ok(node.serving.running.edge.waits().is_none()))
            .await
            .context(node.name.clone())?;
        Ok(node)
    }

    /// Where it is reached, without a slash at the end.
    pub(super) fn url(&self) -> &str {
        &self.serving.url
    }

    /// What it has counted.
    pub(super) fn meter(&self) -> Reading {
        self.serving.running.edge.meter().read()
    }

    /// `edgeward agents VERB ID`, as the command asks for it.
    pub(super) async fn agents(&self, verb: &str, id: AgentId) -> anyhow::Result<Value> {
        let path = format!("/agents/{id}/{verb}");
        let (status, answer) = self.operators.post(&path, &json!({"reason": "a demo"})).await?;
        anyhow::ensure!(status.is_success(), "{verb}: {status} {answer}");
        Ok(answer)
    }

    /// Stops it in order.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let stopped = self.serving.stop().await;
        self.stop_operators.cancel();
        self.operated.await?;
        stopped.with_context(|| format!("{} did not stop in order", self.name))
    }
}

/// Asks again and again until it is so; how long that took.
///
/// # Errors
/// When it is not so within the time, or cannot be asked.
pub(super) async fn until(
    what: &str,
    within: Duration,
    mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Duration> {
    let started = SystemClock::instant();
    let asking = async {
        while !is_so().await? {
            tokio::time::sleep(REST).await;
        }
        Ok(())
    };
    match tokio::time::timeout(within, asking).await {
        Ok(asked) => asked.map(|()| started.elapsed()),
        Err(_) => anyhow::bail!("not {what} for {} s", within.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_never_comes_about_is_an_error() {
        let mut asked = 0;
        let never = until("so", Duration::from_millis(50), async || {
            asked += 1;
            Ok(false)
        });
        assert_eq!(never.await.unwrap_err().to_string(), "not so for 0 s");
        assert!(asked > 1);
        until("so", Duration::from_secs(60), async || Ok(true)).await.unwrap();
    }
}
