//! Operators' tokens: `ewop_` and 256 random bits in base64url. The first one is made at first start
//! and kept in a file; the listener itself keeps no more than its SHA-256.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgeward_keys::{Entropy, EntropyError, EntropyExt as _, private_file};
use zeroize::Zeroizing;

const PREFIX: &str = "ewop_";
/// More than a token and a line break.
const MAX_LEN: u64 = 256;

/// Why a token could not be read or made. No message shows it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file could not be read or written.
    #[error("the operators' token file {path}: {fault}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        fault: String,
    },
    /// Group or others have access to the file.
    #[error(
        "the operators' token file {path} is open to group or others (mode {mode:04o}): if they could read it, delete it, and the next start makes a new token; if not, chmod 600 it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "the operators' token file {path} holds no token (ewop_ and 43 characters of base64url): delete it, and the next start makes one"
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// No randomness for a new token.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// An operator's token in the clear, as whoever calls holds it; wiped when dropped, never printed.
#[derive(Clone)]
pub struct OperatorToken(Zeroizing<String>);

impl OperatorToken {
    /// Reads a token's one form; `None` for any other.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?;
        let raw = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
        (raw.len() == 32).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Reads the file that the listener made. Nobody but its owner may have access to it.
    ///
    /// # Errors
    /// When the file cannot be read, is open to others, or holds no token.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let fault = |error: io::Error| file_fault(path, &error);
        // A pipe would keep the start waiting in `open`.
        if !fs::metadata(path).map_err(fault)?.is_file() {
            return Err(file_fault(path, &io::Error::other("is not a regular file")));
        }
        let file = File::open(path).map_err(fault)?;
        // Of the opened file, not of the path: what is checked is what is read.
        let mode = file.metadata().map_err(fault)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::with_capacity(MAX_LEN as usize));
        file.take(MAX_LEN).read_to_string(&mut text).map_err(fault)?;
        Self::parse(text.trim_end_matches(['\r', '\n']))
            .ok_or_else(|| TokenError::Form { path: path.to_owned() })
    }

    /// Reads the file, and makes it first if there is none: mode 0600, on disk before this returns.
    /// Of two starts at once both get the same token.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file), or when the file cannot be made.
    pub fn make_file(path: &Path, entropy: &dyn Entropy) -> Result<Self, TokenError> {
        if !path.try_exists().map_err(|error| file_fault(path, &error))? {
            create(path, entropy)?;
            tracing::info!(path = %path.display(), "the first operators' token was made");
        }
        Self::from_file(path)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorToken({})", self.hash().fingerprint())
    }
}

/// The SHA-256 of a token: recognises it and opens nothing.
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(text: &str) -> Self {
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(digest::digest(&SHA256, text.as_bytes()).as_ref()) {
            *to = *from;
        }
        Self(out)
    }

    /// Whether `presented` is the token, in a time that does not tell how nearly it is.
    pub(crate) fn recognises(&self, presented: &str) -> bool {
        verify_slices_are_equal(&Self::of(presented).0, &self.0).is_ok()
    }

    /// The first 8 hex digits: names the token in logs.
    pub(crate) fn fingerprint(&self) -> String {
        self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({})", self.fingerprint())
    }
}

/// Writes a new token, once, in a folder of its own.
fn create(path: &Path, entropy: &dyn Entropy) -> Result<(), TokenError> {
    let mut raw = Zeroizing::new([0u8; 32]);
    entropy.fill(raw.as_mut_slice())?;
    let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(raw.as_slice()));
    let line = Zeroizing::new([PREFIX, &encoded, "\n"].concat());
    let random = entropy.bytes::<8>()?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(private_file::folder_of(path))
        .and_then(|()| private_file::create(path, line.as_bytes(), random))
        .map_err(|error| file_fault(path, &error))
}

fn file_fault(path: &Path, error: &io::Error) -> TokenError {
    TokenError::File { path: path.to_owned(), fault: error.to_string() }
}

#[cfg(test)]
mod tests;
