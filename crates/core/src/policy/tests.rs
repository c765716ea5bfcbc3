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
