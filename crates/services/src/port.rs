//! Ports that nobody listens on.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ServiceError;

/// Below what Linux gives to outgoing connections (32768 and up): such a connection would otherwise
/// take the port of a server while that is down, and it could not start again.
const FIRST: u64 = 10_240;
const COUNT: u64 = 22_000;

/// A TCP port of 127.0.0.1 that is free now; never one that this process was given before, until all
/// have been. Another process may still be quicker to take it: start again with another one then.
pub(crate) fn free() -> Result<u16, ServiceError> {
    static START: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let start = *START.get_or_init(|| RandomState::new().hash_one(std::process::id()) % COUNT);
    for _ in 0..COUNT {
        let place = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let Ok(port) = u16::try_from(FIRST + place) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(ServiceError::TimedOut { what: "a port is free".to_owned() })
}
