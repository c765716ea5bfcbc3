//! `OWNER_…`

use crate::setting::Preset::{Unset, Value};
use crate::setting::{Kind, Mark, Secrecy, Setting};

const ONE_SOURCE: &str = "exactly one of `OWNER_JWKS_URL`, `OWNER_JWKS_FILE`, `OWNER_JWT_SECRET`; in development none is possible, and then nobody can enrol";

pub(super) const OWNER: &[Setting] = &[
    Setting::new(
        "OWNER_JWKS_URL",
        Kind::ConfidentialUrl,
        Unset,
        "The JWK set that owner JWTs are verified against, by URL: `https`, or `http` to loopback.",
    )
    .rule(ONE_SOURCE)
    .mark(Mark::Ruled)
    .secrecy(Secrecy::PublicUrl),
    Setting::new("OWNER_JWKS_FILE", Kind::Path, Unset, "The same, in a file.")
        .rule(ONE_SOURCE)
        .mark(Mark::Ruled),
    Setting::new(
        "OWNER_JWT_SECRET",
        Kind::Secret { min_bytes: 32 },
        Unset,
        "An HS256 secret of at least 32 bytes instead, as older Supabase projects have.",
    )
    .rule(ONE_SOURCE)
    .mark(Mark::Ruled)
    .secrecy(Secrecy::Secret),
    Setting::new("OWNER_ISSUER", Kind::Text, Unset, "What `iss` of an owner JWT must be.")
        .rule("without it a production start with an owner source is warned"),
    Setting::new("OWNER_AUDIENCE", Kind::Text, Unset, "What `aud` of an owner JWT must hold.")
        .rule("without it a production start with an owner source is warned"),
    Setting::new(
        "OWNER_ROLES",
        Kind::Tokens,
        Unset,
        "The roles of which an owner JWT must have one; none for any.",
    ),
    Setting::new(
        "OWNER_SCOPES_CLAIM",
        Kind::Token,
        Unset,
        "The claim that lists the scopes which an owner may grant.",
    ),
    Setting::new("OWNER_SCOPES", Kind::Tokens, Unset, "The scopes which every owner may grant."),
    Setting::new("OWNER_MAX_AGENTS", Kind::count(1), Value("1000"), "Agents of one owner."),
];
