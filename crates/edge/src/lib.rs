//! The public side: listeners, the way of a request, the edge's own endpoints, and forwarding.
//!
//! What is decided is decided in `edgeward-core`; here is what touches the world:
//!
//! * [`conn`] – hostile bytes, under the HTTP library
//! * [`listen`], [`tls`] – sockets
//! * `call` – an agent's call, step by step around the core's flow
//! * `endpoints` – enrolment, sessions, tokens, echo, and the way to routes
//! * [`forward`] – upstreams and the relay of streams
//! * [`streams`] – the registry by which a revocation ends what is open
//! * [`continuity`] – what memory holds, across a stop or a crash
//! * `standing`, `follow`, `confirmed` – blocks and other changes: made here, made elsewhere, and
//!   whether all of them are known here
//! * `steady` – whether the wall clock can be relied on
//! * [`setup`] – from settings to a running edge

mod answer;
mod body;
mod budget;
mod call;
pub mod clock;
mod confirmed;
pub mod conn;
pub mod continuity;
mod directory;
mod edge;
mod endpoints;
#[cfg(test)]
mod fake;
mod fetch;
mod follow;
pub mod forward;
pub mod listen;
pub mod meter;
pub mod setup;
mod standing;
mod steady;
pub mod streams;
pub mod tls;
mod trace;
mod upkeep;
mod value;
mod violations;

pub use body::AnswerBody;
pub use edge::{Edge, Lifetimes, Origin, Waits};
pub use standing::{Act, Receipt};

/// The version that `healthz` and `--version` tell.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A node whose clock is further than this from the store's, in milliseconds, takes nothing.
pub const CLOCK_APART_MS: u64 = 500;

/// For so long a JWK set may be kept by whoever read it, in seconds. A key is published for longer
/// before it signs.
pub const JWKS_MAX_AGE_SEC: u64 = 300;
