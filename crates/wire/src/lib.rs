//! What an agent and the edge say to each other: the vocabulary of protocol version 2.
//!
//! Both ends use this crate, so that a form, a header name or a byte of the string to sign is
//! written down once. Nothing here reads a clock, draws randomness or does I/O: ids and secrets are
//! made from bytes that the caller hands in.
//!
//! * [`id`] – agents, traces, owners, scopes, nonces
//! * [`secret`] – the agent secret with its checksum, session ids and salts; none can be printed
//! * [`enroll`] – codes, challenges and what a device key signs
//! * [`device`] – device keys: reading, thumbprints, strict verification
//! * [`signature`] – `string_to_sign`, session keys, signing and checking
//! * [`target`] – which request targets can be read in one way only
//! * [`header`] – header names
//! * [`hop`] – which headers never reach an upstream
//! * [`problem`] – the codes of refusals, and what a client should do about each
//! * [`api`] – bodies of requests and answers
#![warn(missing_docs)]

pub mod api;
pub mod device;
mod encoding;
pub mod enroll;
pub mod header;
pub mod hop;
pub mod id;
pub mod problem;
pub mod secret;
pub mod signature;
pub mod target;
mod text;

pub use device::DevicePublicKey;
pub use enroll::{Challenge, EnrollCode};
pub use id::{AgentId, Nonce, OwnerId, Scope, TraceId};
pub use problem::{Advice, Code, Problem};
pub use secret::{AgentSecret, SessionId, SessionIdHash, SessionSalt};
pub use signature::{MacKey, SessionKey, Signature, StringToSign};
pub use text::SecretText;

/// A value that does not have the form that the protocol gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct FormError(pub &'static str);
