//! `EDGE_DATABASE_…`, `EDGE_DB_SCHEMA` and `EDGE_REDIS_…`

use crate::setting::Preset::{Derived, Unset, Value};
use crate::setting::{Kind, Mark, Secrecy, Setting};

/// Settings that say nothing unless `EDGE_DATABASE_URL` names a PostgreSQL server.
pub(crate) const POSTGRES_ONLY: [&str; 4] = [
    "EDGE_DATABASE_LISTEN_URL",
    "EDGE_DATABASE_POOL",
    "EDGE_DATABASE_TIMEOUT_MS",
    "EDGE_DB_SCHEMA",
];

/// Settings that say nothing without `EDGE_REDIS_URL`.
pub(crate) const REDIS_ONLY: [&str; 5] = [
    "EDGE_REDIS_TIMEOUT_MS",
    "EDGE_REDIS_PREFIX",
    "EDGE_REDIS_MAX_LAG_MS",
    "EDGE_REDIS_STRICT",
    "EDGE_REDIS_CA",
];

pub(super) const STORES: &[Setting] = &[
    Setting::new(
        "EDGE_DATABASE_URL",
        Kind::DatabaseUrl,
        Derived("`edgeward.db` in `EDGE_DATA_DIR`"),
        "Where durable state lives: a SQLite file of one node, or a PostgreSQL server that nodes share. The query may hold `sslmode`, `sslrootcert`, `sslcert`, `sslkey` and `application_name`; a host that begins with `%2F` is the folder of a Unix socket.",
    )
    .rule("in production PostgreSQL beyond loopback without `sslmode=require`, `verify-ca` or `verify-full` is warned")
    .secrecy(Secrecy::SecretUrl),
    Setting::new(
        "EDGE_DATABASE_LISTEN_URL",
        Kind::NotifyUrl,
        Derived("the same as `EDGE_DATABASE_URL`"),
        "Another way to the same database, where notifications are listened to: for an `EDGE_DATABASE_URL` that leads through a pooler in transaction mode, which passes none on. `none`: other nodes' changes are found by the poll of 1 s alone.",
    )
    .rule("as `EDGE_DATABASE_URL`; PostgreSQL only, without it warned")
    .secrecy(Secrecy::SecretUrl),
    Setting::new(
        "EDGE_DATABASE_POOL",
        Kind::Count { min: 1, max: 1_000 },
        Value("10"),
        "Connections of one node to the PostgreSQL server, at most.",
    )
    .rule("PostgreSQL only, without it warned"),
    Setting::new(
        "EDGE_DATABASE_TIMEOUT_MS",
        Kind::millis(100, 60_000),
        Value("1000"),
        "How long one call to the PostgreSQL server may take, waiting for a connection included.",
    )
    .rule("PostgreSQL only, without it warned"),
    Setting::new(
        "EDGE_DB_SCHEMA",
        Kind::Schema,
        Value("cogo"),
        "The schema of all tables in the PostgreSQL database.",
    )
    .rule("PostgreSQL only, without it warned"),
    Setting::new(
        "EDGE_REDIS_URL",
        Kind::RedisUrl,
        Unset,
        "Where nodes share nonces, sessions and rates; without it they are kept in this process. Ports are 6379 and, of sentinels, 26379 unless given; a name or a password that a URL cannot hold as it stands is percent-encoded. Sentinels have a login of their own, `?sentinel_user=…&sentinel_password=…`.",
    )
    .rule("more than one node without it is refused in production, at the start, when the database knows of another node that is alive; cleartext beyond loopback in production is warned")
    .mark(Mark::Ruled)
    .secrecy(Secrecy::SecretUrl),
    Setting::new(
        "EDGE_REDIS_TIMEOUT_MS",
        Kind::millis(10, 5_000),
        Value("100"),
        "The one budget of a call to Redis, connecting and trying again included.",
    )
    .rule("with `EDGE_REDIS_URL` only, without it warned"),
    Setting::new(
        "EDGE_REDIS_PREFIX",
        Kind::KeyPrefix,
        Value("edgeward"),
        "What every key in Redis begins with; two deployments on one Redis never share one.",
    )
    .rule("with `EDGE_REDIS_URL` only, without it warned"),
    Setting::new(
        "EDGE_REDIS_MAX_LAG_MS",
        Kind::millis(0, 60_000),
        Value("1000"),
        "How long after a failover a primary that was cut off may still take writes: Redis's own `min-replicas-max-lag`. Added to the replay floor, so honest clients wait as much longer.",
    )
    .rule("with `EDGE_REDIS_URL` only, without it warned"),
    Setting::new(
        "EDGE_REDIS_STRICT",
        Kind::Bool,
        Value("false"),
        "Every nonce waits until a replica has it (`WAIT 1`), so that after a failover to that replica its replay is refused even if the primary before was cut off and still took writes. Costs a round trip more, and requests with a nonce get 503 while there is no replica.",
    )
    .rule("with `EDGE_REDIS_URL` only, without it warned"),
    Setting::new(
        "EDGE_REDIS_CA",
        Kind::Path,
        Unset,
        "Roots for the servers of a `rediss…` URL in PEM, instead of the system's.",
    )
    .rule("with a `rediss…` URL only, without it warned"),
];
