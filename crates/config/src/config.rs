//! The settings as types: what [`load`](crate::load) gives when nothing is wrong.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderName;
use ipnet::IpNet;

use crate::SecretText;

/// One validated set of settings. Durations are in milliseconds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which defaults hold, and how strict the start is.
    pub profile: Profile,
    /// The deployment's name in every signature and token: printable ASCII without blanks.
    pub audience: String,
    /// Where agents reach the edge, without a slash at the end; the issuer of agent JWTs.
    pub public_url: String,
    /// Empty, or `/…` without a slash at the end.
    pub base_path: String,
    /// The public listener. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The operators' listener. Port 0 lets the system choose.
    pub admin_listen: SocketAddr,
    /// The folder for what the embedded default keeps.
    pub data_dir: PathBuf,
    /// This node's name, if it was given one; otherwise it is the one in the file `node-id` of the data folder.
    pub node: Option<String>,
    /// Where durable state lives.
    pub database: Database,
    /// Where nodes share nonces and sessions; none for in this process.
    pub redis: Option<RedisConfig>,
    /// The key that wraps all others.
    pub kek: Kek,
    /// TLS on the listeners, if any.
    pub tls: Option<Tls>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Addresses that may speak to the public listener at all; empty for everyone.
    pub ip_allowlist: Vec<IpNet>,
    /// What proves a caller.
    pub auth: Auth,
    /// Bounds of what agents do.
    pub agent: Agent,
    /// Who may enrol agents.
    pub owner: Owner,
    /// The algorithm of the first agent-JWT key.
    pub jwt_alg: JwtAlg,
    /// How log lines look, and which are written.
    pub log: Log,
    /// The routes, in the order of the file.
    pub routes: Vec<RouteConfig>,
}

/// A set of defaults and its strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Loopback only; convenient.
    Development,
    /// Refuses to start on anything marked `!` in the reference.
    Production,
}

impl Profile {
    /// The word that `EDGE_PROFILE` takes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where durable state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(PostgresConfig),
}

/// How a PostgreSQL server is reached and used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// `postgres://` or `postgresql://` with a user, one host and a database, and `sslmode`, `sslrootcert`, `sslcert`, `sslkey` and
    /// `application_name` at most as its query.
    pub url: SecretText,
    /// Where notifications are listened to.
    pub listen_url: ListenUrl,
    /// The schema of all tables: a lower-case identifier that needs no quotes, not `public`, not `pg_…`.
    pub schema: String,
    /// Connections at most, 1 to 1000.
    pub pool: u32,
    /// How long one call may take, waiting for a connection included.
    pub timeout_ms: u64,
}

/// Where notifications of a PostgreSQL server are listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenUrl {
    /// Where the queries go.
    Same,
    /// Another way to the same database, for queries that lead through a pooler in transaction mode. Of the form of [`PostgresConfig::url`].
    Url(SecretText),
    /// Nowhere: changes of other nodes are found by polling alone.
    PollOnly,
}

/// How Redis is reached and used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// The servers.
    pub servers: RedisServers,
    /// TLS to each of them, sentinels included.
    pub tls: bool,
    /// PEM file of the only roots that TLS trusts, if not the system's; it existed when the settings were read.
    pub ca: Option<PathBuf>,
    /// The ACL user of the servers; never without a password.
    pub user: Option<String>,
    /// The password of the servers.
    pub password: Option<SecretText>,
    /// The numbered database; 0 for a cluster.
    pub db: u32,
    /// What every key begins with: `[a-z0-9_-]{1,32}`.
    pub prefix: String,
    /// The one budget of a call, connecting included.
    pub timeout_ms: u64,
    /// How long after a failover a primary that was cut off may still take writes; added to the replay floor.
    pub max_lag_ms: u64,
    /// Whether every nonce waits until a replica has it.
    pub strict: bool,
}

/// Which Redis servers there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// One server.
    Single {
        /// Name or address; IPv6 without brackets.
        host: String,
        /// Port, also when the URL left it out.
        port: u16,
    },
    /// A primary that sentinels name.
    Sentinel {
        /// The sentinels, at least one.
        sentinels: Vec<RedisNode>,
        /// What the sentinels call the primary.
        name: String,
        /// The ACL user of the sentinels; never without a password.
        user: Option<String>,
        /// The password of the sentinels.
        password: Option<SecretText>,
    },
    /// Some nodes of a cluster, at least one; the others are learnt from them.
    Cluster(Vec<RedisNode>),
}

/// Where one Redis server or sentinel listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisNode {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// Port, also when the URL left it out.
    pub port: u16,
}

impl fmt::Display for RedisNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Where the key-encryption key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kek {
    /// A file that somebody put there; it must exist.
    File(PathBuf),
    /// An environment variable.
    Env {
        /// The variable's name.
        name: String,
        /// Its value.
        value: SecretText,
    },
    /// A file that is made with mode 0600 on the first start; development only.
    Generated(PathBuf),
}

/// PEM files for TLS; they existed when the settings were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Roots for client certificates, if those are asked for.
    pub client_ca: Option<PathBuf>,
}

/// What proves a caller. [`Auth::require_hmac`] and [`Auth::verify_jwt`] are never both false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Whether a request must be signed.
    pub require_hmac: bool,
    /// Whether JWTs are required and verified.
    pub verify_jwt: bool,
    /// Whether `X-Agent-Secret` is a credential; never in production.
    pub allow_header_secret: bool,
    /// Whether signatures over the body alone are taken from agents marked legacy.
    pub allow_body_signature: BodySignature,
}

