//! A request, stamped and signed.

use edgeward_wire::signature::BodyDigest;
use edgeward_wire::{MacKey, Nonce, StringToSign, header};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use crate::credentials::{Credentials, Session};
use crate::{Error, Result, entropy};

/// Headers that only the client itself may set, or that would change what the edge reads.
static RESERVED: [HeaderName; 15] = [
    header::X_AGENT_ID,
    header::X_TIMESTAMP,
    header::X_NONCE,
    header::X_SESSION_ID,
    header::X_SIGNATURE,
    header::X_AGENT_SECRET,
    http::header::AUTHORIZATION,
    http::header::HOST,
    http::header::CONTENT_LENGTH,
    http::header::TRANSFER_ENCODING,
    http::header::CONNECTION,
    http::header::TRAILER,
    http::header::TE,
    http::header::UPGRADE,
    http::header::EXPECT,
];

/// Time and nonce of one request; a request that is sent again gets new ones.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    pub(crate) timestamp: String,
    pub(crate) nonce: Nonce,
}

impl Stamp {
    pub(crate) fn fresh(now_ms: u64) -> Result<Self> {
        Ok(Self { timestamp: now_ms.to_string(), nonce: Nonce::from_random(entropy::bytes()?) })
    }
}

/// Which key signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedBy {
    /// The long-lived secret: no session is held.
    Secret,
    /// The session's key.
    Session,
}

/// A request that is ready to be sent, once: for other HTTP clients and for looking at.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SignedRequest {
    /// The method.
    pub method: Method,
    /// Where to send it.
    pub url: String,
    /// All headers that the signature needs, and the JWT.
    pub headers: HeaderMap,
    /// What was signed: ten lines, joined by LF.
    pub string_to_sign: StringSigned,
    /// Which key signed.
    pub signed_by: SignedBy,
}

/// The string to sign of one request. It names the session, so `Debug` shows only its lines'
/// hashes.
#[derive(Clone)]
pub struct StringSigned(Zeroizing<String>);

impl StringSigned {
    /// The ten lines, joined by LF.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first 8 hex digits of the SHA-256 of each line. The edge keeps the same of what it saw,
    /// so that whoever runs it can tell which line differs.
    pub fn line_hashes(&self) -> Vec<String> {
        self.0
            .split('\n')
            .map(|line| BodyDigest::of(line.as_bytes()).to_string().chars().take(8).collect())
            .collect()
    }
}

impl std::fmt::Debug for StringSigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StringSigned({})", self.line_hashes().join(" "))
    }
}

/// What is about to be signed.
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
}

/// Signs, by the session if there is one. Sets the five headers of a signed request in `headers`.
pub(crate) fn sign(
    credentials: &Credentials,
    session: Option<&Session>,
    stamp: &Stamp,
    request: &Unsigned<'_>,
    headers: &mut HeaderMap,
) -> Result<StringSigned> {
    let to_sign = StringToSign {
        audience: &credentials.audience,
        agent_id: credentials.agent_id,
        session_id: session.map_or("", |session| session.id.expose()),
        timestamp: &stamp.timestamp,
        nonce: stamp.nonce.as_str(),
        method: request.method.as_str(),
        target: request.target,
        content_type: request.content_type,
        body: BodyDigest::of(request.body),
    };
    let key = match session {
        Some(session) => MacKey::of_session(&session.key),
        None => MacKey::of_secret(&credentials.agent_secret),
    };
    let signature = key.sign(&to_sign).header();
    headers.insert(header::X_AGENT_ID, value(&credentials.agent_id.to_string())?);
    headers.insert(header::X_TIMESTAMP, value(&stamp.timestamp)?);
    headers.insert(header::X_NONCE, value(stamp.nonce.as_str())?);
    if let Some(session) = session {
        headers.insert(header::X_SESSION_ID, sensitive(session.id.expose())?);
    }
    headers.insert(header::X_SIGNATURE, sensitive(&signature)?);
    Ok(StringSigned(Zeroizing::new(to_sign.render())))
}

