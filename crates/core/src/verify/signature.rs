//! Step 5: whose key signed this request?

use edgeward_wire::signature::{BodySignature, StringToSign};
use edgeward_wire::{AgentSecret, MacKey, Signature};

use crate::record::{Agent, Secret, Session};
use crate::rejection::Rejection;
use crate::time::WallMs;

/// Live versions of a secret at most: one active, one in grace, one prepared. As many keys are
/// tried for an agent with one secret, and for no agent at all, so that time tells nothing.
pub(crate) const VERSIONS: usize = 3;

/// The version whose key accepts, after as many tries as for any other agent.
fn find_version(
    agent: Option<&Agent>,
    dummy: &MacKey,
    now: WallMs,
    accepts: impl Fn(&MacKey) -> bool,
) -> Result<u32, Rejection> {
    let live = |secret: &&Secret| now < secret.valid_until;
    let mut secrets = agent.into_iter().flat_map(|agent| agent.secrets.iter()).filter(live);
    let mut found = None;
    for _ in 0..VERSIONS {
        match secrets.next() {
            Some(secret) if accepts(&secret.key) => found = found.or(Some(secret.version)),
            Some(_) => {}
            None => {
                let _ = accepts(dummy);
            }
        }
    }
    match (found, agent) {
        (Some(version), Some(_)) => Ok(version),
        (None, Some(_)) => Err(Rejection::WrongSignature),
        (_, None) => Err(Rejection::UnknownAgent),
    }
}

/// Checks version 2 with the session's key, or with the agent's secrets where there is no session.
pub(crate) fn check(
    to_sign: &StringToSign<'_>,
    signature: &Signature,
    session: Option<&Session>,
    agent: Option<&Agent>,
    dummy: &MacKey,
    now: WallMs,
) -> Result<u32, Rejection> {
    let rendered = to_sign.bytes();
    match session {
        Some(session) if session.key.accepts(&rendered, signature) => Ok(session.secret_version),
        Some(_) => Err(Rejection::WrongSignature),
        None => find_version(agent, dummy, now, |key| key.accepts(&rendered, signature)),
    }
}

/// Checks the older form, for agents that are marked for it.
pub(crate) fn check_body(
    body: &[u8],
    signature: &BodySignature,
    agent: Option<&Agent>,
    dummy: &MacKey,
    now: WallMs,
) -> Result<u32, Rejection> {
    let version = find_version(agent, dummy, now, |key| key.accepts_body(body, signature))?;
    match agent {
        Some(agent) if agent.legacy && !body.is_empty() => Ok(version),
        Some(_) | None => Err(Rejection::BodySignatureRefused),
    }
}

/// Checks the secret itself, in constant time: both sides sign the same words.
pub(crate) fn check_secret(
    secret: &AgentSecret,
    agent: Option<&Agent>,
    dummy: &MacKey,
    now: WallMs,
) -> Result<u32, Rejection> {
    let words = b"edgeward header secret";
    let given = MacKey::of_secret(secret).tag_of(words);
    find_version(agent, dummy, now, |key| key.accepts_body(words, &given))
}

#[cfg(test)]
mod tests;
