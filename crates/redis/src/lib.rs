//! What all nodes must agree on, kept in Redis: one server, a primary that sentinels name, or a cluster.
//!
//! One connection per server carries everything: commands in pipelines, and in band what Redis tells of
//! changes. Nonces are spread over [a fixed number of buckets](bucket); each has its own epoch and floor
//! beside it, so that one script sees all that it decides by in one slot.
#![warn(missing_docs)]

mod bucket;
mod floor;
mod health;
mod hub;
mod identity;
mod link;
mod options;
mod server;
mod topology;

pub use hub::{FirstStart, StartError};
pub use options::{HostPort, RedisOptions, Servers, TlsOptions};
