//! What is written of a session.
//!
//! ```text
//! {"v":1,"agent_id":"…","exp_ms":…,"max_ms":…,"owner":"…","scopes":["…"],"epoch":…,
//!  "secret_version":…,"key":"base64url"}
//! bound = agent id (16) ‖ epoch (8) ‖ secret version (4) ‖ max_ms (8), big-endian
//! ```
//!
//! Moments are epoch milliseconds of the server's clock. The script that extends a session changes
//! `exp_ms` in the text, so the order of the first three members is part of the form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgeward_core::record::Session;
use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_store::StoreError;
use edgeward_store::durable::Sealed;
use edgeward_store::shared::{NewSession, SealSessions};
use edgeward_wire::{AgentId, MacKey, SessionIdHash};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    v: u8,
    agent_id: String,
    exp_ms: u64,
    max_ms: u64,
    owner: String,
    scopes: Vec<String>,
    epoch: u64,
    secret_version: u32,
    key: String,
}

/// A session as it is written.
pub(super) struct Written {
    pub(super) text: String,
    pub(super) exp_ms: u64,
    pub(super) max_ms: u64,
}

/// `now` shows the server's clock.
pub(super) fn write(
    new: &NewSession,
    seal: &dyn SealSessions,
    now: Now,
) -> Result<Written, StoreError> {
    let session = &new.session;
    let exp_ms = now.wall_at(session.expires_at).0;
    let max_ms = now.wall_at(session.max_expires_at).0;
    let sealed = seal.seal(&session.id, &bound(session, max_ms), &new.key)?;
    let document = Document {
        v: VERSION,
        agent_id: session.agent.to_string(),
        exp_ms,
        max_ms,
        owner: new.owner.to_string(),
        scopes: new.scopes.iter().map(ToString::to_string).collect(),
        epoch: session.epoch,
        secret_version: session.secret_version,
        key: URL_SAFE_NO_PAD.encode(&sealed.0),
    };
    let text = serde_json::to_string(&document)
        .map_err(|error| StoreError::Corrupt(format!("a session cannot be written: {error}")))?;
    Ok(Written { text, exp_ms, max_ms })
}

/// `now` shows the server's clock.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not what was written for this agent and session.
pub(super) fn open(
    text: &[u8],
    agent: AgentId,
    id: &SessionIdHash,
    seal: &dyn SealSessions,
    now: Now,
) -> Result<Session, StoreError> {
    let document: Document = serde_json::from_slice(text)
        .map_err(|error| StoreError::Corrupt(format!("a session cannot be read: {error}")))?;
    if document.v != VERSION {
        return Err(StoreError::Corrupt(format!("a session of version {}", document.v)));
    }
    if document.agent_id != agent.to_string() {
        return Err(StoreError::Corrupt("a session under another agent's key".to_owned()));
    }
    let sealed = URL_SAFE_NO_PAD
        .decode(&document.key)
        .map_err(|_| StoreError::Corrupt("a session's key is not base64url".to_owned()))?;
    let bound = bound_to(agent, document.epoch, document.secret_version, document.max_ms);
    let key = seal.open(id, &bound, &Sealed(sealed))?;
    // Anyone who writes to Redis can move the end, but not past what is bound.
    let exp_ms = document.exp_ms.min(document.max_ms);
    Ok(Session {
        id: *id,
        agent,
        epoch: document.epoch,
        secret_version: document.secret_version,
        key: MacKey::of_session(&key),
        expires_at: mono_at(now, exp_ms),
        max_expires_at: mono_at(now, document.max_ms),
    })
}

fn mono_at(now: Now, wall_ms: u64) -> MonoMs {
    now.mono_at(WallMs(wall_ms))
}

fn bound(session: &Session, max_ms: u64) -> Vec<u8> {
    bound_to(session.agent, session.epoch, session.secret_version, max_ms)
}

fn bound_to(agent: AgentId, epoch: u64, secret_version: u32, max_ms: u64) -> Vec<u8> {
    [
        agent.as_bytes().as_slice(),
        &epoch.to_be_bytes(),
        &secret_version.to_be_bytes(),
        &max_ms.to_be_bytes(),
    ]
    .concat()
}
