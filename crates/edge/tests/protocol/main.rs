//! The protocol over real sockets: what an agent, an owner, an upstream and a stranger see.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod agent_side;
mod between;
mod concurrency;
mod enrol;
mod events;
mod failures;
mod indistinguishable;
mod jwt;
mod modes;
mod problem;
mod rejections;
mod restart;
mod secrets;
mod session;
mod smuggling;
mod targets;
mod tls;
mod upstream_side;
mod whole;
