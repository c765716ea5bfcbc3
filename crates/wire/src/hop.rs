//! Which headers end at a hop: what the edge takes out of a request and writes itself. The loader of
//! routes and the forwarding edge read the same lists. Names are in lower case.

/// Of one connection (RFC 9110, section 7.6.1), or written anew for the next hop.
pub const HOP_BY_HOP: [&str; 13] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "host",
    "content-length",
];

/// Credentials of other protocols: a caller's never reach an upstream, but a route may set its own.
/// A route may let `cookie` pass.
pub const CREDENTIALS: [&str; 4] = ["authorization", "apikey", "x-api-key", "cookie"];

/// What proves an agent, and by what a caller could lie about who or where it is or what it asks.
pub const CLAIMS: [&str; 26] = [
    "x-signature",
    "x-nonce",
    "x-timestamp",
    "x-session-id",
    "x-trace-id",
    "x-secret-version",
    "x-session-expires-ms",
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-original-url",
    "x-original-host",
    "x-original-method",
    "x-proxyuser-ip",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "traceparent",
    "tracestate",
    "baggage",
];

/// The same, of whole families of names.
pub const CLAIM_PREFIXES: [&str; 3] = ["x-agent-", "x-edgeward-", "x-forwarded-"];

/// Whether the header belongs to one connection.
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// Whether the header is one by which other protocols tell who somebody is.
pub fn is_credential(name: &str) -> bool {
    CREDENTIALS.contains(&name)
}

/// Whether the edge alone may say this to an upstream.
pub fn is_claim(name: &str) -> bool {
    CLAIMS.contains(&name) || CLAIM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a route may set this header for its upstream.
pub fn may_be_set(name: &str) -> bool {
    !is_hop_by_hop(name) && !is_claim(name)
}

/// Whether the header of a request reaches the upstream. `named` says that the route lists it.
pub fn may_pass(name: &str, named: bool) -> bool {
    may_be_set(name) && (!is_credential(name) || (named && name == "cookie"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_a_header_in_lower_case_and_stands_in_one_list() {
        let all: Vec<&str> =
            HOP_BY_HOP.iter().chain(&CREDENTIALS).chain(&CLAIMS).copied().collect();
        for name in &all {
            assert_eq!(http::HeaderName::from_bytes(name.as_bytes()).unwrap().as_str(), *name);
            assert_eq!(all.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn a_route_sets_credentials_but_nothing_that_the_edge_says() {
        for name in ["apikey", "authorization", "cookie", "x-api-key", "x-custom"] {
            assert!(may_be_set(name), "{name}");
        }
        for name in ["host", "te", "via", "x-edgeward-scopes", "x-agent-secret", "cf-connecting-ip"]
        {
            assert!(!may_be_set(name) && !may_pass(name, true), "{name}");
        }
    }

    #[test]
    fn of_a_callers_credentials_only_a_cookie_passes_and_only_if_it_is_named() {
        assert!(may_pass("cookie", true) && !may_pass("cookie", false));
        for name in ["authorization", "apikey", "x-api-key"] {
            assert!(!may_pass(name, true) && !may_pass(name, false), "{name}");
        }
        assert!(may_pass("accept", false) && may_pass("accept", true));
    }
}
