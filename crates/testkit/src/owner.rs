//! Owner JWTs under the secret that every [`TestEdge`](crate::TestEdge) is started with.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use crate::base64url;

/// What the edges of tests verify owners with (`OWNER_JWT_SECRET`).
pub const SECRET: &str = "the owners' secret of tests, at least 32 bytes";

/// A token that holds for an hour from `now_ms`, with these scopes to grant in the claim `scopes`.
pub fn jwt(sub: &str, scopes: &[&str], now_ms: u64) -> String {
    token(&claims(sub, scopes, now_ms))
}

/// The claims of [`jwt`], to be changed.
pub fn claims(sub: &str, scopes: &[&str], now_ms: u64) -> Value {
    let now = now_ms / 1000;
    json!({"sub": sub, "scopes": scopes, "iat": now, "exp": now + 3600, "role": "authenticated"})
}

/// Signs claims with [`SECRET`].
pub fn token(claims: &Value) -> String {
    sign(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET.as_bytes())
}

/// A JWT with this header, HS256 under this key whatever the header says.
pub fn sign(header: &Value, claims: &Value, key: &[u8]) -> String {
    let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    format!("{signed}.{}", base64url(tag.as_ref()))
}
