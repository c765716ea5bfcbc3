//! Device keys: an agent's own Ed25519 or P-256 key, whose private half never leaves it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::FormError;
use crate::encoding::{base64url, from_base64url, sha256};

/// DER of SubjectPublicKeyInfo up to the key bits: Ed25519 (RFC 8410) and P-256 (RFC 5480).
const SPKI_ED25519: &[u8] =
    &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const SPKI_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A device's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DevicePublicKey {
    /// Ed25519 (RFC 8032), 32 bytes.
    Ed25519([u8; 32]),
    /// P-256, the two coordinates, 32 bytes each.
    P256 {
        /// Big-endian x.
        x: [u8; 32],
        /// Big-endian y.
        y: [u8; 32],
    },
}

impl DevicePublicKey {
    /// Reads `public_key`: a JWK object, an SPKI PEM string, or 43 characters of raw Ed25519.
    ///
    /// # Errors
    /// When it is none of the three, of another kind, of small order, or holds a private part.
    pub fn read(value: &Value) -> Result<Self, FormError> {
        match value {
            Value::Object(_) => Self::from_jwk(value),
            Value::String(text) if text.starts_with("-----BEGIN ") => Self::from_pem(text),
            Value::String(text) => {
                let raw = from_base64url(text).ok_or(FormError(
                    "a public key: a JWK, an SPKI PEM, or 43 characters of raw Ed25519",
                ))?;
                Self::ed25519(raw)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                Err(FormError("a public key: a JWK, an SPKI PEM, or 43 characters of raw Ed25519"))
            }
        }
    }

    /// An Ed25519 key, refused when non-canonical or of small order.
    ///
    /// # Errors
    /// When such a key would accept signatures that nobody made.
    pub fn ed25519(raw: [u8; 32]) -> Result<Self, FormError> {
        if is_weak_point(&raw) {
            return Err(FormError("an Ed25519 key of full order"));
        }
        Ok(Self::Ed25519(raw))
    }

    fn from_jwk(jwk: &Value) -> Result<Self, FormError> {
        if jwk.get("d").is_some() {
            return Err(FormError("a public key: this JWK holds a private one"));
        }
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let part = |name: &str| {
            text(name)
                .and_then(from_base64url::<32>)
                .ok_or(FormError("a JWK with 32-byte coordinates"))
        };
        match (text("kty"), text("crv")) {
            (Some("OKP"), Some("Ed25519")) => Self::ed25519(part("x")?),
            (Some("EC"), Some("P-256")) => Ok(Self::P256 { x: part("x")?, y: part("y")? }),
            _ => Err(FormError("a JWK of kty OKP/Ed25519 or EC/P-256")),
        }
    }

    fn from_pem(pem: &str) -> Result<Self, FormError> {
        const FORM: FormError = FormError("an SPKI PEM of an Ed25519 or uncompressed P-256 key");
        let body = pem
            .trim()
            .strip_prefix("-----BEGIN PUBLIC KEY-----")
            .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
            .ok_or(FORM)?;
        let packed: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(packed).map_err(|_| FORM)?;
        if let Some(raw) = der.strip_prefix(SPKI_ED25519) {
            return Self::ed25519(raw.try_into().map_err(|_| FORM)?);
        }
        let point =
            der.strip_prefix(SPKI_P256).and_then(|point| point.strip_prefix(&[4])).ok_or(FORM)?;
        let (x, y) = point.split_at_checked(32).ok_or(FORM)?;
        Ok(Self::P256 { x: x.try_into().map_err(|_| FORM)?, y: y.try_into().map_err(|_| FORM)? })
    }

    /// The public JWK with the required members only (RFC 7517, RFC 8037).
    pub fn jwk(&self) -> Value {
        match self {
            Self::Ed25519(x) => json!({"crv": "Ed25519", "kty": "OKP", "x": base64url(x)}),
            Self::P256 { x, y } => {
                json!({"crv": "P-256", "kty": "EC", "x": base64url(x), "y": base64url(y)})
            }
        }
    }

    /// RFC 7638: base64url of the SHA-256 of the required members, sorted, without blanks.
    pub fn thumbprint(&self) -> String {
        let canonical = match self {
            Self::Ed25519(x) => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(x))
            }
            Self::P256 { x, y } => {
                format!(
                    r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
                    base64url(x),
                    base64url(y)
                )
            }
        };
        base64url(&sha256(canonical.as_bytes()))
    }

    /// Checks `signature` (base64url, 64 bytes): Ed25519 strictly, ECDSA as `r‖s` with SHA-256.
    #[must_use]
    pub fn accepts(&self, message: &[u8], signature: &str) -> bool {
        let Some(raw) = from_base64url::<64>(signature) else {
            return false;
        };
        match self {
            Self::Ed25519(key) => {
                // The library checks s < L; R of small order is what it leaves to us.
                let commitment = raw.first_chunk::<32>();
                commitment.is_some_and(|point| !is_weak_point(point))
                    && UnparsedPublicKey::new(&ED25519, key).verify(message, &raw).is_ok()
            }
            Self::P256 { x, y } => {
                let mut point = [4u8; 65];
                for (to, from) in point.iter_mut().skip(1).zip(x.iter().chain(y)) {
                    *to = *from;
                }
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, &raw)
                    .is_ok()
            }
        }
    }
}

/// Whether an encoded Edwards25519 point is non-canonical (y ≥ p) or has an order that divides 8.
///
/// The five canonical y-coordinates of such points are those of the torsion subgroup (RFC 7748,
/// section 7, lists the same classes for the Montgomery form).
fn is_weak_point(encoded: &[u8; 32]) -> bool {
    const P: [u8; 32] = little_endian_p(0xed);
    const P_MINUS_1: [u8; 32] = little_endian_p(0xec);
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let mut y = *encoded;
    y[31] &= 0x7f;
    let mut one = [0u8; 32];
    one[0] = 1;
    let canonical = y.iter().rev().lt(P.iter().rev());
    !canonical || y == [0; 32] || y == one || y == P_MINUS_1 || ORDER_8.contains(&y)
}

/// 2^255 − 19 (or one less), little-endian, by its lowest byte.
const fn little_endian_p(lowest: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = lowest;
    bytes[31] = 0x7f;
    bytes
}

#[cfg(test)]
mod tests;
