//! Sealing: AES-256-GCM under a data key, for what is secret at rest.
//!
//! ```text
//! sealed = version (1) ‖ data key id (16) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//! bound  = "edgeward sealed" ‖ version ‖ data key id ‖ len(purpose) ‖ purpose ‖ len(id) ‖ id ‖ row version
//! ```
//!
//! The bound part (associated data, lengths as 64 bits big-endian) makes sealed bytes open only as
//! what they were sealed as: the secret of one agent moved to the row of another is refused.
//!
//! Nonces are 96 random bits. That is safe for at most 2^32 sealings under one data key (NIST SP
//! 800-38D, section 8.3): with an enrolment or a rotation every second, 136 years.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use edgeward_store::Clock;
use edgeward_store::durable::{DataKeyRow, DataKeyUse, KeyRows, Sealed};
use zeroize::Zeroizing;

use crate::encoding::hex;
use crate::entropy::{Entropy, EntropyExt as _};
use crate::error::KeysError;
use crate::kek::{DataKey, KekProvider, aead};

pub(crate) const FORMAT: u8 = 1;
pub(crate) const ID_LEN: usize = 16;

/// What sealed bytes are for; they open for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// An agent's secret; the id is the agent's, the version the secret's.
    AgentSecret,
    /// A private key that signs tokens.
    SigningKey,
    /// What a process held in memory when it stopped.
    Snapshot,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::AgentSecret => b"agent-secret",
            Self::SigningKey => b"signing-key",
            Self::Snapshot => b"snapshot",
        }
    }
}

/// Seals and opens, with data keys that were unwrapped at the start.
pub struct Sealer {
    /// Oldest first; the last one seals.
    keys: Vec<([u8; ID_LEN], LessSafeKey)>,
    dummy: Sealed,
    entropy: Arc<dyn Entropy>,
}

impl Sealer {
    /// Unwraps the data keys of the store, and makes the first if there is none. Two starts at once
    /// agree: what the store kept is what counts.
    ///
    /// # Errors
    /// [`KeysError::WrongKek`] when another KEK wrapped one, [`KeysError::DataKey`] when one does
    /// not open, or when the store, the provider or the randomness fails.
    pub async fn load(
        rows: &dyn KeyRows,
        kek: &dyn KekProvider,
        clock: &dyn Clock,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        for (id, key) in unwrapped(rows, DataKeyUse::AtRest, kek, clock, &*entropy).await? {
            keys.push((id, aead(&key).ok_or(KeysError::Cipher)?));
        }
        let mut sealer = Self { keys, dummy: Sealed(Vec::new()), entropy };
        sealer.dummy = sealer.seal(Purpose::AgentSecret, &DUMMY_ID, 0, &[0; DUMMY_LEN])?;
        Ok(sealer)
    }

    /// Seals, bound to purpose, id and version.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal(
        &self,
        purpose: Purpose,
        id: &[u8],
        version: u32,
        plaintext: &[u8],
    ) -> Result<Sealed, KeysError> {
        let (key_id, key) = self.keys.last().ok_or(KeysError::Cipher)?;
        let nonce = self.entropy.bytes::<NONCE_LEN>()?;
        let mut content = Zeroizing::new(plaintext.to_vec());
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                bound(key_id, purpose, id, version),
                content.as_mut_slice(),
            )
            .map_err(|_| KeysError::Cipher)?;
        Ok(Sealed([&[FORMAT], key_id.as_slice(), &nonce, &content, tag.as_ref()].concat()))
    }

    /// Opens what was sealed as exactly this.
    ///
    /// # Errors
    /// [`KeysError::Sealed`], or [`KeysError::UnknownDataKey`] when its key is not there.
    pub fn open(
        &self,
        purpose: Purpose,
        id: &[u8],
        version: u32,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, KeysError> {
        let (&format, rest) = sealed.0.split_first().ok_or(KeysError::Sealed)?;
        let (key_id, rest) = rest.split_first_chunk::<ID_LEN>().ok_or(KeysError::Sealed)?;
        let (nonce, content) = rest.split_first_chunk::<NONCE_LEN>().ok_or(KeysError::Sealed)?;
        if format != FORMAT {
            return Err(KeysError::Sealed);
        }
        let (_, key) = self
            .keys
            .iter()
            .find(|(id, _)| id == key_id)
            .ok_or_else(|| KeysError::UnknownDataKey(hex(key_id)))?;
        let mut content = Zeroizing::new(content.to_vec());
        let length = key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                bound(key_id, purpose, id, version),
                content.as_mut_slice(),
            )
            .map_err(|_| KeysError::Sealed)?
            .len();
        content.truncate(length);
        Ok(content)
    }

    /// The work of opening an agent's secret, for an agent that does not exist, so that the time of
    /// an answer does not tell which agents do.
    pub fn dummy_open(&self) {
        let opened = self.open(Purpose::AgentSecret, &DUMMY_ID, 0, &self.dummy);
        debug_assert!(opened.is_ok(), "the dummy opens like a secret");
        std::hint::black_box(&opened);
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} data keys)", self.keys.len())
    }
}

/// The nil UUID, which no agent has, and as many bytes as a secret's text.
const DUMMY_ID: [u8; 16] = [0; 16];
const DUMMY_LEN: usize = 53;

/// Everything of variable length is preceded by its length, so no two inputs bind alike.
fn bound(key_id: &[u8; ID_LEN], purpose: Purpose, id: &[u8], version: u32) -> Aad<Vec<u8>> {
    let mut out = b"edgeward sealed".to_vec();
    out.push(FORMAT);
    out.extend_from_slice(key_id);
    for part in [purpose.label(), id] {
        // 64 bits hold any length there is.
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&version.to_be_bytes());
    Aad::from(out)
}

/// The data keys of one use in the clear, oldest first; the first is made if there is none. Two starts
/// at once agree: what the store kept is what counts.
pub(crate) async fn unwrapped(
    rows: &dyn KeyRows,
    used_for: DataKeyUse,
    kek: &dyn KekProvider,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Vec<([u8; ID_LEN], DataKey)>, KeysError> {
    let of_this_use = |mut stored: Vec<DataKeyRow>| {
        stored.retain(|row| row.used_for == used_for);
        stored
    };
    let mut stored = of_this_use(rows.data_keys().await?);
    if stored.is_empty() {
        rows.keep_first_data_key(new_data_key(used_for, kek, clock, entropy).await?).await?;
        stored = of_this_use(rows.data_keys().await?);
    }
    let mut keys = Vec::with_capacity(stored.len());
    for row in &stored {
        keys.push((row.id, unwrap(row, kek).await?));
    }
    Ok(keys)
}

async fn new_data_key(
    used_for: DataKeyUse,
    kek: &dyn KekProvider,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<DataKeyRow, KeysError> {
    let id = entropy.bytes::<ID_LEN>()?;
    let mut key = DataKey::default();
    entropy.fill(key.as_mut_slice())?;
    Ok(DataKeyRow {
        id,
        used_for,
        wrapped: kek.wrap(&id, &key, entropy).await?,
        kek: kek.fingerprint(),
        created_at: clock.now().wall,
    })
}

async fn unwrap(row: &DataKeyRow, kek: &dyn KekProvider) -> Result<DataKey, KeysError> {
    let offered = kek.fingerprint();
    if row.kek != offered {
        return Err(KeysError::WrongKek { stored: row.kek.clone(), offered });
    }
    kek.unwrap(&row.id, &row.wrapped).await
}

#[cfg(test)]
mod tests;
