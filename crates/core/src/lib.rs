//! Every decision of the edge, pure: no clock, no randomness, no I/O, no runtime.
//!
//! A request is a value that earns its way ([`flow`]):
//!
//! ```text
//! Presented → Screened → Checked → Commit → Admission
//! ```
//!
//! Each step consumes the one before and only an [`flow::Admission`] can be forwarded. A step cannot
//! be skipped, since the next one's input has no other maker:
//!
//! ```compile_fail
//! // Forwarding without an admission: there is no way to make one.
//! use edgeward_core::flow::Admission;
//! fn forward(_: Admission) {}
//! fn shell(presented: edgeward_core::flow::Presented) {
//!     forward(presented);
//! }
//! ```
//! ```
//! // Its twin that compiles: the admission that a settled commit gives.
//! use edgeward_core::flow::{Admission, Commit, Facts, Outcome};
//! use edgeward_core::time::Now;
//! fn forward(_: Admission) {}
//! fn shell(commit: Commit, outcome: Outcome, facts: &Facts, now: Now) {
//!     if let Ok(admission) = commit.settle(outcome, facts, now) {
//!         forward(admission);
//!     }
//! }
//! ```
//!
//! A nonce can be claimed for a verified caller only:
//!
//! ```compile_fail
//! use edgeward_core::flow::Screened;
//! use edgeward_core::nonce::Claim;
//! fn claim(_: &Claim) {}
//! fn shell(screened: &Screened) {
//!     claim(screened.claim());
//! }
//! ```
//! ```
//! use edgeward_core::flow::Commit;
//! use edgeward_core::nonce::Claim;
//! fn claim(_: &Claim) {}
//! fn shell(commit: &Commit) {
//!     claim(commit.claim());
//! }
//! ```
//!
//! and nothing is settled that was not assessed:
//!
//! ```compile_fail
//! use edgeward_core::flow::{Checked, Facts, Outcome};
//! use edgeward_core::time::Now;
//! fn shell(checked: Checked, outcome: Outcome, facts: &Facts, now: Now) {
//!     let _ = checked.settle(outcome, facts, now);
//! }
//! ```
//! ```
//! use edgeward_core::flow::{Checked, Facts, HashedBody, Outcome, Token};
//! use edgeward_core::time::Now;
//! fn shell(checked: Checked, body: HashedBody, token: Token, outcome: Outcome, facts: &Facts, now: Now) {
//!     if let Ok(commit) = checked.assess(now, body, token) {
//!         let _ = commit.settle(outcome, facts, now);
//!     }
//! }
//! ```
#![warn(missing_docs)]

pub mod address;
pub mod enroll;
pub mod flow;
pub mod limit;
pub mod nonce;
pub mod policy;
pub mod read;
pub mod record;
pub mod rejection;
pub mod time;
pub mod verify;

pub use rejection::Rejection;

#[cfg(test)]
mod tests;
