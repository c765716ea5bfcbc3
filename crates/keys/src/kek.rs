//! The key-encryption key (KEK): wraps data keys and does nothing else.
//!
//! [`KekProvider`] is what a deployment's key management offers; [`Kek`] is the one that is held in
//! this process, from a file or an environment variable.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgeward_store::durable::Sealed;
use zeroize::Zeroizing;

use crate::encoding::{fingerprint, hex};
use crate::entropy::{Entropy, EntropyExt as _};
use crate::error::KeysError;
use crate::private_file;

/// A data key in the clear.
pub type DataKey = Zeroizing<[u8; 32]>;

/// Whoever holds the key-encryption key: this process, or a service that never lets it out.
///
/// What a wrong answer costs: a wrapped key that opens without the KEK gives away every secret at
/// rest; one that never opens again loses them.
#[async_trait]
pub trait KekProvider: Send + Sync {
    /// Tells this KEK from others, kept beside what it wraps. It must not help to guess the key.
    fn fingerprint(&self) -> String;

    /// Wraps a data key, bound to its id.
    ///
    /// # Errors
    /// When the provider or its randomness fails.
    async fn wrap(
        &self,
        id: &[u8; 16],
        key: &DataKey,
        entropy: &dyn Entropy,
    ) -> Result<Sealed, KeysError>;

    /// Opens what [`wrap`](Self::wrap) gave for this id.
    ///
    /// # Errors
    /// [`KeysError::DataKey`] when it does not open, or when the provider could not be asked.
    async fn unwrap(&self, id: &[u8; 16], wrapped: &Sealed) -> Result<DataKey, KeysError>;
}

/// A key-encryption key in this process: 256 bits, wiped when dropped.
pub struct Kek(Zeroizing<[u8; 32]>);

impl Kek {
    /// Reads a file of 32 raw bytes, 64 hex digits or 44 characters of base64; text may end in a
    /// line break. Nobody but its owner may have access to it.
    ///
    /// # Errors
    /// [`KeysError::KekFile`], [`KeysError::KekExposed`] or [`KeysError::KekForm`].
    pub fn from_file(path: &Path) -> Result<Self, KeysError> {
        let fault = |error: std::io::Error| file_fault(path, &error);
        // A pipe would keep the start waiting in `open`.
        if !std::fs::metadata(path).map_err(fault)?.is_file() {
            return Err(KeysError::KekFile {
                path: path.to_owned(),
                fault: "is not a regular file".to_owned(),
            });
        }
        let file = File::open(path).map_err(fault)?;
        refuse_exposed(path, &file)?;
        let mut content = Zeroizing::new(Vec::with_capacity(256));
        file.take(256).read_to_end(&mut content).map_err(fault)?;
        if let Ok(raw) = <[u8; 32]>::try_from(content.as_slice()) {
            return Self::from_bytes(Zeroizing::new(raw));
        }
        let text = std::str::from_utf8(&content).map_err(|_| KeysError::KekForm(FORM))?;
        Self::from_text(text)
    }

    /// Reads the file, and makes it first if there is none: 64 hex digits, mode 0600, on disk before
    /// this returns. Of two starts at once both get the same key.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file), or when the file cannot be made.
    pub fn generate_file(path: &Path, entropy: &dyn Entropy) -> Result<Self, KeysError> {
        if !path.try_exists().map_err(|error| file_fault(path, &error))? {
            make_file(path, entropy)?;
        }
        Self::from_file(path)
    }

