//! What the workspace's tests stand on: a whole edge in this process with a real database and real
//! sockets, an upstream that records and does as it is told, a client that sends exact bytes, and
//! agents that sign well or with one defect at a time.
//!
//! * [`TestEdge`] – settings through the real loader, SQLite in a folder of its own, a listener on a
//!   free port; it can be stopped in order, crashed, and started again on the same folder
//! * [`Door`] – the public side of any edge, this kit's or a process of its own
//! * [`Upstream`] – records what it gets, byte for byte
//! * [`raw`] – HTTP/1.1 by hand: what is sent is what was written
//! * [`Agent`], [`Signed`] – enrols itself over the wire and forges requests
//! * [`owner`] – owner JWTs
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stand on this and may fail loudly"
)]

pub mod agent;
pub mod door;
pub mod edge;
pub mod owner;
pub mod raw;
pub mod upstream;

pub use agent::{Agent, Device, Enrolment, Session, Signed};
pub use door::{AsDoor, Door};
pub use edge::{Builder, TestEdge, open_store};
pub use raw::{Answer, Conn, Piece};
pub use upstream::{Nobody, Reply, Upstream};

use std::future::Future;
use std::time::Duration;

/// Far beyond anything that a passing test waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
///
/// # Panics
/// When it does not.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen for {PATIENCE:?}"),
    }
}

/// Looks again and again until `condition` holds.
///
/// # Panics
/// When it does not hold for too long.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    soon(what, async {
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        while !condition().await {
            beat.tick().await;
        }
    })
    .await;
}

/// Random bytes.
///
/// # Panics
/// When the machine has none.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

/// base64url without padding.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
