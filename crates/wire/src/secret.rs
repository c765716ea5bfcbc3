//! Secrets that travel: the agent secret, session ids and salts.
//!
//! Their text is wiped when dropped and shown by no `Debug`; whoever wants it says `expose`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::FormError;
use crate::encoding::{base64url, crc32, from_base64url, from_hex, hex, sha256};

const SECRET_PREFIX: &str = "ewk_";
const SESSION_PREFIX: &str = "ews_";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// An agent's long-lived secret: `ewk_`, 43 characters of base64url (256 bits), 6 of base62 CRC-32.
///
/// The checksum lets a scanner tell a leaked secret from other text without asking the edge.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentSecret(Zeroizing<String>);

impl AgentSecret {
    /// Makes a secret of 32 random bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        let mut text = format!("{SECRET_PREFIX}{}", base64url(bytes));
        let sum = checksum(&text);
        text.push_str(&sum);
        Self(Zeroizing::new(text))
    }

    /// Reads the 53 characters, checksum included.
    ///
    /// # Errors
    /// When prefix, length, alphabet or checksum is wrong.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        const FORM: FormError = FormError("an agent secret (ewk_…, 53 characters, valid checksum)");
        let (body, sum) = text.split_at_checked(47).ok_or(FORM)?;
        let random = body.strip_prefix(SECRET_PREFIX).ok_or(FORM)?;
        if from_base64url::<32>(random).is_none() || checksum(body) != sum {
            return Err(FORM);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The secret's text: for the key of an HMAC, for sealing, and for the one answer that tells it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first 16 hex digits of the SHA-256 of the text: finds a leaked secret, opens nothing.
    pub fn fingerprint(&self) -> String {
        let mut text = hex(&sha256(self.0.as_bytes()));
        text.truncate(16);
        text
    }
}

/// Six digits of base62, zero-padded, most significant first, of the CRC-32 of `body`.
fn checksum(body: &str) -> String {
    let mut rest = crc32(body.as_bytes());
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// A session: `ews_` and 43 characters of base64url (256 bits). Stores and logs hold its hash only.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId(Zeroizing<String>);

impl SessionId {
    /// Makes an id of 32 random bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(format!("{SESSION_PREFIX}{}", base64url(bytes))))
    }

    /// Reads the 47 characters.
    ///
    /// # Errors
    /// When prefix, length or alphabet is wrong.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        match text.strip_prefix(SESSION_PREFIX).and_then(from_base64url::<32>) {
            Some(_) => Ok(Self(Zeroizing::new(text.to_owned()))),
            None => Err(FormError("a session id (ews_…, 47 characters)")),
        }
    }

    /// The id's text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What stores and logs hold.
    pub fn hash(&self) -> SessionIdHash {
        SessionIdHash(sha256(self.0.as_bytes()))
    }
}

/// The SHA-256 of a session id's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionIdHash([u8; 32]);

impl SessionIdHash {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From the 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 lower-case hex digits.
    ///
    /// # Errors
    /// When `text` has another form.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        from_hex(text).map(Self).ok_or(FormError("64 lower-case hex digits"))
    }
}

impl fmt::Display for SessionIdHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for SessionIdHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A session's salt, told once in the answer to `session/start`: 43 characters of base64url.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSalt(Zeroizing<String>);

impl SessionSalt {
    /// Makes a salt of 32 random bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(base64url(bytes)))
    }

    /// Reads the 43 characters.
    ///
    /// # Errors
    /// When length or alphabet is wrong.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        match from_base64url::<32>(text) {
            Some(_) => Ok(Self(Zeroizing::new(text.to_owned()))),
            None => Err(FormError("a session salt (43 characters of base64url)")),
        }
    }

    /// The salt's text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Masked `Debug`, and serde by the text: bodies of answers are the one place that carries it.
macro_rules! masked {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(masked)"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.expose())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Zeroizing::new(String::deserialize(deserializer)?);
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

masked!(AgentSecret, SessionId, SessionSalt);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_53_characters_and_any_changed_one_is_refused() {
        let secret = AgentSecret::from_random(&[42; 32]);
        let text = secret.expose().to_owned();
        assert_eq!(text.len(), 53);
        assert_eq!(AgentSecret::parse(&text).as_ref(), Ok(&secret));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(AgentSecret::parse(&other).is_err(), "changed at {at}");
        }
        assert!(AgentSecret::parse(&text[..52]).is_err());
        assert!(AgentSecret::parse("").is_err());
        assert!(AgentSecret::parse(&"é".repeat(30)).is_err());
    }

    #[test]
    fn no_secret_can_be_printed() {
        let secret = AgentSecret::from_random(&[1; 32]);
        let session = SessionId::from_random(&[2; 32]);
        let salt = SessionSalt::from_random(&[3; 32]);
        let shown = format!("{secret:?} {session:?} {salt:?}");
        assert_eq!(shown, "AgentSecret(masked) SessionId(masked) SessionSalt(masked)");
    }

    #[test]
    fn a_fingerprint_is_16_hex_digits_of_the_hash() {
        let secret = AgentSecret::from_random(&[1; 32]);
        assert_eq!(secret.fingerprint(), hex(&sha256(secret.expose().as_bytes()))[..16]);
    }

    #[test]
    fn a_session_id_and_its_hash_read_back() {
        let session = SessionId::from_random(&[2; 32]);
        assert_eq!(SessionId::parse(session.expose()).as_ref(), Ok(&session));
        let hash = session.hash();
        assert_eq!(SessionIdHash::parse(&hash.to_string()), Ok(hash));
        assert!(SessionId::parse(&session.expose()[4..]).is_err());
        assert!(SessionSalt::parse("x").is_err());
    }
}
