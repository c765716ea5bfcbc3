//! Reading a JWK set of others (RFC 7517, section 5): what verifies is taken, what is for something
//! else is passed over, and a set that should not be public at all is refused.

use std::collections::HashMap;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgeward_core::read::json;
use edgeward_core::verify::jwt::VerifyingKey;
use edgeward_wire::DevicePublicKey;
use serde_json::{Map, Value};

/// The largest set that is read, in bytes.
pub const MAX_SET_BYTES: usize = 256 * 1024;
/// The most keys that a set may have.
pub const MAX_SET_KEYS: usize = 100;

/// A set, read.
#[derive(Debug, Clone, Default)]
pub struct JwkSet {
    /// The keys that verify, by `kid`. One without a `kid` stands under the empty text, which no
    /// token can name; alone in its set it verifies tokens that name none.
    pub keys: HashMap<String, VerifyingKey>,
    /// How many were passed over: for encryption, of a kind or `alg` not taken, or too weak.
    pub skipped: usize,
}

/// Why a set is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksFault {
    /// Over [`MAX_SET_BYTES`].
    #[error("the key set is larger than 256 KiB")]
    TooLarge,
    /// Over [`MAX_SET_KEYS`].
    #[error("the key set has more than 100 keys")]
    TooMany,
    /// Not JSON within bounds, or not `{"keys": [{…}, …]}`.
    #[error("the key set is malformed: {0}")]
    Form(String),
    /// Two keys of one `kid` (or of none), so that tokens do not say which one they mean.
    #[error("the key set has two keys with the same kid")]
    DuplicateKid,
    /// A shared secret (`kty` `oct`) lies open.
    #[error("the key set holds a shared secret (kty oct), which is no secret any more")]
    SharedSecret,
    /// A private key lies open.
    #[error("the key set holds a private key, which is no secret any more")]
    PrivateKey,
}

impl JwkSet {
    /// Reads a set: RSA of 2048 to 8192 bits (`RS256`), P-256 (`ES256`) and Ed25519 (`EdDSA`).
    ///
    /// # Errors
    /// See [`JwksFault`]; no text shows a value of the set.
    pub fn read(bytes: &[u8]) -> Result<Self, JwksFault> {
        if bytes.len() > MAX_SET_BYTES {
            return Err(JwksFault::TooLarge);
        }
        let form = |text: &str| JwksFault::Form(text.to_owned());
        let set = json::value(bytes).map_err(JwksFault::Form)?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or_else(|| form("expected an object with an array \"keys\""))?;
        if keys.len() > MAX_SET_KEYS {
            return Err(JwksFault::TooMany);
        }
        let mut out = Self::default();
        for key in keys {
            let jwk = key.as_object().ok_or_else(|| form("a key is not an object"))?;
            refuse_leak(jwk)?;
            let Some(key) = verifying(jwk) else {
                out.skipped += 1;
                continue;
            };
            let kid = match jwk.get("kid") {
                None => "",
                Some(kid) => kid.as_str().ok_or_else(|| form("a kid is not a string"))?,
            };
            if out.keys.insert(kid.to_owned(), key).is_some() {
                return Err(JwksFault::DuplicateKid);
            }
        }
        Ok(out)
    }
}

/// Whoever publishes a secret has lost it, and every token that it signs with it.
fn refuse_leak(jwk: &Map<String, Value>) -> Result<(), JwksFault> {
    const PRIVATE: [&str; 6] = ["d", "p", "q", "dp", "dq", "qi"];
    match text(jwk, "kty") {
        Some("oct") => Err(JwksFault::SharedSecret),
        Some("RSA" | "EC" | "OKP") if PRIVATE.iter().any(|name| jwk.contains_key(*name)) => {
            Err(JwksFault::PrivateKey)
        }
        Some(_) | None => Ok(()),
    }
}

/// The key, if it is one that verifies signatures of a kind that is taken here.
fn verifying(jwk: &Map<String, Value>) -> Option<VerifyingKey> {
    let signs = jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let verifies = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|one| one == "verify"),
        Some(_) => false,
    };
    if !signs || !verifies {
        return None;
    }
    let key = match text(jwk, "kty")? {
        "RSA" => rsa(jwk),
        "EC" if text(jwk, "crv") == Some("P-256") => p256(jwk),
        "OKP" if text(jwk, "crv") == Some("Ed25519") => {
            let raw = number(jwk, "x")?.try_into().ok()?;
            DevicePublicKey::ed25519(raw).ok().map(|_| VerifyingKey::Ed25519(raw))
        }
        _ => None,
    }?;
    let fits = jwk.get("alg").is_none_or(|alg| alg == key.alg());
    fits.then_some(key)
}

fn rsa(jwk: &Map<String, Value>) -> Option<VerifyingKey> {
    let n = without_leading_zeros(number(jwk, "n")?);
    let e = without_leading_zeros(number(jwk, "e")?);
    let bits = n.len().checked_mul(8)?.checked_sub(n.first()?.leading_zeros() as usize)?;
    // An exponent of 1 would make every signature its own forgery; an even one is none.
    let exponent = e
        .iter()
        .try_fold(0u64, |sum, byte| sum.checked_mul(256).map(|sum| sum | u64::from(*byte)))?;
    let sound = (2048..=8192).contains(&bits)
        && exponent >= 3
        && exponent % 2 == 1
        && exponent <= u64::from(u32::MAX);
    sound.then_some(VerifyingKey::Rsa { n, e })
}

fn p256(jwk: &Map<String, Value>) -> Option<VerifyingKey> {
    let (x, y) = (number(jwk, "x")?, number(jwk, "y")?);
    if x.len() != 32 || y.len() != 32 {
        return None;
    }
    let point: [u8; 65] = [&[4], x.as_slice(), &y].concat().try_into().ok()?;
    // Not on the curve: no key at all.
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
    Some(VerifyingKey::P256(point))
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

fn number(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text(jwk, name)?).ok()
}

/// Some issuers write a sign byte in front of the modulus.
fn without_leading_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

#[cfg(test)]
mod tests;
