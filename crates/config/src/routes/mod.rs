//! `[[routes]]` of the settings file. Every fault of every route is found.

mod headers;
mod node;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use toml::Value;

use crate::finding::quoted;
use crate::form;
use crate::resolve::Resolved;
use crate::sources::Files;
use crate::url::{HttpUrl, known_scheme};
use crate::{Finding, Identity, Rate, RouteConfig, Timeouts, Upstream};
use node::Node;

/// One key of a route, for the reference page and for naming the nearest.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) doc: &'static str,
}

const fn key(name: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, default, doc }
}

/// The keys of a route, in the order of the reference page.
pub(crate) const KEYS: &[Key] = &[
    key(
        "match",
        "must be set",
        "Path prefix with `EDGE_BASE_PATH` in it, at a segment boundary; the longest wins; `/a/` covers `/a` too. No escapes, `;`, `//` or dot segments; not below `/agent/` or `/.well-known/`, which are the edge's own.",
    ),
    key(
        "upstream",
        "must be set",
        "Origins `http://host:port` or `https://host:port`, without a path: the request's own is forwarded as it stands. With several, the one with the least outstanding requests. Never the admin listener.",
    ),
    key("require_nonce", "`false`", "Adds to `AGENT_REQUIRE_NONCE`, never takes from it."),
    key("require_session", "`false`", "Adds to `AGENT_SESSION_REQUIRED`, never takes from it."),
    key(
        "sensitive",
        "`false`",
        "Nonce and session are required whatever else is set; a signature over the body alone is never enough.",
    ),
    key("scopes", "none", "Scopes that the agent must have, all of them."),
    key("allowed_cidrs", "any address", "Networks that the route may be called from."),
    key("rate", "the deployment's", "`{ per_sec = 5, burst = 10 }`, both at least 1."),
    key("max_body", "`\"1MiB\"`", "The longest body, in bytes or with `KiB`, `MiB`, `GiB`."),
    key(
        "timeouts",
        "`{ connect_ms = 2000, first_byte_ms = 60000, idle_ms = 120000 }`",
        "Patience with the upstream, each at least 1; a stream has no total.",
    ),
    key(
        "identity",
        "`\"headers\"`",
        "How the upstream learns who calls: `\"headers\"`, or `\"jwt\"` for a minted token as well.",
    ),
    key(
        "identity_audience",
        "must be set for `\"jwt\"`",
        "The audience of the minted token; never `EDGE_AUDIENCE`.",
    ),
    key(
        "set_headers",
        "none",
        "Headers for the upstream, `{ apikey = { file = \"/run/secrets/anon\" } }` or `{ value = \"…\" }`; the values are secrets.",
    ),
    key(
        "pass_headers",
        "all that are safe",
        "If there, the only headers of the request that the upstream gets; `cookie` gets through only so.",
    ),
];

/// Reads all routes. Those with a fault are left out, and the fault is in `findings`.
pub(crate) fn read(
    settings: &Resolved,
    files: &dyn Files,
    findings: &mut Vec<Finding>,
) -> Vec<RouteConfig> {
    let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    let mut seen = BTreeMap::new();
    let mut routes = Vec::new();
    for (index, value) in settings.file.routes.iter().enumerate() {
        let at = format!("routes[{index}]");
        let Value::Table(table) = value else {
            findings.push(Finding::error(
                at,
                node::kind(value),
                "a table",
                "Begin it with `[[routes]]`.",
            ));
            continue;
        };
        let node = Node { at, table, file: &settings.file.path };
        let before = findings.len();
        node.refuse_unknown(&known, findings);
        let route = route(&node, settings, files, findings);
        if let Some(prefix) = node.table.get("match").and_then(Value::as_str) {
            let first = seen.entry(prefix.trim_end_matches('/')).or_insert(index);
            if *first != index {
                node.refuse(
                    "match",
                    format!("a prefix that routes[{first}] does not have"),
                    "Join the two.",
                    findings,
                );
            }
        }
        routes.extend(route.filter(|_| findings.len() == before));
    }
    routes
}

/// A route on one line, without secrets.
pub(crate) fn summary(route: &RouteConfig) -> String {
    let upstream: Vec<String> = route.upstream.iter().map(ToString::to_string).collect();
    format!("{} -> {}", route.match_prefix, upstream.join(", "))
}

