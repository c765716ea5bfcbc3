//! Random requests: nothing but what was signed passes, and nothing panics.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use crate::policy::BodySignatures;
use crate::tests::forge::{Forge, Signer, secret, session_id, token};
use crate::tests::mint::{self, AGENT};

/// What a signature covers, and the signature.
#[derive(Debug, Clone, Copy)]
enum Part {
    Method,
    Target,
    Body,
    Header(&'static str),
}

const PARTS: [Part; 9] = [
    Part::Method,
    Part::Target,
    Part::Body,
    Part::Header("content-type"),
    Part::Header("x-agent-id"),
    Part::Header("x-timestamp"),
    Part::Header("x-nonce"),
    Part::Header("x-session-id"),
    Part::Header("x-signature"),
];

fn text_of(parts: &Parts, body: &[u8], part: Part) -> Vec<u8> {
    match part {
        Part::Method => parts.method.as_str().as_bytes().to_vec(),
        Part::Target => parts.uri.to_string().into_bytes(),
        Part::Body => body.to_vec(),
        Part::Header(name) => parts.headers.get(name).unwrap().as_bytes().to_vec(),
    }
}

/// The request with one part of another text; `None` where HTTP itself has no such request.
fn replaced(
    mut parts: Parts,
    mut body: Vec<u8>,
    part: Part,
    text: Vec<u8>,
) -> Option<(Parts, Vec<u8>)> {
    match part {
        Part::Method => parts.method = Method::from_bytes(&text).ok()?,
        Part::Target => {
            // The HTTP library would drop a fragment without a word; the guard in front of it does not.
            if text.contains(&b'#') {
                return None;
            }
            parts.uri = PathAndQuery::try_from(&text[..]).ok()?.into();
        }
        Part::Body => body = text,
        Part::Header(name) => {
            parts
                .headers
                .insert(HeaderName::from_static(name), HeaderValue::from_bytes(&text).ok()?);
        }
    }
    Some((parts, body))
}

/// Good requests without a JWT, so that the signature alone stands between them and the upstream.
fn signed(by_secret: bool) -> Forge {
    let signer = if by_secret { Signer::Secret } else { Signer::Session };
    Forge { signer, body: b"{\"a\":1}".to_vec(), ..Forge::in_session() }
        .edit_policy(|policy| policy.verify_jwt = false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_single_byte_can_be_changed(
        by_secret: bool,
        part in prop::sample::select(&PARTS[..]),
        at: prop::sample::Index,
        to: u8,
    ) {
        let forge = signed(by_secret);
        let (parts, body) = forge.request();
        if by_secret && matches!(part, Part::Header("x-session-id")) {
            return Ok(());
        }
        let mut text = text_of(&parts, &body, part);
        let at = at.index(text.len());
        prop_assume!(text[at] != to);
        text[at] = to;
        let Some((parts, body)) = replaced(parts, body, part, text) else { return Ok(()) };
        prop_assert!(forge.run_parts(parts, body).is_err());
    }

    #[test]
    fn nothing_can_be_added_or_cut_off(
        by_secret: bool,
        part in prop::sample::select(&PARTS[..]),
        at: prop::sample::Index,
        byte in prop::option::of(0x21u8..0x7f),
    ) {
        let forge = signed(by_secret);
        let (parts, body) = forge.request();
        if by_secret && matches!(part, Part::Header("x-session-id")) {
            return Ok(());
        }
        let mut text = text_of(&parts, &body, part);
        match byte {
            Some(byte) => {
                let at = at.index(text.len() + 1);
                text.insert(at, byte);
            }
            None => drop(text.remove(at.index(text.len()))),
        }
        let Some((parts, body)) = replaced(parts, body, part, text) else { return Ok(()) };
        prop_assert!(forge.run_parts(parts, body).is_err());
    }

    #[test]
    fn header_soup_is_never_admitted(
        headers in prop::collection::vec((name(), value()), 0..12),
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        target in prop::sample::select(vec![
            "/open", "/sensitive", "/nowhere", "/agent/session/start", "/agent/session/extend",
            "/agent/session/end", "/agent/token/refresh", "/agent/protected/echo",
            "/agent/enroll/start", "/agent/healthz",
        ]),
        body in prop::collection::vec(any::<u8>(), 0..40),
        strict: bool,
    ) {
        // Every short cut is open, so that little stands in the way.
        let mut forge = Forge::in_session().edit_agent(|agent| agent.legacy = true);
        if !strict {
            forge = forge.edit_policy(|policy| {
                policy.require_hmac = false;
                policy.verify_jwt = false;
                policy.allow_header_secret = true;
                policy.body_signatures = BodySignatures::Taken;
            });
        }
        let (mut parts, _) = forge.request();
        parts.method = Method::from_bytes(method.as_bytes()).unwrap();
        parts.uri = target.parse().unwrap();
        parts.headers = HeaderMap::new();
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value))
            {
                parts.headers.append(name, value);
            }
        }
        prop_assert!(forge.run_parts(parts, body).is_err());
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "x-agent-id", "x-timestamp", "x-nonce", "x-session-id", "x-signature", "authorization",
            "x-agent-secret", "content-type", "content-encoding", "host", "traceparent", "upgrade",
        ]).prop_map(str::to_owned),
        1 => "[a-z_-]{1,12}",
    ]
}

/// Values of right form that prove nothing, and rubbish. The one good JWT and the one good secret
/// are not among them.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let stranger = mint::eddsa(mint::KID, &mint::agent_claims(), 8);
    let unsigned = {
        let good = token();
        format!("Bearer {}.AAAA", good.rsplit_once('.').unwrap().0)
    };
    prop_oneof![
        8 => prop::sample::select(vec![
            AGENT.to_owned(),
            "1764000000000".to_owned(),
            "nonce-0123456789".to_owned(),
            session_id(5).expose().to_owned(),
            session_id(6).expose().to_owned(),
            secret(99).expose().to_owned(),
            format!("v2={}", "0".repeat(64)),
            "0".repeat(64),
            format!("Bearer {stranger}"),
            unsigned,
            "application/json".to_owned(),
            "identity".to_owned(),
        ]).prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => "v2=[0-9a-f]{64}".prop_map(String::into_bytes),
        1 => "[0-9a-f]{64}".prop_map(String::into_bytes),
        1 => "Bearer [A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,20}"
            .prop_map(String::into_bytes),
    ]
}

#[test]
fn the_unchanged_requests_pass() {
    assert_eq!(signed(true).verdict(), "ok");
    assert_eq!(signed(false).verdict(), "ok");
    let (parts, body) = signed(false).request();
    for part in PARTS {
        let text = text_of(&parts, &body, part);
        let (parts, body) = replaced(parts.clone(), body.clone(), part, text).unwrap();
        assert!(signed(false).run_parts(parts, body).is_ok(), "{part:?}");
    }
}
