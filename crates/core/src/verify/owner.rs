//! Owner JWTs: the tokens of whoever runs the accounts, verified against exactly one source of keys.

use std::collections::HashMap;

use edgeward_wire::{OwnerId, Scope};
use serde_json::{Map, Value};

use super::jwt::{VerifyingKey, check_issuer_and_audience};
use crate::read::bearer::{Form, JwtFault, UnverifiedToken};
use crate::time::WallMs;

/// Accepted difference between the issuer's clock and ours, in seconds.
const LEEWAY_SEC: u64 = 30;

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum OwnerKeys {
    /// A JWKS: tokens name their key.
    Set(HashMap<String, VerifyingKey>),
    /// One shared secret: tokens need not name it.
    Shared(VerifyingKey),
}

/// What an owner's token must say.
#[derive(Debug, Clone, Default)]
pub struct OwnerRules {
    /// `OWNER_ISSUER`.
    pub issuer: Option<String>,
    /// `OWNER_AUDIENCE`.
    pub audience: Option<String>,
    /// `OWNER_ROLES`; empty takes any.
    pub roles: Vec<String>,
    /// `OWNER_SCOPES_CLAIM`: the claim that grants scopes.
    pub scopes_claim: Option<String>,
    /// `OWNER_SCOPES`: what every owner may grant.
    pub scopes: Vec<Scope>,
    /// `OWNER_MAX_AGENTS`; `None` for no cap.
    pub max_agents: Option<u64>,
}

/// An owner whose token holds.
#[derive(Debug, Clone)]
pub struct Owner {
    id: OwnerId,
    granted: Vec<Scope>,
}

/// Why an owner's token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerFault {
    /// It does not verify.
    Token(JwtFault),
    /// It verifies and is still not one that may enrol.
    Refused(&'static str),
}

impl Owner {
    /// Verifies an owner's token at `now`.
    ///
    /// # Errors
    /// See [`OwnerFault`]. [`JwtFault::UnknownKey`] is worth one more look at the issuer's keys.
    pub fn verify(
        text: &str,
        keys: &OwnerKeys,
        rules: &OwnerRules,
        now: WallMs,
    ) -> Result<Self, OwnerFault> {
        let token = UnverifiedToken::read(text, Form::OWNER).map_err(OwnerFault::Token)?;
        verify_signature(&token, keys).map_err(OwnerFault::Token)?;
        check_issuer_and_audience(
            &token.claims,
            rules.issuer.as_deref(),
            rules.audience.as_deref(),
        )
        .map_err(OwnerFault::Token)?;
        check_dates(&token.claims, now).map_err(OwnerFault::Token)?;
        let claims = &token.claims;
        let id = claims
            .get("sub")
            .and_then(Value::as_str)
            .and_then(|sub| OwnerId::parse(sub).ok())
            .ok_or(OwnerFault::Token(JwtFault::Claims))?;
        if claims.get("is_anonymous").is_some_and(|flag| flag != &Value::Bool(false)) {
            return Err(OwnerFault::Refused("anonymous owners may not enrol agents"));
        }
        let role = claims.get("role").and_then(Value::as_str);
        if !rules.roles.is_empty()
            && !role.is_some_and(|role| rules.roles.iter().any(|one| one == role))
        {
            return Err(OwnerFault::Refused("the owner's role may not enrol agents"));
        }
        Ok(Self { id, granted: granted(claims, rules) })
    }

    /// `sub`.
    pub fn id(&self) -> &OwnerId {
        &self.id
    }

    /// Whether the owner may give an agent all of these scopes.
    pub fn may_grant(&self, scopes: &[Scope]) -> bool {
        scopes.iter().all(|scope| self.granted.contains(scope))
    }
}

fn verify_signature(token: &UnverifiedToken, keys: &OwnerKeys) -> Result<(), JwtFault> {
    let key = match (keys, token.kid()) {
        (OwnerKeys::Shared(key), _) => key,
        (OwnerKeys::Set(keys), Some(kid)) => keys.get(kid).ok_or(JwtFault::UnknownKey)?,
        // One key needs no name.
        (OwnerKeys::Set(keys), None) if keys.len() == 1 => {
            keys.values().next().ok_or(JwtFault::UnknownKey)?
        }
        (OwnerKeys::Set(_), None) => return Err(JwtFault::UnknownKey),
    };
    key.verify(token)
}

fn check_dates(claims: &Map<String, Value>, now: WallMs) -> Result<(), JwtFault> {
    let date = |name: &str| claims.get(name).and_then(Value::as_u64);
    let exp = date("exp").ok_or(JwtFault::Claims)?;
    if now.seconds() >= exp.saturating_add(LEEWAY_SEC) {
        return Err(JwtFault::Expired);
    }
    let latest = now.seconds().saturating_add(LEEWAY_SEC);
    if [date("nbf"), date("iat")].into_iter().flatten().any(|start| start > latest) {
        return Err(JwtFault::NotYetValid);
    }
    Ok(())
}

/// A space-separated string (RFC 8693, section 4.2) or an array of strings.
fn granted(claims: &Map<String, Value>, rules: &OwnerRules) -> Vec<Scope> {
    let claim = rules.scopes_claim.as_ref().and_then(|name| claims.get(name));
    let texts: Vec<&str> = match claim {
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        None | Some(_) => Vec::new(),
    };
    let claimed = texts.into_iter().filter_map(|text| Scope::parse(text).ok());
    rules.scopes.iter().cloned().chain(claimed).collect()
}

#[cfg(test)]
mod tests;