    /// Reads 64 hex digits or 44 characters of base64, as an environment variable holds them.
    ///
    /// # Errors
    /// [`KeysError::KekForm`]; it shows nothing of the text.
    pub fn from_text(text: &str) -> Result<Self, KeysError> {
        let text = text.trim_end_matches(['\r', '\n']);
        let mut raw = Zeroizing::new([0u8; 32]);
        match text.len() {
            64 => {
                for (byte, pair) in raw.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    for digit in pair {
                        let value = char::from(*digit).to_digit(16);
                        let value = value.and_then(|value| u8::try_from(value).ok());
                        *byte = (*byte << 4) | value.ok_or(KeysError::KekForm(FORM))?;
                    }
                }
            }
            44 => {
                let decoded = STANDARD.decode(text).map_err(|_| KeysError::KekForm(FORM))?;
                let decoded = Zeroizing::new(decoded);
                *raw = decoded.as_slice().try_into().map_err(|_| KeysError::KekForm(FORM))?;
            }
            _ => return Err(KeysError::KekForm(FORM)),
        }
        Self::from_bytes(raw)
    }

    fn from_bytes(raw: Zeroizing<[u8; 32]>) -> Result<Self, KeysError> {
        // A placeholder somebody forgot; a random key is so once in 2^248.
        let [first, rest @ ..] = &*raw;
        if rest.iter().all(|byte| byte == first) {
            return Err(KeysError::KekForm("is one byte repeated, not a random key"));
        }
        Ok(Self(raw))
    }

    fn aead(&self) -> Result<LessSafeKey, KeysError> {
        aead(&self.0).ok_or(KeysError::Cipher)
    }
}

const FORM: &str = "must be 32 raw bytes, 64 hex digits or 44 characters of base64";

/// AES-256-GCM under these bytes.
pub(crate) fn aead(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new)
}

fn bound(id: &[u8; 16]) -> Aad<Vec<u8>> {
    Aad::from([b"edgeward data key".as_slice(), id].concat())
}

#[async_trait]
impl KekProvider for Kek {
    fn fingerprint(&self) -> String {
        fingerprint(b"edgeward kek fingerprint", self.0.as_slice())
    }

    /// 12 bytes of nonce, then ciphertext and tag.
    async fn wrap(
        &self,
        id: &[u8; 16],
        key: &DataKey,
        entropy: &dyn Entropy,
    ) -> Result<Sealed, KeysError> {
        let damaged = |_| KeysError::DataKey(hex(id));
        let nonce = entropy.bytes::<NONCE_LEN>()?;
        let mut content = Zeroizing::new(key.to_vec());
        let tag = self
            .aead()?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                bound(id),
                content.as_mut_slice(),
            )
            .map_err(damaged)?;
        Ok(Sealed([nonce.as_slice(), &content, tag.as_ref()].concat()))
    }

    async fn unwrap(&self, id: &[u8; 16], wrapped: &Sealed) -> Result<DataKey, KeysError> {
        let damaged = || KeysError::DataKey(hex(id));
        let (nonce, content) = wrapped.0.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut content = Zeroizing::new(content.to_vec());
        let key = self
            .aead()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), bound(id), &mut content)
            .map_err(|_| damaged())?;
        let mut out = DataKey::default();
        *out = (&*key).try_into().map_err(|_| damaged())?;
        Ok(out)
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({})", self.fingerprint())
    }
}

fn file_fault(path: &Path, error: &std::io::Error) -> KeysError {
    KeysError::KekFile { path: path.to_owned(), fault: error.to_string() }
}

/// Judges the opened file, not the path, which could lead elsewhere by then.
#[cfg(unix)]
fn refuse_exposed(path: &Path, file: &File) -> Result<(), KeysError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().map_err(|error| file_fault(path, &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeysError::KekExposed { path: path.to_owned(), mode: mode & 0o7777 });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &File) -> Result<(), KeysError> {
    Ok(())
}

/// Writes a new key, once.
fn make_file(path: &Path, entropy: &dyn Entropy) -> Result<(), KeysError> {
    let mut key = Zeroizing::new([0u8; 32]);
    entropy.fill(key.as_mut_slice())?;
    let mut text = Zeroizing::new(hex(key.as_slice()));
    text.push('\n');
    private_file::create(path, text.as_bytes(), entropy.bytes::<8>()?)
        .map_err(|error| file_fault(path, &error))
}

#[cfg(test)]
mod tests;
