//! The decision matrix.
