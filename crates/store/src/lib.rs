//! What the edge asks of stores: narrow traits, one question each, that say what a wrong answer
//! costs; and the in-memory store that is the default on one machine.
//!
//! * [`shared`] – what all nodes must agree on: sessions, nonces, rates
//! * [`durable`] – what must survive: agents, secrets, enrolments, keys, events
//! * [`fleet`] – what several nodes over one durable store need: who they are, what has changed
//! * [`memory`] – the shared part within one process
//! * `conformance` (feature) – the suite that every backend runs
//!
//! A thing that is missing is `Ok(None)`; an [`StoreError`] means that the store could not look, and
//! is never read as yes or as no.
#![warn(missing_docs)]

pub mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod durable;
pub mod event;
pub mod fleet;
pub mod memory;
pub mod shared;

pub use clock::Clock;
pub use event::{Event, EventKind};

/// The store could not do what it was asked. The text is for the log; no caller of the edge sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached, or did not answer in time.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// A row cannot be read as what it should be.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// The right to claim has lapsed: how far this process has got is not on disk recently enough,
    /// so that a crash now could let a request be replayed. Renew the mark and ask again.
    #[error("the mark of the clock is too old to claim under")]
    MarkLapsed,
}
