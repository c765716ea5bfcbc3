//! `string_to_sign`, the keys that sign it, and the signature header.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::encoding::{from_hex, hex, push_hex, sha256};
use crate::secret::{AgentSecret, SessionId, SessionSalt};
use crate::{AgentId, FormError};

const SCHEME: &str = "EDGEWARD-HMAC-SHA256-V2";
const SESSION_LABEL: &str = "edgeward-session-v2";
const HEADER_PREFIX: &str = "v2=";

/// SHA-256 of a request's body, taken after transfer decoding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// Of a body that is at hand.
    pub fn of(body: &[u8]) -> Self {
        Self(sha256(body))
    }

    /// Of a body that was hashed as it arrived.
    pub fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Display for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Everything that a signature covers, as it stands in the request.
///
/// ```
/// use edgeward_wire::signature::{BodyDigest, StringToSign};
/// use edgeward_wire::AgentId;
///
/// let to_sign = StringToSign {
///     audience: "edgeward",
///     agent_id: AgentId::parse("0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f")?,
///     session_id: "",
///     timestamp: "1764000000000",
///     nonce: "",
///     method: "GET",
///     target: "/v1/ping",
///     content_type: "",
///     body: BodyDigest::of(b""),
/// };
/// assert!(to_sign.render().starts_with("EDGEWARD-HMAC-SHA256-V2\nedgeward\n0192f3c4-"));
/// # Ok::<(), edgeward_wire::FormError>(())
/// ```
#[derive(Clone, Copy)]
pub struct StringToSign<'a> {
    /// `EDGE_AUDIENCE` of the deployment.
    pub audience: &'a str,
    /// `X-Agent-Id`.
    pub agent_id: AgentId,
    /// `X-Session-Id`, or empty.
    pub session_id: &'a str,
    /// `X-Timestamp`, as sent.
    pub timestamp: &'a str,
    /// `X-Nonce`, or empty.
    pub nonce: &'a str,
    /// The method, as sent.
    pub method: &'a str,
    /// Raw path and query, as sent.
    pub target: &'a str,
    /// `Content-Type`, as sent, or empty.
    pub content_type: &'a str,
    /// The body's digest.
    pub body: BodyDigest,
}

impl StringToSign<'_> {
    /// The ten lines, joined by LF; nothing follows the last.
    pub fn render(&self) -> String {
        // Every part is text, so that this cannot fail; an empty string would match no signature.
        String::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// The same as bytes: what is signed.
    pub fn bytes(&self) -> Vec<u8> {
        // Scheme, id, session, timestamp, digest and the line ends are 218 bytes at most.
        let open =
            self.audience.len() + self.target.len() + self.content_type.len() + self.nonce.len();
        let mut out = Vec::with_capacity(256 + open);
        let mut id = [0u8; 36];
        let lines = [
            SCHEME,
            self.audience,
            self.agent_id.encode(&mut id),
            self.session_id,
            self.timestamp,
            self.nonce,
            self.method,
            self.target,
            self.content_type,
        ];
        for line in lines {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        push_hex(&mut out, &self.body.0);
        out
    }
}

// No `Debug` by derive: the rendered string holds a session id.
impl fmt::Debug for StringToSign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StringToSign({} {} {})", self.agent_id, self.method, self.target)
    }
}

/// The key of one session, 32 raw bytes: derived from the secret, of no use to find it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey(Zeroizing<[u8; 32]>);

impl SessionKey {
    /// `HMAC-SHA256(agent_secret, "edgeward-session-v2" LF session_id LF session_salt)` (RFC 2104).
    pub fn derive(secret: &AgentSecret, session: &SessionId, salt: &SessionSalt) -> Self {
        Self::derive_with(&MacKey::of_secret(secret), session, salt)
    }

    /// The same from a key that was made of the secret before.
    pub fn derive_with(secret: &MacKey, session: &SessionId, salt: &SessionSalt) -> Self {
        let label =
            Zeroizing::new(format!("{SESSION_LABEL}\n{}\n{}", session.expose(), salt.expose()));
        Self(Zeroizing::new(tag(&secret.0, label.as_bytes())))
    }

    /// From the 32 bytes that a store has kept sealed.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The 32 bytes, for sealing.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(masked)")
    }
}

/// A key ready to sign and to check: HMAC-SHA-256 over `string_to_sign`.
#[derive(Clone)]
pub struct MacKey(Arc<hmac::Key>);

impl MacKey {
    /// The long-lived secret: its UTF-8 bytes, prefix and checksum included.
    pub fn of_secret(secret: &AgentSecret) -> Self {
        Self::from_bytes(secret.expose().as_bytes())
    }

    /// A session's key.
    pub fn of_session(key: &SessionKey) -> Self {
        Self::from_bytes(key.expose())
    }

    /// A key that signs nothing anybody has: what is checked against when there is no key, so that
    /// a miss takes as long as a hit.
    pub fn dummy(random: &[u8; 32]) -> Self {
        Self::from_bytes(random)
    }

    fn from_bytes(key: &[u8]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// Signs.
    pub fn sign(&self, to_sign: &StringToSign<'_>) -> Signature {
        Signature(tag(&self.0, &to_sign.bytes()))
    }

    /// Checks in constant time.
    #[must_use]
    pub fn accepts(&self, rendered: &[u8], signature: &Signature) -> bool {
        hmac::verify(&self.0, rendered, &signature.0).is_ok()
    }

    /// The tag of any bytes, in the type that [`MacKey::accepts_body`] checks.
    pub fn tag_of(&self, bytes: &[u8]) -> BodySignature {
        BodySignature(tag(&self.0, bytes))
    }

    /// Checks the older form, which covers the body alone, in constant time.
    #[must_use]
    pub fn accepts_body(&self, body: &[u8], signature: &BodySignature) -> bool {
        hmac::verify(&self.0, body, &signature.0).is_ok()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(masked)")
    }
}

fn tag(key: &hmac::Key, message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(key, message);
    let mut out = [0u8; 32];
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    out
}

/// `X-Signature` of version 2: `v2=` and 64 lower-case hex digits.
#[derive(Clone, Copy)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Reads the header's value.
    ///
    /// # Errors
    /// When `text` has another form; upper case is refused.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        text.strip_prefix(HEADER_PREFIX)
            .and_then(from_hex)
            .map(Self)
            .ok_or(FormError("v2= and 64 lower-case hex digits"))
    }

    /// The header's value.
    pub fn header(&self) -> String {
        format!("{HEADER_PREFIX}{}", hex(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(masked)")
    }
}

/// `X-Signature` of the older design: 64 lower-case hex digits over the body alone.
#[derive(Clone, Copy)]
pub struct BodySignature([u8; 32]);

impl BodySignature {
    /// Reads the header's value.
    ///
    /// # Errors
    /// When `text` has another form.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        from_hex(text).map(Self).ok_or(FormError("64 lower-case hex digits"))
    }
}

impl fmt::Debug for BodySignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodySignature(masked)")
    }
}
