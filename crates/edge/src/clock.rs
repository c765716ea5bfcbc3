//! The machine's clocks: read here and nowhere else.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_store::Clock;

/// The wall clock and the monotonic clock of this machine.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
impl SystemClock {
    /// The monotonic clock counts from here.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// A moment for measuring how long something took.
    pub fn instant() -> Instant {
        Instant::now()
    }

    fn read(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mono = Instant::now().duration_since(self.started);
        let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Now { wall: WallMs(ms(wall)), mono: MonoMs(ms(mono)) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        self.read()
    }
}
