//! Who may ask for a code, and who may complete with it.

use serde_json::{Value, json};

use super::*;
use crate::tests::mint::{self, AUDIENCE, NOW_SEC, base64url};
use crate::time::WallMs;
use crate::verify::jwt::VerifyingKey;
use crate::verify::owner::{OwnerKeys, OwnerRules};

const SEED: u8 = 31;

fn owner() -> Owner {
    let keys = mint::ring(&[("ed", VerifyingKey::Ed25519(mint::ed25519_public(7)))]);
    let rules = OwnerRules {
        scopes: vec![Scope::parse("chat").unwrap(), Scope::parse("read").unwrap()],
        ..OwnerRules::default()
    };
    let claims = json!({"sub": "owner-1", "exp": NOW_SEC + 600});
    let token = mint::eddsa("ed", &claims, 7);
    Owner::verify(&token, &OwnerKeys::Set(keys), &rules, WallMs(NOW_SEC * 1000)).unwrap()
}

fn judge(asked: Value) -> Result<Grant, Rejection> {
    Grant::judge(&owner(), serde_json::from_value(asked).unwrap())
}

#[track_caller]
fn assert_malformed<T: std::fmt::Debug>(result: Result<T, Rejection>) {
    assert!(matches!(result, Err(Rejection::Malformed(_))), "{result:?}");
}

#[test]
fn an_owner_grants_what_it_has() {
    let grant = judge(json!({
        "alias": "north 7", "platform": "linux", "scopes": ["chat"],
        "allowed_cidrs": ["10.0.0.0/8", "2001:db8::/32"], "metadata": {"a": 1},
        "key_thumbprint": "A".repeat(43),
    }))
    .unwrap();
    assert_eq!(grant.allowed_cidrs.len(), 2);
    assert_eq!(grant.scopes.len(), 1);
    assert!(judge(json!({})).is_ok());
    for beyond in [json!(["admin"]), json!(["chat", "admin"])] {
        let refusal = judge(json!({"scopes": beyond})).unwrap_err();
        assert!(matches!(refusal, Rejection::OwnerNotAllowed(_)), "{refusal:?}");
    }
}

#[test]
fn members_of_a_grant_have_their_forms() {
    for bad in ["10.0.0.0", "10.0.0.0/33", "x", "", "10.0.0.0/8,11.0.0.0/8"] {
        assert_malformed(judge(json!({"allowed_cidrs": [bad]})));
    }
    for name in ["alias", "platform"] {
        assert_malformed(judge(json!({name: "x".repeat(129)})));
        assert_malformed(judge(json!({name: "two\nlines"})));
        assert_malformed(judge(json!({name: "\u{1b}[31m"})));
        assert!(judge(json!({name: "é".repeat(128)})).is_ok());
    }
    for bad in ["", "x", &"A".repeat(44), &format!("{}=", "A".repeat(43))] {
        assert_malformed(judge(json!({"key_thumbprint": bad})));
    }
}

fn challenge() -> Challenge {
    Challenge::from_random(&[4; 32])
}

/// A completion by the key of `seed`, signed for these.
fn completion(audience: &str, code: &str, challenge: &Challenge, seed: u8) -> Completion {
    let key = DevicePublicKey::Ed25519(mint::ed25519_public(seed));
    let code_read = EnrollCode::parse(code).unwrap();
    let message = enroll_message(audience, &code_read, challenge, &key.thumbprint());
    let signature = base64url(mint::ed25519(seed).sign(message.as_bytes()).as_ref());
    let asked = json!({"enroll_code": code, "public_key": key.jwk(), "signature": signature});
    Completion::judge(serde_json::from_value(asked).unwrap()).unwrap()
}

#[test]
fn only_the_device_key_over_this_code_and_challenge_completes() {
    let code = "abcd-ol1i-0123";
    let good = || completion(AUDIENCE, code, &challenge(), SEED);
    let thumbprint = good().key.thumbprint();
    assert!(good().prove(AUDIENCE, &challenge(), None).is_ok());
    assert!(good().prove(AUDIENCE, &challenge(), Some(&thumbprint)).is_ok());
    let other = Challenge::from_random(&[5; 32]);
    for refused in [
        good().prove(AUDIENCE, &challenge(), Some("another")),
        good().prove(AUDIENCE, &challenge(), Some("")),
        good().prove("staging", &challenge(), None),
        good().prove(AUDIENCE, &other, None),
        completion(AUDIENCE, code, &other, SEED).prove(AUDIENCE, &challenge(), None),
        Completion { key: completion(AUDIENCE, code, &challenge(), SEED + 1).key, ..good() }.prove(
            AUDIENCE,
            &challenge(),
            None,
        ),
        Completion { code: EnrollCode::parse("ABCD-0111-0124").unwrap(), ..good() }.prove(
            AUDIENCE,
            &challenge(),
            None,
        ),
        Completion { signature: base64url(&[0; 64]), ..good() }.prove(AUDIENCE, &challenge(), None),
        Completion { signature: String::new(), ..good() }.prove(AUDIENCE, &challenge(), None),
    ] {
        assert_eq!(refused.unwrap_err(), Rejection::EnrollCode);
    }
}

#[test]
fn a_completion_has_its_form() {
    let of = |code: &str, key: Value| {
        let asked = json!({"enroll_code": code, "public_key": key, "signature": "x"});
        Completion::judge(serde_json::from_value(asked).unwrap())
    };
    let key = DevicePublicKey::Ed25519(mint::ed25519_public(SEED)).jwk();
    assert!(of("ABCD-0111-0123", key.clone()).is_ok());
    for bad in ["", "ABCD", "ABCD-0111-012U", &"A".repeat(33)] {
        assert_eq!(of(bad, key.clone()).unwrap_err(), Rejection::EnrollCode, "{bad}");
    }
    for bad in [json!(null), json!("x"), json!({"kty": "oct", "k": "AA"}), json!("A".repeat(43))] {
        assert_malformed(of("ABCD-0111-0123", bad));
    }
}
