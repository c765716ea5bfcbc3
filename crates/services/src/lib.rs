//! Throwaway Postgres and Redis on this machine: servers for tests and for a demonstration.
//!
//! Each is started from the programs of this machine on a free port of 127.0.0.1, in a temporary
//! folder of its own, and can be killed, stopped, frozen and started again on the same port. None
//! outlives the process that started it, even when that is killed with SIGKILL: a small shell
//! between the two ends the server and removes its folder when the process is gone.
//!
//! Nothing here is for data that matters: passwords are known, and nothing is synced to disk.
#![warn(missing_docs)]

mod cluster;
mod error;
mod gate;
mod pgbouncer;
mod port;
mod postgres;
mod program;
mod redis;
mod redis_config;
mod resp;
mod sentinel;
mod supervisor;
mod wait;

pub use cluster::RedisCluster;
pub use error::ServiceError;
pub use gate::Gate;
pub use pgbouncer::PgBouncer;
pub use postgres::{Postgres, SUPERUSER, SUPERUSER_PASSWORD};
pub use redis::{REDIS_SUPERUSER, Redis, RedisOptions, RedisTls};
pub use resp::Reply;
pub use sentinel::RedisWithSentinel;