/// `Authorization: Bearer <jwt>` (RFC 6750).
pub(crate) fn bearer(jwt: &str) -> Result<HeaderValue> {
    sensitive(&Zeroizing::new(format!("Bearer {jwt}")))
}

/// Checks what a caller wants to send, and returns the `Content-Type` that is signed.
///
/// # Errors
/// When the edge would refuse it, or it would replace what the client sets.
pub(crate) fn check<'a>(method: &Method, headers: &'a HeaderMap) -> Result<&'a str> {
    let refused = |why: String| Err(Error::Invalid(why));
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return refused(format!("method {method}: methods are upper-case"));
    }
    if [Method::CONNECT, Method::TRACE].contains(method) {
        return refused(format!("method {method}: the edge forwards no CONNECT and no TRACE"));
    }
    for name in headers.keys() {
        if RESERVED.contains(name) {
            return refused(format!("header {name} is set by the client itself"));
        }
        if name.as_str().contains('_') {
            return refused(format!("header {name}: the edge refuses names with an underscore"));
        }
        let mut values = headers.get_all(name).iter();
        let once = values.next().is_some() && values.next().is_none();
        if !once && [http::header::CONTENT_TYPE, header::TRACEPARENT].contains(name) {
            return refused(format!("header {name} may stand once only"));
        }
    }
    if headers.get(http::header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return refused("the edge accepts no Content-Encoding but identity".to_owned());
    }
    let Some(content_type) = headers.get(http::header::CONTENT_TYPE) else {
        return Ok("");
    };
    match content_type.to_str() {
        Ok(text) if !text.is_empty() && text.trim() == text && !text.contains('\t') => Ok(text),
        Ok(_) | Err(_) => {
            refused("Content-Type must be plain text without blanks around".to_owned())
        }
    }
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text)
        .map_err(|_| Error::Protocol("a credential that no header can carry".to_owned()))
}

fn sensitive(text: &str) -> Result<HeaderValue> {
    let mut value = value(text)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, text)| (HeaderName::from_static(name), HeaderValue::from_static(text)))
            .collect()
    }

    #[test]
    fn headers_of_the_client_itself_cannot_be_given() {
        for name in &RESERVED {
            let given = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("x"))]);
            assert!(check(&Method::GET, &given).is_err(), "{name}");
        }
    }

    #[test]
    fn what_the_edge_refuses_is_not_sent() {
        let lower = Method::from_bytes(b"get").unwrap();
        for method in [lower, Method::CONNECT, Method::TRACE] {
            let told = check(&method, &HeaderMap::new()).unwrap_err().to_string();
            assert!(told.contains(method.as_str()), "{told}");
        }
        for bad in [
            headers(&[("a_b", "x")]),
            headers(&[("content-encoding", "gzip")]),
            headers(&[("content-type", " text/plain")]),
            headers(&[("content-type", "")]),
        ] {
            assert!(check(&Method::GET, &bad).is_err(), "{bad:?}");
        }
        let mut twice = headers(&[("content-type", "a/b")]);
        twice.append("content-type", HeaderValue::from_static("c/d"));
        assert!(check(&Method::GET, &twice).is_err());
    }

    #[test]
    fn the_content_type_that_is_sent_is_signed() {
        assert_eq!(check(&Method::GET, &HeaderMap::new()).unwrap(), "");
        let given = headers(&[("content-type", "application/json; charset=utf-8")]);
        assert_eq!(check(&Method::POST, &given).unwrap(), "application/json; charset=utf-8");
    }

    #[test]
    fn line_hashes_are_8_digits_each_and_debug_shows_nothing_else() {
        let signed = StringSigned(Zeroizing::new("a\nb".to_owned()));
        assert_eq!(signed.line_hashes(), ["ca978112", "3e23e816"]);
        assert_eq!(format!("{signed:?}"), "StringSigned(ca978112 3e23e816)");
    }
}
