//! What nodes share through a store that others may read: session keys, sealed under the fleet's own
//! data key.
//!
//! ```text
//! key    = HMAC-SHA256(fleet data key, "edgeward fleet session" ‖ session id hash)
//! sealed = version (1) ‖ data key id (16) ‖ nonce (12) ‖ ciphertext (32) ‖ tag (16)     AES-256-GCM
//! bound  = "edgeward fleet" ‖ version ‖ data key id ‖ session id hash ‖ what the caller binds
//! ```
//!
//! Sessions are many, and one AES-GCM key with random nonces is safe for 2^32 sealings (NIST SP
//! 800-38D, section 8.3), which a large fleet reaches in weeks. So every session is sealed under a key
//! of its own, derived from its id (HMAC as a PRF, NIST SP 800-108).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::hmac;
use edgeward_store::durable::{DataKeyUse, KeyRows, Sealed};
use edgeward_store::shared::SealSessions;
use edgeward_store::{Clock, StoreError};
use edgeward_wire::{SessionIdHash, SessionKey};
use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyExt as _};
use crate::error::KeysError;
use crate::kek::{DataKey, KekProvider, aead};
use crate::sealing::{FORMAT, ID_LEN, unwrapped};

/// Seals session keys for all nodes of a deployment.
pub struct FleetSealer {
    /// Oldest first; the last one seals.
    keys: Vec<([u8; ID_LEN], hmac::Key)>,
    entropy: Arc<dyn Entropy>,
}

impl FleetSealer {
    /// Unwraps the fleet's data keys, and makes the first if there is none. Two starts at once agree.
    ///
    /// # Errors
    /// As [`Sealer::load`](crate::Sealer::load).
    pub async fn load(
        rows: &dyn KeyRows,
        kek: &dyn KekProvider,
        clock: &dyn Clock,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KeysError> {
        let keys = unwrapped(rows, DataKeyUse::Fleet, kek, clock, &*entropy).await?;
        let keys = keys
            .into_iter()
            .map(|(id, key)| (id, hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())))
            .collect();
        Ok(Self { keys, entropy })
    }

    fn key_of(master: &hmac::Key, id: &SessionIdHash) -> Result<LessSafeKey, StoreError> {
        let mut context = hmac::Context::with_key(master);
        context.update(b"edgeward fleet session");
        context.update(id.as_bytes());
        let tag = context.sign();
        let mut key = DataKey::default();
        for (to, from) in key.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        aead(&key).ok_or_else(|| cipher("the cipher could not be set up"))
    }
}

impl SealSessions for FleetSealer {
    fn seal(
        &self,
        id: &SessionIdHash,
        bound: &[u8],
        key: &SessionKey,
    ) -> Result<Sealed, StoreError> {
        let (key_id, master) = self.keys.last().ok_or_else(|| cipher("there is no fleet key"))?;
        let nonce = self
            .entropy
            .bytes::<NONCE_LEN>()
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let mut content = Zeroizing::new(key.expose().to_vec());
        let tag = Self::key_of(master, id)?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                associated(key_id, id, bound),
                content.as_mut_slice(),
            )
            .map_err(|_| cipher("a session key could not be sealed"))?;
        Ok(Sealed([&[FORMAT], key_id.as_slice(), &nonce, &content, tag.as_ref()].concat()))
    }

    fn open(
        &self,
        id: &SessionIdHash,
        bound: &[u8],
        sealed: &Sealed,
    ) -> Result<SessionKey, StoreError> {
        let (&format, rest) = sealed.0.split_first().ok_or_else(damaged)?;
        let (key_id, rest) = rest.split_first_chunk::<ID_LEN>().ok_or_else(damaged)?;
        let (nonce, content) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        if format != FORMAT {
            return Err(damaged());
        }
        let (_, master) = self.keys.iter().find(|(id, _)| id == key_id).ok_or_else(damaged)?;
        let mut content = Zeroizing::new(content.to_vec());
        let opened = Self::key_of(master, id)?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                associated(key_id, id, bound),
                content.as_mut_slice(),
            )
            .map_err(|_| damaged())?;
        <[u8; 32]>::try_from(&*opened).map(SessionKey::from_bytes).map_err(|_| damaged())
    }
}

