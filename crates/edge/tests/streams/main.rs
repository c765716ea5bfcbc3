//! Streams, slow peers and limits, through a whole edge over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod bodies;
mod caps;
mod endings;
mod expiry;
mod faults;
mod floods;
mod h2;
mod heads;
mod http2;
mod json;
mod passing;
mod race;
mod slow;
mod slow_cut;
mod standing;
mod tools;
