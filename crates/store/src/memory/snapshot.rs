//! The store as bytes, to outlive a clean stop.
//!
//! All numbers little-endian: `EWSTATE` and the version byte 1; the wall clock (u64); the replay floor
//! (u64, 0 for none); the number of sessions (u32) and each of them; the snapshot of nonces; SHA-256
//! over all before it. A session is its id's hash (32), agent (16), epoch (u64), version of the secret
//! (u32), key (32), and what is left of its life and at most (u64 each, milliseconds).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use edgeward_core::record::Session;
use edgeward_core::time::{Now, WallMs};
use edgeward_wire::{AgentId, MacKey, SessionIdHash, SessionKey};
use zeroize::Zeroizing;

use super::MemoryStore;
use super::nonces::{NonceTable, SnapshotError};
use super::sessions::Kept;
use crate::Clock;
use crate::shared::Claims;

const MAGIC: &[u8; 7] = b"EWSTATE";
const VERSION: u8 = 1;
const HEAD_LEN: usize = 28;
const SESSION_LEN: usize = 108;
/// What the floor adds to the newest timestamp that can have been granted.
const FLOOR_MARGIN_MS: u64 = 500;

/// Why bytes are not a snapshot. The caller has lost its memory of nonces and acts accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Does not begin as a snapshot does.
    #[error("not a snapshot")]
    NotASnapshot,
    /// Written by a version that this one does not know.
    #[error("the snapshot has the unknown version {0}")]
    UnknownVersion(u8),
    /// Cut short or changed since it was written.
    #[error("the snapshot is damaged")]
    Damaged,
    /// The part that holds nonces cannot be read.
    #[error(transparent)]
    Nonces(#[from] SnapshotError),
}

impl MemoryStore {
    /// Every live nonce and session, and the floor. Seals the store, and sessions can no longer
    /// change: what came after would be missing in the snapshot. Holds keys of sessions: seal it.
    #[must_use]
    pub fn snapshot(&self) -> Zeroizing<Vec<u8>> {
        self.seal_for_stop();
        let now = self.clock.now();
        let sessions = self.sessions.freeze(now.mono);
        let nonces = self.nonces.export(now.mono.0);
        let floor = self.highest_floor().map_or(0, |floor| floor.0);
        let nonces = nonces.as_bytes();
        let length = HEAD_LEN + sessions.len() * SESSION_LEN + nonces.len() + SHA256_OUTPUT_LEN;
        // At its full length from the start, so that no copy is left behind by growth.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&now.wall.0.to_le_bytes());
        bytes.extend_from_slice(&floor.to_le_bytes());
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for kept in sessions.iter().take(count as usize) {
            write_session(&mut bytes, kept, now);
        }
        bytes.extend_from_slice(nonces);
        let sum = digest(&SHA256, &bytes);
        bytes.extend_from_slice(sum.as_ref());
        bytes
    }

    /// The store that a snapshot holds, for a process whose clock is another one.
    ///
    /// By the wall clock, what passed since the snapshot is taken off the lives of sessions; it is
    /// not taken off those of nonces, for a clock that jumped ahead would free them too early. A
    /// wall clock that went back takes nothing off, and raises the floor over all that can have been
    /// granted, `ahead_ms` of it in the future: nonces are remembered by time that passes, and would
    /// be forgotten before the wall clock shows their timestamps once more. Rates start afresh.
    ///
    /// # Errors
    /// The bytes are not a whole, unchanged snapshot of a known version.
    pub fn restore(
        snapshot: &[u8],
        clock: Arc<dyn Clock>,
        nonce_capacity: usize,
        ahead_ms: u64,
    ) -> Result<Self, RestoreError> {
        let mut rest = Reader(check(snapshot)?);
        let now = clock.now();
        let (wall, floor) = (WallMs(rest.u64()?), WallMs(rest.u64()?));
        let away_ms = now.wall.since(wall);
        let count = rest.u32()?;
        let sessions = (0..count)
            .map(|_| read_session(&mut rest, now, away_ms))
            .collect::<Result<Vec<_>, _>>()?;
        let nonces = NonceTable::import(rest.0, now.mono.0, nonce_capacity)?;
        let store = Self::with_nonces(clock, nonces);
        for kept in sessions.into_iter().flatten() {
            // INVARIANT: a new table is not frozen.
            let _ = store.sessions.start(kept.session, kept.key);
        }
        store.set_replay_floor(floor);
        if now.wall < wall {
            store.set_replay_floor(wall.plus(ahead_ms).plus(FLOOR_MARGIN_MS));
        }
        Ok(store)
    }
}

/// What stands between magic and digest.
fn check(snapshot: &[u8]) -> Result<&[u8], RestoreError> {
    let (&magic, rest) = snapshot.split_first_chunk().ok_or(RestoreError::NotASnapshot)?;
    if &magic != MAGIC {
        return Err(RestoreError::NotASnapshot);
    }
    let (&version, _) = rest.split_first().ok_or(RestoreError::Damaged)?;
    if version != VERSION {
        return Err(RestoreError::UnknownVersion(version));
    }
    let (content, sum) =
        snapshot.split_last_chunk::<SHA256_OUTPUT_LEN>().ok_or(RestoreError::Damaged)?;
    if digest(&SHA256, content).as_ref() != sum {
        return Err(RestoreError::Damaged);
    }
    content.get(MAGIC.len() + 1..).ok_or(RestoreError::Damaged)
}

fn write_session(bytes: &mut Vec<u8>, kept: &Kept, now: Now) {
    let Kept { session, key } = kept;
    bytes.extend_from_slice(session.id.as_bytes());
    bytes.extend_from_slice(session.agent.as_bytes());
    bytes.extend_from_slice(&session.epoch.to_le_bytes());
    bytes.extend_from_slice(&session.secret_version.to_le_bytes());
    bytes.extend_from_slice(key.expose());
    bytes.extend_from_slice(&session.expires_at.since(now.mono).to_le_bytes());
    bytes.extend_from_slice(&session.max_expires_at.since(now.mono).to_le_bytes());
}

/// `None` for a session that has expired since.
fn read_session(
    rest: &mut Reader<'_>,
    now: Now,
    away_ms: u64,
) -> Result<Option<Kept>, RestoreError> {
    let id = SessionIdHash::from_bytes(rest.take()?);
    let agent = AgentId::from_bytes(rest.take()?);
    let (epoch, secret_version) = (rest.u64()?, rest.u32()?);
    let key = SessionKey::from_bytes(rest.take()?);
    let left_ms = rest.u64()?.saturating_sub(away_ms);
    let most_ms = rest.u64()?.saturating_sub(away_ms);
    if left_ms == 0 {
        return Ok(None);
    }
    let session = Session {
        id,
        agent,
        epoch,
        secret_version,
        key: MacKey::of_session(&key),
        expires_at: now.mono.plus(left_ms),
        max_expires_at: now.mono.plus(most_ms),
    };
    Ok(Some(Kept { session, key }))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let (&taken, rest) = self.0.split_first_chunk().ok_or(RestoreError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u64(&mut self) -> Result<u64, RestoreError> {
        self.take().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, RestoreError> {
        self.take().map(u32::from_le_bytes)
    }
}
