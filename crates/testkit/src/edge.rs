//! A whole edge in this process, on a runtime of its own, so that it can be crashed: all its tasks are
//! dropped where they stand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgeward_config::{Config, Database, Kek as KekSetting, Sources};
use edgeward_edge::Edge;
use edgeward_edge::clock::SystemClock;
use edgeward_edge::conn::{Limits, Traffic};
use edgeward_edge::listen::Reserved;
use edgeward_edge::setup::{Base, Running};
use edgeward_edge::tls::TlsFiles;
use edgeward_keys::{Entropy, Kek, Sealer, SystemEntropy};
use edgeward_sqlite::SqliteStore;
use edgeward_store::Clock;
use edgeward_store::clock::ManualClock;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::door::{AsDoor, Door};
use crate::raw::{Answer, Conn};
use crate::{Upstream, owner, soon};

/// `EDGE_AUDIENCE` of every edge of tests.
pub const AUDIENCE: &str = "edge-test";
/// `EDGE_PUBLIC_URL` of every edge of tests: the issuer of its tokens.
pub const PUBLIC_URL: &str = "http://edge.test";

/// How an edge is to be. Limits are out of the way unless a test sets them.
#[derive(Debug, Clone)]
pub struct Builder {
    env: BTreeMap<String, String>,
    toml: String,
    clock: Arc<dyn Clock>,
    limits: Limits,
}

impl Builder {
    fn new() -> Self {
        let env = [
            ("EDGE_AUDIENCE", AUDIENCE),
            ("EDGE_PUBLIC_URL", PUBLIC_URL),
            ("OWNER_JWT_SECRET", owner::SECRET),
            ("OWNER_SCOPES_CLAIM", "scopes"),
            ("AGENT_RATELIMIT_PER_SEC", "1000000"),
            ("AGENT_RATELIMIT_BURST", "1000000"),
            ("AGENT_BACKOFF_FREE", "1000000"),
            ("AGENT_MAX_STREAMS", "10000"),
        ];
        Self {
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            toml: String::new(),
            clock: Arc::new(SystemClock::new()),
            limits: Limits::default(),
        }
    }

    /// Sets a setting, as the environment does.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    /// Leaves a setting of the kit out.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// A route to an upstream, with nothing asked for beside what the deployment asks.
    #[must_use]
    pub fn route(self, prefix: &str, upstream: &Upstream) -> Self {
        self.route_with(prefix, &[&upstream.url()], "")
    }

    /// A route with further lines of TOML.
    #[must_use]
    pub fn route_with(mut self, prefix: &str, upstreams: &[&str], lines: &str) -> Self {
        let _ = writeln!(
            self.toml,
            "[[routes]]\nmatch = {prefix:?}\nupstream = {upstreams:?}\n{lines}"
        );
        self
    }

    /// Further TOML, at the end of the settings file.
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        let _ = writeln!(self.toml, "{text}");
        self
    }

    /// By this clock instead of the machine's.
    #[must_use]
    pub fn clock(mut self, clock: &ManualClock) -> Self {
        self.clock = Arc::new(clock.clone());
        self
    }

    /// Deadlines and caps of connections.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The settings as the loader gives them; the data lies in `folder`.
    ///
    /// # Panics
    /// When they are not valid.
    pub fn config(&self, folder: &Path) -> Config {
        let mut env = self.env.clone();
        env.entry("EDGE_DATA_DIR".to_owned()).or_insert_with(|| folder.display().to_string());
        let file = Some((PathBuf::from("edgeward.toml"), self.toml.clone()));
        let sources = Sources { env, file, flags: BTreeMap::new() };
        let now = i64::try_from(self.clock.now().wall.0).unwrap();
        match edgeward_config::load(&sources, now) {
            Ok(loaded) => loaded.config,
            Err(faults) => panic!("{faults}\n{}", self.toml),
        }
    }

    /// Starts it in a new folder.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(self) -> TestEdge {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let run = Run::begin(&self, folder.path()).await;
        TestEdge { plan: self, folder, run: Some(run) }
    }
}

/// What lasts from a start to a stop or crash.
struct Run {
    runtime: Option<Runtime>,
    running: Option<Running>,
    store: Option<Arc<SqliteStore>>,
    listener: JoinHandle<()>,
    stop: CancellationToken,
    tls: Option<Arc<TlsFiles>>,
    traffic: Arc<Traffic>,
    address: SocketAddr,
    config: Config,
}

impl Run {
    async fn begin(plan: &Builder, folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .thread_name("edge")
            .build()
            .unwrap();
        let config = plan.config(folder);
        let (clock, limits) = (Arc::clone(&plan.clock), plan.limits);
        let begun = runtime.spawn(Self::on_its_runtime(config, clock, limits));
        let (running, store, listener, stop, tls, traffic, address, config) = begun.await.unwrap();
        Self {
            runtime: Some(runtime),
            running: Some(running),
            store: Some(store),
            listener,
            stop,
            tls,
            traffic,
            address,
            config,
        }
    }

