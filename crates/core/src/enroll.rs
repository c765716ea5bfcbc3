//! Enrolment: who may ask for a code, and who may complete with it.

use edgeward_wire::api::{EnrollComplete, EnrollStart};
use edgeward_wire::enroll::enroll_message;
use edgeward_wire::{Challenge, DevicePublicKey, EnrollCode, Scope};
use ipnet::IpNet;

use crate::rejection::Rejection;
use crate::verify::owner::Owner;

/// How long a code lives, in milliseconds.
pub const CODE_TTL_MS: u64 = 600_000;
/// Wrong completions that a code survives.
pub const MAX_WRONG_COMPLETIONS: u32 = 5;
/// Characters of an alias or a platform.
const MAX_LABEL: usize = 128;

/// What an agent is to become, judged.
#[derive(Debug, Clone)]
pub struct Grant {
    /// A name for people.
    pub alias: Option<String>,
    /// What it runs on.
    pub platform: Option<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Where it may call from.
    pub allowed_cidrs: Vec<IpNet>,
    /// The owner's own, as JSON.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The only key that may complete.
    pub key_thumbprint: Option<String>,
}

impl Grant {
    /// Judges what an owner asks for.
    ///
    /// # Errors
    /// [`Rejection::OwnerNotAllowed`] beyond the owner's own grant, [`Rejection::Malformed`] where
    /// a member has the wrong form.
    pub fn judge(owner: &Owner, asked: EnrollStart) -> Result<Self, Rejection> {
        if !owner.may_grant(&asked.scopes) {
            return Err(Rejection::OwnerNotAllowed(
                "a scope asked for is outside the owner's grant",
            ));
        }
        check_label("alias", asked.alias.as_deref())?;
        check_label("platform", asked.platform.as_deref())?;
        let allowed_cidrs = asked
            .allowed_cidrs
            .iter()
            .map(|text| text.parse::<IpNet>())
            .collect::<Result<_, _>>()
            .map_err(|_| {
                Rejection::Malformed("allowed_cidrs: each is a network such as 10.0.0.0/8".into())
            })?;
        if let Some(thumbprint) = &asked.key_thumbprint
            && Challenge::parse(thumbprint).is_err()
        {
            return Err(Rejection::Malformed(
                "key_thumbprint: 43 characters of base64url (RFC 7638)".into(),
            ));
        }
        Ok(Self {
            alias: asked.alias,
            platform: asked.platform,
            scopes: asked.scopes,
            allowed_cidrs,
            metadata: asked.metadata,
            key_thumbprint: asked.key_thumbprint,
        })
    }
}

fn check_label(name: &'static str, label: Option<&str>) -> Result<(), Rejection> {
    match label {
        Some(label) if label.chars().count() > MAX_LABEL || label.chars().any(char::is_control) => {
            Err(Rejection::Malformed(
                format!("{name}: at most {MAX_LABEL} characters, no control characters").into(),
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// A completion whose form is right and which no store has seen yet.
#[derive(Debug)]
pub struct Completion {
    /// The code.
    pub code: EnrollCode,
    /// The key that wants to become the device's.
    pub key: DevicePublicKey,
    /// A name for people.
    pub alias: Option<String>,
    /// What the agent runs on.
    pub platform: Option<String>,
    signature: String,
}

/// The right to redeem a code: the device key has signed its challenge. Nothing else makes one.
#[derive(Debug)]
pub struct Proven {
    /// The completion that was proven.
    pub completion: Completion,
}

impl Completion {
    /// Judges the form.
    ///
    /// # Errors
    /// [`Rejection::EnrollCode`] for a code that cannot be one, else [`Rejection::Malformed`].
    pub fn judge(asked: EnrollComplete) -> Result<Self, Rejection> {
        let code = EnrollCode::parse(&asked.enroll_code).map_err(|_| Rejection::EnrollCode)?;
        let key = DevicePublicKey::read(&asked.public_key)
            .map_err(|fault| Rejection::Malformed(format!("public_key is {fault}").into()))?;
        check_label("alias", asked.alias.as_deref())?;
        check_label("platform", asked.platform.as_deref())?;
        Ok(Self {
            code,
            key,
            alias: asked.alias,
            platform: asked.platform,
            signature: asked.signature,
        })
    }

    /// Checks the device key's signature, and the key against the one that the owner pinned.
    ///
    /// # Errors
    /// [`Rejection::EnrollCode`]: outside, a wrong proof is the same as a wrong code.
    pub fn prove(
        self,
        audience: &str,
        challenge: &Challenge,
        pinned: Option<&str>,
    ) -> Result<Proven, Rejection> {
        let thumbprint = self.key.thumbprint();
        let message = enroll_message(audience, &self.code, challenge, &thumbprint);
        let signed = self.key.accepts(message.as_bytes(), &self.signature);
        if signed && pinned.is_none_or(|pinned| pinned == thumbprint) {
            Ok(Proven { completion: self })
        } else {
            Err(Rejection::EnrollCode)
        }
    }
}

#[cfg(test)]
mod tests;
