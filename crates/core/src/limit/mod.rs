//! Arithmetic of limits on state that is passed in.

pub mod backoff;
pub mod gcra;
