//! `EDGE_…`

use crate::setting::Preset::{Derived, Unset, Value};
use crate::setting::{Kind, Mark, Secrecy, Setting};

pub(super) const DEPLOYMENT: &[Setting] = &[
    Setting::new(
        "EDGE_PROFILE",
        Kind::Profile,
        Value("development"),
        "The set of defaults, and how strict the start is.",
    )
    .in_production(Value("production"))
    .rule("production refuses to start on any row marked `!`"),
    Setting::new(
        "EDGE_CONFIG",
        Kind::Path,
        Unset,
        "The settings file; the environment and flags only.",
    ),
    Setting::new(
        "EDGE_DATA_DIR",
        Kind::Path,
        Value("./edgeward-data"),
        "The folder for what the embedded default keeps.",
    ),
    Setting::new(
        "EDGE_NODE",
        Kind::NodeName,
        Derived("the name in the file `node-id` in `EDGE_DATA_DIR`, made on the first start"),
        "This node's name among those of the deployment; no two nodes share one.",
    ),
    Setting::new(
        "EDGE_AUDIENCE",
        Kind::Token,
        Value("edgeward"),
        "The deployment's name in every signature and token; two deployments never share one.",
    )
    .in_production(Unset)
    .mark(Mark::MustBeSet),
    Setting::new(
        "EDGE_PUBLIC_URL",
        Kind::PublicUrl,
        Derived("from `EDGE_LISTEN`"),
        "Where agents reach the edge, and the issuer of their JWTs.",
    )
    .rule("in production warned if derived, or `http` beyond loopback")
    .secrecy(Secrecy::PublicUrl),
    Setting::new(
        "EDGE_BASE_PATH",
        Kind::BasePath,
        Value(""),
        "The path that everything of the edge lies under, for example `/functions/v1`.",
    ),
    Setting::new(
        "EDGE_LISTEN",
        Kind::Listen,
        Value("127.0.0.1:8600"),
        "The public listener; port 0 lets the system choose.",
    )
    .rule("beyond loopback it needs TLS or a declared trusted proxy, in every profile; development binds loopback only")
    .mark(Mark::Ruled),
    Setting::new(
        "EDGE_ADMIN_LISTEN",
        Kind::Listen,
        Value("127.0.0.1:8601"),
        "The operators' listener; port 0 lets the system choose.",
    )
    .rule("loopback only: beyond it is not supported by this build yet, the operators' listener has no TLS; not the public listener's address")
    .mark(Mark::Ruled),
    Setting::new(
        "EDGE_TLS_CERT",
        Kind::Path,
        Unset,
        "Certificate chain in PEM; read again when it changes.",
    )
    .rule("with `EDGE_TLS_KEY`, or neither"),
    Setting::new(
        "EDGE_TLS_KEY",
        Kind::Path,
        Unset,
        "Private key in PEM; read again when it changes.",
    )
    .rule("with `EDGE_TLS_CERT`, or neither"),
    Setting::new(
        "EDGE_TLS_CLIENT_CA",
        Kind::Path,
        Unset,
        "Roots for client certificates in PEM; of the public listener only.",
    )
    .rule("needs `EDGE_TLS_CERT`"),
    Setting::new(
        "EDGE_TRUSTED_PROXIES",
        Kind::Networks,
        Unset,
        "Peers whose forwarding headers are believed.",
    )
    .rule("`0.0.0.0/0` and `::/0` are errors"),
    Setting::new(
        "EDGE_IP_ALLOWLIST",
        Kind::Networks,
        Unset,
        "The only addresses that may speak to the public listener, enrolment included; health and the two JWKS pages stay open to all.",
    ),
    Setting::new(
        "EDGE_KEK",
        Kind::Kek,
        Derived("a file `kek` in `EDGE_DATA_DIR`, made with mode 0600 on the first start"),
        "The key that wraps all others: `file:PATH` or `env:NAME`.",
    )
    .in_production(Unset)
    .rule("a default or generated one is refused in production; `awskms:…` and `vault:…` are not supported by this build yet")
    .mark(Mark::MustBeSet)
    .secrecy(Secrecy::Reference),
    Setting::new(
        "EDGE_JWT_ALG",
        Kind::JwtAlg,
        Value("EdDSA"),
        "The algorithm of the first agent-JWT key.",
    ),
];

pub(super) const PROOF: &[Setting] = &[
    Setting::new(
        "EDGE_REQUIRE_HMAC",
        Kind::Bool,
        Value("true"),
        "A request must be signed; without it a request may come with its JWT alone.",
    )
    .rule("never false together with `EDGE_VERIFY_JWT`: no switch turns authentication off")
    .mark(Mark::MustBe("true")),
    Setting::new(
        "EDGE_VERIFY_JWT",
        Kind::Bool,
        Value("true"),
        "JWTs are required and verified; without it a request may come with its signature alone.",
    )
    .rule("never false together with `EDGE_REQUIRE_HMAC`: no switch turns authentication off")
    .mark(Mark::MustBe("true")),
    Setting::new(
        "EDGE_ALLOW_HEADER_SECRET",
        Kind::Bool,
        Value("false"),
        "`X-Agent-Secret` is a credential: a short cut for development.",
    )
    .mark(Mark::MustBe("false")),
    Setting::new(
        "EDGE_ALLOW_BODY_SIGNATURE",
        Kind::BodySignature,
        Value("false"),
        "Agents marked legacy may sign the body alone; `true`, or until a date as `YYYY-MM-DD` (00:00 UTC).",
    )
    .rule("in production `false`, or a date at most 90 days ahead, warned; ends by itself on the date")
    .mark(Mark::Ruled),
];

pub(super) const TELEMETRY: &[Setting] = &[
    Setting::new("EDGE_LOG", Kind::LogFormat, Value("text"), "How log lines look.")
        .in_production(Value("json")),
    Setting::new(
        "EDGE_LOG_FILTER",
        Kind::Text,
        Value("info"),
        "Which log lines are written, for example `info,edgeward_edge=debug`.",
    ),
    Setting::new("EDGE_OTLP_ENDPOINT", Kind::HttpUrl, Unset, "Where traces go.")
        .secrecy(Secrecy::PublicUrl)
        .later("sending traces by OTLP"),
];
