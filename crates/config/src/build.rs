//! From resolved settings to [`Config`].

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::resolve::Resolved;
use crate::stores::RedisUrl;
use crate::value::{DatabaseUrl, KekReference, NotifyUrl};
use crate::{
    Agent, Auth, Config, Database, Kek, ListenUrl, Log, Owner, OwnerKeys, PostgresConfig,
    RedisConfig, RouteConfig, SecretText, Sources, Tls,
};

/// The configuration, unless something that it cannot do without is missing or unfit.
pub(crate) fn build(
    settings: &Resolved,
    sources: &Sources,
    routes: Vec<RouteConfig>,
) -> Option<Config> {
    let data_dir = settings.path("EDGE_DATA_DIR")?;
    let listen = settings.address("EDGE_LISTEN")?;
    let tls = tls(settings);
    Some(Config {
        profile: settings.profile,
        audience: settings.text("EDGE_AUDIENCE")?,
        public_url: settings
            .text("EDGE_PUBLIC_URL")
            .unwrap_or_else(|| local_url(listen, tls.is_some())),
        base_path: settings.text("EDGE_BASE_PATH")?,
        listen,
        admin_listen: settings.address("EDGE_ADMIN_LISTEN")?,
        node: settings.text("EDGE_NODE"),
        database: database(settings, &data_dir)?,
        redis: redis(settings)?,
        kek: match settings.kek("EDGE_KEK") {
            Some(KekReference::File(path)) => Kek::File(path),
            Some(KekReference::Env(name)) => {
                let value = SecretText::new(sources.env.get(&name)?.clone());
                Kek::Env { name, value }
            }
            None => Kek::Generated(data_dir.join("kek")),
        },
        data_dir,
        tls,
        trusted_proxies: settings.networks("EDGE_TRUSTED_PROXIES").unwrap_or_default(),
        ip_allowlist: settings.networks("EDGE_IP_ALLOWLIST").unwrap_or_default(),
        auth: Auth {
            require_hmac: settings.truth("EDGE_REQUIRE_HMAC")?,
            verify_jwt: settings.truth("EDGE_VERIFY_JWT")?,
            allow_header_secret: settings.truth("EDGE_ALLOW_HEADER_SECRET")?,
            allow_body_signature: settings.body_signature("EDGE_ALLOW_BODY_SIGNATURE")?,
        },
        agent: agent(settings)?,
        owner: owner(settings)?,
        jwt_alg: settings.jwt_alg("EDGE_JWT_ALG")?,
        log: Log {
            format: settings.log_format("EDGE_LOG")?,
            filter: settings.text("EDGE_LOG_FILTER")?,
        },
        routes,
    })
}

fn database(settings: &Resolved, data_dir: &Path) -> Option<Database> {
    let url = match settings.database("EDGE_DATABASE_URL") {
        None => return Some(Database::Sqlite(data_dir.join("edgeward.db"))),
        Some(DatabaseUrl::Sqlite(path)) => return Some(Database::Sqlite(path)),
        Some(DatabaseUrl::Postgres(postgres)) => postgres.url,
    };
    Some(Database::Postgres(PostgresConfig {
        url,
        listen_url: match settings.notify("EDGE_DATABASE_LISTEN_URL") {
            None => ListenUrl::Same,
            Some(NotifyUrl::Nowhere) => ListenUrl::PollOnly,
            Some(NotifyUrl::At(postgres)) => ListenUrl::Url(postgres.url),
        },
        schema: settings.text("EDGE_DB_SCHEMA")?,
        pool: settings.small("EDGE_DATABASE_POOL")?,
        timeout_ms: settings.number("EDGE_DATABASE_TIMEOUT_MS")?,
    }))
}

/// `None` if something is unfit, `Some(None)` for no Redis.
#[expect(clippy::option_option, reason = "unfit and not wanted are two things")]
fn redis(settings: &Resolved) -> Option<Option<RedisConfig>> {
    let Some(RedisUrl { servers, tls, user, password, db }) = settings.redis("EDGE_REDIS_URL")
    else {
        return Some(None);
    };
    Some(Some(RedisConfig {
        servers,
        tls,
        ca: settings.path("EDGE_REDIS_CA"),
        user,
        password,
        db,
        prefix: settings.text("EDGE_REDIS_PREFIX")?,
        timeout_ms: settings.number("EDGE_REDIS_TIMEOUT_MS")?,
        max_lag_ms: settings.number("EDGE_REDIS_MAX_LAG_MS")?,
        strict: settings.truth("EDGE_REDIS_STRICT")?,
    }))
}

