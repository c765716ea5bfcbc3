//! `redis://`, `redis-sentinel://` and `redis-cluster://`, each with TLS as `rediss…`.

use super::{Parts, UrlFault, decoded, fault, masked_login, masked_query, nodes};
use crate::url::is_loopback;
use crate::{RedisNode, RedisServers, SecretText, form};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const SENTINEL_USER: &str = "sentinel_user";
const SENTINEL_PASSWORD: &str = "sentinel_password";

const SCHEMES: [(&str, Topology, bool); 6] = [
    ("redis", Topology::Single, false),
    ("rediss", Topology::Single, true),
    ("redis-sentinel", Topology::Sentinel, false),
    ("rediss-sentinel", Topology::Sentinel, true),
    ("redis-cluster", Topology::Cluster, false),
    ("rediss-cluster", Topology::Cluster, true),
];

#[derive(Clone, Copy)]
enum Topology {
    Single,
    Sentinel,
    Cluster,
}

/// What a URL says of Redis.
#[derive(Clone, Debug)]
pub(crate) struct RedisUrl {
    pub(crate) servers: RedisServers,
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<SecretText>,
    pub(crate) db: u32,
}

/// A user, and a password; never a user alone.
type Login = (Option<String>, Option<SecretText>);

impl RedisUrl {
    /// Whether a value is meant to be such a URL.
    pub(crate) fn is_meant(raw: &str) -> bool {
        scheme(raw).is_some()
    }

    /// Reads one.
    pub(crate) fn read(raw: &str) -> Result<Self, UrlFault> {
        let (topology, tls, rest) =
            scheme(raw).ok_or(fault("its scheme is not known", "Correct it."))?;
        let parts = Parts::split(rest)?;
        let (user, password) = login(parts.user, parts.password)?;
        let (servers, db) = match topology {
            Topology::Single => (single(&parts)?, database(parts.path)?),
            Topology::Sentinel => sentinel(&parts)?,
            Topology::Cluster => (cluster(&parts)?, 0),
        };
        Ok(Self { servers, tls, user, password, db })
    }

    /// One as it may be shown, if it is one.
    pub(crate) fn masked(raw: &str) -> Option<String> {
        Self::read(raw).ok()?;
        let (scheme, rest) = raw.split_once("://")?;
        let parts = Parts::split(rest).ok()?;
        let query = masked_query(&parts, &[SENTINEL_USER]);
        Some(format!("{scheme}://{}{}{}{query}", masked_login(&parts), parts.hosts, parts.path))
    }

    /// Whether every server and sentinel that is named is this machine.
    pub(crate) fn is_local(&self) -> bool {
        let local = |nodes: &[RedisNode]| nodes.iter().all(|node| is_loopback(&node.host));
        match &self.servers {
            RedisServers::Single { host, port: _ } => is_loopback(host),
            RedisServers::Sentinel { sentinels, name: _, user: _, password: _ } => local(sentinels),
            RedisServers::Cluster(nodes) => local(nodes),
        }
    }
}

fn scheme(raw: &str) -> Option<(Topology, bool, &str)> {
    let (scheme, rest) = raw.split_once("://")?;
    SCHEMES
        .iter()
        .find(|(name, _, _)| *name == scheme)
        .map(|(_, topology, tls)| (*topology, *tls, rest))
}

/// `user:password`, or `:password` for the default user. A name alone is a password in the wrong place more often than a user.
fn login(user: Option<&str>, password: Option<&str>) -> Result<Login, UrlFault> {
    match (user, password) {
        (None, None) => Ok((None, None)),
        (None | Some(""), Some(password)) => Ok((None, Some(SecretText::new(decoded(password)?)))),
        (Some(user), Some(password)) => {
            Ok((Some(decoded(user)?), Some(SecretText::new(decoded(password)?))))
        }
        (Some(_), None) => Err(fault(
            "it names a user without a password",
            "Write `user:password`, or `:password` for the default user's.",
        )),
    }
}

fn single(parts: &Parts<'_>) -> Result<RedisServers, UrlFault> {
    no_query(parts)?;
    let mut nodes = nodes(parts.hosts, PORT)?;
    match (nodes.pop(), nodes.is_empty()) {
        (Some(RedisNode { host, port }), true) => Ok(RedisServers::Single { host, port }),
        (Some(_), false) | (None, _) => Err(fault(
            "it names several hosts",
            "Begin it with redis-sentinel:// or redis-cluster://, or name one.",
        )),
    }
}

fn cluster(parts: &Parts<'_>) -> Result<RedisServers, UrlFault> {
    no_query(parts)?;
    if !matches!(parts.path, "" | "/") {
        return Err(fault("it names a database", "Remove it: a cluster has none but 0."));
    }
    Ok(RedisServers::Cluster(nodes(parts.hosts, PORT)?))
}

fn sentinel(parts: &Parts<'_>) -> Result<(RedisServers, u32), UrlFault> {
    let path = parts.path.strip_prefix('/').unwrap_or_default();
    let (name, database_path) = path.split_at(path.find('/').unwrap_or(path.len()));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || !name.bytes().all(legal) {
        return Err(fault(
            "it names no master, or not in letters, digits, `.`, `-` and `_`",
            "Write behind the hosts what the sentinels call it, for example `/mymaster`.",
        ));
    }
    let (mut user, mut password) = (None, None);
    for (name, value) in &parts.query {
        match *name {
            SENTINEL_USER => user = Some(*value),
            SENTINEL_PASSWORD => password = Some(*value),
            _ => {
                return Err(fault(
                    "its query has an unknown parameter",
                    "Keep sentinel_user and sentinel_password at most; the rest are settings of their own.",
                ));
            }
        }
    }
    let (user, password) = login(user, password)?;
    let sentinels = nodes(parts.hosts, SENTINEL_PORT)?;
    let servers = RedisServers::Sentinel { sentinels, name: name.to_owned(), user, password };
    Ok((servers, database(database_path)?))
}

fn no_query(parts: &Parts<'_>) -> Result<(), UrlFault> {
    if parts.query.is_empty() {
        return Ok(());
    }
    Err(fault(
        "its query has an unknown parameter",
        "Remove it: timeouts, prefix and roots are settings of their own.",
    ))
}

/// `/0`, or nothing for the same.
fn database(path: &str) -> Result<u32, UrlFault> {
    const FAULT: UrlFault =
        fault("its database is not a number", "Write the number alone, for example `/0`.");
    match path.strip_prefix('/') {
        None | Some("") => Ok(0),
        Some(digits) => {
            form::whole(digits).and_then(|number| u32::try_from(number).ok()).ok_or(FAULT)
        }
    }
}
