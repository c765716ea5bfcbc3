//! Heads of accepted and of refused shape, and which credentials they hold.

use edgeward_wire::Code;
use http::header::HeaderValue;

use super::*;
use crate::tests::forge::{secret, session_id};
use crate::tests::mint::AGENT;

const SIGNATURE: &str = "v2=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const BODY_SIGNATURE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Every header of a full set of credentials, with a good value.
fn good() -> Vec<(&'static str, String)> {
    vec![
        ("x-agent-id", AGENT.to_owned()),
        ("x-timestamp", "1764000000000".to_owned()),
        ("x-nonce", "nonce-0123456789".to_owned()),
        ("x-session-id", session_id(5).expose().to_owned()),
        ("x-signature", SIGNATURE.to_owned()),
        ("authorization", "Bearer aaa.bbb.ccc".to_owned()),
        ("content-type", "application/json; charset=utf-8".to_owned()),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ("content-encoding", "identity".to_owned()),
    ]
}

fn head<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Parts {
    let (mut parts, ()) =
        http::Request::builder().method("POST").uri("/x").body(()).unwrap().into_parts();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        parts.headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    parts
}

fn read<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Credentials, Rejection> {
    credentials(&shape(head(headers))?.0.headers)
}

/// The good set with one header changed: `None` leaves it out.
fn changed(name: &str, values: &[&[u8]]) -> Result<Credentials, Rejection> {
    let good = good();
    let others = good.iter().filter(|(other, _)| *other != name);
    let mut headers: Vec<(&str, &[u8])> =
        others.map(|(name, value)| (*name, value.as_bytes())).collect();
    headers.extend(values.iter().map(|value| (name, *value)));
    read(headers)
}

