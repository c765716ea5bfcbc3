use serde_json::json;

use super::*;
use crate::encoding::base64url;

const ED25519: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const P256_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const P256_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

fn ed25519(kid: &str) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519, "kid": kid})
}

fn p256() -> Value {
    json!({"kty": "EC", "crv": "P-256", "x": P256_X, "y": P256_Y, "kid": "p"})
}

/// The form of an RSA key; nothing is signed with it.
fn rsa_of(bytes: &[u8], e: &[u8]) -> Value {
    json!({"kty": "RSA", "n": base64url(bytes), "e": base64url(e), "kid": "r"})
}

fn modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; bits.div_ceil(8)];
    bytes[0] = match bits % 8 {
        0 => 0x80,
        spare => 1 << (spare - 1),
    };
    bytes
}

fn read(keys: &[Value]) -> Result<JwkSet, JwksFault> {
    JwkSet::read(json!({ "keys": keys }).to_string().as_bytes())
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

#[track_caller]
fn taken(jwk: Value) {
    let set = read(std::slice::from_ref(&jwk)).unwrap();
    assert_eq!((set.keys.len(), set.skipped), (1, 0), "{jwk}");
}

#[track_caller]
fn skipped(jwk: Value) {
    // Beside one that is good: the set as a whole stands.
    let set = read(&[ed25519("good"), jwk.clone()]).unwrap();
    assert_eq!((set.keys.len(), set.skipped), (1, 1), "{jwk}");
    assert!(set.keys.contains_key("good"));
}

#[test]
fn the_three_kinds_are_read_as_what_they_verify() {
    let set = read(&[ed25519("o"), p256(), rsa_of(&modulus(2048), &[1, 0, 1])]).unwrap();
    let alg = |kid: &str| set.keys[kid].alg();
    assert_eq!((alg("o"), alg("p"), alg("r"), set.skipped), ("EdDSA", "ES256", "RS256", 0));
}

#[test]
fn use_operations_and_alg_must_fit_if_they_are_there() {
    taken(with(ed25519("k"), "use", json!("sig")));
    taken(with(ed25519("k"), "key_ops", json!(["verify"])));
    taken(with(ed25519("k"), "alg", json!("EdDSA")));
    taken(with(p256(), "alg", json!("ES256")));
    taken(with(rsa_of(&modulus(2048), &[1, 0, 1]), "alg", json!("RS256")));
    for purpose in [json!("enc"), json!("SIG"), json!(1), json!(null)] {
        skipped(with(ed25519("k"), "use", purpose));
    }
    for operations in [json!(["encrypt"]), json!("verify"), json!([])] {
        skipped(with(ed25519("k"), "key_ops", operations));
    }
    for alg in [json!("RS512"), json!("PS256"), json!("HS256"), json!("none"), json!(1)] {
        skipped(with(rsa_of(&modulus(2048), &[1, 0, 1]), "alg", alg.clone()));
        skipped(with(p256(), "alg", alg));
    }
}

#[test]
fn other_kinds_and_curves_are_passed_over() {
    for jwk in [
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "k"}),
        json!({"kty": "EC", "crv": "P-384", "x": P256_X, "y": P256_Y, "kid": "k"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": P256_X, "y": P256_Y, "kid": "k"}),
        json!({"kty": "OKP", "crv": "X25519", "x": ED25519, "kid": "k"}),
        json!({"kty": "EC", "x": P256_X, "y": P256_Y, "kid": "k"}),
        json!({"kid": "k"}),
    ] {
        skipped(jwk);
    }
}

#[test]
fn keys_that_prove_nothing_are_passed_over() {
    // Weak, oversized, or of an exponent that makes forging easy.
    taken(rsa_of(&modulus(2048), &[3]));
    taken(rsa_of(&modulus(8192), &[1, 0, 1]));
    let signed = rsa_of(&[&[0, 0], modulus(2048).as_slice()].concat(), &[0, 1, 0, 1]);
    let VerifyingKey::Rsa { n, e } = &read(&[signed]).unwrap().keys["r"] else {
        panic!("an RSA key");
    };
    assert_eq!((n, e.as_slice()), (&modulus(2048), [1, 0, 1].as_slice()));
    for bits in [1024, 2047, 8193] {
        skipped(rsa_of(&modulus(bits), &[1, 0, 1]));
    }
    let padded = [&[0; 128], modulus(1024).as_slice()].concat();
    skipped(rsa_of(&padded, &[1, 0, 1]));
    for e in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1], &[1; 9]] {
        skipped(rsa_of(&modulus(2048), e));
    }
    skipped(rsa_of(&[], &[1, 0, 1]));
    // Not on the curve, cut, padded; the neutral element, whose signatures anybody can make.
    skipped(with(p256(), "y", json!(P256_X)));
    skipped(with(p256(), "x", json!(&P256_X[..40])));
    skipped(with(p256(), "x", json!(format!("{P256_X}="))));
    let mut neutral = [0; 32];
    neutral[0] = 1;
    skipped(with(ed25519("k"), "x", json!(base64url(&neutral))));
    skipped(with(ed25519("k"), "x", json!(base64url(&[9; 31]))));
    skipped(with(ed25519("k"), "x", json!(5)));
}

#[test]
fn secrets_that_lie_open_spoil_the_whole_set() {
    let shared = json!({"kty": "oct", "k": "AAAA", "kid": "s"});
    assert_eq!(read(&[ed25519("k"), shared]).unwrap_err(), JwksFault::SharedSecret);
    for member in ["d", "p", "q", "dp", "dq", "qi"] {
        let leaked = with(rsa_of(&modulus(2048), &[1, 0, 1]), member, json!("AAAA"));
        assert_eq!(read(&[ed25519("k"), leaked]).unwrap_err(), JwksFault::PrivateKey);
    }
    for leaked in [with(ed25519("a"), "d", json!("AAAA")), with(p256(), "d", json!("AAAA"))] {
        assert_eq!(read(&[leaked]).unwrap_err(), JwksFault::PrivateKey);
    }
}

#[test]
fn one_kid_names_one_key() {
    assert_eq!(read(&[ed25519("k"), ed25519("k")]).unwrap_err(), JwksFault::DuplicateKid);
    let nameless = || json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519});
    assert!(read(&[nameless()]).unwrap().keys.contains_key(""));
    assert_eq!(read(&[nameless(), nameless()]).unwrap_err(), JwksFault::DuplicateKid);
    assert!(matches!(read(&[with(nameless(), "kid", json!(7))]), Err(JwksFault::Form(_))));
}

#[test]
fn bounds_and_forms_hold() {
    let many = |count: usize| vec![json!({"kty": "x"}); count];
    assert_eq!(read(&many(MAX_SET_KEYS)).unwrap().skipped, MAX_SET_KEYS);
    assert_eq!(read(&many(MAX_SET_KEYS + 1)).unwrap_err(), JwksFault::TooMany);
    let mut padded = br#"{"keys":[]}"#.to_vec();
    padded.resize(MAX_SET_BYTES, b' ');
    assert!(JwkSet::read(&padded).is_ok());
    padded.push(b' ');
    assert_eq!(JwkSet::read(&padded).unwrap_err(), JwksFault::TooLarge);
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":["x"]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kty":"OKP","kty":"RSA"}]}"#,
        r#"{"keys":[]} {}"#,
        "<html>",
    ] {
        assert!(matches!(JwkSet::read(text.as_bytes()), Err(JwksFault::Form(_))), "{text}");
    }
}
