use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};

use super::*;

fn ed25519() -> (Ed25519KeyPair, DevicePublicKey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let raw = pair.public_key().as_ref().try_into().unwrap();
    (pair, DevicePublicKey::ed25519(raw).unwrap())
}

#[test]
fn thumbprint_matches_the_example_of_rfc_8037() {
    // RFC 8037, appendix A.3.
    let jwk =
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let key = DevicePublicKey::read(&jwk).unwrap();
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(key.jwk(), jwk);
}

#[test]
fn every_form_of_one_key_reads_the_same() {
    let (pair, key) = ed25519();
    let raw = pair.public_key().as_ref();
    let der = [SPKI_ED25519, raw].concat();
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    for form in [key.jwk(), json!(pem), json!(base64url(raw))] {
        assert_eq!(DevicePublicKey::read(&form), Ok(key));
    }
}

#[test]
fn ed25519_accepts_its_own_signature_only() {
    let (pair, key) = ed25519();
    let good = base64url(pair.sign(b"message").as_ref());
    assert!(key.accepts(b"message", &good));
    assert!(!key.accepts(b"messagE", &good));
    assert!(!key.accepts(b"message", &good[..85]));
    assert!(!key.accepts(b"message", ""));
}

#[test]
fn p256_accepts_its_own_signature_in_fixed_form() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let key = DevicePublicKey::P256 {
        x: point[1..33].try_into().unwrap(),
        y: point[33..].try_into().unwrap(),
    };
    assert_eq!(DevicePublicKey::read(&key.jwk()), Ok(key));
    let der = [SPKI_P256, point].concat();
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(der));
    assert_eq!(DevicePublicKey::read(&json!(pem)), Ok(key));
    let good = base64url(pair.sign(&SystemRandom::new(), b"message").unwrap().as_ref());
    assert!(key.accepts(b"message", &good));
    assert!(!key.accepts(b"other", &good));
}

#[test]
fn small_order_and_non_canonical_keys_are_refused() {
    let mut two_to_255_less_1 = [0xff; 32];
    two_to_255_less_1[31] = 0x7f;
    let mut order_8 = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    let mut one = [0; 32];
    one[0] = 1;
    for weak in
        [[0; 32], one, little_endian_p(0xec), little_endian_p(0xed), two_to_255_less_1, order_8]
    {
        assert!(DevicePublicKey::ed25519(weak).is_err(), "{weak:02x?}");
        let mut negative = weak;
        negative[31] |= 0x80;
        assert!(DevicePublicKey::ed25519(negative).is_err(), "{negative:02x?}");
    }
    order_8[0] ^= 1;
    assert!(DevicePublicKey::ed25519(order_8).is_ok());
}

#[test]
fn a_signature_with_a_small_order_commitment_is_refused() {
    // With A of full order, R = identity and s = 0 verifies only if h·A is the identity; what is
    // shown here is that the weak R is turned away before any arithmetic.
    let (_, key) = ed25519();
    let mut forged = [0u8; 64];
    forged[0] = 1;
    assert!(!key.accepts(b"message", &base64url(&forged)));
    assert!(is_weak_point(forged.first_chunk().unwrap()));
}

#[test]
fn private_and_foreign_keys_are_refused_with_a_reason() {
    let private = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "d": "x"});
    assert!(DevicePublicKey::read(&private).unwrap_err().to_string().contains("private"));
    for bad in [
        json!(null),
        json!(7),
        json!([]),
        json!("short"),
        json!({"kty": "RSA", "n": "x", "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-384", "x": "x", "y": "y"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        json!("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"),
        json!("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
    ] {
        assert!(DevicePublicKey::read(&bad).is_err(), "{bad}");
    }
}
