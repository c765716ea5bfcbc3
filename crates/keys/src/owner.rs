//! Where owners' verification keys come from: exactly one of a shared secret, a JWK set in a file,
//! or one at a URL.

mod file;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use edgeward_core::Rejection;
use edgeward_core::read::bearer::JwtFault;
use edgeward_core::rejection::Dependency;
use edgeward_core::time::Now;
use edgeward_core::verify::jwt::VerifyingKey;
use edgeward_core::verify::owner::{Owner, OwnerFault, OwnerKeys, OwnerRules};
use zeroize::Zeroizing;

use self::file::FileSource;
use self::url::UrlSource;
pub use self::url::{FETCH_TIMEOUT_MS, REFETCH_MS, REFRESH_MS, STALE_LIMIT_MS};
use crate::jwks::{JwkSet, JwksFault};

/// Fetches the issuer's JWK set, once, over whatever the shell speaks.
#[async_trait]
pub trait FetchJwks: Send + Sync {
    /// The set's bytes. The implementation bounds what it reads: more than
    /// [`crate::jwks::MAX_SET_BYTES`] is refused in any case.
    ///
    /// What a wrong answer costs: keys of somebody else let them enrol agents, so the connection
    /// must be authenticated.
    ///
    /// # Errors
    /// A sentence for the log.
    async fn fetch(&self) -> Result<Vec<u8>, String>;
}

/// The keys cannot be had, so owners can be neither accepted nor refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the owners' keys are not available")]
pub struct OwnerKeysUnavailable;

/// Why a source cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerKeysFault {
    /// A shared secret that could be guessed.
    #[error("the owners' shared secret is shorter than 32 bytes")]
    ShortSecret,
    /// The file cannot be read.
    #[error("the owners' key set {path}: {fault}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        fault: String,
    },
    /// The file is no set that verifies anything.
    #[error("the owners' key set {path}: {fault}", path = .path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: JwksFault,
    },
    /// It has no key that is taken here.
    #[error("the owners' key set {path} has no key for RS256, ES256 or EdDSA", path = .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
}

/// The one source of owners' keys.
pub struct OwnerKeySource(Kind);

enum Kind {
    Shared(Arc<OwnerKeys>),
    File(FileSource),
    Url(Arc<UrlSource>),
}

impl OwnerKeySource {
    /// One HS256 secret.
    ///
    /// # Errors
    /// [`OwnerKeysFault::ShortSecret`] under 32 bytes (RFC 7518, section 3.2).
    pub fn shared(secret: Zeroizing<Vec<u8>>) -> Result<Self, OwnerKeysFault> {
        if secret.len() < 32 {
            return Err(OwnerKeysFault::ShortSecret);
        }
        let key = VerifyingKey::Hmac(Arc::new(secret));
        Ok(Self(Kind::Shared(Arc::new(OwnerKeys::Shared(key)))))
    }

    /// A JWK set in a file, read again whenever it changes; a bad one is warned of and the last good
    /// one stays.
    ///
    /// # Errors
    /// When the file is not a set with at least one key to begin with.
    pub async fn file(path: PathBuf) -> Result<Self, OwnerKeysFault> {
        FileSource::open(path).await.map(|source| Self(Kind::File(source)))
    }

    /// A JWK set at a URL, fetched on first use.
    pub fn url(fetch: Arc<dyn FetchJwks>) -> Self {
        Self(Kind::Url(Arc::new(UrlSource::new(fetch))))
    }

    /// The keys as they are known. Of a URL: fetched and waited for when there are none yet,
    /// refreshed without waiting when older than [`REFRESH_MS`], refused when older than
    /// [`STALE_LIMIT_MS`].
    ///
    /// # Errors
    /// When there are none to be had.
    pub async fn keys(&self, now: Now) -> Result<Arc<OwnerKeys>, OwnerKeysUnavailable> {
        match &self.0 {
            Kind::Shared(keys) => Ok(Arc::clone(keys)),
            Kind::File(source) => Ok(source.keys().await),
            Kind::Url(source) => source.keys(now.mono).await,
        }
    }

    /// The keys after one more look, for a token that names an unknown one; at most one fetch in
    /// [`REFETCH_MS`], and one at a time.
    ///
    /// # Errors
    /// When the last look failed: then nobody knows whether the issuer has such a key.
    pub async fn keys_for_unknown_kid(
        &self,
        now: Now,
    ) -> Result<Arc<OwnerKeys>, OwnerKeysUnavailable> {
        match &self.0 {
            Kind::Shared(keys) => Ok(Arc::clone(keys)),
            Kind::File(source) => source.keys_of_good_file().await,
            Kind::Url(source) => source.keys_after_look(now.mono).await,
        }
    }

    /// Verifies an owner's token, with one more look at the issuer's keys if it names an unknown one.
    ///
    /// # Errors
    /// [`Rejection::OwnerTokenInvalid`], [`Rejection::OwnerNotAllowed`], or
    /// [`Rejection::Unavailable`] when the keys could not be had.
    pub async fn verify_owner(
        &self,
        text: &str,
        rules: &OwnerRules,
        now: Now,
    ) -> Result<Owner, Rejection> {
        let unavailable = |OwnerKeysUnavailable| Rejection::Unavailable(Dependency::OwnerKeys);
        let keys = self.keys(now).await.map_err(unavailable)?;
        match Owner::verify(text, &keys, rules, now.wall) {
            Err(OwnerFault::Token(JwtFault::UnknownKey)) => {}
            other => return other.map_err(rejection),
        }
        let keys = self.keys_for_unknown_kid(now).await.map_err(unavailable)?;
        Owner::verify(text, &keys, rules, now.wall).map_err(rejection)
    }

    /// How long ago the set at the URL was last fetched well, in milliseconds; none of other sources.
    pub fn age_ms(&self, now: Now) -> Option<u64> {
        match &self.0 {
            Kind::Shared(_) | Kind::File(_) => None,
            Kind::Url(source) => source.age_ms(now.mono),
        }
    }
}

impl fmt::Debug for OwnerKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Shared(_) => "OwnerKeySource(shared secret)",
            Kind::File(_) => "OwnerKeySource(file)",
            Kind::Url(_) => "OwnerKeySource(url)",
        })
    }
}

fn rejection(fault: OwnerFault) -> Rejection {
    match fault {
        OwnerFault::Token(fault) => Rejection::OwnerTokenInvalid(fault),
        OwnerFault::Refused(why) => Rejection::OwnerNotAllowed(why),
    }
}

/// A set as keys. One that verifies nothing is taken too, since that is how an issuer withdraws its
/// last key; but it is worth a word.
fn taken(set: JwkSet) -> Arc<OwnerKeys> {
    if set.keys.is_empty() {
        tracing::warn!(
            skipped = set.skipped,
            "the owners' key set has no key for RS256, ES256 or EdDSA: no owner can be verified"
        );
    }
    Arc::new(OwnerKeys::Set(set.keys))
}

#[cfg(test)]
mod tests;
