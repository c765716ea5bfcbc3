//! Keys of fixed seeds, and tokens: good ones by an independent implementation, and raw ones.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::verify::jwt::VerifyingKey;

/// `iss` of agents' tokens.
pub const ISSUER: &str = "https://edge.example";
/// `aud` of agents' tokens.
pub const AUDIENCE: &str = "fleet-test";
/// The agent that tokens name.
pub const AGENT: &str = "0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f";
/// The moment of all tests, in epoch seconds.
pub const NOW_SEC: u64 = 1_764_000_000;
/// The `kid` of [`ed25519`]`(7)`, which signs agents' tokens.
pub const KID: &str = "ed-1";

/// The key pair of a seed of 32 such bytes.
pub fn ed25519(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

/// What verifies [`ed25519`]'s signatures.
pub fn ed25519_public(seed: u8) -> [u8; 32] {
    ed25519(seed).public_key().as_ref().try_into().unwrap()
}

/// The P-256 key pair of RFC 6979, appendix A.2.5.
pub fn p256() -> EcdsaKeyPair {
    let private = unhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &private,
        &p256_public(),
    )
    .unwrap()
}

/// What verifies [`p256`]'s signatures.
pub fn p256_public() -> [u8; 65] {
    unhex(concat!(
        "04",
        "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    ))
    .try_into()
    .unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// A key with the name that tokens give it.
pub fn ring(keys: &[(&str, VerifyingKey)]) -> std::collections::HashMap<String, VerifyingKey> {
    keys.iter().map(|(kid, key)| ((*kid).to_owned(), key.clone())).collect()
}

/// The claims of a good agent's token.
pub fn agent_claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": AGENT, "owner_user_id": "owner-1",
        "scopes": ["chat"], "role": "agent", "epoch": 3,
        "iat": NOW_SEC - 10, "nbf": NOW_SEC - 10, "exp": NOW_SEC + 600, "jti": "t-1",
    })
}

/// A token by the `jsonwebtoken` crate and [`ed25519`]`(seed)`.
pub fn eddsa(kid: &str, claims: &Value, seed: u8) -> String {
    let key = EncodingKey::from_ed_der(ed25519(seed).to_pkcs8v1().unwrap().as_ref());
    encoded(Algorithm::EdDSA, kid, claims, &key)
}

/// A token by the `jsonwebtoken` crate and [`p256`].
pub fn es256(kid: &str, claims: &Value) -> String {
    let key = EncodingKey::from_ec_der(p256().to_pkcs8v1().unwrap().as_ref());
    encoded(Algorithm::ES256, kid, claims, &key)
}

fn encoded(alg: Algorithm, kid: &str, claims: &Value, key: &EncodingKey) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(alg) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

/// A token of exactly these texts, signed by [`ed25519`]`(7)`.
pub fn raw(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = ed25519(7).sign(signed.as_bytes());
    format!("{signed}.{}", base64url(signature.as_ref()))
}

/// A token of exactly these texts, signed by [`p256`].
pub fn raw_p256(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = p256().sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", base64url(signature.as_ref()))
}

/// base64url without padding.
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `value` with one member set.
pub fn with(value: &Value, name: &str, member: Value) -> Value {
    let mut value = value.clone();
    value[name] = member;
    value
}

/// `value` less one member.
pub fn without(value: &Value, name: &str) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().remove(name);
    value
}
