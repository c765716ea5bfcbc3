//! One signing key: made, sealed, opened, signing.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use edgeward_core::verify::jwt::VerifyingKey;
use edgeward_wire::DevicePublicKey;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::entropy::Entropy;
use crate::error::KeysError;

/// What a signing key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SigningAlg {
    /// Ed25519 (RFC 8037).
    #[default]
    EdDsa,
    /// ECDSA by P-256 with SHA-256 (RFC 7518, section 3.4).
    Es256,
}

impl SigningAlg {
    /// The `alg` of the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }

    /// Reads an `alg`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::EdDsa, Self::Es256].into_iter().find(|alg| alg.as_str() == text)
    }
}

/// A private key that signs tokens. Its memory is the library's, which wipes it.
pub(super) enum Signer {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl Signer {
    /// Makes a key. Ed25519 is made of `entropy`; P-256 draws on the library's own source, which
    /// takes no other.
    pub(super) fn generate(alg: SigningAlg, entropy: &dyn Entropy) -> Result<Self, KeysError> {
        match alg {
            SigningAlg::EdDsa => {
                let mut seed = Zeroizing::new([0u8; 32]);
                entropy.fill(seed.as_mut_slice())?;
                Ed25519KeyPair::from_seed_unchecked(seed.as_slice())
                    .map(Self::Ed25519)
                    .map_err(|_| KeysError::Signing)
            }
            SigningAlg::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .map(Self::P256)
                .map_err(|_| KeysError::Signing),
        }
    }

    /// Reads PKCS #8 (RFC 5958) as [`pkcs8`](Self::pkcs8) gives it.
    pub(super) fn from_pkcs8(alg: SigningAlg, document: &[u8]) -> Option<Self> {
        match alg {
            SigningAlg::EdDsa => Ed25519KeyPair::from_pkcs8(document).map(Self::Ed25519).ok(),
            SigningAlg::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document)
                    .map(Self::P256)
                    .ok()
            }
        }
    }

    /// The private key, for sealing.
    pub(super) fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeysError> {
        let document = match self {
            Self::Ed25519(pair) => pair.to_pkcs8v1(),
            Self::P256(pair) => pair.to_pkcs8v1(),
        };
        let document = document.map_err(|_| KeysError::Signing)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    pub(super) fn alg(&self) -> SigningAlg {
        match self {
            Self::Ed25519(_) => SigningAlg::EdDsa,
            Self::P256(_) => SigningAlg::Es256,
        }
    }

    /// The public half, derived from the private one.
    pub(super) fn public(&self) -> Result<PublicHalf, KeysError> {
        match self {
            Self::Ed25519(pair) => {
                let raw: [u8; 32] = exact(pair.public_key().as_ref())?;
                let key = DevicePublicKey::ed25519(raw).map_err(|_| KeysError::Signing)?;
                Ok(PublicHalf { key, verifying: VerifyingKey::Ed25519(raw) })
            }
            Self::P256(pair) => {
                let point: [u8; 65] = exact(pair.public_key().as_ref())?;
                let (x, y) = point.split_last_chunk::<32>().ok_or(KeysError::Signing)?;
                let x = x.last_chunk::<32>().ok_or(KeysError::Signing)?;
                let key = DevicePublicKey::P256 { x: *x, y: *y };
                Ok(PublicHalf { key, verifying: VerifyingKey::P256(point) })
            }
        }
    }

    /// A signature as JWS has it: 64 bytes (RFC 8032; `r‖s`).
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        let signature = match self {
            Self::Ed25519(pair) => pair.try_sign(message),
            Self::P256(pair) => pair.sign(&SystemRandom::new(), message),
        };
        Ok(signature.map_err(|_| KeysError::Signing)?.as_ref().to_vec())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.alg().as_str())
    }
}

/// A signing key's public half, in the forms that it is needed in.
pub(super) struct PublicHalf {
    key: DevicePublicKey,
    pub(super) verifying: VerifyingKey,
}

impl PublicHalf {
    /// The key's id: its thumbprint (RFC 7638).
    pub(super) fn kid(&self) -> String {
        self.key.thumbprint()
    }

    /// The JWK that is published (RFC 7517).
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = self.key.jwk();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), self.kid().into());
            members.insert("alg".to_owned(), self.verifying.alg().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    }
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], KeysError> {
    bytes.try_into().map_err(|_| KeysError::Signing)
}
