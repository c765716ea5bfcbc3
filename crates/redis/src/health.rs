//! (health)
