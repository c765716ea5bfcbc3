//! The clock that stores and the shell are given.

use edgeward_core::time::Now;

/// Both clocks, read together. There is one that reads the machine's, and a fake one in tests.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now.
    fn now(&self) -> Now;
}
