//! Ids and the other short names of the protocol. None of them is secret.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::FormError;
use crate::encoding::{from_hex, hex};

/// An agent: a UUID in its lower-case hyphenated form. New ones are version 7 (RFC 9562).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(Uuid);

impl AgentId {
    /// Makes a version 7 id from epoch milliseconds and ten random bytes.
    pub fn new_v7(epoch_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(epoch_ms, &random).into_uuid())
    }

    /// Reads the canonical form; upper case, braces, URNs and the form without hyphens are refused.
    ///
    /// # Errors
    /// When `text` is not 36 characters of lower-case hyphenated UUID.
    ///
    /// ```
    /// use edgeward_wire::AgentId;
    /// assert!(AgentId::parse("0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f").is_ok());
    /// assert!(AgentId::parse("0192F3C4-5A6B-7C8D-9E0F-1A2B3C4D5E6F").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, FormError> {
        const FORM: FormError = FormError("a lower-case hyphenated UUID");
        if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(FORM);
        }
        let uuid = Uuid::try_parse(text).map_err(|_| FORM)?;
        Ok(Self(uuid))
    }

    /// The canonical form, written into `buffer`.
    pub(crate) fn encode<'a>(&self, buffer: &'a mut [u8; 36]) -> &'a str {
        self.0.as_hyphenated().encode_lower(buffer)
    }

    /// The 16 bytes, in network order.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// From the 16 bytes, in network order.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One request's trace: the `trace-id` of W3C Trace Context, 32 lower-case hex, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// From 16 random bytes. All zero, which W3C forbids, becomes one.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        if bytes == [0; 16] {
            bytes[15] = 1;
        }
        Self(bytes)
    }

    /// Reads 32 lower-case hex digits.
    ///
    /// # Errors
    /// When `text` has another form or is all zero.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        match from_hex(text) {
            Some(bytes) if bytes != [0; 16] => Ok(Self(bytes)),
            Some(_) | None => Err(FormError("a trace id of 32 lower-case hex digits")),
        }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Declares a short text with a form of its own.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $form:literal, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads the one canonical form.
            ///
            /// # Errors
            /// When `text` has another form.
            pub fn parse(text: &str) -> Result<Self, FormError> {
                let accepts: fn(&str) -> bool = $accepts;
                if accepts(text) { Ok(Self(text.into())) } else { Err(FormError($form)) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

fn is_label(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

name!(
    /// A scope: 1 to 128 printable ASCII characters without space or comma.
    Scope,
    "1 to 128 printable ASCII characters without space or comma",
    is_label
);
name!(
    /// The person or service account that answers for an agent: the `sub` of an owner JWT.
    OwnerId,
    "1 to 128 printable ASCII characters without space or comma",
    is_label
);
name!(
    /// A number used once: 8 to 128 characters of `A-Z a-z 0-9 - _ . ~`; 128 bits are advised.
    Nonce,
    "8 to 128 characters of A-Z a-z 0-9 - _ . ~",
    |text| {
        (8..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
    }
);

impl Nonce {
    /// 22 characters of base64url from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(crate::encoding::base64url(&bytes).into())
    }
}

/// Serde by the canonical text.
macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(AgentId, TraceId, Scope, OwnerId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_id_has_one_spelling() {
        let id = AgentId::new_v7(1_764_000_000_000, [9; 10]);
        assert_eq!(AgentId::parse(&id.to_string()), Ok(id));
        assert_eq!(id.to_string().as_bytes()[14], b'7');
        for bad in [
            "0192F3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f",
            "0192f3c45a6b7c8d9e0f1a2b3c4d5e6f",
            "{0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6}",
            "urn:uuid:0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f",
            "",
        ] {
            assert!(AgentId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nonces_and_labels_keep_to_their_alphabets() {
        assert!(Nonce::parse("abcdEF09").is_ok());
        assert!(Nonce::parse("-_.~-_.~").is_ok());
        for bad in ["short77", "has space", "a,b,c,d,e", "ünicodes", "a=bcdefgh", "a+bcdefgh"] {
            assert!(Nonce::parse(bad).is_err(), "{bad}");
        }
        assert!(Nonce::parse(&"n".repeat(128)).is_ok());
        assert!(Nonce::parse(&"n".repeat(129)).is_err());
        assert!(Scope::parse("llm:chat").is_ok());
        for bad in ["", "a b", "a,b", "a\tb", "é"] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_trace_id_is_never_zero() {
        assert!(TraceId::parse("00000000000000000000000000000000").is_err());
        let zero = TraceId::from_random([0; 16]).to_string();
        assert_eq!(zero, "00000000000000000000000000000001");
        assert!(TraceId::parse(&zero).is_ok());
    }
}
