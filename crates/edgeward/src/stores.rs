//! From settings to open stores: the durable one, and the shared one where there is any.

mod place;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use edgeward_config::{
    Config, Database, ListenUrl, PostgresConfig, Profile, RedisConfig, RedisNode, RedisServers,
};
use edgeward_edge::setup::Shared;
use edgeward_keys::{Entropy, EntropyExt as _, FleetSealer, Kek, Sealer};
use edgeward_postgres::{DatabaseUrl, Listen, PostgresOptions, PostgresStore, SchemaName};
use edgeward_redis::{FirstStart, HostPort, RedisOptions, RedisStore, Servers, TlsOptions};
use edgeward_sqlite::SqliteStore;
use edgeward_store::Clock;
use edgeward_store::durable::{Durable, LastRun};
use edgeward_store::fleet::{Fleet, NodeRow};

/// A run that remembered by itself may have granted stamps up to so long after its last mark, in
/// milliseconds, and a floor lies half a second beyond.
const AFTER_MARK_MS: u64 = 1_500;
/// How long the database may take to answer at the start.
const CONNECT: Duration = Duration::from_secs(5);

/// The open stores of a node.
pub(crate) struct Stores {
    pub(crate) durable: Arc<dyn Durable>,
    pub(crate) fleet: Option<Arc<dyn Fleet>>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) redis: Option<Arc<RedisStore>>,
    database: Opened,
}

enum Opened {
    Sqlite(Arc<SqliteStore>),
    Postgres(Arc<PostgresStore>),
}

impl Stores {
    /// Opens them, in an order in which nothing is served that could be replayed: the node joins the
    /// others before it grants anything, which needs to know which store it shares, and that one is in
    /// use, with its floor, before the durable one says so. A node that cannot join, as far as that can
    /// be told before, disturbs nobody.
    pub(crate) async fn open(
        config: &Config,
        kek: &Kek,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> anyhow::Result<Self> {
        let mut node = node_row(config, &**entropy)?;
        let database = open_database(config, &node).await?;
        let (durable, fleet) = database.as_traits();
        if let Some(fleet) = &fleet {
            place::look_around(&**fleet, config, &**clock).await?;
        }
        let sealer = Sealer::load(&*durable, kek, &**clock, Arc::clone(entropy)).await?;
        let redis = match &config.redis {
            None => None,
            Some(redis) => {
                let seal = FleetSealer::load(&*durable, kek, &**clock, Arc::clone(entropy)).await?;
                let first = first_start(durable.begin_run().await?);
                let options = redis_options(redis, config, &node, clock);
                let store = RedisStore::open(options, first, Arc::new(seal)).await?;
                node.store = Some(known(store.store_id())?);
                Some(store)
            }
        };
        let stores = Self { durable, fleet, sealer: Arc::new(sealer), redis, database };
        let taken = place::take(stores.fleet.as_deref(), &*stores.durable, &node).await;
        if let Err(error) = taken {
            stores.withdraw_id().await;
            stores.close().await;
            return Err(error);
        }
        Ok(stores)
    }

    /// A Redis that has come back empty must not keep the id of a node that was refused.
    async fn withdraw_id(&self) {
        if let Some(redis) = &self.redis
            && let Err(error) = redis.withdraw_id().await
        {
            tracing::warn!(%error, "the id that was given to an empty Redis could not be taken back");
        }
    }

    /// Gives the node's place back and closes everything, where its start has failed.
    pub(crate) async fn give_up(&self) {
        place::leave(self.fleet.as_deref()).await;
        self.close().await;
    }

    /// What nodes share, by what it is asked.
    pub(crate) fn shared(&self) -> Option<Shared> {
        self.redis.as_ref().map(|redis| Shared {
            sessions: redis.clone(),
            claims: redis.clone(),
            signals: redis.clone(),
        })
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        if let Some(redis) = &self.redis {
            redis.stop().await;
        }
        match &self.database {
            Opened::Sqlite(store) => store.close().await,
            Opened::Postgres(store) => store.close().await,
        }
    }
}

impl Opened {
    fn as_traits(&self) -> (Arc<dyn Durable>, Option<Arc<dyn Fleet>>) {
        match self {
            // One process at a time has the file open.
            Self::Sqlite(store) => (store.clone(), None),
            Self::Postgres(store) => (store.clone(), Some(store.clone())),
        }
    }
}

async fn open_database(config: &Config, node: &NodeRow) -> anyhow::Result<Opened> {
    Ok(match &config.database {
        Database::Sqlite(path) => {
            Opened::Sqlite(Arc::new(SqliteStore::open(path, node.name.as_str()).await?))
        }
        Database::Postgres(postgres) => {
            let options = postgres_options(postgres, config.profile, node.clone())?;
            Opened::Postgres(Arc::new(PostgresStore::open(options).await?))
        }
    })
}

/// The id of an open shared store; without one this node could not tell it from another.
fn known(store_id: String) -> anyhow::Result<String> {
    if store_id.is_empty() {
        bail!("Redis has told no id of this deployment's store: start again");
    }
    Ok(store_id)
}

/// What is known of nonces that were granted before.
fn first_start(last: LastRun) -> FirstStart {
    match last {
        LastRun::None | LastRun::Clean { mark: None, .. } => FirstStart::Fresh,
        LastRun::Shared => FirstStart::Shared,
        LastRun::Unclean { mark } | LastRun::Clean { mark: Some(mark), .. } => {
            FirstStart::Elsewhere { floor: mark.plus(AFTER_MARK_MS) }
        }
    }
}

pub(crate) fn postgres_options(
    from: &PostgresConfig,
    profile: Profile,
    node: NodeRow,
) -> anyhow::Result<PostgresOptions> {
    Ok(PostgresOptions {
        listen: match &from.listen_url {
            ListenUrl::Same => Listen::Database,
            ListenUrl::Url(url) => Listen::At(DatabaseUrl::new(url.expose())),
            ListenUrl::PollOnly => Listen::Never,
        },
        schema: SchemaName::parse(&from.schema)
            .map_err(|error| anyhow::anyhow!("EDGE_DB_SCHEMA: {error}"))?,
        pool_size: from.pool,
        connect_timeout: CONNECT,
        budget: Duration::from_millis(from.timeout_ms),
        strict: profile == Profile::Production,
        ..PostgresOptions::new(DatabaseUrl::new(from.url.expose()), node)
    })
}

fn redis_options(
    from: &RedisConfig,
    config: &Config,
    node: &NodeRow,
    clock: &Arc<dyn Clock>,
) -> RedisOptions {
    let place = |node: &RedisNode| HostPort::new(node.host.clone(), node.port);
    let places = |nodes: &[RedisNode]| nodes.iter().map(place).collect();
    let (servers, sentinel) = match &from.servers {
        RedisServers::Single { host, port } => {
            (Servers::Single(HostPort::new(host.clone(), *port)), None)
        }
        RedisServers::Sentinel { sentinels, name, user, password } => {
            let servers = Servers::Sentinel { sentinels: places(sentinels), name: name.clone() };
            (servers, Some((user.clone(), password.clone())))
        }
        RedisServers::Cluster(nodes) => (Servers::Cluster(places(nodes)), None),
    };
    let (sentinel_username, sentinel_password) = sentinel.unwrap_or_default();
    RedisOptions {
        tls: from.tls.then(|| TlsOptions { ca: from.ca.clone() }),
        username: from.user.clone(),
        password: from.password.clone(),
        sentinel_username,
        sentinel_password,
        prefix: from.prefix.clone(),
        timeout: Duration::from_millis(from.timeout_ms),
        max_lag_ms: from.max_lag_ms,
        ahead_ms: config.agent.hmac_ahead_ms,
        strict: from.strict,
        db: from.db,
        ..RedisOptions::new(servers, Arc::clone(clock), node.name.clone())
    }
}

fn node_row(config: &Config, entropy: &dyn Entropy) -> anyhow::Result<NodeRow> {
    Ok(NodeRow {
        name: match &config.node {
            Some(name) => name.clone(),
            None => node_id(&config.data_dir, entropy)?,
        },
        incarnation: entropy.bytes()?,
        // Known once the shared store is open.
        store: None,
        version: edgeward_edge::VERSION.to_owned(),
    })
}

/// The node's name in its data folder: made at the first start, and the same ever after.
fn node_id(folder: &Path, entropy: &dyn Entropy) -> anyhow::Result<String> {
    let path = folder.join("node-id");
    let name = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", path.display()));
        }
    };
    // An empty file is what a power cut leaves of the first start.
    let name = if name.is_empty() { new_node_id(&path, entropy)? } else { name };
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if name.len() > 64 || !name.chars().all(fits) {
        bail!(
            "{} holds no name of a node (1 to 64 letters, digits, dots, hyphens or underscores): correct or remove it",
            path.display()
        );
    }
    Ok(name)
}

