//! Rules about the database and Redis.

use super::Case;
use crate::Finding;
use crate::resolve::Outcome;
use crate::stores::PostgresUrl;
use crate::table::{POSTGRES_ONLY, REDIS_ONLY};
use crate::value::{DatabaseUrl, NotifyUrl};

const DATABASE: &str = "EDGE_DATABASE_URL";
const LISTEN: &str = "EDGE_DATABASE_LISTEN_URL";
const REDIS: &str = "EDGE_REDIS_URL";
const CA: &str = "EDGE_REDIS_CA";

pub(super) fn redis_and_caches(case: &Case<'_>, findings: &mut Vec<Finding>) {
    const NAME: &str = "AGENT_SECRET_CACHE_MS";
    let shared = case.resolved.is_given(REDIS);
    let cached = case.resolved.number(NAME).is_some_and(|ms| ms > 0);
    if shared && cached && case.resolved.is_given(NAME) {
        findings.push(Finding::warning(
            NAME,
            case.found(NAME),
            format!("0 together with {REDIS}"),
            "Set it to 0: another node may have rotated the secret.",
        ));
    }
}

pub(super) fn postgres_over_the_network(case: &Case<'_>, findings: &mut Vec<Finding>) {
    if !case.in_production() {
        return;
    }
    let exposed = |url: &PostgresUrl| !url.is_local && !url.demands_tls;
    let queries = case.resolved.database(DATABASE).is_some_and(|database| match database {
        DatabaseUrl::Sqlite(_) => false,
        DatabaseUrl::Postgres(url) => exposed(&url),
    });
    let notifications = case.resolved.notify(LISTEN).is_some_and(|notify| match notify {
        NotifyUrl::Nowhere => false,
        NotifyUrl::At(url) => exposed(&url),
    });
    for (name, exposed) in [(DATABASE, queries), (LISTEN, notifications)] {
        if exposed {
            findings.push(Finding::warning(
                name,
                case.found(name),
                "`sslmode=verify-full`, `verify-ca` or `require`, beyond loopback",
                "Add `?sslmode=verify-full`: without it the driver goes on in cleartext when the server has no TLS, or somebody between says so.",
            ));
        }
    }
}

pub(super) fn redis_over_the_network(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let exposed = case.resolved.redis(REDIS).is_some_and(|url| !url.tls && !url.is_local());
    if case.in_production() && exposed {
        findings.push(Finding::warning(
            REDIS,
            case.found(REDIS),
            "a `rediss…` URL, beyond loopback",
            "Use TLS: passwords and all that nodes share cross the network in cleartext.",
        ));
    }
}

pub(super) fn redis_roots(case: &Case<'_>, findings: &mut Vec<Finding>) {
    if let Some(path) = case.resolved.path(CA) {
        case.probe(CA, &path, findings);
    }
    let cleartext = case.resolved.redis(REDIS).is_some_and(|url| !url.tls);
    if cleartext && case.resolved.is_given(CA) {
        findings.push(Finding::warning(
            CA,
            case.found(CA),
            "nothing without TLS: it has no effect",
            format!("Remove it, or begin {REDIS} with `rediss`."),
        ));
    }
}

/// Settings of a store that is not used.
pub(super) fn without_effect(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let unset = |name: &str| {
        case.resolved
            .effective(name)
            .is_some_and(|effective| matches!(effective.outcome, Outcome::Unset))
    };
    let sqlite = unset(DATABASE)
        || case.resolved.database(DATABASE).is_some_and(|database| match database {
            DatabaseUrl::Sqlite(_) => true,
            DatabaseUrl::Postgres(_) => false,
        });
    let idle = [
        (
            sqlite,
            &POSTGRES_ONLY[..],
            "a PostgreSQL database",
            "Remove it, or point EDGE_DATABASE_URL at a PostgreSQL server.",
        ),
        (unset(REDIS), &REDIS_ONLY[..], "Redis", "Remove it, or set EDGE_REDIS_URL."),
    ];
    for (_, names, what, remedy) in idle.into_iter().filter(|(idle, ..)| *idle) {
        for name in names.iter().filter(|name| case.resolved.is_given(name)) {
            findings.push(Finding::warning(
                *name,
                case.found(name),
                format!("nothing without {what}: it has no effect"),
                remedy,
            ));
        }
    }
}
