//! A JWK set in a file.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use edgeward_core::verify::owner::OwnerKeys;
use tokio::io::AsyncReadExt as _;

use super::{OwnerKeysFault, OwnerKeysUnavailable, taken};
use crate::jwks::{JwkSet, MAX_SET_BYTES};

/// Tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

struct State {
    keys: Arc<OwnerKeys>,
    /// Of what was last looked at, good or bad; none when the file was not there.
    seen: Option<Stamp>,
    /// Whether what was last looked at was good.
    good: bool,
}

pub(super) struct FileSource {
    path: PathBuf,
    state: Mutex<State>,
}

impl FileSource {
    pub(super) async fn open(path: PathBuf) -> Result<Self, OwnerKeysFault> {
        let system = |error: std::io::Error| OwnerKeysFault::File {
            path: path.clone(),
            fault: error.to_string(),
        };
        let seen = Some(stamp(&path).await.map_err(system)?);
        let set = read(&path).await?;
        if set.keys.is_empty() {
            return Err(OwnerKeysFault::NoKey { path });
        }
        let state = Mutex::new(State { keys: taken(set), seen, good: true });
        Ok(Self { path, state })
    }

    /// The last good keys.
    pub(super) async fn keys(&self) -> Arc<OwnerKeys> {
        self.look().await;
        Arc::clone(&self.state().keys)
    }

    /// The keys, unless the file is bad just now.
    pub(super) async fn keys_of_good_file(&self) -> Result<Arc<OwnerKeys>, OwnerKeysUnavailable> {
        self.look().await;
        let state = self.state();
        if state.good { Ok(Arc::clone(&state.keys)) } else { Err(OwnerKeysUnavailable) }
    }

    /// Reads the file if it is not the one that was seen last. The stamp is taken before the
    /// content, so that a change in between is seen the next time.
    async fn look(&self) {
        let seen = stamp(&self.path).await.ok();
        if self.state().seen == seen {
            return;
        }
        let read = read(&self.path).await;
        let mut state = self.state();
        state.seen = seen;
        state.good = read.is_ok();
        match read {
            Ok(set) => state.keys = taken(set),
            Err(fault) => {
                tracing::warn!(%fault, "the owners' key set changed for the worse; the last good one stays");
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(path: &PathBuf) -> Result<JwkSet, OwnerKeysFault> {
    let system = |error: std::io::Error| OwnerKeysFault::File {
        path: path.clone(),
        fault: error.to_string(),
    };
    let file = tokio::fs::File::open(path).await.map_err(system)?;
    let mut bytes = Vec::new();
    // One byte more than is taken, so that a larger file shows.
    file.take(MAX_SET_BYTES as u64 + 1).read_to_end(&mut bytes).await.map_err(system)?;
    JwkSet::read(&bytes).map_err(|fault| OwnerKeysFault::Set { path: path.clone(), fault })
}

async fn stamp(path: &PathBuf) -> std::io::Result<Stamp> {
    let metadata = tokio::fs::metadata(path).await?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Ok(Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode })
}
