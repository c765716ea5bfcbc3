//! Enrolment: the code that an owner passes on, the challenge, and what a device key signs.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::encoding::{base64url, from_base64url, sha256};
use crate::{AgentId, FormError};

/// Crockford's base32: no I, L, O, U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A one-time code of 60 bits, shown as `XXXX-XXXX-XXXX`.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollCode(Zeroizing<String>);

impl EnrollCode {
    /// Makes a code of 60 of 64 random bits.
    pub fn from_random(bytes: [u8; 8]) -> Self {
        let mut rest = u64::from_be_bytes(bytes);
        let text = (0..12)
            .map(|_| {
                let digit = CROCKFORD.get((rest & 31) as usize).copied().unwrap_or(b'0');
                rest >>= 5;
                char::from(digit)
            })
            .collect();
        Self(Zeroizing::new(text))
    }

    /// Reads a code as people type it: case and hyphens do not matter, `O` is 0, `I` and `L` are 1.
    ///
    /// # Errors
    /// When 12 characters of the alphabet do not remain.
    ///
    /// ```
    /// use edgeward_wire::EnrollCode;
    /// let code = EnrollCode::parse("abcd-ol1i-0123")?;
    /// assert_eq!(code.canonical(), "ABCD01110123");
    /// assert_eq!(code.shown(), "ABCD-0111-0123");
    /// # Ok::<(), edgeward_wire::FormError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, FormError> {
        const FORM: FormError = FormError("a code of 12 characters, XXXX-XXXX-XXXX");
        // A bound before any work: 12 characters and a hyphen beside each.
        if text.len() > 32 {
            return Err(FORM);
        }
        let mut canonical = Zeroizing::new(String::with_capacity(12));
        for given in text.bytes().filter(|byte| *byte != b'-') {
            let digit = match given.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            if !CROCKFORD.contains(&digit) {
                return Err(FORM);
            }
            canonical.push(char::from(digit));
        }
        if canonical.len() == 12 { Ok(Self(canonical)) } else { Err(FORM) }
    }

    /// 12 characters, upper case, no hyphens: the form that is signed and hashed.
    pub fn canonical(&self) -> &str {
        &self.0
    }

    /// The form that people read: `XXXX-XXXX-XXXX`.
    pub fn shown(&self) -> String {
        let (first, rest) = self.0.split_at_checked(4).unwrap_or((&self.0, ""));
        let (second, third) = rest.split_at_checked(4).unwrap_or((rest, ""));
        format!("{first}-{second}-{third}")
    }

    /// The SHA-256 of the canonical form: all that is stored.
    pub fn hash(&self) -> [u8; 32] {
        sha256(self.0.as_bytes())
    }
}

impl fmt::Debug for EnrollCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrollCode(masked)")
    }
}

/// What the device key signs over, so that no signature can be made ahead: 43 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Challenge(String);

impl Challenge {
    /// Makes a challenge of 32 random bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(base64url(bytes))
    }

    /// Reads the 43 characters.
    ///
    /// # Errors
    /// When length or alphabet is wrong.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        match from_base64url::<32>(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(FormError("a challenge (43 characters of base64url)")),
        }
    }

    /// The challenge's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Challenge {
    type Error = FormError;

    fn try_from(text: String) -> Result<Self, FormError> {
        Self::parse(&text)
    }
}

impl From<Challenge> for String {
    fn from(challenge: Challenge) -> Self {
        challenge.0
    }
}

/// What the device key signs at `enroll/complete`.
pub fn enroll_message(
    audience: &str,
    code: &EnrollCode,
    challenge: &Challenge,
    thumbprint: &str,
) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "edgeward-enroll-v2\n{audience}\n{}\n{}\n{thumbprint}",
        code.canonical(),
        challenge.as_str()
    ))
}

/// What the device key signs as `device_proof`: the very request that carries it.
pub fn device_proof_message(
    audience: &str,
    agent_id: AgentId,
    method: &str,
    target: &str,
    timestamp: &str,
    nonce: &str,
) -> String {
    format!("edgeward-device-v2\n{audience}\n{agent_id}\n{method}\n{target}\n{timestamp}\n{nonce}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_forgiving_on_input_and_has_60_bits() {
        let code = EnrollCode::from_random([0xff; 8]);
        assert_eq!(code.canonical(), "ZZZZZZZZZZZZ");
        for typed in ["zzzzzzzzzzzz", "ZZZZ-ZZZZ-ZZZZ", "z-z-z-z-z-z-z-z-z-z-z-z"] {
            assert_eq!(EnrollCode::parse(typed).as_ref(), Ok(&code), "{typed}");
        }
        assert_eq!(EnrollCode::parse("OoIiLl000000").unwrap().canonical(), "001111000000");
        for bad in ["", "ZZZZ-ZZZZ-ZZZ", "ZZZZ-ZZZZ-ZZZZZ", "UUUU-UUUU-UUUU", "ZZZZ ZZZZ ZZZZ"] {
            assert!(EnrollCode::parse(bad).is_err(), "{bad}");
        }
        assert_ne!(EnrollCode::from_random([1; 8]).hash(), code.hash());
    }

    #[test]
    fn codes_are_not_printed() {
        assert_eq!(format!("{:?}", EnrollCode::from_random([1; 8])), "EnrollCode(masked)");
    }
}
