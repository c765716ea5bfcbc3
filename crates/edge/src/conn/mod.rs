//! What stands between an accepted socket and the HTTP library.
//!
//! hyper's parser is lenient where a front door must not be: it takes a bare LF for a line end, a
//! second `Transfer-Encoding`, a `Content-Length` beside one, more fields and longer heads than any
//! agent sends; and it has no deadlines of its own for idle and stalled connections. [`Guard`]
//! wraps the socket (plain or TLS), watches the bytes that hyper reads and follows their framing.
//!
//! - HTTP/1: what breaks a rule is *poisoned*: it never reaches hyper, which reads a few bytes in
//!   its place that its own parser refuses with a bare 400 before it closes. So answers to earlier
//!   requests on the connection keep their order, and nothing after the refused bytes is ever
//!   parsed. In a chunked body, whose request is being served already, it is the body that fails.
//! - HTTP/2: frames pass; a flood of empty work or an oversized frame ends the connection with an
//!   error.
//!
//! The judging is pure and lives in [`head`], [`chunked`] and [`h2_frames`]; time and I/O are here.
//! [`Activity`] tells the guard whether an exchange is in flight, for then no silence of the peer
//! counts against it.
//!
//! The HTTP library must allow more than the guard (its own caps answer 431, not 400), and upgrades
//! and tunnels must not be granted: the guard goes on reading the connection as HTTP.

mod activity;
pub mod chunked;
mod deadline;
mod guard;
pub mod h2_frames;
pub mod head;
mod wire;

pub use activity::{Activity, InFlight, Traffic};
pub use guard::Guard;
pub use wire::Fault;

/// Deadlines and caps of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a head to its end; for the first head, from the acceptance of the
    /// connection.
    pub header_ms: u64,
    /// Without a byte in either direction while nothing is in flight.
    pub idle_ms: u64,
    /// Without progress of a write.
    pub write_stall_ms: u64,
    /// How long, after the last byte of an answer, bytes that the peer is still sending are read
    /// and thrown away. A socket that is closed over unread bytes is reset, and the reset can
    /// destroy the answer on its way.
    pub linger_ms: u64,
    /// Longest HTTP/2 frame payload in bytes.
    pub h2_max_frame: u32,
    /// Most HTTP/2 frames in 10 s that only make work: resets, pings, settings, priorities, empty
    /// ones.
    pub h2_max_idle_work: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_ms: 5_000,
            idle_ms: 60_000,
            write_stall_ms: 30_000,
            linger_ms: 1_000,
            h2_max_frame: 16_384,
            h2_max_idle_work: 1_000,
        }
    }
}
