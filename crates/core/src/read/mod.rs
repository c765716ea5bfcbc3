//! Bytes to values that nobody believes yet.

pub mod bearer;
pub mod credentials;
pub mod json;
pub use edgeward_wire::target;

#[cfg(test)]
mod tests;