/// Whether, and until when, signatures over the body alone are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySignature {
    /// Never.
    Off,
    /// Always; never in production.
    On,
    /// While the time in epoch milliseconds is less than this.
    Until(i64),
}

/// Where the device key must sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceProof {
    /// At rotation and pick-up.
    Rotation,
    /// At every start of a session, too.
    Session,
}

/// The algorithm of a JWT key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlg {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// P-256 with SHA-256 (RFC 7518, section 3.4).
    Es256,
}

/// Bounds of what agents do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Whether every routed request needs a session.
    pub session_required: bool,
    /// Whether every routed request needs a nonce.
    pub require_nonce: bool,
    /// Where the device key must sign.
    pub device_proof: DeviceProof,
    /// How far behind the edge's clock a timestamp may lie.
    pub hmac_window_ms: u64,
    /// How far ahead of it; at most the window.
    pub hmac_ahead_ms: u64,
    /// How long a nonce is remembered; at least window + ahead + 1000.
    pub nonce_ttl_ms: u64,
    /// How long a session lives without being extended.
    pub session_ttl_ms: u64,
    /// How long it lives at most.
    pub session_max_ms: u64,
    /// How long an agent JWT lives.
    pub jwt_ttl_ms: u64,
    /// How long a verified JWT is remembered; 0 for not at all.
    pub jwt_cache_ttl_ms: u64,
    /// Every how many requests of a session a JWT is due; 0 for handshakes only.
    pub require_jwt_every_n: u64,
    /// How long an unsealed secret is kept in memory.
    pub secret_cache_ms: u64,
    /// How long a secret lives.
    pub secret_ttl_ms: u64,
    /// How long the one before it still works; less than its life.
    pub secret_grace_ms: u64,
    /// Requests a second of one agent.
    pub ratelimit_per_sec: u32,
    /// How many at once.
    pub ratelimit_burst: u32,
    /// Open streams of one agent.
    pub max_streams: u32,
    /// Failures of a source before it has to wait.
    pub backoff_free: u32,
    /// The first wait.
    pub backoff_base_ms: u64,
    /// The longest wait.
    pub backoff_max_ms: u64,
    /// How long a node serves without having confirmed blocks and policy.
    pub policy_stale_ms: u64,
}

/// Who may enrol agents, and for how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What owner JWTs are verified against. None in development only: then nobody can enrol.
    pub source: Option<OwnerKeys>,
    /// What `iss` must be, if set.
    pub issuer: Option<String>,
    /// What `aud` must hold, if set.
    pub audience: Option<String>,
    /// The roles of which a token must have one; empty for any.
    pub roles: Vec<String>,
    /// The claim that lists what an owner may grant.
    pub scopes_claim: Option<String>,
    /// What every owner may grant.
    pub scopes: Vec<String>,
    /// Agents of one owner.
    pub max_agents: u32,
}

/// What owner JWTs are verified against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerKeys {
    /// A JWK set at an `https` URL, or `http` on loopback.
    JwksUrl(String),
    /// A JWK set in a file; it existed when the settings were read.
    JwksFile(PathBuf),
    /// A shared secret of at least 32 bytes.
    Hs256Secret(SecretText),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How log lines look, and which are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Their form.
    pub format: LogFormat,
    /// Directives such as `info` or `info,edgeward_edge=debug`.
    pub filter: String,
}

/// One route: which requests, where to, and what they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// Path prefix with the base path in it; matches at a segment boundary, `/a/` covers `/a`.
    pub match_prefix: String,
    /// Where to; at least one.
    pub upstream: Vec<Upstream>,
    /// Adds to the deployment's own demand, never takes from it.
    pub require_nonce: bool,
    /// Adds to the deployment's own demand, never takes from it.
    pub require_session: bool,
    /// Nonce and session are required whatever else is set.
    pub sensitive: bool,
    /// Scopes that the agent must have, all of them.
    pub scopes: Vec<String>,
    /// Addresses it may be called from; empty for any.
    pub allowed_cidrs: Vec<IpNet>,
    /// A rate of its own.
    pub rate: Option<Rate>,
    /// Bytes of body, at most.
    pub max_body: u64,
    /// Patience with the upstream.
    pub timeouts: Timeouts,
    /// How the upstream learns who calls.
    pub identity: Identity,
    /// Headers that the upstream gets from the edge.
    pub set_headers: Vec<(HeaderName, SecretText)>,
    /// If there, the only headers of the request that the upstream gets.
    pub pass_headers: Option<Vec<HeaderName>>,
}

/// The origin of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `https` rather than `http`.
    pub tls: bool,
    /// Name or address; IPv6 in brackets.
    pub host: String,
    /// Port, also when the URL left it out.
    pub port: u16,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Requests a second, and how many at once; neither is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second.
    pub per_sec: u32,
    /// How many at once.
    pub burst: u32,
}

/// Patience with an upstream; none is 0. A stream has no total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until connected.
    pub connect_ms: u64,
    /// From the request's end to the answer's head.
    pub first_byte_ms: u64,
    /// Between two pieces of the answer.
    pub idle_ms: u64,
}

/// How an upstream learns who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// `X-Edgeward-*` headers.
    Headers,
    /// The same, and a JWT minted for this audience, which is never the deployment's own.
    Jwt {
        /// `aud` of the minted token.
        audience: String,
    },
}
