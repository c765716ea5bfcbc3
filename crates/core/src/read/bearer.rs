//! The gate in front of any JWT: its form is judged before a key is looked at.
//!
//! Common libraries accept an unknown `crit`, `b64: false`, a wrong `typ` or a date in the future;
//! what passes here has none of that (RFC 7515, RFC 7519, RFC 8725).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json;

/// The longest JWT that is read, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// Why a JWT does not pass, or does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JwtFault {
    /// Not three parts of strict base64url holding JSON objects.
    Form,
    /// A header member that is not accepted, or one that is missing.
    Header,
    /// A claim of the wrong type, a date of absurd size, or a missing claim.
    Claims,
    /// No key of this `kid`.
    UnknownKey,
    /// `alg` is not what the key is for.
    Algorithm,
    /// The signature is wrong.
    Signature,
    /// Past its `exp`.
    Expired,
    /// Before its `nbf`, or issued in the future.
    NotYetValid,
    /// Another issuer.
    Issuer,
    /// Another audience.
    Audience,
    /// Another subject than the caller.
    Subject,
    /// Of an earlier epoch of the agent.
    Epoch,
    /// Another role than the deployment takes, or an anonymous owner.
    Role,
}

/// What a kind of token must have in its header.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// `typ` must be there; where it is there it must be `JWT` in any case.
    pub typ_required: bool,
    /// `kid` must be there.
    pub kid_required: bool,
}

impl Form {
    /// Tokens that we mint for agents.
    pub const AGENT: Self = Self { typ_required: true, kid_required: true };
    /// Tokens of owners, by issuers of many kinds.
    pub const OWNER: Self = Self { typ_required: false, kid_required: false };
}

/// A JWT of good form. It says which key to try and nothing else until that key has accepted it.
#[derive(Clone)]
pub struct UnverifiedToken {
    pub(crate) signed: String,
    pub(crate) signature: Vec<u8>,
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
    pub(crate) claims: Map<String, Value>,
}

impl UnverifiedToken {
    /// Reads compact serialization (RFC 7515, section 7.1).
    ///
    /// # Errors
    /// [`JwtFault::Form`], [`JwtFault::Header`] or [`JwtFault::Claims`].
    pub fn read(text: &str, form: Form) -> Result<Self, JwtFault> {
        if text.len() > MAX_TOKEN {
            return Err(JwtFault::Form);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwtFault::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtFault::Form)?;
        // A third dot would have stayed in `claims`, where base64url refuses it.
        let header = object(header)?;
        let claims = object(claims)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtFault::Form)?;
        if signature.is_empty() {
            return Err(JwtFault::Form);
        }
        let (alg, kid) = judge_header(&header, form)?;
        judge_dates(&claims)?;
        Ok(Self { signed: signed.to_owned(), signature, alg, kid, claims })
    }

    /// The agent that the token names, for looking it up before the token is verified.
    pub(crate) fn subject_hint(&self) -> Option<edgeward_wire::AgentId> {
        let subject = self.claims.get("sub").and_then(Value::as_str)?;
        edgeward_wire::AgentId::parse(subject).ok()
    }

    /// The key that the token names.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}

impl std::fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnverifiedToken(kid {:?})", self.kid)
    }
}

fn object(part: &str) -> Result<Map<String, Value>, JwtFault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtFault::Form)?;
    match json::value(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) | Err(_) => Err(JwtFault::Form),
    }
}

/// An allow-list: `alg`, `typ`, `kid`, and whatever else is mere information. Members that change
/// how a token is read, or where its key comes from, are refused.
fn judge_header(
    header: &Map<String, Value>,
    form: Form,
) -> Result<(String, Option<String>), JwtFault> {
    const REFUSED: [&str; 9] = ["crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "cty"];
    if REFUSED.iter().any(|name| header.contains_key(*name)) {
        return Err(JwtFault::Header);
    }
    let alg = header.get("alg").and_then(Value::as_str).ok_or(JwtFault::Header)?;
    match header.get("typ") {
        None if !form.typ_required => {}
        Some(Value::String(typ)) if typ == "JWT" => {}
        None | Some(_) => return Err(JwtFault::Header),
    }
    let kid = match header.get("kid") {
        None if !form.kid_required => None,
        Some(Value::String(kid)) if (1..=256).contains(&kid.len()) => Some(kid.clone()),
        None | Some(_) => return Err(JwtFault::Header),
    };
    Ok((alg.to_owned(), kid))
}

/// NumericDates (RFC 7519, section 2) are whole seconds between 2001 and 2286.
fn judge_dates(claims: &Map<String, Value>) -> Result<(), JwtFault> {
    for name in ["exp", "nbf", "iat"] {
        if let Some(date) = claims.get(name) {
            let seconds = date.as_u64().ok_or(JwtFault::Claims)?;
            if !(1_000_000_000..10_000_000_000).contains(&seconds) {
                return Err(JwtFault::Claims);
            }
        }
    }
    Ok(())
}