fn new_node_id(path: &Path, entropy: &dyn Entropy) -> anyhow::Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let known = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '-';
    let host: String = host.chars().filter(known).take(40).collect();
    let host = if host.is_empty() { "node" } else { &host };
    let [a, b, c, d] = entropy.bytes::<4>()?;
    let name = format!("{host}-{a:02x}{b:02x}{c:02x}{d:02x}");
    std::fs::write(path, format!("{name}\n"))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use edgeward_core::time::WallMs;
    use edgeward_keys::SystemEntropy;
    use edgeward_store::durable::Sealed;

    use super::*;

    #[test]
    fn what_was_granted_before_sets_the_floor_and_only_a_store_without_history_has_none() {
        let mark = WallMs(10_000);
        let snapshot = Sealed(vec![1]);
        let elsewhere = FirstStart::Elsewhere { floor: WallMs(11_500) };
        for (last, first) in [
            (LastRun::None, FirstStart::Fresh),
            (LastRun::Clean { snapshot: snapshot.clone(), mark: None }, FirstStart::Fresh),
            (LastRun::Shared, FirstStart::Shared),
            (LastRun::Unclean { mark }, elsewhere),
            (LastRun::Clean { snapshot, mark: Some(mark) }, elsewhere),
        ] {
            assert_eq!(first_start(last.clone()), first, "{last:?}");
        }
    }

    #[test]
    fn a_shared_store_without_an_id_is_none() {
        assert!(known(String::new()).is_err());
        assert_eq!(known("id".into()).unwrap(), "id");
    }

    #[test]
    fn a_node_keeps_its_name_and_two_folders_are_two_nodes() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = node_id(one.path(), &SystemEntropy).unwrap();
        assert_eq!(node_id(one.path(), &SystemEntropy).unwrap(), name);
        assert_ne!(node_id(other.path(), &SystemEntropy).unwrap(), name);
        std::fs::write(one.path().join("node-id"), "").unwrap();
        let anew = node_id(one.path(), &SystemEntropy).unwrap();
        assert_eq!(node_id(one.path(), &SystemEntropy).unwrap(), anew, "an empty file is no name");
        std::fs::write(one.path().join("node-id"), "two words\n").unwrap();
        let error = node_id(one.path(), &SystemEntropy).unwrap_err().to_string();
        assert!(error.contains("node-id"), "{error}");
    }
}
