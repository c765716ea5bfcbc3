//! Agents' JWTs: what is taken, and every way not to be.

use std::collections::HashMap;

use edgeward_wire::AgentId;
use serde_json::{Value, json};

use super::*;
use crate::tests::mint::{
    self, AGENT, AUDIENCE, ISSUER, KID, NOW_SEC, agent_claims, base64url, with, without,
};

const NOW: WallMs = WallMs(NOW_SEC * 1000);
const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT","kid":"ed-1"}"#;

fn ring() -> JwtKeys {
    let keys = mint::ring(&[
        (KID, VerifyingKey::Ed25519(mint::ed25519_public(7))),
        ("ed-2", VerifyingKey::Ed25519(mint::ed25519_public(8))),
        ("ec-1", VerifyingKey::P256(mint::p256_public())),
    ]);
    JwtKeys { keys, generation: 4 }
}

fn verify(text: &str) -> Result<VerifiedToken, JwtFault> {
    VerifiedToken::verify(text, &ring(), Expected { issuer: ISSUER, audience: AUDIENCE })
}

/// Verifies, and checks for the agent, its epoch and the moment of all tests.
fn outcome(text: &str) -> Result<(), JwtFault> {
    verify(text)?.check(AgentId::parse(AGENT).unwrap(), 3, NOW)
}

fn of(claims: &Value) -> Result<(), JwtFault> {
    outcome(&mint::eddsa(KID, claims, 7))
}

fn with_header(header: &str) -> Result<(), JwtFault> {
    outcome(&mint::raw(header, &agent_claims().to_string()))
}

fn with_claims(claims: &str) -> Result<(), JwtFault> {
    outcome(&mint::raw(HEADER, claims))
}

#[test]
fn good_tokens_pass() {
    let token = verify(&mint::eddsa(KID, &agent_claims(), 7)).unwrap();
    assert_eq!(token.subject().to_string(), AGENT);
    assert_eq!(token.owner.as_str(), "owner-1");
    assert_eq!(token.scopes.len(), 1);
    assert_eq!(token.expires_at(), WallMs((NOW_SEC + 600) * 1000));
    assert_eq!(of(&agent_claims()), Ok(()));
    assert_eq!(outcome(&mint::eddsa("ed-2", &agent_claims(), 8)), Ok(()));
    assert_eq!(outcome(&mint::es256("ec-1", &agent_claims())), Ok(()));
    assert_eq!(with_header(HEADER), Ok(()));
    let raw =
        mint::raw_p256(r#"{"alg":"ES256","typ":"JWT","kid":"ec-1"}"#, &agent_claims().to_string());
    assert_eq!(outcome(&raw), Ok(()));
    // Mere information is passed over.
    assert_eq!(with_header(r#"{"alg":"EdDSA","typ":"JWT","kid":"ed-1","x":1}"#), Ok(()));
    assert_eq!(of(&with(&agent_claims(), "more", json!({"a": [1]}))), Ok(()));
}

#[test]
fn what_is_not_three_parts_of_strict_base64url_has_no_form() {
    let good = mint::eddsa(KID, &agent_claims(), 7);
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{good}") };
    let bad = [
        String::new(),
        "..".to_owned(),
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{good}.{signature}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}=.{signature}"),
        format!("{good}=="),
        format!("{good}="),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        good.replacen('.', "..", 1),
        good.replace('_', "/").replace('-', "+") + "+/",
        format!("{}.{claims}.{signature}", base64url(b"[]")),
        format!("{}.{claims}.{signature}", base64url(b"\"EdDSA\"")),
        format!("{}.{claims}.{signature}", base64url(b"{}{}")),
        format!("{header}.{}.{signature}", base64url(b"[1]")),
        format!("{header}.{}.{signature}", base64url(b"not json")),
        format!("{header}.{}.{signature}", base64url(b"\xff")),
    ];
    for text in bad {
        assert_eq!(outcome(&text), Err(JwtFault::Form), "{text}");
    }
}

#[test]
fn spare_bits_of_base64url_must_be_zero() {
    // Every length class: 64 bytes of signature leave four spare bits in the last character.
    let good = mint::eddsa(KID, &agent_claims(), 7);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = good.as_bytes()[good.len() - 1];
    let at = alphabet.iter().position(|byte| *byte == last).unwrap();
    assert_eq!(at % 16, 0);
    for spare in 1..16 {
        let other = format!("{}{}", &good[..good.len() - 1], char::from(alphabet[at + spare]));
        assert_eq!(outcome(&other), Err(JwtFault::Form), "{spare}");
    }
}

#[test]
fn a_token_is_at_most_8_kib() {
    let padded = |pad: usize| {
        mint::raw(HEADER, &with(&agent_claims(), "pad", "x".repeat(pad).into()).to_string())
    };
    let longest = (0..8000).rev().map(padded).find(|text| text.len() <= 8192).unwrap();
    assert!(longest.len() > 8188, "{}", longest.len());
    assert_eq!(outcome(&longest), Ok(()));
    let long = padded(8000);
    assert!(long.len() > 8192);
    assert_eq!(outcome(&long), Err(JwtFault::Form));
}

#[test]
fn header_members_that_change_how_a_token_is_read_are_refused() {
    for member in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""jku":"https://evil.example/jwks""#,
        r#""x5u":"https://evil.example/x""#,
        r#""x5c":["AA"]"#,
        r#""jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#,
        r#""zip":"DEF""#,
        r#""enc":"A256GCM""#,
        r#""cty":"JWT""#,
    ] {
        let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"ed-1",{member}}}"#);
        assert_eq!(with_header(&header), Err(JwtFault::Header), "{member}");
    }
}