fn agent(settings: &Resolved) -> Option<Agent> {
    Some(Agent {
        session_required: settings.truth("AGENT_SESSION_REQUIRED")?,
        require_nonce: settings.truth("AGENT_REQUIRE_NONCE")?,
        device_proof: settings.device_proof("AGENT_DEVICE_PROOF")?,
        hmac_window_ms: settings.number("AGENT_HMAC_WINDOW_MS")?,
        hmac_ahead_ms: settings.number("AGENT_HMAC_AHEAD_MS")?,
        nonce_ttl_ms: settings.number("AGENT_NONCE_TTL_MS")?,
        session_ttl_ms: settings.number("AGENT_SESSION_TTL_MS")?,
        session_max_ms: settings.number("AGENT_SESSION_MAX_MS")?,
        jwt_ttl_ms: settings.number("AGENT_JWT_TTL_MS")?,
        jwt_cache_ttl_ms: settings.number("AGENT_JWT_CACHE_TTL_MS")?,
        require_jwt_every_n: settings.number("AGENT_REQUIRE_JWT_EVERY_N")?,
        secret_cache_ms: settings
            .number("AGENT_SECRET_CACHE_MS")
            .unwrap_or(if settings.is_given("EDGE_REDIS_URL") { 0 } else { 300_000 }),
        secret_ttl_ms: settings.number("AGENT_SECRET_TTL_MS")?,
        secret_grace_ms: settings.number("AGENT_SECRET_GRACE_MS")?,
        ratelimit_per_sec: settings.small("AGENT_RATELIMIT_PER_SEC")?,
        ratelimit_burst: settings.small("AGENT_RATELIMIT_BURST")?,
        max_streams: settings.small("AGENT_MAX_STREAMS")?,
        backoff_free: settings.small("AGENT_BACKOFF_FREE")?,
        backoff_base_ms: settings.number("AGENT_BACKOFF_BASE_MS")?,
        backoff_max_ms: settings.number("AGENT_BACKOFF_MAX_MS")?,
        policy_stale_ms: settings.number("AGENT_POLICY_STALE_MS")?,
    })
}

fn owner(settings: &Resolved) -> Option<Owner> {
    let url = settings.text("OWNER_JWKS_URL").map(OwnerKeys::JwksUrl);
    let file = || settings.path("OWNER_JWKS_FILE").map(OwnerKeys::JwksFile);
    let secret = || settings.secret("OWNER_JWT_SECRET").map(OwnerKeys::Hs256Secret);
    Some(Owner {
        source: url.or_else(file).or_else(secret),
        issuer: settings.text("OWNER_ISSUER"),
        audience: settings.text("OWNER_AUDIENCE"),
        roles: settings.tokens("OWNER_ROLES").unwrap_or_default(),
        scopes_claim: settings.text("OWNER_SCOPES_CLAIM"),
        scopes: settings.tokens("OWNER_SCOPES").unwrap_or_default(),
        max_agents: settings.small("OWNER_MAX_AGENTS")?,
    })
}

fn tls(settings: &Resolved) -> Option<Tls> {
    Some(Tls {
        cert: settings.path("EDGE_TLS_CERT")?,
        key: settings.path("EDGE_TLS_KEY")?,
        client_ca: settings.path("EDGE_TLS_CLIENT_CA"),
    })
}

/// Where somebody on this machine reaches the listener.
fn local_url(listen: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let port = listen.port();
    match listen.ip() {
        ip if ip.is_unspecified() => format!("{scheme}://127.0.0.1:{port}"),
        IpAddr::V4(ip) => format!("{scheme}://{ip}:{port}"),
        IpAddr::V6(ip) => format!("{scheme}://[{ip}]:{port}"),
    }
}
