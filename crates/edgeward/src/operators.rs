//! What the operators' listener tells of the running edge.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use edgeward_admin::{AdminConfig, AdminServer, Check, Readiness, Source, Status};
use edgeward_config::Config;
use edgeward_core::time::MonoMs;
use edgeward_edge::Edge;
use edgeward_store::durable::Durable;
use edgeward_store::memory::MemoryStore;

/// The running edge as the operators' listener sees it.
pub(crate) struct Operators {
    pub(crate) edge: Arc<Edge>,
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) durable: Arc<dyn Durable>,
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
        let floor = match self.edge.waits_for_floor() {
            Some(wait_ms) => Check::failed("replay_floor", format!("passed in {wait_ms} ms")),
            None => Check::passed("replay_floor", "passed, or none"),
        };
        let database = match self.durable.newest_events(1).await {
            Ok(_) => Check::passed("database", "answers"),
            Err(error) => Check::failed("database", error.to_string()),
        };
        Readiness::of(vec![draining, floor, database])
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
            nonces_held: self.memory.nonces_held() as u64,
            sessions_held: self.memory.sessions_held() as u64,
        }
    }
}
