//! An owners' issuer: keys that sign, their set, and a URL that gives it when it is let.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use edgeward_core::time::WallMs;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::FetchJwks;
use crate::encoding::base64url;

#[derive(Clone)]
pub(super) struct Key {
    kid: Option<&'static str>,
    pair: Pair,
}

#[derive(Clone)]
enum Pair {
    Ed25519(Arc<Ed25519KeyPair>),
    P256(Arc<EcdsaKeyPair>),
    Rsa(Arc<RsaKeyPair>),
    Shared(Arc<hmac::Key>),
}

impl Key {
    pub(super) fn ed25519(kid: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        Self { kid: Some(kid), pair: Pair::Ed25519(Arc::new(pair)) }
    }

    pub(super) fn p256(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { kid: Some(kid), pair: Pair::P256(Arc::new(pair)) }
    }

    pub(super) fn rsa(kid: &'static str) -> Self {
        let pair = RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        Self { kid: Some(kid), pair: Pair::Rsa(Arc::new(pair)) }
    }

    pub(super) fn shared(secret: &[u8]) -> Self {
        Self { kid: None, pair: Pair::Shared(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret))) }
    }

    fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Ed25519(pair) => json!({
                "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()),
            }),
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
            }
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                let n = base64url(key.modulus().big_endian_without_leading_zero());
                let e = base64url(key.exponent().big_endian_without_leading_zero());
                json!({"kty": "RSA", "n": n, "e": e})
            }
            Pair::Shared(_) => panic!("a shared secret is not published"),
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let alg = match &self.pair {
            Pair::Ed25519(_) => "EdDSA",
            Pair::P256(_) => "ES256",
            Pair::Rsa(_) => "RS256",
            Pair::Shared(_) => "HS256",
        };
        let mut header = json!({"typ": "JWT", "alg": alg});
        if let Some(kid) = self.kid {
            header["kid"] = json!(kid);
        }
        let [header, claims] = [&header, claims].map(|part| base64url(part.to_string().as_bytes()));
        let signed = format!("{header}.{claims}");
        let message = signed.as_bytes();
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut out).unwrap();
                out
            }
            Pair::Shared(key) => hmac::sign(key, message).as_ref().to_vec(),
        };
        format!("{signed}.{}", base64url(&signature))
    }
}

/// An owner's claims, good for two days from `now`.
pub(super) fn claims(now: WallMs) -> Value {
    json!({
        "iss": "https://issuer.example",
        "sub": "owner-1",
        "role": "authenticated",
        "iat": now.seconds(),
        "exp": now.seconds() + 2 * 86_400,
    })
}

pub(super) fn set_of(keys: &[Key]) -> Vec<u8> {
    let keys: Vec<Value> = keys.iter().map(Key::jwk).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// A URL whose answers and pace the test decides.
pub(super) struct FakeUrl {
    answer: Mutex<Result<Vec<u8>, String>>,
    calls: AtomicUsize,
    entered: tokio::sync::Notify,
    open: watch::Sender<bool>,
}

impl FakeUrl {
    pub(super) fn of(set: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Ok(set.to_vec())),
            calls: AtomicUsize::new(0),
            entered: tokio::sync::Notify::new(),
            open: watch::Sender::new(true),
        })
    }

    pub(super) fn answer(&self, answer: Result<Vec<u8>, String>) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Holds fetches until [`open`](Self::open).
    pub(super) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until a fetch has begun.
    pub(super) async fn entered(&self) {
        self.entered.notified().await;
    }
}

#[async_trait]
impl FetchJwks for FakeUrl {
    async fn fetch(&self) -> Result<Vec<u8>, String> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.entered.notify_one();
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        self.answer.lock().unwrap().clone()
    }
}
