//! Where calls go, and what is asked of them.

use super::*;
use crate::tests::forge::policy;
use crate::time::WallMs;

/// The label of an agent's call, or what everybody may call.
fn destination(policy: &Policy, method: &str, path: &str) -> String {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    match policy.destination(&method, path) {
        Destination::Health => "health".to_owned(),
        Destination::Jwks => "jwks".to_owned(),
        Destination::IdentityJwks => "identity_jwks".to_owned(),
        Destination::EnrollStart => "enroll_start".to_owned(),
        Destination::EnrollChallenge => "enroll_challenge".to_owned(),
        Destination::EnrollComplete => "enroll_complete".to_owned(),
        Destination::Agent(endpoint) => endpoint.label().to_owned(),
    }
}

const CALLS: [(&str, &str, &str); 11] = [
    ("GET", "/agent/healthz", "health"),
    ("GET", "/.well-known/jwks.json", "jwks"),
    ("GET", "/.well-known/identity-jwks.json", "identity_jwks"),
    ("POST", "/agent/enroll/start", "enroll_start"),
    ("POST", "/agent/enroll/challenge", "enroll_challenge"),
    ("POST", "/agent/enroll/complete", "enroll_complete"),
    ("POST", "/agent/session/start", "session_start"),
    ("POST", "/agent/session/extend", "session_extend"),
    ("POST", "/agent/session/end", "session_end"),
    ("POST", "/agent/token/refresh", "token_refresh"),
    ("POST", "/agent/protected/echo", "echo"),
];

#[test]
fn own_calls_are_found_under_the_base_path_only() {
    for base in ["", "/functions/v1"] {
        let policy = Policy { base_path: base.into(), ..policy() };
        for (method, path, name) in CALLS {
            assert_eq!(destination(&policy, method, &format!("{base}{path}")), name);
            let other = if method == "GET" { "POST" } else { "GET" };
            assert_eq!(destination(&policy, other, &format!("{base}{path}")), "unknown", "{path}");
            for near in [
                format!("{base}{path}/"),
                format!("{base}{path}x"),
                format!("{base}{}", path.to_uppercase()),
            ] {
                assert_eq!(destination(&policy, method, &near), "unknown", "{near}");
            }
            if !base.is_empty() {
                assert_eq!(destination(&policy, method, path), "unknown", "{path}");
                assert_eq!(destination(&policy, method, &format!("{base}x{path}")), "unknown");
            }
        }
        assert_eq!(destination(&policy, "HEAD", &format!("{base}/agent/healthz")), "health");
    }
}

#[test]
fn what_is_the_edges_own_is_never_an_upstreams() {
    let greedy =
        Policy { routes: RouteTable::new([crate::tests::forge::route(0, "/")]), ..policy() };
    for path in [
        "/agent",
        "/agent/",
        "/agent/x",
        "/agent/session/start/x",
        "/.well-known/x",
        "/agent/events",
    ] {
        assert_eq!(destination(&greedy, "GET", path), "unknown", "{path}");
        assert_eq!(destination(&greedy, "POST", path), "unknown", "{path}");
    }
    for path in ["/", "/agents", "/agentx/y", "/x/agent/session/start"] {
        assert_eq!(destination(&greedy, "POST", path), "/", "{path}");
    }
}

#[test]
fn own_signed_calls_always_ask_for_a_nonce() {
    for switch in [false, true] {
        let policy = Policy {
            require_nonce: switch,
            session_required: switch,
            require_hmac: switch,
            verify_jwt: switch,
            ..policy()
        };
        for endpoint in [
            Endpoint::SessionStart,
            Endpoint::SessionExtend,
            Endpoint::SessionEnd,
            Endpoint::TokenRefresh,
            Endpoint::Echo,
        ] {
            let need = policy.requirements(&endpoint);
            assert!(need.nonce, "{endpoint:?}");
            assert_eq!(need.signed, switch || !matches!(endpoint, Endpoint::Echo), "{endpoint:?}");
        }
        assert_eq!(policy.requirements(&Endpoint::SessionStart).max_body, MAX_CONTROL_BODY);
    }
}

#[test]
fn body_signatures_end_at_their_end() {
    let takes = |body_signatures, now| {
        Policy { body_signatures, ..policy() }.takes_body_signatures(WallMs(now))
    };
    assert!(!takes(BodySignatures::Refused, 5));
    assert!(takes(BodySignatures::Taken, 5));
    assert!(takes(BodySignatures::Until(WallMs(6)), 5));
    assert!(!takes(BodySignatures::Until(WallMs(5)), 5));
    assert!(!takes(BodySignatures::Until(WallMs(4)), 5));
}

#[test]
fn what_is_asked_grows_by_route_and_by_deployment() {
    let open = Endpoint::Route(Arc::new(crate::tests::forge::route(0, "/x")));
    let of = |edit: fn(&mut Route)| {
        let mut route = crate::tests::forge::route(0, "/x");
        edit(&mut route);
        let need = policy().requirements(&Endpoint::Route(Arc::new(route)));
        (need.session, need.nonce)
    };
    use SessionRule::{Optional, Required};
    assert_eq!(of(|_| {}), (Optional, false));
    assert_eq!(of(|route| route.require_session = true), (Required, false));
    assert_eq!(of(|route| route.require_nonce = true), (Optional, true));
    assert_eq!(of(|route| route.sensitive = true), (Required, true));
    for endpoint in [open, Endpoint::Echo, Endpoint::Unknown] {
        let sessions = Policy { session_required: true, ..policy() }.requirements(&endpoint);
        assert_eq!(sessions.session, Required, "{endpoint:?}");
        let nonces = Policy { require_nonce: true, ..policy() }.requirements(&endpoint);
        assert!(nonces.nonce, "{endpoint:?}");
    }
}

#[test]
fn tokens_are_asked_for_as_the_protocol_says() {
    let route = || Endpoint::Route(Arc::new(crate::tests::forge::route(0, "/x")));
    for (endpoint, rule) in [
        (Endpoint::SessionStart, TokenRule::Required),
        (Endpoint::SessionExtend, TokenRule::Required),
        (Endpoint::SessionEnd, TokenRule::IfPresent),
        (Endpoint::TokenRefresh, TokenRule::Ignored),
        (Endpoint::Echo, TokenRule::BySession),
        (Endpoint::Unknown, TokenRule::BySession),
        (route(), TokenRule::BySession),
    ] {
        assert_eq!(policy().requirements(&endpoint).token, rule, "{endpoint:?}");
        let off = Policy { verify_jwt: false, ..policy() };
        assert_eq!(off.requirements(&endpoint).token, TokenRule::Ignored, "{endpoint:?}");
    }
}
