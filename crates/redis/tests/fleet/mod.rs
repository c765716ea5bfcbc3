//! Several nodes over real servers.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "each test file uses a part; the clock is the machine's"
)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use edgeward_core::limit::gcra::Rate;
use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_redis::{FirstStart, HostPort, RedisOptions, RedisStore, Servers};
use edgeward_services::{Redis, RedisCluster, Reply};
use edgeward_store::conformance::TestTime;
use edgeward_store::durable::Sealed;
use edgeward_store::shared::SealSessions;
use edgeward_store::{Clock, StoreError};
use edgeward_wire::{SessionIdHash, SessionKey};

/// More than any of these tests asks for.
pub(crate) const PLENTY: Rate = Rate { per_sec: 1_000_000, burst: 1_000_000 };
/// How long anything that must happen at once may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The machine's clocks.
#[derive(Debug)]
pub(crate) struct RealClock(Instant);

impl RealClock {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

/// Measures how long something takes.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let mono = self.0.elapsed().as_millis() as u64 + 3_600_000;
        Now { wall: WallMs(wall as u64), mono: MonoMs(mono) }
    }
}

/// Time passes by waiting.
pub(crate) struct RealTime(pub(crate) Arc<RealClock>);

#[async_trait]
impl TestTime for RealTime {
    fn now(&self) -> Now {
        self.0.now()
    }

    async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn tolerance_ms(&self) -> u64 {
        400
    }
}

/// Seals well enough for a test: a key stream and a tag, both bound.
#[derive(Debug)]
pub(crate) struct TestSeal;

impl TestSeal {
    fn tag(label: &[u8], id: &SessionIdHash, bound: &[u8], over: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"the fleet's");
        let text = [label, id.as_bytes(), bound, over].concat();
        hmac::sign(&key, &text).as_ref().try_into().unwrap()
    }

    fn masked(id: &SessionIdHash, bound: &[u8], text: &[u8]) -> Vec<u8> {
        let mask = Self::tag(b"mask", id, bound, b"");
        text.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
    }
}

impl SealSessions for TestSeal {
    fn seal(
        &self,
        id: &SessionIdHash,
        bound: &[u8],
        key: &SessionKey,
    ) -> Result<Sealed, StoreError> {
        let text = Self::masked(id, bound, key.expose());
        let tag = Self::tag(b"tag", id, bound, &text);
        Ok(Sealed([text.as_slice(), &tag].concat()))
    }

    fn open(
        &self,
        id: &SessionIdHash,
        bound: &[u8],
        sealed: &Sealed,
    ) -> Result<SessionKey, StoreError> {
        let corrupt = || StoreError::Corrupt("not sealed as this".into());
        let (text, tag) = sealed.0.split_at_checked(32).ok_or_else(corrupt)?;
        if tag != Self::tag(b"tag", id, bound, text) {
            return Err(corrupt());
        }
        let key: [u8; 32] = Self::masked(id, bound, text).try_into().map_err(|_| corrupt())?;
        Ok(SessionKey::from_bytes(key))
    }
}

pub(crate) fn single(server: &Redis) -> Servers {
    let address = server.address();
    Servers::Single(HostPort::new(address.ip().to_string(), address.port()))
}

pub(crate) fn cluster(cluster: &RedisCluster) -> Servers {
    let place =
        |address: &std::net::SocketAddr| HostPort::new(address.ip().to_string(), address.port());
    Servers::Cluster(cluster.addresses().iter().map(place).collect())
}

pub(crate) fn options(servers: Servers, clock: &Arc<RealClock>, node: &str) -> RedisOptions {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    // The machine has other things to do: what is promised of time is tested where it is named.
    let timeout = Duration::from_millis(2_000);
    let connect_timeout = Duration::from_millis(2_000);
    RedisOptions { timeout, connect_timeout, ..RedisOptions::new(servers, clock, node.into()) }
}

pub(crate) async fn node(servers: Servers, clock: &Arc<RealClock>, name: &str) -> Arc<RedisStore> {
    open(options(servers, clock, name)).await
}

pub(crate) async fn open(options: RedisOptions) -> Arc<RedisStore> {
    RedisStore::open(options, FirstStart::Fresh, Arc::new(TestSeal)).await.unwrap()
}

/// Three nodes of one deployment.
pub(crate) async fn three(servers: &Servers, clock: &Arc<RealClock>) -> Vec<Arc<RedisStore>> {
    let mut nodes = Vec::new();
    for name in ["node-a", "node-b", "node-c"] {
        nodes.push(node(servers.clone(), clock, name).await);
    }
    nodes
}

/// Waits until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("never: {what}");
    }
}

/// All keys of a server.
pub(crate) fn keys(server: &Redis, pattern: &str) -> Vec<String> {
    server.command(&["KEYS", pattern]).unwrap().texts()
}

/// How often the server was asked this, as `INFO commandstats` says.
pub(crate) fn calls(server: &Redis, command: &str) -> u64 {
    let Reply::Bulk(text) = server.command(&["INFO", "commandstats"]).unwrap() else {
        panic!("no text")
    };
    let line =
        text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}
