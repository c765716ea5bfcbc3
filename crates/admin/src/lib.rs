//! The operators' side: a listener of its own, on a Unix socket and a loopback port.
//!
//! Nobody is trusted for being near. Over the socket the system vouches for the peer, who must be
//! root or this process's own user; over TCP, on loopback too, every call carries an operator's
//! token. Both pass one gate before any route is looked up, so that a route cannot be added outside
//! it, and nobody unauthenticated learns which routes there are.
//!
//! * [`AdminServer`] – binds and serves `GET /healthz`, `/readyz` and `/status`, and
//!   `POST /agents/{id}/block`, `/unblock` and `/retire`
//! * [`Source`] – what the program tells about the edge, and does for an operator
//! * [`Actor`] – who calls, and what they may do
//! * [`token`] – the token made at first start, in a file that only its owner may read
//! * [`AdminClient`] – the other end, for commands
//!
//! Unix only: the socket's peer and the modes of files are what this rests on.
#![warn(missing_docs)]

mod actor;
mod api;
mod client;
mod error;
mod gate;
mod refusal;
mod server;
mod socket;
mod source;
mod standing;
pub mod token;

pub use actor::{Actor, ActorKind, Role};
pub use client::{AdminClient, ClientError};
pub use error::BindError;
pub use server::{AdminConfig, AdminServer};
pub use source::{Check, Readiness, Source, SourceUnavailable, StandingAnswer, Status};
pub use token::OperatorToken;
