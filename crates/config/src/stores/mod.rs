//! URLs of database servers and of Redis: a user and a password, one host or several, a path, a query (RFC 3986, section 3).
//!
//! They are read strictly, so that no driver reads them differently: whatever has a meaning of its own in a URL is
//! percent-encoded in a name or a password, or refused.

mod postgres;
mod redis;

use zeroize::Zeroize as _;

use crate::RedisNode;
use crate::url::{bracketed, is_host};

pub(crate) use postgres::PostgresUrl;
pub(crate) use redis::RedisUrl;

/// What the matter is with a URL, and the way out. Holds nothing of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UrlFault {
    pub(crate) why: &'static str,
    pub(crate) what_to_do: &'static str,
}

const fn fault(why: &'static str, what_to_do: &'static str) -> UrlFault {
    UrlFault { why, what_to_do }
}

const EMPTY_NAME: UrlFault =
    fault("a user or a password in it is empty", "Fill it in, or remove its `:` and `@`.");

/// The parts of a URL behind its scheme, as they stand: nothing is decoded. No `Debug`: it holds secrets.
struct Parts<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
    hosts: &'a str,
    /// Empty, or begins with a slash.
    path: &'a str,
    /// Empty for none.
    query: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    /// Takes apart what stands behind `://`.
    fn split(rest: &'a str) -> Result<Self, UrlFault> {
        if rest.contains('#') {
            return Err(fault(
                "it has a fragment",
                "Write `%23` for a `#` in a name or a password.",
            ));
        }
        let legal =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:/?@[]%".contains(&byte);
        if !rest.bytes().all(legal) {
            return Err(fault(
                "it holds a character that a URL cannot",
                "Percent-encode it, for example a blank as `%20`.",
            ));
        }
        let ends = rest.find(['/', '?']).unwrap_or(rest.len());
        if rest.matches('@').count() > 1 || rest.find('@').is_some_and(|at| at > ends) {
            return Err(fault(
                "an `@`, a `/` or a `?` stands where a host should begin",
                "Write `%40`, `%2F` and `%3F` for them in a name or a password.",
            ));
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, pairs(query)?),
            None => (rest, Vec::new()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (userinfo, hosts) = match authority.split_once('@') {
            Some((userinfo, hosts)) => (Some(userinfo), hosts),
            None => (None, authority),
        };
        let (user, password) =
            match userinfo.map(|userinfo| userinfo.split_once(':').ok_or(userinfo)) {
                Some(Ok((user, password))) => (Some(user), Some(password)),
                Some(Err(user)) => (Some(user), None),
                None => (None, None),
            };
        Ok(Self { user, password, hosts, path, query })
    }
}

/// The parameters of a query, each with a name of its own and a value.
fn pairs(query: &str) -> Result<Vec<(&str, &str)>, UrlFault> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name.is_empty() || value.is_empty() {
            return Err(fault(
                "a parameter in its query has no name or no value",
                "Write each as `name=value`, with `&` between them, or remove it with its `?`.",
            ));
        }
        if pairs.iter().any(|(known, _)| *known == name) {
            return Err(fault("a parameter in its query is there twice", "Keep one of them."));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// A name or a password with its percent-encoding undone: not empty, UTF-8, without control characters.
fn decoded(raw: &str) -> Result<String, UrlFault> {
    if raw.is_empty() {
        return Err(EMPTY_NAME);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        let plain = match byte {
            b'%' => rest
                .next()
                .and_then(hex_digit)
                .zip(rest.next().and_then(hex_digit))
                .map(|(high, low)| high * 16 + low),
            other => Some(other),
        };
        let Some(plain) = plain else {
            bytes.zeroize();
            return Err(fault(
                "a `%` in it is not followed by two hexadecimal digits",
                "Write `%25` for a `%` in a name or a password.",
            ));
        };
        bytes.push(plain);
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text),
        Ok(mut text) => {
            text.zeroize();
            Err(fault("it encodes a control character", "Choose a name or a password without one."))
        }
        Err(error) => {
            error.into_bytes().zeroize();
            Err(fault("it encodes bytes that are not UTF-8", "Percent-encode the UTF-8 form."))
        }
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Hosts with commas between them, each once, each with a port or without.
fn nodes(hosts: &str, default_port: u16) -> Result<Vec<RedisNode>, UrlFault> {
    let mut nodes = Vec::new();
    for raw in hosts.split(',') {
        let node = node(raw, default_port)?;
        if nodes.contains(&node) {
            return Err(fault("it names a host twice", "Name each once."));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn node(raw: &str, default_port: u16) -> Result<RedisNode, UrlFault> {
    let (host, port) = match raw.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (raw, None),
    };
    if host.is_empty() {
        return Err(fault("it names no host, or a comma too many", "Write `host` or `host:port`."));
    }
    if !is_host(host) {
        return Err(fault(
            "its host is not a name or an address",
            "Write a name, an IPv4 address, or an IPv6 address in brackets.",
        ));
    }
    let port = match port {
        None => default_port,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or(BAD_PORT)?
        }
        Some(_) => return Err(BAD_PORT),
    };
    let host = bracketed(host).unwrap_or(host).to_ascii_lowercase();
    Ok(RedisNode { host, port })
}

const BAD_PORT: UrlFault = fault(
    "its port is not a number from 1 to 65535",
    "Correct it, or leave it out with its colon for the usual one.",
);

/// A user and a password as they may be shown, with the `@` behind them.
fn masked_login(parts: &Parts<'_>) -> String {
    match (parts.user, parts.password) {
        (Some(user), Some(_)) => format!("{user}:***@"),
        (Some(user), None) => format!("{user}@"),
        (None, _) => String::new(),
    }
}

/// A query as it may be shown: the values of all but `plain` are masked.
fn masked_query(parts: &Parts<'_>, plain: &[&str]) -> String {
    let pairs: Vec<String> =
        parts
            .query
            .iter()
            .map(|(name, value)| {
                if plain.contains(name) { format!("{name}={value}") } else { format!("{name}=***") }
            })
            .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}