fn route(
    node: &Node<'_>,
    settings: &Resolved,
    files: &dyn Files,
    findings: &mut Vec<Finding>,
) -> Option<RouteConfig> {
    let match_prefix = match_prefix(node, settings, findings);
    let upstream = upstream(node, settings, findings);
    let identity = identity(node, settings, findings);
    let mints_token = matches!(identity, Some(Identity::Jwt { .. }));
    let rest = RouteConfig {
        match_prefix: String::new(),
        upstream,
        require_nonce: node.truth("require_nonce", findings),
        require_session: node.truth("require_session", findings),
        sensitive: node.truth("sensitive", findings),
        scopes: scopes(node, findings),
        allowed_cidrs: allowed_cidrs(node, findings),
        rate: rate(node, findings),
        max_body: node.bytes("max_body", 1 << 20, findings),
        timeouts: timeouts(node, findings),
        identity: Identity::Headers,
        set_headers: headers::set_headers(node, mints_token, files, findings),
        pass_headers: headers::pass_headers(node, findings),
    };
    Some(RouteConfig { match_prefix: match_prefix?, identity: identity?, ..rest })
}

fn match_prefix(
    node: &Node<'_>,
    settings: &Resolved,
    findings: &mut Vec<Finding>,
) -> Option<String> {
    let expected =
        "a path that begins with `/`, of plain segments that no two parsers read differently";
    if !node.has("match") {
        node.refuse("match", expected, "Set it.", findings);
    }
    let prefix = node.string("match", findings)?;
    if !is_plain_path(prefix) {
        node.refuse(
            "match",
            expected,
            "Write it without escapes, `;`, `//` and dot segments.",
            findings,
        );
        return None;
    }
    let base = settings.text("EDGE_BASE_PATH")?;
    let Some(below) =
        prefix.strip_prefix(&base).filter(|below| below.is_empty() || below.starts_with('/'))
    else {
        node.refuse(
            "match",
            format!("a path below EDGE_BASE_PATH, which is `{base}`"),
            format!("Write `{base}{prefix}`."),
            findings,
        );
        return None;
    };
    let own = ["/agent", "/.well-known"].iter().any(|own| {
        below.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if own {
        node.refuse(
            "match",
            "a path that is not the edge's own",
            "Choose another path: `/agent/` and `/.well-known/` are taken.",
            findings,
        );
        return None;
    }
    Some(prefix.to_owned())
}

/// `/`, or segments of path characters (RFC 3986, section 3.3) without escapes and `;`, none empty but the last, none of dots.
fn is_plain_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte);
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    path == "/"
        || rest.split('/').all(|segment| {
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
        })
}

fn upstream(node: &Node<'_>, settings: &Resolved, findings: &mut Vec<Finding>) -> Vec<Upstream> {
    let expected = "at least one origin such as http://127.0.0.1:9000";
    if !node.has("upstream") {
        node.refuse("upstream", expected, "Set it.", findings);
    }
    let urls = node.strings("upstream", findings).unwrap_or_default();
    let empty = node.table.get("upstream").and_then(Value::as_array).is_some_and(Vec::is_empty);
    if empty {
        node.refuse("upstream", expected, "Set it.", findings);
    }
    let admin = settings.address("EDGE_ADMIN_LISTEN");
    urls.into_iter().filter_map(|(at, raw)| origin(&at, raw, admin, findings)).collect()
}

fn origin(
    at: &str,
    raw: &str,
    admin: Option<SocketAddr>,
    findings: &mut Vec<Finding>,
) -> Option<Upstream> {
    let mut refuse = |expected: String, what_to_do: &str| {
        let found = match (raw.contains('@'), known_scheme(raw)) {
            (false, _) => quoted(raw),
            (true, Some(scheme)) => format!("{scheme}:…"),
            (true, None) => "a value that is not shown".to_owned(),
        };
        findings.push(Finding::error(at, found, expected, what_to_do));
    };
    let url = match HttpUrl::read(raw) {
        Ok(url) => url,
        Err(why) => {
            refuse(format!("an origin such as http://127.0.0.1:9000; {why}"), "Correct it.");
            return None;
        }
    };
    if url.path != "/" || url.has_query {
        refuse(
            "an origin without path and query".to_owned(),
            "Remove them: the request's own are forwarded as they stand.",
        );
        return None;
    }
    if admin.is_some_and(|admin| reaches(&url, admin)) {
        refuse(
            "an upstream that is not the admin listener".to_owned(),
            "Choose another: agents never reach the admin listener.",
        );
        return None;
    }
    Some(Upstream { tls: url.tls, host: url.host, port: url.port })
}

