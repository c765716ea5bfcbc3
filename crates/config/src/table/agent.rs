//! `AGENT_…`

use crate::setting::Preset::{Derived, Value};
use crate::setting::{Kind, Mark, Setting};

pub(super) const AGENT: &[Setting] = &[
    Setting::new(
        "AGENT_SESSION_REQUIRED",
        Kind::Bool,
        Value("false"),
        "Every routed request needs a session; a route can ask for it by itself.",
    )
    .in_production(Value("true"))
    .mark(Mark::ShouldBe("true")),
    Setting::new(
        "AGENT_REQUIRE_NONCE",
        Kind::Bool,
        Value("false"),
        "Every routed request needs a nonce; a route can ask for it by itself, a `sensitive` one always does.",
    )
    .in_production(Value("true"))
    .mark(Mark::ShouldBe("true")),
    Setting::new(
        "AGENT_DEVICE_PROOF",
        Kind::DeviceProof,
        Value("rotation"),
        "Where the device key must sign: at rotation and pick-up only, or at every session start too.",
    )
    .in_production(Value("session"))
    .mark(Mark::ShouldBe("session")),
    Setting::new(
        "AGENT_HMAC_WINDOW_MS",
        Kind::millis(5_000, 300_000),
        Value("60000"),
        "How far behind the edge's clock a timestamp may lie.",
    )
    .rule("outside 30 s to 120 s is warned"),
    Setting::new(
        "AGENT_HMAC_AHEAD_MS",
        Kind::millis(0, 300_000),
        Value("5000"),
        "How far ahead of it.",
    )
    .rule("at most `AGENT_HMAC_WINDOW_MS`"),
    Setting::new(
        "AGENT_NONCE_TTL_MS",
        Kind::millis_from(1_000),
        Value("120000"),
        "How long a nonce is remembered.",
    )
    .rule("at least window + ahead + 1000, in every profile")
    .mark(Mark::Ruled),
    Setting::new(
        "AGENT_SESSION_TTL_MS",
        Kind::millis(60_000, 86_400_000),
        Value("600000"),
        "How long a session lives without being extended.",
    )
    .rule("at most `AGENT_SESSION_MAX_MS`"),
    Setting::new(
        "AGENT_SESSION_MAX_MS",
        Kind::millis_from(60_000),
        Value("86400000"),
        "How long a session lives at most.",
    )
    .rule("at least `AGENT_SESSION_TTL_MS`"),
    Setting::new(
        "AGENT_JWT_TTL_MS",
        Kind::millis(60_000, 86_400_000),
        Value("3600000"),
        "How long an agent JWT lives.",
    ),
    Setting::new(
        "AGENT_JWT_CACHE_TTL_MS",
        Kind::millis(0, 86_400_000),
        Value("300000"),
        "How long a verified JWT is remembered, never past its end; 0 for not at all.",
    ),
    Setting::new(
        "AGENT_REQUIRE_JWT_EVERY_N",
        Kind::count(0),
        Value("20"),
        "Every how many requests of a session on a node a JWT is due; 0 for handshakes only.",
    ),
    Setting::new(
        "AGENT_SECRET_CACHE_MS",
        Kind::millis(0, 86_400_000),
        Value("300000"),
        "How long an unsealed secret is kept in memory; 0 for not at all.",
    )
    .in_production(Derived("`0` with `EDGE_REDIS_URL`, otherwise `300000` (5 min)"))
    .rule("more than 0 together with Redis is warned"),
    Setting::new(
        "AGENT_SECRET_TTL_MS",
        Kind::millis_from(60_000),
        Value("90d"),
        "How long a secret lives.",
    ),
    Setting::new(
        "AGENT_SECRET_GRACE_MS",
        Kind::millis_from(0),
        Value("7d"),
        "How long the secret before it still works; takes effect with a later version, which rotates secrets.",
    )
    .rule("less than `AGENT_SECRET_TTL_MS`"),
    Setting::new(
        "AGENT_RATELIMIT_PER_SEC",
        Kind::count(1),
        Value("10"),
        "Requests a second of one agent, unless its record says otherwise.",
    ),
    Setting::new(
        "AGENT_RATELIMIT_BURST",
        Kind::count(1),
        Value("20"),
        "How many of them may come at once.",
    ),
    Setting::new(
        "AGENT_MAX_STREAMS",
        Kind::count(1),
        Value("32"),
        "Open streams of one agent.",
    ),
    Setting::new(
        "AGENT_BACKOFF_FREE",
        Kind::count(0),
        Value("5"),
        "Failures of a source before it has to wait.",
    ),
    Setting::new(
        "AGENT_BACKOFF_BASE_MS",
        Kind::millis(1, 86_400_000),
        Value("1000"),
        "The first wait.",
    ),
    Setting::new(
        "AGENT_BACKOFF_MAX_MS",
        Kind::millis(1, 86_400_000),
        Value("900000"),
        "The longest wait.",
    )
    .rule("at least `AGENT_BACKOFF_BASE_MS`"),
    Setting::new(
        "AGENT_POLICY_STALE_MS",
        Kind::millis(2_000, 300_000),
        Value("10000"),
        "A node that can confirm blocks and policy with neither the database nor Redis for longer answers 503 and ends its streams; with Redis alone confirming it goes on for at most 300 s.",
    ),
];
