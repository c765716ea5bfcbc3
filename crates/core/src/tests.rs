//! What the tests of several modules share: a forge of requests, a mint of tokens, golden files.

#![allow(unreachable_pub, reason = "everything here is seen by tests of this crate only")]

pub(crate) mod forge;
pub(crate) mod golden;
pub(crate) mod mint;
pub(crate) mod refusals;
pub(crate) mod world;
