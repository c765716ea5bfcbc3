//! From settings to a running edge: stores opened, keys unsealed, the socket taken, in this order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use edgeward_config::{Config, Kek as KekSetting};
use edgeward_core::time::MonoMs;
use edgeward_edge::clock::SystemClock;
use edgeward_edge::listen::{Listener, Reserved};
use edgeward_edge::setup::{Base, Running};
use edgeward_edge::tls::TlsFiles;
use edgeward_keys::{Entropy, Kek, SystemEntropy};
use edgeward_store::Clock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::operators::Operators;
use crate::stores::Stores;

/// How often the certificate's files are looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(5);

/// An edge that listens and is not serving yet.
pub(crate) struct Assembled {
    running: Running,
    listener: Listener,
    stores: Stores,
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

    let kek = open_kek(&config, &*entropy)?;
    let stores = Stores::open(&config, &kek, &clock, &entropy).await?;
    let base = Base {
        clock,
        entropy,
        durable: Arc::clone(&stores.durable),
        sealer: Arc::clone(&stores.sealer),
        fleet: stores.fleet.clone(),
        shared: stores.shared(),
    };
    // From here on the node has its place among the others, and gives it back if it cannot serve.
    let running = match Running::begin(&config, base).await {
        Ok(running) => running,
        Err(error) => {
            stores.give_up().await;
            return Err(error.into());
        }
    };
    let listener = match reserved.listen(tls.clone()) {
        Ok(listener) => listener,
        Err(error) => {
            if let Err(error) = running.end().await {
                tracing::warn!(%error, "what this run remembers could not be kept");
            }
            stores.close().await;
            return Err(error.into());
        }
    };
    Ok(Assembled { running, listener, stores, tls, url: format!("{scheme}://{address}") })
}

impl Assembled {
    /// Serves from now on.
    pub(crate) fn start(self) -> Serving {
        let Self { running, listener, stores, tls, url } = self;
        let stop = CancellationToken::new();
        // Upkeep outlives the listener: streams must go on being reaped while they drain.
        let upkeep = CancellationToken::new();
        let broken = running.spawn_upkeep(upkeep.clone());
        if let Some(tls) = tls {
            tokio::spawn(watch_certificate(tls, upkeep.clone()));
        }
        let listening = tokio::spawn(listener.serve(Arc::clone(&running.edge), stop.clone()));
        let started = running.edge.clock().now().mono;
        Serving { running, url, started, stores, stop, upkeep, broken, listening }
    }
}

/// An edge that serves.
pub(crate) struct Serving {
    pub(crate) running: Running,
    /// Where it is reached, without a slash at the end.
    pub(crate) url: String,
    started: MonoMs,
    stores: Stores,
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
            memory: self.running.continuity.as_ref().map(|run| Arc::clone(run.memory())),
            durable: Arc::clone(&self.stores.durable),
            redis: self.stores.redis.clone(),
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
        self.stores.close().await;
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
