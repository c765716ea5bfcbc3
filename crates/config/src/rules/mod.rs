//! Rules that look at more than one setting, or beyond a setting's form.

mod stores;

use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::IpNet;

use crate::form::{spelled_date, spelled_millis};
use crate::resolve::{Outcome, Resolved};
use crate::sources::Files;
use crate::url::HttpUrl;
use crate::value::KekReference;
use crate::{BodySignature, Finding, Profile, Sources};

/// What the rules look at.
pub(crate) struct Case<'a> {
    pub(crate) resolved: &'a Resolved,
    pub(crate) sources: &'a Sources,
    pub(crate) files: &'a dyn Files,
    pub(crate) now_ms: i64,
}

type Rule = fn(&Case<'_>, &mut Vec<Finding>);

const RULES: &[Rule] = &[
    never_without_authentication,
    body_signature_ends,
    listeners,
    tls_files,
    trusted_proxies,
    public_url,
    windows,
    orders,
    stores::redis_and_caches,
    stores::postgres_over_the_network,
    stores::redis_over_the_network,
    stores::redis_roots,
    stores::without_effect,
    key_encryption_key,
    owner_source,
    owner_claims,
];

/// Applies every rule.
pub(crate) fn judge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for rule in RULES {
        rule(case, findings);
    }
}

impl Case<'_> {
    fn in_production(&self) -> bool {
        self.resolved.profile == Profile::Production
    }

    fn found(&self, setting: &str) -> String {
        self.resolved.found(setting)
    }

    /// A finding unless the file that `setting` names can be opened.
    fn probe(&self, setting: &str, path: &Path, findings: &mut Vec<Finding>) {
        if let Err(error) = self.files.probe(path) {
            findings.push(Finding::error(
                setting,
                format!("{}: {}", self.found(setting), error.kind()),
                "a file that can be read",
                "Put the file there, or correct the path.",
            ));
        }
    }
}

fn never_without_authentication(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let hmac = case.resolved.truth("EDGE_REQUIRE_HMAC");
    let jwt = case.resolved.truth("EDGE_VERIFY_JWT");
    if (hmac, jwt) == (Some(false), Some(false)) {
        findings.push(Finding::error(
            "EDGE_REQUIRE_HMAC, EDGE_VERIFY_JWT",
            "both `false`",
            "at least one `true`: no switch turns authentication off",
            "Set one of them to `true`.",
        ));
    }
}

fn body_signature_ends(case: &Case<'_>, findings: &mut Vec<Finding>) {
    const NAME: &str = "EDGE_ALLOW_BODY_SIGNATURE";
    match case.resolved.body_signature(NAME) {
        Some(BodySignature::On) if case.in_production() => findings.push(Finding::error(
            NAME,
            case.found(NAME),
            "`false`, or a date at most 90 days ahead, in production",
            "Set it to `false`, or to the date on which the last legacy agent is gone.",
        )),
        Some(BodySignature::Until(until)) => {
            let state = if until <= case.now_ms { "ended" } else { "ends" };
            findings.push(Finding::warning(
                NAME,
                format!("{}: it {state} on {}", case.found(NAME), spelled_date(until)),
                "`false`",
                "Move the legacy agents to version 2 and set it to `false`.",
            ));
        }
        Some(BodySignature::On | BodySignature::Off) | None => {}
    }
}

fn listeners(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let settings = case.resolved;
    public_listener(case, findings);
    let admin = settings.address("EDGE_ADMIN_LISTEN");
    if admin.is_some_and(|address| !address.ip().to_canonical().is_loopback()) {
        findings.push(Finding::error(
            "EDGE_ADMIN_LISTEN",
            case.found("EDGE_ADMIN_LISTEN"),
            "a loopback address: beyond it is not supported by this build yet, the operators' listener has no TLS",
            "Bind 127.0.0.1 or [::1], and reach it from elsewhere through a tunnel, for example `ssh -L`.",
        ));
    }
    let public = settings.address("EDGE_LISTEN");
    if public.is_some_and(|address| address.port() != 0) && public == admin {
        findings.push(Finding::error(
            "EDGE_ADMIN_LISTEN",
            case.found("EDGE_ADMIN_LISTEN"),
            "another address than EDGE_LISTEN",
            "Give it a port of its own.",
        ));
    }
}