#[test]
fn typ_alg_and_kid_have_one_form() {
    for header in [
        r#"{"alg":"EdDSA","kid":"ed-1"}"#,
        r#"{"alg":"EdDSA","typ":"jwt","kid":"ed-1"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"ed-1"}"#,
        r#"{"alg":"EdDSA","typ":"","kid":"ed-1"}"#,
        r#"{"alg":"EdDSA","typ":null,"kid":"ed-1"}"#,
        r#"{"alg":"EdDSA","typ":["JWT"],"kid":"ed-1"}"#,
        r#"{"alg":"EdDSA","typ":"JWT"}"#,
        r#"{"alg":"EdDSA","typ":"JWT","kid":null}"#,
        r#"{"alg":"EdDSA","typ":"JWT","kid":""}"#,
        r#"{"alg":"EdDSA","typ":"JWT","kid":1}"#,
        r#"{"typ":"JWT","kid":"ed-1"}"#,
        r#"{"alg":null,"typ":"JWT","kid":"ed-1"}"#,
        r#"{"alg":["EdDSA"],"typ":"JWT","kid":"ed-1"}"#,
    ] {
        assert_eq!(with_header(header), Err(JwtFault::Header), "{header}");
    }
    let long = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"}}"#, "k".repeat(257));
    assert_eq!(with_header(&long), Err(JwtFault::Header));
}

