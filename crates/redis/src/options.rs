//! How Redis is reached.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgeward_store::Clock;
use edgeward_wire::SecretText;

use crate::start::StartError;

/// How Redis is reached and used.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// The servers.
    pub servers: Servers,
    /// TLS to each of them, sentinels included; `None` for none.
    pub tls: Option<TlsOptions>,
    /// The ACL user of the servers.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretText>,
    /// The ACL user of the sentinels.
    pub sentinel_username: Option<String>,
    /// Its password.
    pub sentinel_password: Option<SecretText>,
    /// What every key begins with: 1 to 32 of `a-z 0-9 _ -`.
    pub prefix: String,
    /// The budget of one call. Whoever waits for Redis waits no longer.
    pub timeout: Duration,
    /// The budget of one try to connect: TCP, TLS and the greeting. Nobody waits for it.
    pub connect_timeout: Duration,
    /// How long a primary that was cut off may still have taken writes, in milliseconds; added to a floor.
    pub max_lag_ms: u64,
    /// How far ahead of the store's clock a timestamp may be, in milliseconds (`AGENT_HMAC_AHEAD_MS`).
    pub ahead_ms: u64,
    /// Whether what a script writes counts only once a replica has it (`WAIT 1`).
    pub strict: bool,
    /// The numbered database; 0 for a cluster.
    pub db: u32,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// This node among all: 1 to 64 of `A-Z a-z 0-9 . _ -`. Two that run at once never share one.
    pub node: String,
}

impl RedisOptions {
    /// The usual settings: prefix `edgeward`, 100 ms a call, 250 ms to connect, no TLS, no user, not strict,
    /// no lag of replicas, timestamps up to 2 s ahead.
    #[must_use]
    pub fn new(servers: Servers, clock: Arc<dyn Clock>, node: String) -> Self {
        Self {
            servers,
            tls: None,
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            prefix: "edgeward".to_owned(),
            timeout: Duration::from_millis(100),
            connect_timeout: Duration::from_millis(250),
            max_lag_ms: 0,
            ahead_ms: 2_000,
            strict: false,
            db: 0,
            clock,
            node,
        }
    }

    /// Whether they can be meant.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let prefix = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
        };
        let node = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=32).contains(&self.prefix.len()) || !self.prefix.bytes().all(prefix) {
            return Err(StartError::Setting("the prefix of keys is not 1 to 32 of a-z 0-9 _ -"));
        }
        if !(1..=64).contains(&self.node.len()) || !self.node.bytes().all(node) {
            return Err(StartError::Setting("the node's name is not 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() {
            return Err(StartError::Setting("a call to Redis, or connecting, is given no time"));
        }
        if self.username.is_some() && self.password.is_none()
            || self.sentinel_username.is_some() && self.sentinel_password.is_none()
        {
            return Err(StartError::Setting("a user of Redis is named without a password"));
        }
        match &self.servers {
            Servers::Single(_) => Ok(()),
            Servers::Sentinel { sentinels, .. } if sentinels.is_empty() => {
                Err(StartError::Setting("no sentinel is named"))
            }
            Servers::Cluster(nodes) if nodes.is_empty() => {
                Err(StartError::Setting("no node of the cluster is named"))
            }
            Servers::Cluster(_) if self.db != 0 => {
                Err(StartError::Setting("a cluster has no other database than 0"))
            }
            Servers::Sentinel { .. } | Servers::Cluster(_) => Ok(()),
        }
    }
}

/// TLS to every server.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// A PEM file of the only roots that are trusted; the system's without one.
    pub ca: Option<PathBuf>,
}

/// Which servers there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servers {
    /// One server.
    Single(HostPort),
    /// A primary that sentinels name.
    Sentinel {
        /// The sentinels, at least one.
        sentinels: Vec<HostPort>,
        /// What the sentinels call the primary.
        name: String,
    },
    /// Some nodes of a cluster, at least one; the others are learnt from them.
    Cluster(Vec<HostPort>),
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl HostPort {
    /// A place.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}
