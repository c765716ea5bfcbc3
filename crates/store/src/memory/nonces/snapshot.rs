//! A table as bytes, to outlive a clean stop.
//!
//! `EWNONCE` and the version byte 1; the 16-byte key; for each live entry the 16-byte fingerprint and
//! the ticks of 64 ms that it has left (u32, little-endian, at least 1); SHA-256 over all before it.
//! The digest finds damage; who may write the file is for its permissions to say.

use std::fmt;
use std::sync::atomic::Ordering;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use zeroize::Zeroizing;

use super::shard::{Fingerprint, Found, Life, tick};
use super::{NonceTable, lock};

const MAGIC: &[u8; 7] = b"EWNONCE";
const VERSION: u8 = 1;
const HEAD_LEN: usize = 24;
const ENTRY_LEN: usize = 20;

/// Every live entry of a table, and its key. Secret: who knows the key can make pairs collide.
pub struct NonceSnapshot(Zeroizing<Vec<u8>>);

impl NonceSnapshot {
    /// The bytes to store, readable by nobody else.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for NonceSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NonceSnapshot({} bytes)", self.0.len())
    }
}

/// Why bytes are not a snapshot. The caller has lost its memory of nonces and acts accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Does not begin as a snapshot does.
    #[error("not a snapshot of nonces")]
    NotASnapshot,
    /// Written by a version that this one does not know.
    #[error("snapshot of nonces has the unknown version {0}")]
    UnknownVersion(u8),
    /// Cut short or changed since it was written.
    #[error("snapshot of nonces is damaged")]
    Damaged,
    /// Whole, but with an entry that no table could have written.
    #[error("snapshot of nonces has an impossible entry")]
    ImpossibleEntry,
}

impl NonceTable {
    /// Every entry that is live at `now_ms`, at most 20 bytes each. Shards are read one after the
    /// other: to miss nothing the caller has stopped claiming.
    #[must_use]
    pub fn export(&self, now_ms: u64) -> NonceSnapshot {
        let now = tick(now_ms);
        let length = HEAD_LEN + self.held() * ENTRY_LEN + SHA256_OUTPUT_LEN;
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&*self.key);
        for shard in self.shards.iter() {
            for (fingerprint, ticks) in lock(shard).live(now) {
                bytes.extend_from_slice(&fingerprint.0);
                bytes.extend_from_slice(&ticks.to_le_bytes());
            }
        }
        let sum = digest(&SHA256, &bytes);
        bytes.extend_from_slice(sum.as_ref());
        NonceSnapshot(bytes)
    }

    /// A table with the snapshot's key and entries. What an entry had left when it was written it
    /// has left from `now_ms` on, a time of the new process's clock; the time in between is not
    /// taken off, for no clock that runs on while the process is down can be trusted with it.
    ///
    /// Entries beyond `capacity` are kept too: then the table is full until enough have expired.
    ///
    /// # Errors
    ///
    /// The bytes are not a whole, unchanged snapshot of a known version.
    pub fn import(snapshot: &[u8], now_ms: u64, capacity: usize) -> Result<Self, SnapshotError> {
        let (&magic, rest) = snapshot.split_first_chunk().ok_or(SnapshotError::NotASnapshot)?;
        if &magic != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        let (&version, _) = rest.split_first().ok_or(SnapshotError::Damaged)?;
        if version != VERSION {
            return Err(SnapshotError::UnknownVersion(version));
        }
        let (content, sum) =
            snapshot.split_last_chunk::<SHA256_OUTPUT_LEN>().ok_or(SnapshotError::Damaged)?;
        if digest(&SHA256, content).as_ref() != sum {
            return Err(SnapshotError::Damaged);
        }
        let (head, entries) =
            content.split_first_chunk::<HEAD_LEN>().ok_or(SnapshotError::Damaged)?;
        let (_, &key) = head.split_last_chunk().ok_or(SnapshotError::Damaged)?;
        let (entries, []) = entries.as_chunks::<ENTRY_LEN>() else {
            return Err(SnapshotError::ImpossibleEntry);
        };
        let table = Self::new(key, capacity);
        for entry in entries {
            table.restore(entry, now_ms).ok_or(SnapshotError::ImpossibleEntry)?;
        }
        Ok(table)
    }

    fn restore(&self, entry: &[u8; ENTRY_LEN], now_ms: u64) -> Option<()> {
        let (&fingerprint, ticks) = entry.split_first_chunk()?;
        let fingerprint = Fingerprint(fingerprint);
        let ticks = u32::from_le_bytes(*ticks.first_chunk()?);
        let life = Life::from_ticks(now_ms, ticks).filter(|_| ticks > 0)?;
        let mut shard = self.shard(fingerprint);
        match shard.find(fingerprint, life.now) {
            // Each is written once.
            Found::Live => None,
            Found::Free(place) => {
                shard.put(place, fingerprint, life);
                self.held.fetch_add(1, Ordering::Relaxed);
                Some(())
            }
        }
    }
}