    async fn on_its_runtime(
        config: Config,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> (
        Running,
        Arc<SqliteStore>,
        JoinHandle<()>,
        CancellationToken,
        Option<Arc<TlsFiles>>,
        Arc<Traffic>,
        SocketAddr,
        Config,
    ) {
        let Database::Sqlite(path) = &config.database else {
            panic!("an edge of this kit lives in one file");
        };
        let store = Arc::new(SqliteStore::open(path, "test-node").await.unwrap());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let kek = match &config.kek {
            KekSetting::Generated(path) => Kek::generate_file(path, &*entropy).unwrap(),
            KekSetting::File(path) => Kek::from_file(path).unwrap(),
            KekSetting::Env { value, .. } => Kek::from_text(value.expose()).unwrap(),
        };
        let sealer = Sealer::load(&*store, &kek, &*clock, Arc::clone(&entropy)).await.unwrap();
        let durable = Arc::clone(&store);
        let sealer = Arc::new(sealer);
        let base = Base { clock, entropy, durable, sealer, fleet: None, shared: None };
        let running = Running::begin(&config, base).await.unwrap();
        let tls = config.tls.clone().map(|tls| TlsFiles::open(tls.cert, tls.key, tls.client_ca));
        let tls = tls.transpose().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Reserved::new(any).unwrap().listen(tls.clone()).unwrap().with_limits(limits);
        let address = listener.address().unwrap();
        let traffic = Arc::clone(listener.traffic());
        let stop = CancellationToken::new();
        running.spawn_upkeep(stop.clone());
        let serving = tokio::spawn(listener.serve(Arc::clone(&running.edge), stop.clone()));
        (running, store, serving, stop, tls, traffic, address, config)
    }

    async fn stop(mut self) {
        self.stop.cancel();
        soon("the listener's end", &mut self.listener).await.unwrap();
        let (running, store) = (self.running.take().unwrap(), self.store.take().unwrap());
        let end = async move {
            running.end().await.unwrap();
            store.close().await;
        };
        self.runtime.as_ref().unwrap().spawn(end).await.unwrap();
        self.crash().await;
    }

    async fn crash(mut self) {
        let runtime = self.runtime.take().unwrap();
        let last = (self.running.take(), self.store.take());
        let ended = move || {
            runtime.shutdown_timeout(crate::PATIENCE);
            drop(last);
        };
        tokio::task::spawn_blocking(ended).await.unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An edge on a free port of the loopback.
pub struct TestEdge {
    plan: Builder,
    folder: Arc<TempDir>,
    run: Option<Run>,
}

impl TestEdge {
    /// To be told what it shall be.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// With the kit's settings and `/v1/` leading to `upstream`.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(upstream: &Upstream) -> Self {
        Self::builder().route("/v1/", upstream).start().await
    }

    fn run(&self) -> &Run {
        self.run.as_ref().expect("the edge was stopped")
    }

    /// Where it listens; another port after every start.
    pub fn address(&self) -> SocketAddr {
        self.run().address
    }

    /// `http://127.0.0.1:…`, where it can be reached.
    pub fn url(&self) -> String {
        let scheme = if self.run().tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.run().config
    }

    /// The edge itself.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.run().running.as_ref().unwrap().edge
    }

    /// The edge with what goes beside it.
    pub fn running(&self) -> &Running {
        self.run().running.as_ref().unwrap()
    }

    /// Its database.
    pub fn store(&self) -> &Arc<SqliteStore> {
        self.run().store.as_ref().unwrap()
    }

    /// Its certificate, where it has one.
    pub fn tls(&self) -> Option<&Arc<TlsFiles>> {
        self.run().tls.as_ref()
    }

    /// The bytes of its agents' connections.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.run().traffic
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its clock, and that of its agents.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.plan.clock
    }

    /// Its wall clock, epoch milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.plan.clock.now().wall.0
    }

    /// `EDGE_BASE_PATH` before a path.
    pub fn path(&self, path: &str) -> String {
        self.door().path(path)
    }

    /// A connection to it.
    pub async fn connect(&self) -> Conn {
        self.door().connect().await
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, bytes: &[u8]) -> Answer {
        self.door().send(bytes).await
    }

    /// A plain GET.
    pub async fn get(&self, target: &str) -> Answer {
        self.door().get(target).await
    }

    /// POST of JSON without credentials, or with these headers.
    pub async fn post(
        &self,
        target: &str,
        headers: &[(&str, &str)],
        body: &serde_json::Value,
    ) -> Answer {
        self.door().post(target, headers, body).await
    }

    /// `enroll/start` with this owner's token, or none.
    pub async fn enroll_start(&self, jwt: Option<&str>, body: serde_json::Value) -> Answer {
        self.door().enroll_start(jwt, body).await
    }

    /// An owner's token that holds now.
    pub fn owner_jwt(&self, sub: &str, scopes: &[&str]) -> String {
        self.door().owner_jwt(sub, scopes)
    }

    /// Stops it in order; the folder stays.
    ///
    /// # Panics
    /// When it does not stop.
    pub async fn stop(&mut self) {
        self.run.take().expect("a running edge").stop().await;
    }

    /// Ends it where it stands, as a kill does; the folder stays.
    ///
    /// # Panics
    /// When it is stopped already.
    pub async fn crash(&mut self) {
        self.run.take().expect("a running edge").crash().await;
    }

    /// Starts it again on its folder, after a stop or a crash.
    ///
    /// # Panics
    /// When it does not start, or runs.
    pub async fn restart(&mut self) {
        assert!(self.run.is_none(), "the edge is running");
        self.run = Some(Run::begin(&self.plan, self.folder.path()).await);
    }

    /// The same, with other settings.
    ///
    /// # Panics
    /// When it does not start, or runs.
    pub async fn restart_with(&mut self, change: impl FnOnce(Builder) -> Builder) {
        self.plan = change(self.plan.clone());
        self.restart().await;
    }
}

impl AsDoor for TestEdge {
    fn door(&self) -> Door {
        let clock = Arc::clone(self.clock());
        Door { address: self.address(), base_path: self.config().base_path.clone(), clock }
    }
}

impl std::fmt::Debug for TestEdge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestEdge({})", self.folder.path().display())
    }
}

/// Opens the database of an edge that is not running.
///
/// # Panics
/// When it is, or there is none.
pub async fn open_store(path: &Path) -> SqliteStore {
    SqliteStore::open(path, "test-node").await.unwrap()
}
