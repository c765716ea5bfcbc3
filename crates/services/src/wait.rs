//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use crate::ServiceError;

/// How long anything may take; what is quick on a quiet machine may take long on a busy one.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks at a condition until it holds; its error ends the wait at once.
#[expect(
    clippy::disallowed_methods,
    reason = "a server of another make is asked again and again, against the real time; there is no event to wait for"
)]
pub(crate) fn until<T>(
    what: &str,
    mut condition: impl FnMut() -> Result<Option<T>, ServiceError>,
) -> Result<T, ServiceError> {
    let started = Instant::now();
    loop {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        if started.elapsed() > DEADLINE {
            return Err(ServiceError::TimedOut { what: what.to_owned() });
        }
        std::thread::sleep(INTERVAL);
    }
}
