//! What all nodes must agree on, kept in Redis: one server, a primary that sentinels name, or a cluster.
//!
//! One connection per server carries everything: commands in pipelines, and in band what Redis tells of
//! changes. Nonces are spread over a fixed number of buckets; each has its own epoch and floor
//! beside it, so that one script sees all that it decides by in one slot.
#![warn(missing_docs)]

mod bucket;
mod calls;
mod claims;
mod floor;
mod greeting;
mod health;
mod hub;
mod identity;
mod line;
mod link;
mod near;
mod options;
mod push;
mod rates;
mod reading;
mod server;
mod sessions;
mod shared;
mod signals;
mod start;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod topology;

pub use options::{HostPort, RedisOptions, Servers, TlsOptions};
pub use start::{FirstStart, StartError};
pub use store::RedisStore;
