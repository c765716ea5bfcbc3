//! Verifying a JWT: the key that `kid` names fixes the algorithm; then the claims, by a clock that
//! is handed in.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use edgeward_wire::{AgentId, OwnerId, Scope};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::read::bearer::{Form, JwtFault, UnverifiedToken};
use crate::time::WallMs;

/// A key that verifies JWTs, and with it the one algorithm it is for (RFC 7518, RFC 8037).
#[derive(Clone)]
pub enum VerifyingKey {
    /// `EdDSA` by Ed25519: 32 bytes.
    Ed25519([u8; 32]),
    /// `ES256`: an uncompressed point, 65 bytes.
    P256([u8; 65]),
    /// `RS256`: modulus and exponent, big-endian; owners' issuers only.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// `HS256`: a shared secret, of older owners' issuers only.
    Hmac(Arc<Zeroizing<Vec<u8>>>),
}

impl VerifyingKey {
    /// The `alg` that tokens of this key must have.
    pub fn alg(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa { .. } => "RS256",
            Self::Hmac(_) => "HS256",
        }
    }

    fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
            }
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            // A short key would be guessed; an empty one accepts what anybody signs.
            Self::Hmac(secret) => {
                secret.len() >= 32
                    && hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), message, signature)
                        .is_ok()
            }
        }
    }

    /// Checks form's leftovers: the algorithm, then the signature.
    pub(crate) fn verify(&self, token: &UnverifiedToken) -> Result<(), JwtFault> {
        if token.alg != self.alg() {
            return Err(JwtFault::Algorithm);
        }
        if self.accepts(token.signed.as_bytes(), &token.signature) {
            Ok(())
        } else {
            Err(JwtFault::Signature)
        }
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({})", self.alg())
    }
}

/// The keys that verify agents' JWTs, by `kid`: an immutable snapshot.
#[derive(Debug, Clone, Default)]
pub struct JwtKeys {
    /// By `kid`.
    pub keys: HashMap<String, VerifyingKey>,
    /// Another one at every change of the ring, so that remembered tokens are forgotten.
    pub generation: u64,
}

/// What a token must say to be taken here.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `aud`.
    pub audience: &'a str,
}

/// A JWT that one of our keys has signed. Whether it is good now, and for this caller, is asked at
/// every use; what is remembered is that the signature holds.
#[derive(Debug, Clone)]
pub struct VerifiedToken {
    generation: u64,
    subject: AgentId,
    epoch: u64,
    not_before_sec: u64,
    expires_sec: u64,
    /// The owner that the token names; the record is what counts.
    pub owner: OwnerId,
    /// The scopes that the token names; the record is what counts.
    pub scopes: Vec<Scope>,
}

/// Difference between the clocks of nodes that an `iat` may show, in seconds.
const NODE_LEEWAY_SEC: u64 = 5;

impl VerifiedToken {
    /// Verifies an agent's token.
    ///
    /// # Errors
    /// What the gate, the key or the claims refuse; see [`JwtFault`].
    pub fn verify(text: &str, keys: &JwtKeys, expected: Expected<'_>) -> Result<Self, JwtFault> {
        let token = UnverifiedToken::read(text, Form::AGENT)?;
        let key = token.kid().and_then(|kid| keys.keys.get(kid)).ok_or(JwtFault::UnknownKey)?;
        key.verify(&token)?;
        check_issuer_and_audience(&token.claims, Some(expected.issuer), Some(expected.audience))?;
        let claims = &token.claims;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).ok_or(JwtFault::Claims);
        let number = |name: &str| claims.get(name).and_then(Value::as_u64).ok_or(JwtFault::Claims);
        text("jti")?;
        let scopes = claims.get("scopes").and_then(Value::as_array).ok_or(JwtFault::Claims)?;
        Ok(Self {
            generation: keys.generation,
            subject: AgentId::parse(text("sub")?).map_err(|_| JwtFault::Claims)?,
            epoch: number("epoch")?,
            not_before_sec: number("nbf")?.max(number("iat")?),
            expires_sec: number("exp")?,
            owner: OwnerId::parse(text("owner_user_id")?).map_err(|_| JwtFault::Claims)?,
            scopes: scopes
                .iter()
                .map(|scope| scope.as_str().and_then(|scope| Scope::parse(scope).ok()))
                .collect::<Option<_>>()
                .ok_or(JwtFault::Claims)?,
        })
    }

    /// The agent that the token names.
    pub fn subject(&self) -> AgentId {
        self.subject
    }

    /// Whether a ring of this generation signed it.
    pub fn is_of(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// When it expires.
    pub fn expires_at(&self) -> WallMs {
        WallMs(self.expires_sec.saturating_mul(1000))
    }

    /// Whether it is good at `now` for this agent.
    ///
    /// # Errors
    /// [`JwtFault::Expired`], [`JwtFault::NotYetValid`], [`JwtFault::Subject`], [`JwtFault::Epoch`].
    pub fn check(&self, agent: AgentId, epoch: u64, now: WallMs) -> Result<(), JwtFault> {
        if now >= self.expires_at() {
            return Err(JwtFault::Expired);
        }
        if self.not_before_sec > now.seconds().saturating_add(NODE_LEEWAY_SEC) {
            return Err(JwtFault::NotYetValid);
        }
        if self.subject != agent {
            return Err(JwtFault::Subject);
        }
        if self.epoch != epoch {
            return Err(JwtFault::Epoch);
        }
        Ok(())
    }
}

/// `iss` is exactly the expected one, `aud` is or holds it (RFC 7519, sections 4.1.1 and 4.1.3).
pub(crate) fn check_issuer_and_audience(
    claims: &Map<String, Value>,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> Result<(), JwtFault> {
    if let Some(issuer) = issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(JwtFault::Issuer);
    }
    if let Some(audience) = audience {
        let found = match claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
            None | Some(_) => false,
        };
        if !found {
            return Err(JwtFault::Audience);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
