//! The head of a request: its shape, and which credentials came with it. Nothing is believed.

use std::borrow::Cow;

use edgeward_wire::signature::BodySignature;
use edgeward_wire::{AgentId, AgentSecret, Nonce, SessionId, Signature, header};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};

use super::target::{self, TargetFault};
use crate::rejection::Rejection;
use crate::time::WallMs;

/// Most header fields of a request.
pub const MAX_FIELDS: usize = 64;

/// A head of accepted shape: target, method and header lines can each be read in one way only.
#[derive(Debug)]
pub struct Shaped(pub(crate) Parts);

/// Judges the shape of a head, before any cryptography and any look-up.
///
/// # Errors
/// [`Rejection::Malformed`] or [`Rejection::TargetAmbiguous`].
pub fn shape(mut parts: Parts) -> Result<Shaped, Rejection> {
    mask(&mut parts.headers);
    check_method(&parts.method)?;
    check_target(&parts)?;
    check_names(&parts.headers)?;
    let once = [
        &http::header::CONTENT_TYPE,
        &http::header::CONTENT_LENGTH,
        &http::header::AUTHORIZATION,
        &header::TRACEPARENT,
    ];
    for name in once {
        single(&parts.headers, name)?;
    }
    match single(&parts.headers, &http::header::CONTENT_ENCODING)? {
        Some(coding) if !coding.eq_ignore_ascii_case("identity") => {
            return Err(malformed(
                "content-encoding must be identity: the body is signed as it is sent",
            ));
        }
        Some(_) | None => {}
    }
    if parts.headers.contains_key(http::header::UPGRADE) {
        return Err(malformed("upgrade is refused"));
    }
    Ok(Shaped(parts))
}

/// Marks what no log may show.
fn mask(headers: &mut HeaderMap) {
    const SECRET: [HeaderName; 7] = [
        http::header::AUTHORIZATION,
        http::header::PROXY_AUTHORIZATION,
        http::header::COOKIE,
        HeaderName::from_static("apikey"),
        header::X_AGENT_SECRET,
        header::X_SESSION_ID,
        header::X_SIGNATURE,
    ];
    for (name, value) in headers.iter_mut() {
        value.set_sensitive(SECRET.contains(name));
    }
}

impl Shaped {
    /// The path as sent, without the query.
    pub fn path(&self) -> &str {
        self.0.uri.path()
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.0.method
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Gives the head back.
    pub fn into_parts(self) -> Parts {
        self.0
    }
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection::Malformed(detail.into())
}

fn check_method(method: &Method) -> Result<(), Rejection> {
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(malformed("a method is written in upper case"));
    }
    // A tunnel is not what an edge is for, and an upstream that answers TRACE would show the caller
    // the headers that the edge has added.
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(malformed("CONNECT and TRACE are refused"));
    }
    Ok(())
}

fn check_target(parts: &Parts) -> Result<(), Rejection> {
    target::check(target::path_and_query(&parts.uri)).map_err(|fault| match fault {
        TargetFault::TooLong => malformed("the target is longer than 8 KiB"),
        TargetFault::Malformed(detail) => malformed(detail),
        TargetFault::Ambiguous(detail) => Rejection::TargetAmbiguous(detail),
    })?;
    let Some(authority) = parts.uri.authority() else {
        return Ok(());
    };
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(malformed("the target's scheme is neither http nor https"));
    }
    if authority.as_str().contains('@') {
        return Err(malformed("the target holds user information"));
    }
    match single(&parts.headers, &http::header::HOST)? {
        Some(host) if !host.eq_ignore_ascii_case(authority.as_str()) => {
            Err(malformed("the target and the host header disagree"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Servers behind us may read `x_agent_id` as `x-agent-id` (CGI, WSGI); such a name is refused. Over
/// HTTP/2 nobody has counted the fields before.
fn check_names(headers: &HeaderMap) -> Result<(), Rejection> {
    if headers.len() > MAX_FIELDS {
        return Err(malformed(format!("there are more than {MAX_FIELDS} header fields")));
    }
    match headers.keys().find(|name| name.as_str().contains('_')) {
        Some(_) => Err(malformed("a header name holds an underscore")),
        None => Ok(()),
    }
}

/// The one value of a header, blanks trimmed: given twice, joined by a comma, empty or holding
/// anything but printable ASCII it is refused.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Rejection> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let fault = |what: &str| malformed(format!("header {name} {what}"));
    if values.next().is_some() {
        return Err(fault("is given twice"));
    }
    // `to_str` admits HTAB inside; what remains after trimming must not hold one.
    let value = value.to_str().map_err(|_| fault("holds bytes that are not ASCII"))?;
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return Err(fault("is empty"));
    }
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(fault("holds a control character"));
    }
    // Almost no value has one, and then there is nothing to walk through.
    if value.contains(',') && has_bare_comma(value) {
        return Err(fault("is joined by a comma"));
    }
    Ok(Some(value))
}

/// Whether a comma stands outside a quoted string (RFC 9110, section 5.6.4). Quotes that do not end
/// quote nothing.
fn has_bare_comma(value: &str) -> bool {
    let (mut quoted, mut escaped, mut comma) = (false, false, false);
    for byte in value.bytes() {
        match byte {
            _ if escaped => {
                escaped = false;
                comma |= byte == b',';
            }
            b'\\' if quoted => escaped = true,
            b'"' => {
                quoted = !quoted;
                comma = false;
            }
            b',' if !quoted => return true,
            b',' => comma = true,
            _ => {}
        }
    }
    quoted && comma
}

/// The text of a JWT that came along: a credential, and so shown by no `Debug`.
pub(crate) struct BearerText(pub(crate) String);

impl std::fmt::Debug for BearerText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BearerText(masked)")
    }
}

