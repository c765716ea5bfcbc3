//! The only makers of verified values.

pub mod jwt;
pub mod owner;
pub(crate) mod signature;