fn public_listener(case: &Case<'_>, findings: &mut Vec<Finding>) {
    const NAME: &str = "EDGE_LISTEN";
    let settings = case.resolved;
    let beyond =
        settings.address(NAME).is_some_and(|address| !address.ip().to_canonical().is_loopback());
    if !beyond {
        return;
    }
    if !case.in_production() {
        findings.push(Finding::error(
            NAME,
            case.found(NAME),
            "a loopback address in development",
            "Bind 127.0.0.1 or [::1], or set EDGE_PROFILE=production.",
        ));
    }
    let tls = settings.is_given("EDGE_TLS_CERT") && settings.is_given("EDGE_TLS_KEY");
    let proxied =
        settings.networks("EDGE_TRUSTED_PROXIES").is_some_and(|proxies| !proxies.is_empty());
    if !tls && !proxied {
        findings.push(Finding::error(
            NAME,
            case.found(NAME),
            "a loopback address, or TLS or a declared trusted proxy",
            "Set EDGE_TLS_CERT and EDGE_TLS_KEY, or bind 127.0.0.1, or stand behind a proxy in EDGE_TRUSTED_PROXIES.",
        ));
    }
}

fn tls_files(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let settings = case.resolved;
    for name in ["EDGE_TLS_CERT", "EDGE_TLS_KEY", "EDGE_TLS_CLIENT_CA"] {
        if let Some(path) = settings.path(name) {
            case.probe(name, &path, findings);
        }
    }
    for (given, missing) in [
        ("EDGE_TLS_CERT", "EDGE_TLS_KEY"),
        ("EDGE_TLS_KEY", "EDGE_TLS_CERT"),
        ("EDGE_TLS_CLIENT_CA", "EDGE_TLS_CERT"),
    ] {
        if settings.is_given(given) && !settings.is_given(missing) {
            findings.push(Finding::error(
                missing,
                "nothing",
                format!("a path, because {given} is set"),
                format!("Set it, or remove {given}."),
            ));
        }
    }
}

fn trusted_proxies(case: &Case<'_>, findings: &mut Vec<Finding>) {
    const NAME: &str = "EDGE_TRUSTED_PROXIES";
    let everyone =
        case.resolved.networks(NAME).is_some_and(|proxies| proxies.iter().any(holds_everyone));
    if everyone {
        findings.push(Finding::error(
            NAME,
            case.found(NAME),
            "networks of proxies, never the whole internet",
            "Name the addresses of your proxies.",
        ));
    }
}

/// Whether a network holds the whole of IPv4 or IPv6; IPv4 also as mapped addresses (RFC 4291, section 2.5.5.2).
fn holds_everyone(network: &IpNet) -> bool {
    match network {
        IpNet::V4(network) => network.prefix_len() == 0,
        IpNet::V6(network) => {
            network.prefix_len() <= 96 && network.contains(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped())
        }
    }
}

fn public_url(case: &Case<'_>, findings: &mut Vec<Finding>) {
    const NAME: &str = "EDGE_PUBLIC_URL";
    if !case.in_production() {
        return;
    }
    if !case.resolved.is_given(NAME) {
        findings.push(Finding::warning(
            NAME,
            "nothing; it is derived from EDGE_LISTEN",
            "the URL that agents use",
            "Set it: it is the issuer of every agent JWT.",
        ));
    }
    let url = case.resolved.text(NAME).and_then(|url| HttpUrl::read(&url).ok());
    if url.is_some_and(|url| !url.tls && !url.is_loopback()) {
        findings.push(Finding::warning(
            NAME,
            case.found(NAME),
            "an https URL",
            "Serve agents by TLS, here or at a trusted proxy.",
        ));
    }
}

fn windows(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let settings = case.resolved;
    let (window, ahead) =
        (settings.number("AGENT_HMAC_WINDOW_MS"), settings.number("AGENT_HMAC_AHEAD_MS"));
    if window.is_some_and(|window| !(30_000..=120_000).contains(&window)) {
        findings.push(Finding::warning(
            "AGENT_HMAC_WINDOW_MS",
            case.found("AGENT_HMAC_WINDOW_MS"),
            "30 s to 120 s",
            "Keep clocks in step rather than the window wide, and not too narrow for slow networks.",
        ));
    }
    let (Some(window), Some(ahead), Some(ttl)) =
        (window, ahead, settings.number("AGENT_NONCE_TTL_MS"))
    else {
        return;
    };
    let least = window.saturating_add(ahead).saturating_add(1_000);
    if ttl < least {
        findings.push(Finding::error(
            "AGENT_NONCE_TTL_MS",
            case.found("AGENT_NONCE_TTL_MS"),
            format!("at least {least}, which is window + ahead + 1000"),
            "Raise it, or narrow AGENT_HMAC_WINDOW_MS: a nonce that is forgotten too early can be replayed.",
        ));
    }
}