/// Whether a connection to `url` could arrive at a listener on `admin`, as far as addresses tell.
fn reaches(url: &HttpUrl, admin: SocketAddr) -> bool {
    let own = admin.ip().to_canonical();
    let Some(there) = url.address() else { return false };
    let here = |address: std::net::IpAddr| address.is_loopback() || address.is_unspecified();
    url.port == admin.port() && (there == own || (here(there) && here(own)))
}

fn identity(node: &Node<'_>, settings: &Resolved, findings: &mut Vec<Finding>) -> Option<Identity> {
    const AUDIENCE: &str = "identity_audience";
    let said = node.string("identity", findings);
    let audience = node.string(AUDIENCE, findings);
    let expected = "an audience of printable ASCII without blanks, for the upstream alone";
    match said {
        Some("jwt") => {
            let own = settings.text("EDGE_AUDIENCE");
            if let Some(audience) = audience
                .filter(|audience| form::is_token(audience) && own.as_deref() != Some(audience))
            {
                return Some(Identity::Jwt { audience: audience.to_owned() });
            }
            if audience.is_some() || !node.has(AUDIENCE) {
                node.refuse(
                    AUDIENCE,
                    format!("{expected}, never EDGE_AUDIENCE"),
                    "Name the upstream's own audience.",
                    findings,
                );
            }
            None
        }
        Some("headers") | None if !node.has("identity") || said.is_some() => {
            if node.has(AUDIENCE) {
                node.refuse(
                    AUDIENCE,
                    "nothing without identity = \"jwt\"",
                    "Remove it, or set identity = \"jwt\".",
                    findings,
                );
            }
            Some(Identity::Headers)
        }
        Some(_) => {
            node.refuse("identity", "`headers` or `jwt`", "Correct it.", findings);
            None
        }
        None => None,
    }
}

fn scopes(node: &Node<'_>, findings: &mut Vec<Finding>) -> Vec<String> {
    let expected = "a scope: 1 to 128 printable ASCII characters without blank and comma";
    each(node, "scopes", expected, findings, |text| form::is_token(text).then(|| text.to_owned()))
}

fn allowed_cidrs(node: &Node<'_>, findings: &mut Vec<Finding>) -> Vec<IpNet> {
    let expected = "an address or a CIDR without bits beyond the prefix";
    let networks = each(node, "allowed_cidrs", expected, findings, form::network);
    let empty =
        node.table.get("allowed_cidrs").and_then(Value::as_array).is_some_and(Vec::is_empty);
    if empty {
        node.refuse(
            "allowed_cidrs",
            "at least one network",
            "Leave it out to allow any address.",
            findings,
        );
    }
    networks
}

fn each<T>(
    node: &Node<'_>,
    key: &str,
    expected: &str,
    findings: &mut Vec<Finding>,
    read: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let mut values = Vec::new();
    for (at, text) in node.strings(key, findings).unwrap_or_default() {
        match read(text) {
            Some(value) => values.push(value),
            None => findings.push(Finding::error(at, quoted(text), expected, "Correct it.")),
        }
    }
    values
}

fn rate(node: &Node<'_>, findings: &mut Vec<Finding>) -> Option<Rate> {
    let rate = node.child("rate", &["per_sec", "burst"], findings)?;
    let (per_sec, burst) = (rate.count("per_sec", findings), rate.count("burst", findings));
    Some(Rate { per_sec: per_sec?, burst: burst? })
}

fn timeouts(node: &Node<'_>, findings: &mut Vec<Finding>) -> Timeouts {
    let mut timeouts = Timeouts { connect_ms: 2_000, first_byte_ms: 60_000, idle_ms: 120_000 };
    let known = ["connect_ms", "first_byte_ms", "idle_ms"];
    if let Some(node) = node.child("timeouts", &known, findings) {
        timeouts.connect_ms = node.millis("connect_ms", timeouts.connect_ms, findings);
        timeouts.first_byte_ms = node.millis("first_byte_ms", timeouts.first_byte_ms, findings);
        timeouts.idle_ms = node.millis("idle_ms", timeouts.idle_ms, findings);
    }
    timeouts
}
