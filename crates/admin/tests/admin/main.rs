//! The admin listener over real sockets and real files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod calls;
mod common;
mod log;
mod standings;
mod starts;
