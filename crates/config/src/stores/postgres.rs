//! `postgres://user:password@host:port/database?sslmode=…`

use super::{Parts, UrlFault, decoded, fault, masked_login, masked_query, node};
use crate::SecretText;
use crate::url::is_loopback;

const SCHEMES: [&str; 2] = ["postgres", "postgresql"];
const PORT: u16 = 5432;
const SSL_MODE: &str = "sslmode";
/// What the driver understands of the query, and needs. It reads others, such as `options`, that would change what a session may do.
const PARAMETERS: [&str; 5] = [SSL_MODE, "sslrootcert", "sslcert", "sslkey", "application_name"];

/// The URL of a PostgreSQL server, and what rules have to know about it.
#[derive(Clone, Debug)]
pub(crate) struct PostgresUrl {
    pub(crate) url: SecretText,
    /// Loopback, or a Unix socket.
    pub(crate) is_local: bool,
    /// Whether `sslmode` demands TLS; the driver's own choice falls back to none.
    pub(crate) demands_tls: bool,
}

impl PostgresUrl {
    /// Whether a value is meant to be such a URL.
    pub(crate) fn is_meant(raw: &str) -> bool {
        rest(raw).is_some()
    }

    /// Reads one.
    pub(crate) fn read(raw: &str) -> Result<Self, UrlFault> {
        let parts = Parts::split(rest(raw).unwrap_or_default())?;
        let user = parts
            .user
            .ok_or(fault("it names no user", "Write `user:password@` before the host."))?;
        for name in [Some(user), parts.password].into_iter().flatten() {
            decoded(name)?;
        }
        let is_local = is_local(parts.hosts)?;
        let database = parts.path.strip_prefix('/').unwrap_or_default();
        if database.is_empty() || database.contains('/') {
            return Err(fault(
                "it does not name one database",
                "Write `/database` behind the host.",
            ));
        }
        decoded(database)?;
        Ok(Self {
            url: SecretText::new(raw.to_owned()),
            is_local,
            demands_tls: demands_tls(&parts)?,
        })
    }

    /// One as it may be shown, if it is one.
    pub(crate) fn masked(raw: &str) -> Option<String> {
        Self::read(raw).ok()?;
        let (scheme, rest) = raw.split_once("://")?;
        let parts = Parts::split(rest).ok()?;
        let query = masked_query(&parts, &[SSL_MODE, "application_name"]);
        Some(format!("{scheme}://{}{}{}{query}", masked_login(&parts), parts.hosts, parts.path))
    }
}

fn rest(raw: &str) -> Option<&str> {
    let (scheme, rest) = raw.split_once("://")?;
    SCHEMES.contains(&scheme).then_some(rest)
}

/// Whether the one host is this machine. `%2F…` is the folder of a Unix socket.
fn is_local(hosts: &str) -> Result<bool, UrlFault> {
    if hosts.starts_with("%2F") || hosts.starts_with("%2f") {
        decoded(hosts)?;
        return Ok(true);
    }
    if hosts.contains(',') {
        return Err(fault(
            "it names several hosts",
            "Name one: an address that follows the primary, or a pooler.",
        ));
    }
    Ok(is_loopback(&node(hosts, PORT)?.host))
}

fn demands_tls(parts: &Parts<'_>) -> Result<bool, UrlFault> {
    let mut demands = false;
    for (name, value) in &parts.query {
        if !PARAMETERS.contains(name) {
            return Err(fault(
                "its query has an unknown parameter",
                "Keep sslmode, sslrootcert, sslcert, sslkey and application_name at most; the rest are settings of their own.",
            ));
        }
        decoded(value)?;
        if *name == SSL_MODE {
            demands = match *value {
                "require" | "verify-ca" | "verify-full" => true,
                "disable" | "allow" | "prefer" => false,
                _ => {
                    return Err(fault(
                        "its sslmode is not known",
                        "Write disable, allow, prefer, require, verify-ca or verify-full.",
                    ));
                }
            };
        }
    }
    Ok(demands)
}
