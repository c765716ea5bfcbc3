//! What the operators' listener tells of the running edge, and does to it.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use edgeward_admin::{
    Actor, AdminConfig, AdminServer, Check, Readiness, Source, SourceUnavailable, StandingAnswer,
    Status,
};
use edgeward_config::Config;
use edgeward_core::record::Standing;
use edgeward_core::time::MonoMs;
use edgeward_edge::{Act, Edge, Waits};
use edgeward_redis::RedisStore;
use edgeward_store::StoreError;
use edgeward_store::durable::{Durable, Stands};
use edgeward_store::memory::MemoryStore;
use edgeward_store::shared::Signals as _;
use edgeward_wire::AgentId;

/// The running edge as the operators' listener sees it.
pub(crate) struct Operators {
    pub(crate) edge: Arc<Edge>,
    /// What this process remembers by itself; none where a shared store does.
    pub(crate) memory: Option<Arc<MemoryStore>>,
    pub(crate) durable: Arc<dyn Durable>,
    /// What nodes share.
    pub(crate) redis: Option<Arc<RedisStore>>,
    pub(crate) started: MonoMs,
}

/// Takes the socket and the loopback port. The socket's folder is its own, so that its mode says
/// who may come near.
pub(crate) async fn bind(config: &Config) -> anyhow::Result<AdminServer> {
    std::fs::create_dir_all(&config.data_dir)?;
    let admin = AdminConfig {
        socket_path: socket_path(config),
        tcp: Some(config.admin_listen),
        token_file: folder(config).join("operator.token"),
    };
    Ok(AdminServer::bind(admin).await?)
}

/// Where operators on this machine reach the edge.
pub(crate) fn socket_path(config: &Config) -> PathBuf {
    folder(config).join("admin.sock")
}

fn folder(config: &Config) -> PathBuf {
    config.data_dir.join("admin")
}

#[async_trait]
impl Source for Operators {
    async fn readiness(&self) -> Readiness {
        let draining = if self.edge.is_draining() {
            Check::failed("serving", "the edge is stopping")
        } else {
            Check::passed("serving", "requests are taken")
        };
        let now = self.edge.clock().now();
        let clock = match self.edge.waits_for_clock(now) {
            Some(wait_ms) => Check::failed("clock", format!("not steady, or apart; {wait_ms} ms")),
            None => Check::passed("clock", "steady"),
        };
        let confirmed = match self.edge.waits() {
            Some(Waits::Confirmation) => Check::failed(
                "confirmation",
                "neither the database nor Redis confirms that no block was missed",
            ),
            Some(Waits::ReplayFloor | Waits::Clock) | None => {
                Check::passed("confirmation", "every block is known here")
            }
        };
        let floor = match self.edge.waits_for_floor() {
            Some(wait_ms) => Check::failed("replay_floor", format!("passed in {wait_ms} ms")),
            None => Check::passed("replay_floor", "passed, or none"),
        };
        let database = match self.durable.newest_events(1).await {
            Ok(_) => Check::passed("database", "answers"),
            Err(error) => Check::failed("database", error.to_string()),
        };
        let mut checks = vec![draining, clock, floor, confirmed, database];
        if let Some(redis) = &self.redis {
            checks.push(match redis.confirmed_at() {
                Some(_) => Check::passed("redis", "answers, and tells of changes"),
                None => Check::failed("redis", "not every server answers and tells of changes"),
            });
        }
        Readiness::of(checks)
    }

    async fn status(&self) -> Status {
        let reading = self.edge.meter().read();
        let measured = reading.admitted > 0;
        let text = |name: &str| name.to_owned();
        Status {
            version: edgeward_edge::VERSION.to_owned(),
            uptime_ms: self.edge.clock().now().mono.since(self.started),
            admitted: reading.admitted,
            refused_by_code: reading
                .refused
                .iter()
                .map(|(code, count)| (text(code.as_str()), *count))
                .collect(),
            refused_by_reason: reading
                .reasons
                .iter()
                .map(|(reason, count)| (text(reason), *count))
                .collect(),
            p50_us: measured.then_some(reading.p50_us),
            p95_us: measured.then_some(reading.p95_us),
            open_streams: self.edge.streams().count() as u64,
            nonces_held: self.memory.as_ref().map_or(0, |memory| memory.nonces_held() as u64),
            sessions_held: self.memory.as_ref().map_or(0, |memory| memory.sessions_held() as u64),
        }
    }

    async fn set_standing(
        &self,
        id: AgentId,
        to: Standing,
        by: &Actor,
        reason: Option<String>,
    ) -> Result<Option<StandingAnswer>, SourceUnavailable> {
        let unavailable = |error: StoreError| SourceUnavailable(error.to_string());
        let act = Act { actor: by.to_string(), reason };
        let receipt = self.edge.set_standing(id, to, act).await.map_err(unavailable)?;
        let Some(receipt) = receipt else {
            return Ok(None);
        };
        let streams_cut = receipt.streams_cut as u64;
        Ok(match receipt.stands {
            Stands::Now { epoch } => {
                Some(StandingAnswer::AsAsked { epoch, changed: true, streams_cut })
            }
            Stands::Already { epoch } => {
                Some(StandingAnswer::AsAsked { epoch, changed: false, streams_cut })
            }
            Stands::Retired => Some(StandingAnswer::Retired),
        })
    }
}
