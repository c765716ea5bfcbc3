//! Device keys.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgeward_wire::DevicePublicKey;

use crate::base64url;

/// A device key of one of the two kinds.
pub enum Device {
    /// Ed25519.
    Ed25519(Ed25519KeyPair),
    /// P-256.
    P256(EcdsaKeyPair),
}

impl Device {
    /// A new Ed25519 key.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    /// A new P-256 key.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// The public half.
    ///
    /// # Panics
    /// Never; a key has its size.
    pub fn public(&self) -> DevicePublicKey {
        match self {
            Self::Ed25519(pair) => {
                DevicePublicKey::ed25519(pair.public_key().as_ref().try_into().unwrap()).unwrap()
            }
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                DevicePublicKey::P256 {
                    x: point[1..33].try_into().unwrap(),
                    y: point[33..].try_into().unwrap(),
                }
            }
        }
    }

    /// The public half as an SPKI PEM.
    pub fn pem(&self) -> String {
        let (prefix, key): (&[u8], &[u8]) = match self {
            Self::Ed25519(pair) => (
                &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00],
                pair.public_key().as_ref(),
            ),
            Self::P256(pair) => (
                &[
                    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
                ],
                pair.public_key().as_ref(),
            ),
        };
        let body = STANDARD.encode([prefix, key].concat());
        let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// Signs: base64url of 64 bytes.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn sign(&self, message: &[u8]) -> String {
        match self {
            Self::Ed25519(pair) => base64url(pair.sign(message)),
            Self::P256(pair) => base64url(pair.sign(&SystemRandom::new(), message).unwrap()),
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Device(masked)")
    }
}
