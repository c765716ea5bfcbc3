//! Owners' JWTs, of issuers of many kinds.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512};
use serde_json::json;
use zeroize::Zeroizing;

use super::*;
use crate::tests::mint::{self, NOW_SEC, base64url, with, without};

const NOW: WallMs = WallMs(NOW_SEC * 1000);
const SHARED: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

fn rsa() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}

fn rsa_public() -> VerifyingKey {
    let public = rsa().public_key();
    VerifyingKey::Rsa {
        n: public.modulus().big_endian_without_leading_zero().to_vec(),
        e: public.exponent().big_endian_without_leading_zero().to_vec(),
    }
}

fn claims() -> Value {
    json!({"sub": "owner-1", "exp": NOW_SEC + 600, "iat": NOW_SEC - 5, "role": "authenticated"})
}

fn set() -> OwnerKeys {
    OwnerKeys::Set(mint::ring(&[
        ("ed", VerifyingKey::Ed25519(mint::ed25519_public(7))),
        ("ec", VerifyingKey::P256(mint::p256_public())),
        ("rsa", rsa_public()),
    ]))
}

fn shared(secret: &[u8]) -> OwnerKeys {
    OwnerKeys::Shared(VerifyingKey::Hmac(Arc::new(Zeroizing::new(secret.to_vec()))))
}

fn rs256(kid: &str, alg: &str, claims: &Value, sha512: bool) -> String {
    let header = format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"{kid}"}}"#);
    let signed =
        format!("{}.{}", base64url(header.as_bytes()), base64url(claims.to_string().as_bytes()));
    let mut signature = vec![0; rsa().public_modulus_len()];
    let padding = if sha512 { &RSA_PKCS1_SHA512 } else { &RSA_PKCS1_SHA256 };
    rsa().sign(padding, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", base64url(&signature))
}

fn hs256(secret: &[u8], kid: Option<&str>, claims: &Value) -> String {
    let header = jsonwebtoken::Header {
        kid: kid.map(str::to_owned),
        ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
    };
    jsonwebtoken::encode(&header, claims, &jsonwebtoken::EncodingKey::from_secret(secret)).unwrap()
}

fn verify(text: &str, keys: &OwnerKeys, rules: &OwnerRules) -> Result<Owner, OwnerFault> {
    Owner::verify(text, keys, rules, NOW)
}

