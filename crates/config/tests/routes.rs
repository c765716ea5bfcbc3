//! Routes: what is read, and each fault by a route that is fine but for one thing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod common;

use common::{DEVELOPMENT, env, faults, loaded, with_file};
use edgeward_config::{Identity, Rate, Timeouts};

const ALL: &str = r#"
[[routes]]
match = "/v1/"
upstream = ["http://127.0.0.1:9000", "https://b.example"]
require_nonce = true
require_session = true
sensitive = true
scopes = ["llm:chat"]
allowed_cidrs = ["10.0.0.0/8"]
rate = { per_sec = 5, burst = 10 }
max_body = "64KiB"
timeouts = { connect_ms = 1, first_byte_ms = "2s" }
identity = "jwt"
identity_audience = "rest"
set_headers = { apikey = { value = "anon" } }
pass_headers = ["Accept", "cookie"]

[[routes]]
match = "/"
upstream = ["http://127.0.0.1:9001"]
"#;

#[test]
fn every_key_is_read_and_has_its_default() {
    let routes = loaded(&with_file(env(DEVELOPMENT, &[]), ALL)).config.routes;
    let [all, least] = routes.as_slice() else { panic!("two routes") };
    assert_eq!(all.match_prefix, "/v1/");
    let upstream: Vec<_> = all.upstream.iter().map(ToString::to_string).collect();
    assert_eq!(upstream, ["http://127.0.0.1:9000", "https://b.example:443"]);
    assert!(all.require_nonce && all.require_session && all.sensitive);
    assert_eq!(all.scopes, ["llm:chat"]);
    assert_eq!(all.allowed_cidrs, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(all.rate, Some(Rate { per_sec: 5, burst: 10 }));
    assert_eq!(all.max_body, 65_536);
    assert_eq!(all.timeouts, Timeouts { connect_ms: 1, first_byte_ms: 2_000, idle_ms: 120_000 });
    assert_eq!(all.identity, Identity::Jwt { audience: "rest".into() });
    assert_eq!(all.set_headers[0].0, "apikey");
    assert_eq!(all.set_headers[0].1.expose(), "anon");
    assert_eq!(all.pass_headers.as_deref().unwrap(), ["accept", "cookie"]);

    assert!(!least.require_nonce && !least.require_session && !least.sensitive);
    assert_eq!(least.max_body, 1_048_576);
    assert_eq!(
        least.timeouts,
        Timeouts { connect_ms: 2_000, first_byte_ms: 60_000, idle_ms: 120_000 }
    );
    assert_eq!((least.rate, &least.identity), (None, &Identity::Headers));
    assert!(least.pass_headers.is_none() && least.set_headers.is_empty());
}

/// A fault's place in the route, and the line that makes it.
const CASES: &[(&str, &str)] = &[
    (".match", "match = \"v1\""),
    (".match", "match = \"\""),
    (".match", "match = 1"),
    (".match", "match = \"/a//b\""),
    (".match", "match = \"//\""),
    (".match", "match = \"/a/../b\""),
    (".match", "match = \"/a/.\""),
    (".match", "match = \"/a%2fb\""),
    (".match", "match = \"/a;b\""),
    (".match", "match = \"/a?b\""),
    (".match", "match = \"/a\\\\b\""),
    (".match", "match = \"/agent\""),
    (".match", "match = \"/agent/x\""),
    (".match", "match = \"/.well-known/\""),
    (".upstream", "upstream = []"),
    (".upstream", "upstream = \"http://x\""),
    (".upstream[0]", "upstream = [1]"),
    (".upstream[1]", "upstream = [\"http://x\", \"x\"]"),
    (".upstream[0]", "upstream = [\"ftp://x\"]"),
    (".upstream[0]", "upstream = [\"http://\"]"),
    (".upstream[0]", "upstream = [\"http://x/?q=1\"]"),
    (".upstream[0]", "upstream = [\"http://x/path\"]"),
    (".upstream[0]", "upstream = [\"http://u:p@x\"]"),
    (".upstream[0]", "upstream = [\"http://127.0.0.1:8601\"]"),
    (".upstream[0]", "upstream = [\"http://localhost:8601\"]"),
    (".upstream[0]", "upstream = [\"http://[::1]:8601\"]"),
    (".upstream[0]", "upstream = [\"http://[::ffff:127.0.0.1]:8601\"]"),
    (".upstream[0]", "upstream = [\"http://0.0.0.0:8601\"]"),
    (".require_nonce", "require_nonce = \"yes\""),
    (".require_session", "require_session = 1"),
    (".sensitive", "sensitive = []"),
    (".scopes", "scopes = \"a\""),
    (".scopes[1]", "scopes = [\"a\", \"b c\"]"),
    (".scopes[0]", "scopes = [\"a,b\"]"),
    (".allowed_cidrs[0]", "allowed_cidrs = [\"10.0.0.1/8\"]"),
    (".allowed_cidrs", "allowed_cidrs = []"),
    (".rate.per_sec", "rate = { per_sec = 0, burst = 1 }"),
    (".rate.burst", "rate = { per_sec = 1, burst = 0 }"),
    (".rate.burst", "rate = { per_sec = 1 }"),
    (".rate.bursts", "rate = { per_sec = 1, burst = 1, bursts = 1 }"),
    (".rate", "rate = 5"),
    (".max_body", "max_body = \"1MB\""),
    (".max_body", "max_body = -1"),
    (".timeouts.connect_ms", "timeouts = { connect_ms = 0 }"),
    (".timeouts.idle", "timeouts = { idle = 1 }"),
    (".identity", "identity = \"mtls\""),
    (".identity_audience", "identity = \"jwt\""),
    (".identity_audience", "identity = \"jwt\"\nidentity_audience = \"edgeward\""),
    (".identity_audience", "identity = \"jwt\"\nidentity_audience = \"a b\""),
    (".identity_audience", "identity_audience = \"rest\""),
    (".set_headers.host", "set_headers = { host = { value = \"x\" } }"),
    (".set_headers.X-Edgeward-Scopes", "set_headers = { X-Edgeward-Scopes = { value = \"x\" } }"),
    (".set_headers.X-Forwarded-For", "set_headers = { X-Forwarded-For = { value = \"x\" } }"),
    (".set_headers.Forwarded", "set_headers = { Forwarded = { value = \"x\" } }"),
    (".set_headers.Connection", "set_headers = { Connection = { value = \"x\" } }"),
    (".set_headers.x_y", "set_headers = { x_y = { value = \"x\" } }"),
    (".set_headers.a b", "set_headers = { \"a b\" = { value = \"x\" } }"),
    (".set_headers.x", "set_headers = { x = \"v\" }"),
    (".set_headers.x", "set_headers = { x = { } }"),
    (".set_headers.x", "set_headers = { x = { file = \"/f\", value = \"v\" } }"),
    (".set_headers.x", "set_headers = { x = { value = \"\" } }"),
    (".set_headers.x", "set_headers = { x = { value = \"a\\r\\nb\" } }"),
    (".set_headers.x.file", "set_headers = { x = { file = \"/not/there\" } }"),
    (".set_headers.x", "set_headers = { X = { value = \"a\" }, x = { value = \"b\" } }"),
    (
        ".set_headers.authorization",
        "identity = \"jwt\"\nidentity_audience = \"rest\"\nset_headers = { authorization = { value = \"a\" } }",
    ),
    (".pass_headers[0]", "pass_headers = [\"Authorization\"]"),
    (".pass_headers[0]", "pass_headers = [\"apikey\"]"),
    (".pass_headers[1]", "pass_headers = [\"accept\", \"X-Signature\"]"),
    (".pass_headers[0]", "pass_headers = [\"x-agent-id\"]"),
    (".pass_headers[0]", "pass_headers = [\"transfer-encoding\"]"),
    (".pass_headers[0]", "pass_headers = [\"x-original-url\"]"),
    (".pass_headers[0]", "pass_headers = [\"cf-connecting-ip\"]"),
    (".pass_headers[0]", "pass_headers = [\"x-api-key\"]"),
    (".pass_headers[0]", "pass_headers = [\"http2-settings\"]"),
    (".set_headers.CF-Connecting-IP", "set_headers = { CF-Connecting-IP = { value = \"x\" } }"),
    (".set_headers.Via", "set_headers = { Via = { value = \"x\" } }"),
    (".requires_nonce", "requires_nonce = true"),
];

fn route(lines: &str) -> String {
    let mut text = String::from("[[routes]]\n");
    for (key, line) in
        [("match", "match = \"/v1/\""), ("upstream", "upstream = [\"http://127.0.0.1:9000\"]")]
    {
        if !lines.lines().any(|given| given.starts_with(key)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text + lines + "\n"
}

#[test]
fn each_fault_is_found_in_its_place() {
    for (place, lines) in CASES {
        let found = faults(&with_file(env(DEVELOPMENT, &[]), &route(lines)));
        let places: Vec<_> = found.iter().map(|fault| fault.setting.as_str()).collect();
        assert_eq!(places, [format!("routes[0]{place}")], "{lines}: {found:#?}");
    }
    assert_eq!(loaded(&with_file(env(DEVELOPMENT, &[]), &route(""))).config.routes.len(), 1);
}

#[test]
fn match_and_upstream_must_be_there() {
    let found = faults(&with_file(env(DEVELOPMENT, &[]), "[[routes]]\nsensitive = true\n"));
    let places: Vec<_> = found.iter().map(|fault| fault.setting.as_str()).collect();
    assert_eq!(places, ["routes[0].match", "routes[0].upstream"]);
}

#[test]
fn a_bad_route_hides_no_other() {
    let text =
        route("max_body = \"x\"") + &route("match = \"/v2\"\nscopes = [\" \"]\nupstream = [\"x\"]");
    let places: Vec<_> = faults(&with_file(env(DEVELOPMENT, &[]), &text))
        .into_iter()
        .map(|fault| fault.setting)
        .collect();
    assert_eq!(places, ["routes[0].max_body", "routes[1].upstream[0]", "routes[1].scopes[0]"]);
}

#[test]
fn two_routes_never_have_the_same_prefix() {
    for twin in ["/v1/", "/v1"] {
        let text = route("") + &route(&format!("match = {twin:?}"));
        let found = faults(&with_file(env(DEVELOPMENT, &[]), &text));
        assert_eq!((found.len(), found[0].setting.as_str()), (1, "routes[1].match"));
        assert!(found[0].expected.contains("routes[0]"));
    }
}

#[test]
fn a_match_has_the_base_path_in_it() {
    let based = |prefix: &str| {
        with_file(
            env(DEVELOPMENT, &[("EDGE_BASE_PATH", "/functions/v1")]),
            &route(&format!("match = {prefix:?}")),
        )
    };
    assert_eq!(
        loaded(&based("/functions/v1/chat/")).config.routes[0].match_prefix,
        "/functions/v1/chat/"
    );
    assert_eq!(loaded(&based("/functions/v1/")).config.routes.len(), 1);
    for prefix in
        ["/chat/", "/functions/v1x/", "/functions/v1/agent/x", "/functions/v1/.well-known/x"]
    {
        let found = faults(&based(prefix));
        assert_eq!(found[0].setting, "routes[0].match", "{prefix}");
    }
}

#[test]
fn the_nearest_key_of_a_route_is_named() {
    for (lines, near) in
        [("max_bdoy = 1", "`max_body`"), ("timeouts = { conect_ms = 1 }", "`connect_ms`")]
    {
        let found = faults(&with_file(env(DEVELOPMENT, &[]), &route(lines)));
        assert!(found[0].what_to_do.contains(near), "{}", found[0]);
    }
}

#[test]
fn another_port_of_this_machine_and_another_machine_are_no_admin_listener() {
    for upstream in ["http://127.0.0.1:8602", "http://10.0.0.1:8601", "http://other.example:8601"] {
        let text = route(&format!("upstream = [{upstream:?}]"));
        assert_eq!(loaded(&with_file(env(DEVELOPMENT, &[]), &text)).config.routes.len(), 1);
    }
}