/// The credentials of a request, unverified.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// Version 2.
    Signed(Signed),
    /// A JWT alone.
    Bearer { agent: Option<AgentId>, bearer: BearerText },
    /// The secret itself.
    HeaderSecret { agent: AgentId, secret: AgentSecret, bearer: Option<BearerText> },
    /// The older form, over the body alone.
    BodySigned { agent: AgentId, signature: BodySignature, bearer: Option<BearerText> },
}

/// The headers of section 3, each in its form.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) agent: AgentId,
    pub(crate) timestamp: WallMs,
    pub(crate) session: Option<SessionId>,
    pub(crate) nonce: Option<Nonce>,
    pub(crate) signature: Signature,
    pub(crate) bearer: Option<BearerText>,
}

/// Reads which credentials there are.
pub(crate) fn credentials(headers: &HeaderMap) -> Result<Credentials, Rejection> {
    let text = |name: &HeaderName| single(headers, name);
    let form = |name: &HeaderName, form: edgeward_wire::FormError| {
        malformed(format!("header {name} is {form}"))
    };

    let agent = text(&header::X_AGENT_ID)?
        .map(AgentId::parse)
        .transpose()
        .map_err(|fault| form(&header::X_AGENT_ID, fault))?;
    let timestamp = text(&header::X_TIMESTAMP)?.map(read_timestamp).transpose()?;
    let nonce = text(&header::X_NONCE)?
        .map(Nonce::parse)
        .transpose()
        .map_err(|fault| form(&header::X_NONCE, fault))?;
    let session = text(&header::X_SESSION_ID)?
        .map(SessionId::parse)
        .transpose()
        .map_err(|fault| form(&header::X_SESSION_ID, fault))?;
    let bearer = read_bearer(headers)?.map(BearerText);
    let signature = text(&header::X_SIGNATURE)?;
    let secret = text(&header::X_AGENT_SECRET)?;

    match (signature, secret, agent) {
        (Some(_), Some(_), _) => {
            Err(malformed("x-agent-secret beside a signature: send the signature only"))
        }
        (Some(signature), None, agent) if is_hex_64(signature) => {
            let signature = BodySignature::parse(signature)
                .map_err(|fault| form(&header::X_SIGNATURE, fault))?;
            let agent = agent.ok_or(Rejection::CredentialsMissing)?;
            Ok(Credentials::BodySigned { agent, signature, bearer })
        }
        (Some(signature), None, agent) => {
            let signature =
                Signature::parse(signature).map_err(|fault| form(&header::X_SIGNATURE, fault))?;
            match (agent, timestamp) {
                (Some(agent), Some(timestamp)) => Ok(Credentials::Signed(Signed {
                    agent,
                    timestamp,
                    session,
                    nonce,
                    signature,
                    bearer,
                })),
                (None | Some(_), None | Some(_)) => Err(Rejection::CredentialsMissing),
            }
        }
        (None, Some(secret), Some(agent)) => match AgentSecret::parse(secret) {
            Ok(secret) => Ok(Credentials::HeaderSecret { agent, secret, bearer }),
            Err(_) => Err(Rejection::HeaderSecretRefused),
        },
        (None, Some(_), None) => Err(Rejection::HeaderSecretRefused),
        (None, None, agent) => bearer
            .map(|bearer| Credentials::Bearer { agent, bearer })
            .ok_or(Rejection::CredentialsMissing),
    }
}

fn is_hex_64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn read_timestamp(text: &str) -> Result<WallMs, Rejection> {
    let digits = text.len() == 13 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(ms) if digits => Ok(WallMs(ms)),
        Ok(_) | Err(_) => {
            Err(malformed("header x-timestamp is not epoch milliseconds of 13 digits"))
        }
    }
}

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1).
pub fn read_bearer(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    let Some(value) = single(headers, &http::header::AUTHORIZATION)? else {
        return Ok(None);
    };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.contains(' ') => {
            Ok(Some(token.to_owned()))
        }
        Some(_) | None => Err(malformed("authorization must be: Bearer, one space, the token")),
    }
}

#[cfg(test)]
mod tests;
