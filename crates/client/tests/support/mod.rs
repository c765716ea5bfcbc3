//! A scripted edge on loopback that checks every signature by itself, and a clock that tests turn.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test program uses a part")]

mod clock;
mod edge;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use clock::FakeClock;
pub use edge::{Edge, Piece, Reply, Seen};
use edgeward_client::{Agent, Credentials, DeviceKey, KeptKey, Settings};
use edgeward_wire::{AgentId, AgentSecret, OwnerId};

/// Where the fake clock starts, epoch milliseconds.
pub const START_MS: u64 = 1_764_000_000_000;
pub const AUDIENCE: &str = "staging";
pub const DAY_MS: u64 = 86_400_000;

/// An enrolled agent, the edge that it talks to, and its clock.
pub struct Scene {
    pub edge: Edge,
    pub agent: Agent,
    pub clock: Arc<FakeClock>,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// `script` may answer a request; where it answers `None` the edge does as an edge does.
    /// Its second argument counts the requests for the same target, from 0.
    pub async fn new(
        script: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::with(FakeClock::hurrying(), |_| {}, script).await
    }

    pub async fn with(
        clock: Arc<FakeClock>,
        adjust: impl FnOnce(&mut Settings),
        script: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("device.key");
        let device = DeviceKey::create(&key).unwrap();
        let secret = AgentSecret::from_random(&[1; 32]);
        let agent_id = AgentId::new_v7(START_MS, [7; 10]);
        let edge =
            Edge::start(agent_id, secret.clone(), device.public(), clock.clone(), script).await;
        let credentials: Credentials = serde_json::from_value(serde_json::json!({
            "edge_url": edge.url("/base"),
            "audience": AUDIENCE,
            "agent_id": agent_id,
            "agent_secret": secret.expose(),
            "secret_version": 1,
            "secret_received_at_ms": START_MS,
            "secret_expires_at_ms": START_MS + 90 * DAY_MS,
            "owner_user_id": OwnerId::parse("owner-1").unwrap(),
            "scopes": [],
            "device_key": KeptKey::File("device.key".into()),
            "token": {
                "jwt": "jwt.of.start",
                "received_at_ms": START_MS,
                "expires_at_ms": START_MS + 3_600_000,
            },
        }))
        .unwrap();
        let path = folder.path().join("agent.json");
        credentials.save(&path).unwrap();
        let settings = settings(clock.clone(), adjust);
        let agent = Agent::open(&path, settings).unwrap();
        Self { edge, agent, clock, path, _folder: folder }
    }
}

/// Settings with the fake clock, and the cryptographic provider installed.
pub fn settings(clock: Arc<FakeClock>, adjust: impl FnOnce(&mut Settings)) -> Settings {
    // The second test of a program finds it installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut settings = Settings::default();
    settings.clock = clock;
    adjust(&mut settings);
    settings
}

/// A deadline, far beyond what anything here takes.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("within 30 s")
}