#[test]
fn the_key_fixes_the_algorithm() {
    for alg in [
        "none", "None", "NONE", "nOnE", "", "eddsa", "EDDSA", "Ed25519", "HS256", "ES256", "RS256",
        "HS512",
    ] {
        let header = format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"ed-1"}}"#);
        assert_eq!(with_header(&header), Err(JwtFault::Algorithm), "{alg}");
    }
    // Signed by the other key, in the algorithm of the other key.
    let crossed = mint::es256(KID, &agent_claims());
    assert_eq!(outcome(&crossed), Err(JwtFault::Algorithm));
    let crossed = mint::eddsa("ec-1", &agent_claims(), 7);
    assert_eq!(outcome(&crossed), Err(JwtFault::Algorithm));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    for (kid, public) in
        [(KID, mint::ed25519_public(7).to_vec()), ("ec-1", mint::p256_public().to_vec())]
    {
        let key = jsonwebtoken::EncodingKey::from_secret(&public);
        let header = jsonwebtoken::Header {
            kid: Some(kid.to_owned()),
            ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
        };
        let token = jsonwebtoken::encode(&header, &agent_claims(), &key).unwrap();
        assert_eq!(outcome(&token), Err(JwtFault::Algorithm), "{kid}");
        // Nor when the header lies about the algorithm.
        let (_, rest) = token.split_once('.').unwrap();
        let lie = if kid == KID { "EdDSA" } else { "ES256" };
        let header =
            base64url(format!(r#"{{"alg":"{lie}","typ":"JWT","kid":"{kid}"}}"#).as_bytes());
        assert_eq!(outcome(&format!("{header}.{rest}")), Err(JwtFault::Signature), "{kid}");
    }
}

#[test]
fn no_member_stands_twice() {
    for header in [
        r#"{"alg":"none","alg":"EdDSA","typ":"JWT","kid":"ed-1"}"#,
        r#"{"alg":"EdDSA","typ":"JWT","kid":"ed-1","kid":"ed-1"}"#,
        r#"{"alg":"EdDSA","typ":"JWT","kid":"ed-1","x":1,"x":1}"#,
    ] {
        assert_eq!(with_header(header), Err(JwtFault::Form), "{header}");
    }
    let claims = agent_claims().to_string();
    for member in
        [format!(r#""sub":"{AGENT}""#), r#""epoch":3"#.to_owned(), r#""exp":9999999999"#.to_owned()]
    {
        let twice = format!("{},{member}}}", &claims[..claims.len() - 1]);
        assert_eq!(with_claims(&twice), Err(JwtFault::Form), "{member}");
    }
    let nested = format!(r#"{},"x":{{"a":1,"a":2}}}}"#, &claims[..claims.len() - 1]);
    assert_eq!(with_claims(&nested), Err(JwtFault::Form));
}

#[test]
fn dates_are_whole_seconds_of_sane_size() {
    for name in ["exp", "nbf", "iat"] {
        for bad in [
            json!(-1),
            json!(0),
            json!(1.5),
            json!(1_764_000_000.0),
            json!(1e300),
            json!("1764000000"),
            json!(null),
            json!(true),
            json!(u64::MAX),
            json!(NOW_SEC * 1000),
            json!([NOW_SEC]),
            json!(999_999_999),
            json!(10_000_000_000u64),
        ] {
            let claims = with(&agent_claims(), name, bad.clone());
            assert_eq!(of(&claims), Err(JwtFault::Claims), "{name}: {bad}");
        }
    }
    let text = agent_claims().to_string();
    for bad in ["18446744073709551616", "1e400", "1764000600.5"] {
        let claims = text.replace(&(NOW_SEC + 600).to_string(), bad);
        assert_ne!(claims, text);
        assert!(with_claims(&claims).is_err(), "{bad}");
    }
}

#[test]
fn no_claim_may_be_missing_or_of_another_type() {
    for (name, fault) in [
        ("iss", JwtFault::Issuer),
        ("aud", JwtFault::Audience),
        ("sub", JwtFault::Claims),
        ("owner_user_id", JwtFault::Claims),
        ("scopes", JwtFault::Claims),
        ("epoch", JwtFault::Claims),
        ("iat", JwtFault::Claims),
        ("nbf", JwtFault::Claims),
        ("exp", JwtFault::Claims),
        ("jti", JwtFault::Claims),
    ] {
        assert_eq!(of(&without(&agent_claims(), name)), Err(fault), "{name}");
        for other in [json!({}), json!(null), json!([[]]), json!(true)] {
            assert_eq!(
                of(&with(&agent_claims(), name, other.clone())),
                Err(fault),
                "{name}: {other}"
            );
        }
    }
    for bad in [json!("not a uuid"), json!(AGENT.to_uppercase()), json!("")] {
        assert_eq!(of(&with(&agent_claims(), "sub", bad)), Err(JwtFault::Claims));
    }
    for bad in [json!(["a b"]), json!(["chat", 1]), json!("chat"), json!([""])] {
        assert_eq!(of(&with(&agent_claims(), "scopes", bad)), Err(JwtFault::Claims));
    }
    for bad in [json!(3.0), json!(-3), json!("3")] {
        assert_eq!(of(&with(&agent_claims(), "epoch", bad)), Err(JwtFault::Claims));
    }
}

#[test]
fn issuer_and_audience_are_ours() {
    for bad in ["", "https://edge.example/", "https://EDGE.example", "https://other.example"] {
        assert_eq!(of(&with(&agent_claims(), "iss", bad.into())), Err(JwtFault::Issuer), "{bad}");
    }
    assert_eq!(of(&with(&agent_claims(), "iss", json!([ISSUER]))), Err(JwtFault::Issuer));
    for bad in [
        json!("other"),
        json!(""),
        json!([]),
        json!(["other", 1]),
        json!([[AUDIENCE]]),
        json!("fleet-test2"),
    ] {
        assert_eq!(
            of(&with(&agent_claims(), "aud", bad.clone())),
            Err(JwtFault::Audience),
            "{bad}"
        );
    }
    assert_eq!(of(&with(&agent_claims(), "aud", json!(["other", AUDIENCE]))), Ok(()));
}

#[test]
fn another_key_signs_nothing() {
    assert_eq!(outcome(&mint::eddsa(KID, &agent_claims(), 8)), Err(JwtFault::Signature));
    for kid in ["ed-3", "ED-1", "ed-1 ", "../ed-1"] {
        assert_eq!(
            outcome(&mint::eddsa(kid, &agent_claims(), 7)),
            Err(JwtFault::UnknownKey),
            "{kid}"
        );
    }
    let empty = JwtKeys { keys: HashMap::new(), generation: 4 };
    let token = mint::eddsa(KID, &agent_claims(), 7);
    let expected = Expected { issuer: ISSUER, audience: AUDIENCE };
    assert_eq!(VerifiedToken::verify(&token, &empty, expected).unwrap_err(), JwtFault::UnknownKey);
}

#[test]
fn a_changed_claim_or_header_breaks_the_signature() {
    let good = mint::eddsa(KID, &agent_claims(), 7);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    for claims in [
        with(&agent_claims(), "scopes", json!(["chat", "admin"])),
        with(&agent_claims(), "exp", json!(NOW_SEC + 601)),
        with(&agent_claims(), "epoch", json!(4)),
    ] {
        let changed = format!("{header}.{}.{signature}", base64url(claims.to_string().as_bytes()));
        assert_eq!(outcome(&changed), Err(JwtFault::Signature));
    }
    let (_, claims) = signed.split_once('.').unwrap();
    let spaced = base64url(HEADER.replace(',', ", ").as_bytes());
    assert_eq!(outcome(&format!("{spaced}.{claims}.{signature}")), Err(JwtFault::Signature));
    for length in [1usize, 63, 65, 128] {
        let other = format!("{signed}.{}", base64url(&vec![0; length]));
        assert_eq!(outcome(&other), Err(JwtFault::Signature), "{length}");
    }
}

#[test]
fn ecdsa_signatures_are_r_and_s_and_not_der() {
    let good = mint::es256("ec-1", &agent_claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    let pair = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        mint::p256().to_pkcs8v1().unwrap().as_ref(),
    )
    .unwrap();
    let der = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), signed.as_bytes()).unwrap();
    let other = format!("{signed}.{}", base64url(der.as_ref()));
    assert_eq!(outcome(&other), Err(JwtFault::Signature));
}

#[test]
fn a_token_lives_from_its_start_to_its_end() {
    let exp = |exp: u64| of(&with(&agent_claims(), "exp", exp.into()));
    assert_eq!(exp(NOW_SEC), Err(JwtFault::Expired));
    assert_eq!(exp(NOW_SEC - 1), Err(JwtFault::Expired));
    assert_eq!(exp(NOW_SEC + 1), Ok(()));
    for name in ["nbf", "iat"] {
        let start = |at: u64| of(&with(&agent_claims(), name, at.into()));
        assert_eq!(start(NOW_SEC + 5), Ok(()), "{name}");
        assert_eq!(start(NOW_SEC + 6), Err(JwtFault::NotYetValid), "{name}");
    }
    // The last millisecond.
    let token = verify(&mint::eddsa(KID, &agent_claims(), 7)).unwrap();
    let agent = token.subject();
    let end = WallMs((NOW_SEC + 600) * 1000);
    assert_eq!(token.check(agent, 3, end.minus(1)), Ok(()));
    assert_eq!(token.check(agent, 3, end), Err(JwtFault::Expired));
}

#[test]
fn a_token_is_of_one_agent_at_one_epoch() {
    let token = verify(&mint::eddsa(KID, &agent_claims(), 7)).unwrap();
    let agent = token.subject();
    assert_eq!(token.check(agent, 3, NOW), Ok(()));
    for epoch in [2, 4, 0, u64::MAX] {
        assert_eq!(token.check(agent, epoch, NOW), Err(JwtFault::Epoch));
    }
    assert_eq!(token.check(AgentId::from_bytes([9; 16]), 3, NOW), Err(JwtFault::Subject));
}

#[test]
fn another_generation_of_the_ring_forgets_a_token() {
    let token = verify(&mint::eddsa(KID, &agent_claims(), 7)).unwrap();
    assert!(token.is_of(4));
    assert!(!token.is_of(5));
    assert!(!token.is_of(3));
}

#[test]
fn neither_keys_nor_tokens_are_shown() {
    let shown = format!("{:?}", ring());
    assert!(!shown.contains("208"), "{shown}");
    let key = VerifyingKey::Hmac(Arc::new(Zeroizing::new(vec![42; 32])));
    assert_eq!(format!("{key:?}"), "VerifyingKey(HS256)");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        proptest::prop_assert!(outcome(&text).is_err());
    }

    #[test]
    fn no_changed_byte_passes(at in 0usize..2000, to in 0u8..128) {
        let mut token = mint::eddsa(KID, &agent_claims(), 7).into_bytes();
        let at = at % token.len();
        proptest::prop_assume!(token[at] != to);
        token[at] = to;
        proptest::prop_assert!(outcome(std::str::from_utf8(&token).unwrap()).is_err());
    }

    #[test]
    fn no_random_parts_panic(header in ".{0,80}", claims in ".{0,80}", signature: Vec<u8>) {
        let text = format!("{}.{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()), base64url(&signature));
        proptest::prop_assert!(outcome(&text).is_err());
    }
}
