//! The tokens that a ring mints: claims, and the compact serialization (RFC 7515, section 7.1).

use edgeward_core::time::WallMs;
use edgeward_wire::{AgentId, OwnerId, Scope};
use serde::Serialize;

use super::signer::Signer;
use crate::encoding::base64url;
use crate::error::KeysError;

/// How long an upstream's token is good, in seconds.
pub const IDENTITY_TOKEN_SEC: u64 = 60;

/// What an agent's token is to say. `role` is always `agent`; `jti` is made.
#[derive(Debug, Clone, Copy)]
pub struct AgentTokenClaims<'a> {
    /// `iss`: `EDGE_PUBLIC_URL`.
    pub issuer: &'a str,
    /// `aud`: `EDGE_AUDIENCE`.
    pub audience: &'a str,
    /// `sub`.
    pub agent: AgentId,
    /// `owner_user_id`.
    pub owner: &'a OwnerId,
    /// `scopes`.
    pub scopes: &'a [Scope],
    /// `epoch`: the agent's.
    pub epoch: u64,
    /// `exp`, rounded down to a second; with a session no later than its maximum.
    pub expires_at: WallMs,
}

/// What a token for an upstream is to say. It is good for [`IDENTITY_TOKEN_SEC`]; `sub` is the agent.
#[derive(Debug, Clone, Copy)]
pub struct IdentityTokenClaims<'a> {
    /// `iss`: `EDGE_PUBLIC_URL`.
    pub issuer: &'a str,
    /// `aud`: that upstream's, never `EDGE_AUDIENCE`.
    pub audience: &'a str,
    /// `sub` and `agent_id`.
    pub agent: AgentId,
    /// `owner_user_id`.
    pub owner: &'a OwnerId,
    /// `role`: what the upstream's row-level security acts as.
    pub role: &'a str,
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
pub(super) struct AgentBody<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: AgentId,
    owner_user_id: &'a OwnerId,
    scopes: &'a [Scope],
    role: &'static str,
    epoch: u64,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
}

impl<'a> AgentBody<'a> {
    pub(super) fn new(claims: &AgentTokenClaims<'a>, now: WallMs, jti: String) -> Self {
        Self {
            iss: claims.issuer,
            aud: claims.audience,
            sub: claims.agent,
            owner_user_id: claims.owner,
            scopes: claims.scopes,
            role: "agent",
            epoch: claims.epoch,
            iat: now.seconds(),
            nbf: now.seconds(),
            exp: claims.expires_at.seconds(),
            jti,
        }
    }
}

#[derive(Serialize)]
pub(super) struct IdentityBody<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: AgentId,
    agent_id: AgentId,
    owner_user_id: &'a OwnerId,
    role: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
}

impl<'a> IdentityBody<'a> {
    pub(super) fn new(claims: &IdentityTokenClaims<'a>, now: WallMs, jti: String) -> Self {
        Self {
            iss: claims.issuer,
            aud: claims.audience,
            sub: claims.agent,
            agent_id: claims.agent,
            owner_user_id: claims.owner,
            role: claims.role,
            iat: now.seconds(),
            nbf: now.seconds(),
            exp: now.seconds().saturating_add(IDENTITY_TOKEN_SEC),
            jti,
        }
    }
}

/// Signs a body into a token.
pub(super) fn compact<T: Serialize>(
    signer: &Signer,
    kid: &str,
    body: &T,
) -> Result<String, KeysError> {
    let header = Header { typ: "JWT", alg: signer.alg().as_str(), kid };
    let header = serde_json::to_vec(&header).map_err(|_| KeysError::Signing)?;
    let body = serde_json::to_vec(body).map_err(|_| KeysError::Signing)?;
    let mut token = format!("{}.{}", base64url(&header), base64url(&body));
    let signature = signer.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&base64url(&signature));
    Ok(token)
}
