//! Keys: what seals secrets at rest, what signs tokens, and what verifies owners.
//!
//! * [`entropy`] – the one place where randomness enters
//! * [`kek`] – the key-encryption key, which wraps data keys and leaves its provider never
//! * [`sealing`] – data keys at work: secrets at rest open only as what they were sealed as
//! * [`fleet`] – session keys, sealed for the nodes that share them
//! * [`ring`] – the keys that sign JWTs, their JWKS, and the snapshot that verifies
//! * [`owner`] – where owners' verification keys come from: a shared secret, a file, a URL
//! * [`jwks`] – reading a JWK set of others
//! * [`private_file`] – files that hold a secret
//!
//! Nothing here holds a key that can be printed: `Debug` masks, and what is dropped is wiped.
//! Nothing here makes a connection: fetching is handed in ([`owner::FetchJwks`]).
#![warn(missing_docs)]

mod encoding;
pub mod entropy;
pub mod error;
pub mod fleet;
pub mod jwks;
pub mod kek;
pub mod owner;
pub mod private_file;
pub mod ring;
pub mod sealing;
#[cfg(test)]
mod testing;

pub use entropy::{Entropy, EntropyError, EntropyExt, SystemEntropy};
pub use error::KeysError;
pub use fleet::FleetSealer;
pub use kek::{Kek, KekProvider};
pub use owner::{FetchJwks, OwnerKeySource, OwnerKeysUnavailable};
pub use ring::{AgentTokenClaims, IdentityTokenClaims, KeyRing, SigningAlg};
pub use sealing::{Purpose, Sealer};
