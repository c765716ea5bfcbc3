//! From settings to a running edge: stores opened, keys unsealed, the socket taken, in this order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use edgeward_config::{Config, Database, Kek as KekSetting};
use edgeward_core::time::MonoMs;
use edgeward_edge::clock::SystemClock;
use edgeward_edge::listen::{Listener, Reserved};
use edgeward_edge::setup::{Base, Running};
use edgeward_edge::tls::TlsFiles;
use edgeward_keys::{Entropy, Kek, Sealer, SystemEntropy};
use edgeward_sqlite::SqliteStore;
use edgeward_store::Clock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::operators::Operators;

/// How often the certificate's files are looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(5);

/// An edge that listens and is not serving yet.
pub(crate) struct Assembled {
    running: Running,
    listener: Listener,
    store: Arc<SqliteStore>,
    tls: Option<Arc<TlsFiles>>,
    url: String,
}

/// Puts an edge together. The socket listens last: by then the memory that the last run left is
/// consumed, on disk, so that it can never count twice.
pub(crate) async fn assemble(mut config: Config) -> anyhow::Result<Assembled> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("the data folder {} cannot be made", config.data_dir.display()))?;
    let tls = open_tls(&config)?;
    let reserved = Reserved::new(config.listen).with_context(|| {
        format!("{} cannot be bound: is another edge running there?", config.listen)
    })?;
    let address = reserved.address()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    if config.public_url.ends_with(":0") {
        // The port was left to the system.
        config.public_url = format!("{scheme}://{address}");
    }

    let Database::Sqlite(path) = &config.database;
    let store = Arc::new(SqliteStore::open(path, node_name()).await?);
    let kek = open_kek(&config, &*entropy)?;
    let sealer = Sealer::load(&*store, &kek, &*clock, Arc::clone(&entropy)).await?;
    let base = Base { clock, entropy, durable: store.clone(), sealer: Arc::new(sealer) };
    let running = Running::embedded(&config, base).await?;
    let listener = reserved.listen(tls.clone())?;
    Ok(Assembled { running, listener, store, tls, url: format!("{scheme}://{address}") })
}

impl Assembled {
    /// Serves from now on.
    pub(crate) fn start(self) -> Serving {
        let Self { running, listener, store, tls, url } = self;
        let stop = CancellationToken::new();
        // Upkeep outlives the listener: streams must go on being reaped while they drain.
        let upkeep = CancellationToken::new();
        let broken = running.spawn_upkeep(upkeep.clone());
        if let Some(tls) = tls {
            tokio::spawn(watch_certificate(tls, upkeep.clone()));
        }
        let listening = tokio::spawn(listener.serve(Arc::clone(&running.edge), stop.clone()));
        let started = running.edge.clock().now().mono;
        Serving { running, url, started, store, stop, upkeep, broken, listening }
    }
}

/// An edge that serves.
pub(crate) struct Serving {
    pub(crate) running: Running,
    /// Where it is reached, without a slash at the end.
    pub(crate) url: String,
    started: MonoMs,
    store: Arc<SqliteStore>,
    stop: CancellationToken,
    upkeep: CancellationToken,
    broken: CancellationToken,
    listening: JoinHandle<()>,
}

impl Serving {
    /// What operators may ask of it.
    pub(crate) fn operators(&self) -> Arc<Operators> {
        Arc::new(Operators {
            edge: Arc::clone(&self.running.edge),
            memory: Arc::clone(self.running.continuity.memory()),
            durable: self.store.clone(),
            started: self.started,
        })
    }

    /// Cancelled when it cannot go on and must be stopped.
    pub(crate) fn broken(&self) -> &CancellationToken {
        &self.broken
    }

    /// Stops in order: answers in flight finish, streams end, and what is in memory goes to disk.
    ///
    /// # Errors
    /// When what is held could not be kept.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.listening.await?;
        self.upkeep.cancel();
        self.running.end().await?;
        self.store.close().await;
        Ok(())
    }
}

async fn watch_certificate(tls: Arc<TlsFiles>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATE_CHECK) => {}
            () = stop.cancelled() => return,
        }
        let files = Arc::clone(&tls);
        // A disk that hangs must not hold up a worker of the runtime.
        if let Err(error) = tokio::task::spawn_blocking(move || files.refresh()).await {
            tracing::error!(%error, "the certificate's files could not be looked at");
        }
    }
}

fn open_tls(config: &Config) -> anyhow::Result<Option<Arc<TlsFiles>>> {
    let Some(tls) = &config.tls else {
        return Ok(None);
    };
    let files = TlsFiles::open(tls.cert.clone(), tls.key.clone(), tls.client_ca.clone())?;
    Ok(Some(files))
}

fn open_kek(config: &Config, entropy: &dyn Entropy) -> anyhow::Result<Kek> {
    Ok(match &config.kek {
        KekSetting::File(path) => Kek::from_file(path)?,
        KekSetting::Generated(path) => Kek::generate_file(path, entropy)?,
        KekSetting::Env { name, value } => {
            Kek::from_text(value.expose()).with_context(|| format!("EDGE_KEK=env:{name}"))?
        }
    })
}

/// What events call this process: the machine and the process.
fn node_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "node" } else { host.trim() };
    format!("{host}-{}", std::process::id())
}
