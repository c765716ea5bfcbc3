//! Why keys cannot be had or used. No text here shows a key, or anything that one sealed.

use std::path::PathBuf;

use edgeward_store::StoreError;

use crate::entropy::EntropyError;

/// Why a key cannot be had or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The store could not do what it was asked.
    #[error("keys in the store: {0}")]
    Store(#[from] StoreError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The text of a key-encryption key has another form, or is no random key.
    #[error("the key-encryption key {0}")]
    KekForm(&'static str),
    /// The file of the key-encryption key cannot be read or made.
    #[error("the key-encryption key file {path}: {fault}", path = .path.display())]
    KekFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        fault: String,
    },
    /// Others than its owner may read the file.
    #[error(
        "the key-encryption key file {path} has mode {mode:04o}, so others than its owner can \
         read it. Make it private (chmod 600 {path}); for a mounted secret set its mode to 0400",
        path = .path.display()
    )]
    KekExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Data keys were wrapped by another key-encryption key.
    #[error(
        "the data keys were wrapped by the key-encryption key with fingerprint {stored}, and the \
         one offered has fingerprint {offered}. Start with the former key; without it nothing that \
         it sealed can be opened"
    )]
    WrongKek {
        /// The fingerprint beside the wrapped key.
        stored: String,
        /// The fingerprint of the one offered.
        offered: String,
    },
    /// A key management service could not be asked.
    #[error("the key-encryption key's provider: {0}")]
    Provider(String),
    /// A data key does not open under the right key-encryption key.
    #[error("the data key {0} does not open: its row is damaged or was altered")]
    DataKey(String),
    /// Sealed bytes name a data key that is not there.
    #[error("sealed under the data key {0}, which is not among those loaded")]
    UnknownDataKey(String),
    /// Sealed bytes do not open as what they are asked for.
    #[error("sealed bytes do not open: damaged, altered, or sealed as something else")]
    Sealed,
    /// A signing key cannot be used.
    #[error("the signing key {kid}: {fault}")]
    SigningKey {
        /// Its id.
        kid: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// Signing keys exist and none of them signs.
    #[error("there are signing keys for {0} tokens, and none of them is active")]
    NoActiveKey(&'static str),
    /// A ring was asked for a token of another kind than it signs.
    #[error("this key ring signs {0} tokens only")]
    OtherPurpose(&'static str),
    /// The cipher could not be set up.
    #[error("the cipher could not be set up")]
    Cipher,
    /// Signing failed.
    #[error("a token could not be signed")]
    Signing,
}
