//! The protocol over real sockets: what an agent, an owner, an upstream and a stranger see.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod concurrency;
mod indistinguishable;
mod problem;
mod rejections;
mod restart;