fn fault(result: Result<Owner, OwnerFault>) -> JwtFault {
    match result {
        Err(OwnerFault::Token(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// With the rules and the claims, by the shared secret.
fn by(claims: &Value, rules: &OwnerRules) -> Result<Owner, OwnerFault> {
    verify(&hs256(SHARED, None, claims), &shared(SHARED), rules)
}

fn refused(result: Result<Owner, OwnerFault>) -> bool {
    matches!(result, Err(OwnerFault::Refused(_)))
}

fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}

#[test]
fn each_kind_of_key_in_a_set_verifies_its_own() {
    let rules = OwnerRules::default();
    for token in [
        mint::eddsa("ed", &claims(), 7),
        mint::es256("ec", &claims()),
        rs256("rsa", "RS256", &claims(), false),
    ] {
        let owner = verify(&token, &set(), &rules).unwrap();
        assert_eq!(owner.id().as_str(), "owner-1");
    }
    assert_eq!(
        fault(verify(&mint::eddsa("ed", &claims(), 8), &set(), &rules)),
        JwtFault::Signature
    );
    assert_eq!(
        fault(verify(&mint::eddsa("no", &claims(), 7), &set(), &rules)),
        JwtFault::UnknownKey
    );
    assert_eq!(
        fault(verify(&mint::eddsa("rsa", &claims(), 7), &set(), &rules)),
        JwtFault::Algorithm
    );
    let rs512 = rs256("rsa", "RS512", &claims(), true);
    assert_eq!(fault(verify(&rs512, &set(), &rules)), JwtFault::Algorithm);
    let mixed = rs256("rsa", "RS256", &claims(), true);
    assert_eq!(fault(verify(&mixed, &set(), &rules)), JwtFault::Signature);
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let VerifyingKey::Rsa { n, .. } = rsa_public() else { panic!("not RSA") };
    for (kid, secret) in [("rsa", n), ("ed", mint::ed25519_public(7).to_vec())] {
        let token = hs256(&secret, Some(kid), &claims());
        let result = verify(&token, &set(), &OwnerRules::default());
        assert_eq!(fault(result), JwtFault::Algorithm, "{kid}");
    }
    let none = mint::raw(r#"{"alg":"none","typ":"JWT","kid":"ed"}"#, &claims().to_string());
    assert_eq!(fault(verify(&none, &set(), &OwnerRules::default())), JwtFault::Algorithm);
}

#[test]
fn a_key_needs_a_name_where_there_are_several() {
    let nameless = mint::raw(r#"{"alg":"EdDSA"}"#, &claims().to_string());
    let rules = OwnerRules::default();
    assert_eq!(fault(verify(&nameless, &set(), &rules)), JwtFault::UnknownKey);
    let one = OwnerKeys::Set(mint::ring(&[("ed", VerifyingKey::Ed25519(mint::ed25519_public(7)))]));
    assert!(verify(&nameless, &one, &rules).is_ok());
    let none = OwnerKeys::Set(HashMap::new());
    assert_eq!(fault(verify(&nameless, &none, &rules)), JwtFault::UnknownKey);
    // A name that is given must be right, also where there is one key.
    assert_eq!(fault(verify(&mint::eddsa("x", &claims(), 7), &one, &rules)), JwtFault::UnknownKey);
}

#[test]
fn a_shared_secret_needs_no_name_and_32_bytes() {
    let rules = OwnerRules::default();
    assert!(verify(&hs256(SHARED, None, &claims()), &shared(SHARED), &rules).is_ok());
    assert!(verify(&hs256(SHARED, Some("any"), &claims()), &shared(SHARED), &rules).is_ok());
    let other = hs256(b"another-secret-of-32-bytes-xxxxx", None, &claims());
    assert_eq!(fault(verify(&other, &shared(SHARED), &rules)), JwtFault::Signature);
    for short in [&b""[..], b"x", &SHARED[..31]] {
        let token = hs256(short, None, &claims());
        assert_eq!(fault(verify(&token, &shared(short), &rules)), JwtFault::Signature);
    }
    let eddsa = mint::eddsa("ed", &claims(), 7);
    assert_eq!(fault(verify(&eddsa, &shared(SHARED), &rules)), JwtFault::Algorithm);
}

#[test]
fn the_gate_stands_before_owners_tokens_too() {
    let rules = OwnerRules::default();
    let with_header =
        |header: &str| fault(verify(&mint::raw(header, &claims().to_string()), &set(), &rules));
    assert_eq!(with_header(r#"{"alg":"EdDSA","kid":"ed","crit":["x"]}"#), JwtFault::Header);
    assert_eq!(with_header(r#"{"alg":"EdDSA","kid":"ed","b64":false}"#), JwtFault::Header);
    assert_eq!(with_header(r#"{"alg":"EdDSA","kid":"ed","typ":"at+jwt"}"#), JwtFault::Header);
    assert_eq!(with_header(r#"{"alg":"EdDSA","kid":"ed","kid":"ed"}"#), JwtFault::Form);
    let untyped = mint::raw(r#"{"alg":"EdDSA","kid":"ed"}"#, &claims().to_string());
    assert!(verify(&untyped, &set(), &rules).is_ok());
}

#[test]
fn dates_hold_within_30_seconds() {
    let rules = OwnerRules::default();
    let dated = |name: &str, at: u64| by(&with(&claims(), name, at.into()), &rules);
    assert!(dated("exp", NOW_SEC - 29).is_ok());
    assert_eq!(fault(dated("exp", NOW_SEC - 30)), JwtFault::Expired);
    for name in ["nbf", "iat"] {
        assert!(dated(name, NOW_SEC + 30).is_ok(), "{name}");
        assert_eq!(fault(dated(name, NOW_SEC + 31)), JwtFault::NotYetValid, "{name}");
    }
    assert_eq!(fault(by(&without(&claims(), "exp"), &rules)), JwtFault::Claims);
    assert!(by(&without(&claims(), "iat"), &rules).is_ok());
    for bad in [json!(1.5), json!("1764000600"), json!(null), json!(-1)] {
        assert_eq!(fault(by(&with(&claims(), "exp", bad), &rules)), JwtFault::Claims);
    }
}

#[test]
fn issuer_and_audience_where_they_are_set() {
    let rules = OwnerRules {
        issuer: Some("https://issuer.example".to_owned()),
        audience: Some("edgeward".to_owned()),
        ..OwnerRules::default()
    };
    let good =
        with(&with(&claims(), "iss", "https://issuer.example".into()), "aud", "edgeward".into());
    assert!(by(&good, &rules).is_ok());
    assert!(by(&with(&good, "aud", json!(["x", "edgeward"])), &rules).is_ok());
    assert_eq!(
        fault(by(&with(&good, "iss", "https://issuer.example/".into()), &rules)),
        JwtFault::Issuer
    );
    assert_eq!(fault(by(&without(&good, "iss"), &rules)), JwtFault::Issuer);
    assert_eq!(fault(by(&with(&good, "aud", "authenticated".into()), &rules)), JwtFault::Audience);
    assert_eq!(fault(by(&without(&good, "aud"), &rules)), JwtFault::Audience);
    assert!(by(&claims(), &OwnerRules::default()).is_ok());
}

#[test]
fn anonymous_owners_are_refused() {
    let rules = OwnerRules::default();
    assert!(by(&with(&claims(), "is_anonymous", false.into()), &rules).is_ok());
    for flag in [json!(true), json!("true"), json!(1), json!(null), json!("false")] {
        assert!(refused(by(&with(&claims(), "is_anonymous", flag.clone()), &rules)), "{flag}");
    }
}

#[test]
fn roles_where_they_are_set() {
    let rules = OwnerRules {
        roles: vec!["operator".to_owned(), "authenticated".to_owned()],
        ..OwnerRules::default()
    };
    assert!(by(&claims(), &rules).is_ok());
    for bad in [json!("anon"), json!("Authenticated"), json!(["operator"]), json!(""), json!(null)]
    {
        assert!(refused(by(&with(&claims(), "role", bad.clone()), &rules)), "{bad}");
    }
    assert!(refused(by(&without(&claims(), "role"), &rules)));
    assert!(by(&without(&claims(), "role"), &OwnerRules::default()).is_ok());
}

#[test]
fn an_owner_has_a_name() {
    for bad in
        [json!(""), json!(1), json!("a b"), json!("a,b"), json!("x".repeat(129)), json!(null)]
    {
        let result = by(&with(&claims(), "sub", bad.clone()), &OwnerRules::default());
        assert_eq!(fault(result), JwtFault::Claims, "{bad}");
    }
    assert_eq!(fault(by(&without(&claims(), "sub"), &OwnerRules::default())), JwtFault::Claims);
}

#[test]
fn scopes_are_granted_by_claim_and_by_setting_and_by_nothing_else() {
    let granted = |claim: Option<Value>, named: Option<&str>, all: &[&str]| {
        let rules = OwnerRules {
            scopes_claim: named.map(str::to_owned),
            scopes: all.iter().map(|text| scope(text)).collect(),
            ..OwnerRules::default()
        };
        let claims = claim.map_or_else(claims, |claim| with(&claims(), "scope", claim));
        by(&claims, &rules).unwrap()
    };
    let nobody = granted(Some(json!("chat read")), None, &[]);
    assert!(nobody.may_grant(&[]));
    assert!(!nobody.may_grant(&[scope("chat")]));
    for claim in [json!("chat read"), json!(["chat", "read"]), json!(["chat", 1, "read", "a b"])] {
        let owner = granted(Some(claim.clone()), Some("scope"), &[]);
        assert!(owner.may_grant(&[scope("read"), scope("chat")]), "{claim}");
        assert!(!owner.may_grant(&[scope("chat"), scope("admin")]), "{claim}");
        assert!(!owner.may_grant(&[scope("cha")]), "{claim}");
    }
    for claim in [json!(null), json!(1), json!({"chat": true}), json!("chat,read")] {
        assert!(!granted(Some(claim), Some("scope"), &[]).may_grant(&[scope("chat")]));
    }
    let by_setting = granted(None, Some("scope"), &["chat"]);
    assert!(by_setting.may_grant(&[scope("chat")]));
    assert!(!by_setting.may_grant(&[scope("read")]));
    let both = granted(Some(json!("read")), Some("scope"), &["chat"]);
    assert!(both.may_grant(&[scope("chat"), scope("read")]));
}