/// Pairs of durations of which one bounds the other.
fn orders(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for (name, strictly, bound) in [
        ("AGENT_HMAC_AHEAD_MS", false, "AGENT_HMAC_WINDOW_MS"),
        ("AGENT_SESSION_TTL_MS", false, "AGENT_SESSION_MAX_MS"),
        ("AGENT_SECRET_GRACE_MS", true, "AGENT_SECRET_TTL_MS"),
        ("AGENT_BACKOFF_BASE_MS", false, "AGENT_BACKOFF_MAX_MS"),
    ] {
        let (Some(value), Some(limit)) = (case.resolved.number(name), case.resolved.number(bound))
        else {
            continue;
        };
        if value > limit || (strictly && value == limit) {
            let relation = if strictly { "less than" } else { "at most" };
            findings.push(Finding::error(
                name,
                case.found(name),
                format!("{relation} {bound}, which is {}", spelled_millis(limit)),
                format!("Lower it, or raise {bound}."),
            ));
        }
    }
}

fn key_encryption_key(case: &Case<'_>, findings: &mut Vec<Finding>) {
    const NAME: &str = "EDGE_KEK";
    match case.resolved.kek(NAME) {
        Some(KekReference::File(path)) => {
            case.probe(NAME, &path, findings);
            let generated = case
                .resolved
                .path("EDGE_DATA_DIR")
                .is_some_and(|folder| same_place(&folder.join("kek"), &path));
            if case.in_production() && generated {
                findings.push(Finding::error(
                    NAME,
                    case.found(NAME),
                    "a key that is not generated by the edge beside its own data",
                    "Keep the key apart from what it wraps, in a mounted secret.",
                ));
            }
        }
        Some(KekReference::Env(name))
            if case.sources.env.get(&name).is_none_or(String::is_empty) =>
        {
            findings.push(Finding::error(
                NAME,
                case.found(NAME),
                format!("a variable {name} with the key in it"),
                "Set that variable, or use `file:PATH`.",
            ));
        }
        Some(KekReference::Env(_)) | None => {}
    }
}

/// Whether two paths name one place, symbolic links aside.
fn same_place(a: &Path, b: &Path) -> bool {
    match (std::path::absolute(a), std::path::absolute(b)) {
        (Ok(a), Ok(b)) => a == b,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => a == b,
    }
}

const OWNER_SOURCES: [&str; 3] = ["OWNER_JWKS_URL", "OWNER_JWKS_FILE", "OWNER_JWT_SECRET"];

fn owner_source(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let settings = case.resolved;
    let given: Vec<&str> =
        OWNER_SOURCES.into_iter().filter(|name| settings.is_given(name)).collect();
    let all = OWNER_SOURCES.join(", ");
    if given.len() > 1 {
        findings.push(Finding::error(
            all,
            format!("{} together", given.join(" and ")),
            "exactly one of them",
            "Keep the one whose tokens your owners have.",
        ));
    } else if given.is_empty() && case.in_production() {
        findings.push(Finding::error(
            all,
            "none of them",
            "exactly one of them in production",
            "Set the one whose tokens your owners have.",
        ));
    }
    if let Some(path) = settings.path("OWNER_JWKS_FILE") {
        case.probe("OWNER_JWKS_FILE", &path, findings);
    }
}

fn owner_claims(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let settings = case.resolved;
    if !case.in_production() || !OWNER_SOURCES.iter().any(|name| settings.is_given(name)) {
        return;
    }
    for (name, claim) in [("OWNER_ISSUER", "iss"), ("OWNER_AUDIENCE", "aud")] {
        let unset = settings
            .effective(name)
            .is_some_and(|effective| matches!(effective.outcome, Outcome::Unset));
        if unset {
            findings.push(Finding::warning(
                name,
                "nothing",
                format!("what `{claim}` of your owners' tokens holds"),
                "Set it: without it a token that the same keys signed for another purpose enrols agents.",
            ));
        }
    }
}