#[track_caller]
fn assert_malformed(result: Result<Credentials, Rejection>, what: &str) {
    match result {
        Err(Rejection::Malformed(detail)) => {
            assert_eq!(Rejection::Malformed(detail).spec().code, Code::RequestMalformed);
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn the_full_set_reads_as_signed() {
    let Ok(Credentials::Signed(signed)) = changed("none", &[]) else { panic!("refused") };
    assert_eq!(signed.agent.to_string(), AGENT);
    assert_eq!(signed.timestamp, WallMs(1_764_000_000_000));
    assert_eq!(signed.nonce.unwrap().as_str(), "nonce-0123456789");
    assert_eq!(signed.session.unwrap(), session_id(5));
    assert_eq!(signed.signature.header(), SIGNATURE);
    assert_eq!(signed.bearer.unwrap().0, "aaa.bbb.ccc");
}

#[test]
fn every_header_stands_once_and_is_not_empty() {
    for (name, value) in good() {
        let value = value.as_bytes();
        assert_malformed(changed(name, &[value, value]), &format!("{name} twice"));
        assert_malformed(changed(name, &[value, b""]), &format!("{name} twice, once empty"));
        for joined in
            [[value, b",", value], [value, b", ", value], [value, b"", b","], [b",", value, b""]]
        {
            assert_malformed(changed(name, &[&joined.concat()]), &format!("{name} joined"));
        }
        for empty in [&b""[..], b" ", b"\t", b" \t "] {
            assert_malformed(changed(name, &[empty]), &format!("{name} empty"));
        }
    }
}

#[test]
fn blanks_around_a_value_are_trimmed_and_nothing_else_is() {
    for (name, value) in good() {
        let value = value.as_bytes();
        for (before, after) in [(&b" "[..], &b""[..]), (b"", b" "), (b"\t ", b" \t"), (b"   ", b"")]
        {
            let padded = [before, value, after].concat();
            assert!(matches!(changed(name, &[&padded]), Ok(Credentials::Signed(_))), "{name}");
        }
        // A no-break space is no blank.
        assert_malformed(changed(name, &[&[b"\xa0", value].concat()]), name);
    }
    let Ok(Credentials::Signed(signed)) = changed("x-nonce", &[b"  nonce-0123456789\t"]) else {
        panic!("refused")
    };
    assert_eq!(signed.nonce.unwrap().as_str(), "nonce-0123456789");
}

#[test]
fn no_value_holds_control_characters_or_bytes_beyond_ascii() {
    for (name, value) in good() {
        // The HTTP library takes neither of the others inside a value.
        for bad in [&b"\t"[..], b"\x80", b"\xc3\xa9", b"\xff"] {
            let (left, right) = value.as_bytes().split_at(value.len() / 2);
            assert_malformed(changed(name, &[&[left, bad, right].concat()]), name);
        }
    }
}

#[test]
fn each_header_has_one_form() {
    let session = session_id(5).expose().to_owned();
    let upper = AGENT.to_uppercase();
    let long = "9".repeat(8000);
    let cases: &[(&str, &[&str])] = &[
        (
            "x-agent-id",
            &[
                &upper,
                "0192f3c45a6b7c8d9e0f1a2b3c4d5e6f",
                "x",
                "{0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6}",
                "urn:uuid:0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f",
                "0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6g",
                &long,
            ],
        ),
        (
            "x-timestamp",
            &[
                "176400000000",
                "17640000000000",
                "1764000000",
                "+764000000000",
                "-764000000000",
                "1764000000.00",
                "1.76400000e12",
                "0x18a6d5f5000",
                "176400000000a",
                "１７６４",
                "1764000000 00",
                &long,
            ],
        ),
        (
            "x-nonce",
            &["short77", "has blank 1", "equals=12", "plus+1234", "slash/123", "percent%20", &long],
        ),
        (
            "x-session-id",
            &[
                "ews_short",
                &session[4..],
                "EWS_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "ewk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "ews_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB",
                "ews_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                &long,
            ],
        ),
        (
            "x-signature",
            &[
                "v2=",
                "v2=00",
                "v1=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
                "V2=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
                "v2=00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff",
                "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff",
                "v2 =00112233445566778899aabbccddeeff00112233445566778899aabbccddeef",
                "v2=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff00",
                "0x112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
                "sha256=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
                "v2:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
                "00112233445566778899aabbccddeeff00112233445566778899aabbccddee",
                &long,
            ],
        ),
        (
            "authorization",
            &[
                "Bearer",
                "Basic dXNlcjpwYXNz",
                "aaa.bbb.ccc",
                "Bearer  aaa",
                "Bearer aaa bbb",
                "Bearer=aaa",
                "BearerX aaa",
                "Digest a=b",
            ],
        ),
        ("content-encoding", &["gzip", "br", "identityx", "x-gzip", "deflate"]),
    ];
    for (name, values) in cases {
        for value in *values {
            assert_malformed(changed(name, &[value.as_bytes()]), &format!("{name}: {value}"));
        }
    }
    for scheme in ["bearer", "BEARER", "Bearer"] {
        let value = format!("{scheme} aaa.bbb.ccc");
        assert!(changed("authorization", &[value.as_bytes()]).is_ok());
    }
    assert!(changed("content-encoding", &[b"Identity"]).is_ok());
}

#[test]
fn a_comma_inside_quotes_joins_nothing() {
    let of = |value: &str| changed("content-type", &[value.as_bytes()]);
    assert!(of(r#"text/plain; a="b,c""#).is_ok());
    assert!(of(r#"text/plain; a="b\",c""#).is_ok());
    assert_malformed(of(r#"text/plain; a="b", text/html"#), "behind quotes");
    assert_malformed(of(r#"text/plain; a="b\\", text/html"#), "behind escaped quotes");
    assert_malformed(of(r#"text/plain\", text/html"#), "an escape outside quotes");
    assert_malformed(of(r#"text/plain; a="b, text/html"#), "quotes that do not end");
}

#[test]
fn malformed_is_never_shown_as_missing() {
    // Alone, without the rest of the set.
    for name in
        ["x-agent-id", "x-timestamp", "x-nonce", "x-session-id", "x-signature", "authorization"]
    {
        for bad in [&b"\xff"[..], b"", b"a,b", b"?"] {
            assert_malformed(read([(name, bad)]), name);
        }
    }
}

#[test]
fn a_refusal_shows_no_value() {
    for name in
        ["x-agent-id", "x-timestamp", "x-nonce", "x-session-id", "x-signature", "authorization"]
    {
        let Err(Rejection::Malformed(detail)) = changed(name, &[b"s3cret!"]) else {
            panic!("{name}")
        };
        assert!(detail.contains(name) && !detail.contains("s3cret"), "{detail}");
    }
}

#[test]
fn a_part_of_the_set_is_missing_credentials() {
    let whole: [(&str, &[u8]); 3] = [
        ("x-agent-id", AGENT.as_bytes()),
        ("x-timestamp", b"1764000000000"),
        ("x-signature", SIGNATURE.as_bytes()),
    ];
    for chosen in 0..7u8 {
        let part = whole.iter().zip(0..).filter(|(_, bit)| chosen & (1 << bit) != 0);
        let result = read(part.map(|(one, _)| *one));
        assert_eq!(result.unwrap_err(), Rejection::CredentialsMissing, "{chosen:03b}");
    }
    assert!(matches!(read(whole), Ok(Credentials::Signed(_))));
    assert_eq!(
        read([("x-signature", BODY_SIGNATURE.as_bytes())]).unwrap_err(),
        Rejection::CredentialsMissing
    );
}

#[test]
fn a_bearer_without_a_signature_is_a_bearer_alone() {
    let bearer: (&str, &[u8]) = ("authorization", b"Bearer aaa.bbb.ccc");
    assert!(
        matches!(read([bearer]), Ok(Credentials::Bearer { agent: None, bearer }) if bearer.0 == "aaa.bbb.ccc")
    );
    assert!(matches!(changed("x-signature", &[]), Ok(Credentials::Bearer { agent: Some(_), .. })));
    // A signature that cannot be checked does not fall back to the bearer.
    assert_eq!(changed("x-timestamp", &[]).unwrap_err(), Rejection::CredentialsMissing);
    assert_eq!(changed("x-agent-id", &[]).unwrap_err(), Rejection::CredentialsMissing);
}

#[test]
fn sixty_four_hex_digits_are_the_older_form() {
    let Ok(Credentials::BodySigned { agent, bearer, .. }) =
        changed("x-signature", &[BODY_SIGNATURE.as_bytes()])
    else {
        panic!("refused")
    };
    assert_eq!(agent.to_string(), AGENT);
    assert_eq!(bearer.unwrap().0, "aaa.bbb.ccc");
    let short =
        read([("x-agent-id", AGENT.as_bytes()), ("x-signature", BODY_SIGNATURE.as_bytes())]);
    assert!(matches!(short, Ok(Credentials::BodySigned { bearer: None, .. })));
}

#[test]
fn the_secret_itself() {
    let secret = secret(11);
    let text = secret.expose().as_bytes();
    let agent: (&str, &[u8]) = ("x-agent-id", AGENT.as_bytes());
    let Ok(Credentials::HeaderSecret { secret: read_secret, bearer: None, .. }) =
        read([agent, ("x-agent-secret", text)])
    else {
        panic!("refused")
    };
    assert_eq!(read_secret, secret);
    // Beside a signature one of the two would be passed over.
    for signature in [SIGNATURE, BODY_SIGNATURE, "x"] {
        let both = read([agent, ("x-agent-secret", text), ("x-signature", signature.as_bytes())]);
        assert_malformed(both, signature);
    }
    // A wrong one is no more telling than a right one that is not taken.
    let mut changed = text.to_vec();
    changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
    for wrong in [&b"x"[..], b"ewk_", &text[..52], &changed] {
        let result = read([agent, ("x-agent-secret", wrong)]);
        assert_eq!(result.unwrap_err(), Rejection::HeaderSecretRefused);
    }
    assert_eq!(read([("x-agent-secret", text)]).unwrap_err(), Rejection::HeaderSecretRefused);
    for bad in [&[text, text][..], &[b""], &[&[text, b",", text].concat()], &[b"\xff"]] {
        let headers = bad.iter().map(|value| ("x-agent-secret", *value));
        assert_malformed(read(headers.chain([agent])), "x-agent-secret");
    }
    let bearer: (&str, &[u8]) = ("authorization", b"Bearer a.b.c");
    let result = read([agent, ("x-agent-secret", text), bearer]);
    assert!(matches!(result, Ok(Credentials::HeaderSecret { bearer: Some(_), .. })));
    let result = read([agent, ("x-agent-secret", b"x"), bearer]);
    assert_eq!(result.unwrap_err(), Rejection::HeaderSecretRefused);
}

#[test]
fn no_name_holds_an_underscore() {
    for name in ["x_agent_id", "x_signature", "content_type", "_", "a_", "x-agent_id"] {
        assert_malformed(changed(name, &[b"1"]), name);
    }
}

#[test]
fn sixty_four_fields_and_no_more() {
    let fields = |count| shape(head(std::iter::repeat_n(("x-one-of-many", &b"1"[..]), count)));
    assert!(fields(64).is_ok());
    assert!(matches!(fields(65), Err(Rejection::Malformed(text)) if text.contains("64")));
}

#[test]
fn upgrades_are_refused() {
    for value in [&b"websocket"[..], b"h2c", b"", b"TLS/1.0"] {
        assert_malformed(changed("upgrade", &[value]), "upgrade");
    }
}

#[test]
fn methods_are_written_in_upper_case() {
    let of = |method: &str| {
        let mut parts = head([]);
        parts.method = Method::from_bytes(method.as_bytes()).unwrap();
        shape(parts).map(|_| ())
    };
    for bad in ["get", "Post", "PATCh", "x", "CONNECT"] {
        assert!(matches!(of(bad), Err(Rejection::Malformed(_))), "{bad}");
    }
    for good in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "M-SEARCH", "PURGE"] {
        assert_eq!(of(good), Ok(()), "{good}");
    }
}

#[test]
fn absolute_form_agrees_with_host() {
    let of = |uri: &str, hosts: &[&str]| {
        let mut parts = head(hosts.iter().map(|host| ("host", host.as_bytes())));
        parts.uri = uri.parse().unwrap();
        shape(parts).map(|shaped| shaped.path().to_owned())
    };
    assert_eq!(of("http://a.example/x?y=1", &["a.example"]), Ok("/x".to_owned()));
    assert_eq!(of("http://A.example/x", &["a.Example"]), Ok("/x".to_owned()));
    assert_eq!(of("http://a.example:8080/x", &["a.example:8080"]), Ok("/x".to_owned()));
    // HTTP/2 has the authority and no host.
    assert_eq!(of("https://a.example/x", &[]), Ok("/x".to_owned()));
    for (uri, hosts) in [
        ("http://a.example/x", &["b.example"][..]),
        ("http://a.example:8080/x", &["a.example"]),
        ("http://a.example/x", &["a.example:80"]),
        ("http://a.example/x", &["a.example", "a.example"]),
        ("http://a.example/x", &["a.example, b.example"]),
        ("http://a.example/x", &[""]),
        ("http://user@a.example/x", &["a.example"]),
        ("http://user:pass@a.example/x", &["user:pass@a.example"]),
        ("http://@a.example/x", &["@a.example"]),
    ] {
        assert!(matches!(of(uri, hosts), Err(Rejection::Malformed(_))), "{uri} {hosts:?}");
    }
    assert!(matches!(
        of("http://a.example/x/../y", &["a.example"]),
        Err(Rejection::TargetAmbiguous(_))
    ));
}

#[test]
fn targets_are_judged_before_all_else() {
    let of = |uri: &str| {
        let mut parts = head([]);
        parts.uri = uri.parse().unwrap();
        shape(parts).map(|_| ())
    };
    assert!(matches!(of("/a/%2e%2e/b"), Err(Rejection::TargetAmbiguous(_))));
    assert!(matches!(of("//a"), Err(Rejection::TargetAmbiguous(_))));
    assert!(matches!(of("*"), Err(Rejection::Malformed(_))));
    assert!(matches!(of("a.example:443"), Err(Rejection::Malformed(_))));
    assert!(matches!(of(&format!("/{}", "a".repeat(8192))), Err(Rejection::Malformed(_))));
    assert_eq!(of("/a/b?c=d"), Ok(()));
}

#[test]
fn methods_and_schemes_that_no_agent_needs_are_refused() {
    for method in ["TRACE", "CONNECT"] {
        let parts = http::Request::builder().method(method).uri("/v1/x").body(()).unwrap();
        assert!(matches!(shape(parts.into_parts().0), Err(Rejection::Malformed(_))), "{method}");
    }
    for (uri, good) in [("http://h/x", true), ("https://h/x", true), ("ftp://h/x", false)] {
        let parts = http::Request::builder().uri(uri).header("host", "h").body(()).unwrap();
        assert_eq!(shape(parts.into_parts().0).is_ok(), good, "{uri}");
    }
}

#[test]
fn a_length_is_given_once() {
    let parts = http::Request::builder()
        .uri("/v1/x")
        .header("content-length", "3")
        .header("content-length", "3")
        .body(())
        .unwrap();
    assert!(matches!(shape(parts.into_parts().0), Err(Rejection::Malformed(_))));
}
