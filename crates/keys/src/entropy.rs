//! Randomness, as the shell draws it: the one place where it enters.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

/// The source gave nothing; whoever asked must refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no randomness could be drawn from the system")]
pub struct EntropyError;

/// Where keys, nonces and ids get their randomness. Tests hand in a seeded one.
///
/// What a wrong answer costs: bytes that repeat or can be guessed give away every secret made of
/// them, and a repeated AES-GCM nonce gives away what it sealed.
pub trait Entropy: Send + Sync {
    /// Fills all of `out`.
    ///
    /// # Errors
    /// When there is none to be had; what `out` holds then must not be used.
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError>;
}

/// Arrays straight from an [`Entropy`], also from a `dyn` one.
pub trait EntropyExt: Entropy {
    /// `N` random bytes. For keys fill a [`zeroize::Zeroizing`] instead: an array is copied.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    fn bytes<const N: usize>(&self) -> Result<[u8; N], EntropyError> {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }
}

impl<T: Entropy + ?Sized> EntropyExt for T {}

/// The machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        SystemRandom::new().fill(out).map_err(|_| EntropyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_fills_all_and_never_twice_the_same() {
        let dynamic: &dyn Entropy = &SystemEntropy;
        let (one, other) = (dynamic.bytes::<32>().unwrap(), SystemEntropy.bytes::<32>().unwrap());
        assert_ne!(one, other);
        assert_ne!(one[16..], [0; 16]);
    }
}
