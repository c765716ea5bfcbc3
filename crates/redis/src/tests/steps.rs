//! Clocks that are set: the server's counts as a loss, this node's does not.

use std::sync::atomic::{AtomicI64, Ordering};

use edgeward_services::{Redis, RedisOptions as ServerOptions};
use edgeward_wire::SecretText;

use super::*;
use crate::reading::Reading;

/// The machine's clocks; against a monotonic one that leaps, every server's clock is set.
#[derive(Debug)]
struct LeapingClock {
    machine: MachineClock,
    mono_ms: AtomicI64,
    wall_ms: AtomicI64,
}

impl LeapingClock {
    fn start() -> Arc<Self> {
        let machine = MachineClock(Instant::now());
        Arc::new(Self { machine, mono_ms: AtomicI64::new(0), wall_ms: AtomicI64::new(0) })
    }
}

impl Clock for LeapingClock {
    fn now(&self) -> Now {
        let Now { wall, mono } = self.machine.now();
        let wall = wall.0.saturating_add_signed(self.wall_ms.load(Ordering::SeqCst));
        let mono = mono.0.saturating_add_signed(self.mono_ms.load(Ordering::SeqCst));
        Now { wall: WallMs(wall), mono: MonoMs(mono) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_clock_that_was_set_raises_every_floor_with_the_next_beat() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    for by in [1_500, -1_500] {
        let clock = LeapingClock::start();
        let options = RedisOptions { clock: clock.clone(), ..options_of(server.address()) };
        let (hub, _) = started(options, FirstStart::Fresh).await;
        let before = floors(&hub);
        clock.mono_ms.store(by, Ordering::SeqCst);
        until("every floor is up", || {
            floors(&hub).iter().zip(&before).all(|(floor, before)| floor > before)
        })
        .await;
        until("it is settled", || all().iter().all(|it| !hub.shared.is_lost(*it))).await;
        hub.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_clock_that_was_set_while_it_was_away_raises_every_floor() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let user =
        |rule: &[&str]| server.command(&[&["ACL", "SETUSER", "n1"], rule].concat()).expect("set");
    user(&["on", ">PASSWORD", "~*", "&*", "+@all"]);
    let clock = LeapingClock::start();
    let options = RedisOptions {
        clock: clock.clone(),
        username: Some("n1".to_owned()),
        password: Some(SecretText::new("PASSWORD".to_owned())),
        ..options_of(server.address())
    };
    let (hub, _) = started(options, FirstStart::Fresh).await;
    let away = async || {
        user(&["off"]);
        server.command(&["CLIENT", "KILL", "USER", "n1"]).expect("killed");
        until("no link", || hub.link(bucket(0)).is_err()).await;
    };
    let back = async || {
        user(&["on"]);
        until("a link", || all().iter().all(|it| hub.link(*it).is_ok())).await;
    };
    away().await;
    back().await;
    assert_eq!(floors(&hub), vec![None; 128], "the same server, and its clock was not set");
    away().await;
    clock.mono_ms.store(1_500, Ordering::SeqCst);
    back().await;
    assert!(floors(&hub).iter().all(Option::is_some));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_nodes_wall_clock_that_was_set_is_no_loss_and_in_no_floor() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let clock = LeapingClock::start();
    let options = RedisOptions { clock: clock.clone(), ..options_of(server.address()) };
    let (hub, _) = started(options, FirstStart::Fresh).await;
    let link = hub.link(bucket(0)).expect("a link");
    clock.wall_ms.store(8_000, Ordering::SeqCst);
    hub.shared.lost(&[bucket(0)]);
    let floor = hub.renew(bucket(0), &link).await.expect("renewed").expect("a floor").0;
    assert!(floor <= time_of(&server) + 2_500 + 1_000, "{floor}");
    until("it is noticed", || hub.clock_ahead_ms().is_some_and(|ahead| ahead < -7_000)).await;
    assert_eq!(floors(&hub).get(1..), Some(&*vec![None; 127]));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_renewal_writes_down_what_the_clock_shows() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let before = time_of(&server);
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let seen = server.command(&["GET", "edgeward:t:{9}"]).expect("GET").text().expect("seen");
    assert!(seen.parse::<u64>().expect("a number") >= before, "{seen}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_years_off_is_in_no_floor() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let clock = machine_clock();
    let options = RedisOptions { clock: Arc::clone(&clock), ..options_of(server.address()) };
    let (hub, _) = started(options, FirstStart::Fresh).await;
    let link = hub.link(bucket(0)).expect("a link");
    let now = clock.now().mono;
    let shown = WallMs(time_of(&server) + 100_000_000_000);
    for _ in 0..20 {
        // a beat may measure again in between
        hub.shared.measured(&[bucket(0)], Reading { shown, asked: now, answered: now });
        server.command(&["DEL", "edgeward:e:{0}"]).expect("lost");
        let floor = hub.renew(bucket(0), &link).await.expect("renewed").expect("a floor").0;
        assert!(floor <= time_of(&server) + 10_000 + 2 * 2_500, "{floor}");
    }
    hub.stop().await;
}