impl fmt::Debug for FleetSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FleetSealer({} data keys)", self.keys.len())
    }
}

/// All but the last part have a fixed length, so that no two inputs bind alike.
fn associated(key_id: &[u8; ID_LEN], id: &SessionIdHash, bound: &[u8]) -> Aad<Vec<u8>> {
    Aad::from(
        [b"edgeward fleet".as_slice(), &[FORMAT], key_id, id.as_bytes().as_slice(), bound].concat(),
    )
}

fn cipher(what: &str) -> StoreError {
    StoreError::Unavailable(what.to_owned())
}

fn damaged() -> StoreError {
    StoreError::Corrupt(
        "a session's key does not open: damaged, altered, or sealed as something else".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use edgeward_wire::SessionId;

    use super::*;
    use crate::testing::{FixedClock, MemoryRows, kek, system};
    use crate::{Purpose, Sealer};

    async fn fleet(rows: &MemoryRows) -> FleetSealer {
        FleetSealer::load(rows, &kek(1), &FixedClock, system()).await.unwrap()
    }

    fn id(number: u8) -> SessionIdHash {
        SessionId::from_random(&[number; 32]).hash()
    }

    fn key() -> SessionKey {
        SessionKey::from_bytes([5; 32])
    }

    #[tokio::test]
    async fn another_node_opens_it_as_what_it_was_sealed_as_and_as_nothing_else() {
        let rows = MemoryRows::default();
        let (one, other) = (fleet(&rows).await, fleet(&rows).await);
        let sealed = one.seal(&id(1), b"agent 1", &key()).unwrap();
        assert_eq!(other.open(&id(1), b"agent 1", &sealed), Ok(key()));
        assert_eq!(other.open(&id(2), b"agent 1", &sealed), Err(damaged()));
        for bound in [b"agent 2".as_slice(), b"agent", b"agent 11", b""] {
            assert_eq!(other.open(&id(1), bound, &sealed), Err(damaged()));
        }
        let stranger = fleet(&MemoryRows::default()).await;
        assert_eq!(stranger.open(&id(1), b"agent 1", &sealed), Err(damaged()));
    }

    #[tokio::test]
    async fn any_changed_bit_and_any_cut_is_refused_and_nothing_is_in_the_clear() {
        let rows = MemoryRows::default();
        let fleet = fleet(&rows).await;
        let sealed = fleet.seal(&id(1), b"", &key()).unwrap();
        assert!(!sealed.0.windows(8).any(|part| part == [5; 8]));
        for at in 0..sealed.0.len() {
            let mut altered = sealed.clone();
            altered.0[at] ^= 1;
            assert_eq!(fleet.open(&id(1), b"", &altered), Err(damaged()), "byte {at}");
            let cut = Sealed(sealed.0[..at].to_vec());
            assert_eq!(fleet.open(&id(1), b"", &cut), Err(damaged()), "{at} bytes");
        }
    }

    #[tokio::test]
    async fn the_fleet_has_a_data_key_of_its_own() {
        let rows = MemoryRows::default();
        let sealer = Sealer::load(&rows, &kek(1), &FixedClock, system()).await.unwrap();
        let fleet = fleet(&rows).await;
        let uses: Vec<_> = rows.data.lock().unwrap().iter().map(|row| row.used_for).collect();
        assert_eq!(uses, [DataKeyUse::AtRest, DataKeyUse::Fleet]);
        // What seals secrets at rest does not take the fleet's key for its own.
        let again = Sealer::load(&rows, &kek(1), &FixedClock, system()).await.unwrap();
        let at_rest = again.seal(Purpose::AgentSecret, b"a", 1, b"secret").unwrap();
        assert!(sealer.open(Purpose::AgentSecret, b"a", 1, &at_rest).is_ok());
        let shared = fleet.seal(&id(1), b"", &key()).unwrap();
        assert_ne!(shared.0[1..17], at_rest.0[1..17]);
    }
}
