//! The agent's own key: made here, kept here, never sent.

use std::fmt;
use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use edgeward_wire::DevicePublicKey;
use zeroize::Zeroizing;

use crate::{Error, Result, file};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// An Ed25519 key pair (RFC 8032) as a PKCS#8 PEM (RFC 8410), which `openssl pkeyutl` reads too.
pub struct DeviceKey {
    pair: Ed25519KeyPair,
    pem: Zeroizing<String>,
    public: DevicePublicKey,
}

impl DeviceKey {
    /// Makes a key from the system's random bytes.
    ///
    /// # Errors
    /// When the system has none.
    pub fn generate() -> Result<Self> {
        let pair = Ed25519KeyPair::generate().map_err(|_| Error::Entropy)?;
        let der = pair.to_pkcs8v1().map_err(|_| Error::Entropy)?;
        let text = Zeroizing::new(STANDARD.encode(der.as_ref()));
        let pem = Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", text.as_str()));
        Self::of(pair, pem)
            .ok_or_else(|| Error::Invalid("a device key that is not Ed25519".to_owned()))
    }

    /// Reads the PEM of an unencrypted Ed25519 key in PKCS#8.
    ///
    /// # Errors
    /// When `pem` is something else.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let refused =
            || Error::Invalid("the device key is not an Ed25519 key in PKCS#8 PEM".to_owned());
        let body = pem
            .trim()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(END))
            .ok_or_else(refused)?;
        let packed = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
        let der = Zeroizing::new(STANDARD.decode(packed.as_bytes()).map_err(|_| refused())?);
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| refused())?;
        Self::of(pair, Zeroizing::new(pem.to_owned())).ok_or_else(refused)
    }

    /// Makes a key and keeps it in a new file of mode 0600.
    ///
    /// # Errors
    /// When something stands at `path` already, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let key = Self::generate()?;
        file::Pending::open(path)?.create(&key.pem)?;
        Ok(key)
    }

    /// Reads a key that [`create`](Self::create) or `openssl genpkey -algorithm ed25519` has made.
    ///
    /// # Errors
    /// When group or others may read the file, or it holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        let pem = file::read(path)?;
        Self::from_pem(&pem).map_err(|_| Error::unfit(path, "not an Ed25519 key in PKCS#8 PEM"))
    }

    /// The public half, for the edge.
    pub fn public(&self) -> DevicePublicKey {
        self.public
    }

    /// Signs; 64 bytes as base64url.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign(&self, message: &[u8]) -> Result<String> {
        let signature = self.pair.try_sign(message).map_err(|_| Error::Entropy)?;
        Ok(URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    pub(crate) fn pem(&self) -> &Zeroizing<String> {
        &self.pem
    }

    fn of(pair: Ed25519KeyPair, pem: Zeroizing<String>) -> Option<Self> {
        let raw = pair.public_key().as_ref().try_into().ok()?;
        let public = DevicePublicKey::ed25519(raw).ok()?;
        Some(Self { pair, pem, public })
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({})", self.public.thumbprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_signs_the_public_half_accepts() {
        let key = DeviceKey::generate().unwrap();
        let signature = key.sign(b"message").unwrap();
        assert!(key.public().accepts(b"message", &signature));
        assert!(!key.public().accepts(b"another", &signature));
        let other = DeviceKey::generate().unwrap();
        assert!(!other.public().accepts(b"message", &signature));
    }

    #[test]
    fn a_file_gives_the_same_key_back_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.key");
        let made = DeviceKey::create(&path).unwrap();
        assert_eq!(DeviceKey::read(&path).unwrap().public(), made.public());
        assert!(DeviceKey::create(&path).is_err());
        assert_eq!(DeviceKey::read(&path).unwrap().public(), made.public());
    }

    #[test]
    fn it_is_not_printed() {
        let key = DeviceKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("DeviceKey({})", key.public().thumbprint()));
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "x"] {
            assert!(DeviceKey::from_pem(bad).is_err(), "{bad}");
        }
    }
}
