use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgeward_client::clock::Clock;
use tokio::sync::watch;

use super::START_MS;

/// Time that only tests move; a hurrying clock moves by itself where anybody waits for less than a
/// minute: for a next try, and not for something to come due.
#[derive(Debug)]
pub struct FakeClock {
    now: watch::Sender<u64>,
    waits: Mutex<Vec<Duration>>,
    hurries: bool,
}

impl FakeClock {
    pub fn hurrying() -> Arc<Self> {
        Self::make(true)
    }

    pub fn still() -> Arc<Self> {
        Self::make(false)
    }

    pub fn advance(&self, ms: u64) {
        self.now.send_modify(|now| *now += ms);
    }

    /// Everything that was waited for.
    pub fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap().clone()
    }

    fn make(hurries: bool) -> Arc<Self> {
        let now = watch::Sender::new(START_MS);
        Arc::new(Self { now, waits: Mutex::default(), hurries })
    }
}

impl Clock for FakeClock {
    fn now_ms(&self) -> u64 {
        *self.now.borrow()
    }

    fn wait(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let ms = u64::try_from(duration.as_millis()).unwrap();
        let mut watched = self.now.subscribe();
        let until = self.now_ms().saturating_add(ms);
        self.waits.lock().unwrap().push(duration);
        if self.hurries && duration < Duration::from_secs(60) {
            self.advance(ms);
        }
        Box::pin(async move {
            watched
                .wait_for(|now| *now >= until)
                .await
                .expect("the clock lives as long as the test");
        })
    }
}
