//! The layer of links against real servers.

mod acl;
mod calls;
mod claim_script;
mod clocks;
mod cluster;
mod floors;
mod losses;
mod pushes;
mod refusals;
mod sentinel;
mod steps;
mod store_id;
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_services::Redis;
use edgeward_store::Clock;
use tokio::time::{Instant, timeout};

use crate::bucket::Bucket;
use crate::hub::{Hub, Listener, Push};
use crate::link::Link;
use crate::options::{HostPort, RedisOptions, Servers};
use crate::start::FirstStart;

/// How long something may take that takes a second or two; an election of sentinels that ends in a tie is held anew
/// after many.
const PATIENCE: Duration = Duration::from_secs(90);

/// The machine's clocks.
#[derive(Debug)]
struct MachineClock(Instant);

impl Clock for MachineClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "Redis goes by the machine's clock, and so must the test"
    )]
    fn now(&self) -> Now {
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_millis();
        let wall = WallMs(u64::try_from(wall).expect("before the year 584942417"));
        let mono = u64::try_from(self.0.elapsed().as_millis()).expect("a short test");
        Now { wall, mono: MonoMs(3_600_000 + mono) }
    }
}

fn machine_clock() -> Arc<dyn Clock> {
    Arc::new(MachineClock(Instant::now()))
}

/// What a listener was told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Invalidated(String),
    Opened(Vec<Bucket>, Push),
    Closed(Vec<Bucket>),
    Published(String),
}

/// A listener that writes everything down.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn note(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// How many buckets were closed.
    fn closed(&self) -> usize {
        let closed = |event| if let Event::Closed(buckets) = event { buckets.len() } else { 0 };
        self.events().into_iter().map(closed).sum()
    }
}

impl Listener for Recorder {
    fn invalidated(&self, key: &[u8]) {
        self.note(Event::Invalidated(String::from_utf8_lossy(key).into_owned()));
    }

    fn opened(&self, buckets: &[Bucket], push: Push) {
        self.note(Event::Opened(buckets.to_vec(), push));
    }

    fn closed(&self, buckets: &[Bucket]) {
        self.note(Event::Closed(buckets.to_vec()));
    }

    // told of in tests/losses.rs
    fn lost(&self) {}

    fn published(&self, payload: &[u8]) {
        self.note(Event::Published(String::from_utf8_lossy(payload).into_owned()));
    }
}

fn at(address: SocketAddr) -> HostPort {
    HostPort::new(address.ip().to_string(), address.port())
}

/// One server.
fn options_of(address: SocketAddr) -> RedisOptions {
    options_for_servers(Servers::Single(at(address)))
}

/// Node `n1`, with budgets that a busy machine keeps.
fn options_for_servers(servers: Servers) -> RedisOptions {
    RedisOptions {
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(2),
        ..RedisOptions::new(servers, machine_clock(), "n1".to_owned())
    }
}

/// A hub that has started, and what it tells.
async fn started(options: RedisOptions, first: FirstStart) -> (Arc<Hub>, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let listener: Arc<dyn Listener> = recorder.clone();
    let hub = Hub::start(options, first, listener).await.expect("a hub");
    (hub, recorder)
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !is_so() {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn bucket(number: usize) -> Bucket {
    Bucket::all().nth(number).expect("a bucket")
}

fn all() -> Vec<Bucket> {
    Bucket::all().collect()
}

/// Waits until every bucket has a link of an identity that is not this one; the new one of bucket 0.
async fn another(hub: &Hub, identity: &str) -> Arc<Link> {
    until("all buckets have another link", || {
        all().iter().all(|bucket| hub.link(*bucket).is_ok_and(|link| link.identity() != identity))
    })
    .await;
    hub.link(bucket(0)).expect("a link")
}

/// The floors of all buckets.
fn floors(hub: &Hub) -> Vec<Option<WallMs>> {
    all().iter().map(|bucket| hub.floor(*bucket)).collect()
}

/// What the server's clock shows, epoch milliseconds.
fn time_of(server: &Redis) -> u64 {
    let time = server.command(&["TIME"]).expect("TIME").texts();
    let [seconds, micros] = [&time[0], &time[1]].map(|it| it.parse::<u64>().expect("a number"));
    seconds * 1000 + micros / 1000
}
