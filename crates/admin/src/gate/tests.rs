use http::Request;

use super::*;
use crate::token::OperatorToken;

const TCP: Via = Via::Tcp { port: 8601 };

fn gate() -> Gate {
    Gate { token: token().hash(), own_uid: 1000 }
}

fn token() -> OperatorToken {
    OperatorToken::parse(&format!("ewop_{}", "A".repeat(43))).unwrap()
}

fn head(method: Method, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// With the right token, so that nothing else is refused.
fn called_by(via: Via, host: &str) -> Result<Actor, Refusal> {
    let bearer = format!("Bearer {}", token().as_str());
    gate().admit(via, &head(Method::GET, "/status", &[("host", host), ("authorization", &bearer)]))
}

#[test]
fn only_root_and_the_own_user_pass_the_socket() {
    let call = head(Method::GET, "/status", &[("host", "localhost")]);
    for uid in [0, 1000] {
        let actor = gate().admit(Via::Socket { uid }, &call).unwrap();
        assert_eq!(actor, Actor { kind: ActorKind::Peer { uid }, role: Role::Admin });
    }
    for uid in [1, 999, 1001, u32::MAX] {
        assert_eq!(gate().admit(Via::Socket { uid }, &call), Err(Refusal::PeerNotAllowed));
    }
}

#[test]
fn tcp_is_called_by_a_loopback_name_and_our_port() {
    for host in ["localhost:8601", "LocalHost:8601", "127.0.0.1:8601", "[::1]:8601"] {
        assert!(called_by(TCP, host).is_ok(), "{host}");
    }
    for host in [
        "localhost",
        "localhost:8600",
        "localhost:08601",
        "localhost:",
        "localhost.:8601",
        "localhost.evil.example:8601",
        "evil.example:8601",
        "user@localhost:8601",
        "127.0.0.1.nip.example:8601",
        "127.0.0.2:8601",
        "[::1]8601",
        "::1:8601",
        "",
    ] {
        assert_eq!(called_by(TCP, host), Err(Refusal::HostNotOurs), "{host}");
    }
    assert!(called_by(Via::Tcp { port: 80 }, "localhost").is_ok());
}

#[test]
fn the_socket_is_called_by_a_loopback_name() {
    let socket = Via::Socket { uid: 0 };
    assert!(called_by(socket, "localhost").is_ok() && called_by(socket, "localhost:1").is_ok());
    for host in ["evil.example", "localhost.evil.example", "localhost:x"] {
        assert_eq!(called_by(socket, host), Err(Refusal::HostNotOurs), "{host}");
    }
}

#[test]
fn a_call_has_one_host_and_an_absolute_target_names_the_same() {
    let ours = ("host", "localhost:8601");
    assert_eq!(gate().admit(TCP, &head(Method::GET, "/", &[])), Err(Refusal::HostMalformed));
    let twice = head(Method::GET, "/", &[ours, ("host", "evil.example")]);
    assert_eq!(gate().admit(TCP, &twice), Err(Refusal::HostMalformed));
    let elsewhere = head(Method::GET, "http://evil.example/", &[ours]);
    assert_eq!(gate().admit(TCP, &elsewhere), Err(Refusal::HostNotOurs));
}

#[test]
fn one_bearer_token_and_the_right_one() {
    let right = format!("Bearer {}", token().as_str());
    let host = ("host", "localhost:8601");
    let admit = |headers: &[(&str, &str)]| {
        gate().admit(TCP, &head(Method::GET, "/", &[&[host], headers].concat()))
    };
    let actor = admit(&[("authorization", &right)]).unwrap();
    assert_eq!(actor.kind, ActorKind::Token { fingerprint: token().hash().fingerprint() });
    assert!(admit(&[("authorization", &right.replace("Bearer", "bearer"))]).is_ok());

    assert_eq!(admit(&[]), Err(Refusal::CredentialsMissing));
    assert_eq!(admit(&[("cookie", &right)]), Err(Refusal::CredentialsMissing));
    let basic = right.replace("Bearer", "Basic");
    let longer = format!("{right}A");
    for wrong in ["", "Bearer", "Bearer ", token().as_str(), &basic, &longer, "Bearer ewop_B"] {
        assert_eq!(admit(&[("authorization", wrong)]), Err(Refusal::TokenInvalid), "{wrong}");
    }
    let twice = admit(&[("authorization", &right), ("authorization", &right)]);
    assert_eq!(twice, Err(Refusal::TokenInvalid));
}

#[test]
fn a_page_reads_with_a_token_and_never_writes() {
    let bearer = format!("Bearer {}", token().as_str());
    for origin in ["https://evil.example", "http://localhost:8601", "null"] {
        let headers =
            [("host", "localhost:8601"), ("authorization", bearer.as_str()), ("origin", origin)];
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let call = head(method, "/status", &headers);
            assert_eq!(gate().admit(TCP, &call), Err(Refusal::OriginRefused));
        }
        assert!(gate().admit(TCP, &head(Method::GET, "/status", &headers)).is_ok());
    }
}

#[test]
fn a_body_that_says_it_is_too_large_is_refused_after_authentication() {
    let socket = Via::Socket { uid: 0 };
    let of = |length: &str| {
        head(Method::POST, "/", &[("host", "localhost"), ("content-length", length)])
    };
    assert!(gate().admit(socket, &of("65536")).is_ok());
    for length in ["65537", "99999999999999999999999", "x"] {
        assert_eq!(gate().admit(socket, &of(length)), Err(Refusal::BodyTooLarge), "{length}");
    }
    assert_eq!(gate().admit(Via::Socket { uid: 5 }, &of("65537")), Err(Refusal::PeerNotAllowed));
}
