//! Floors go up when nonces may have been lost, then and only then, and never down.

use edgeward_core::time::WallMs;
use edgeward_services::{Redis, RedisOptions as ServerOptions};

use super::*;
use crate::reading::Reading;

/// Timestamps may be 2 s ahead, servers 500 ms apart.
const ABOVE: u64 = 2_500;

/// Sets an epoch back to what an old dump would hold, and so on.
fn get(server: &Redis, key: &str) -> Option<String> {
    server.command(&["GET", key]).expect("GET").text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_never_admitted_has_no_floor_and_a_new_connection_brings_none() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    assert_eq!(hub.highest_floor(), None);
    let identity = hub.link(bucket(0)).expect("a link").identity().to_owned();
    assert_eq!(get(&server, "edgeward:e:{127}").as_deref(), Some(identity.as_str()));
    assert_eq!(
        identity,
        format!(
            "{}/{}",
            server.info("run_id").expect("a run id"),
            server.info("master_replid").expect("a replication id")
        )
    );

    recorder.forget();
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).expect("killed");
    until("closed and opened again", || {
        recorder.events() == [Event::Closed(all()), Event::Opened(all(), Push::Tracking)]
    })
    .await;
    assert_eq!(hub.link(bucket(0)).expect("a link").identity(), identity);
    assert_eq!(floors(&hub), vec![None; 128]);

    // nor does another node, whatever it was told of before
    for first in [FirstStart::Fresh, FirstStart::Shared] {
        let (other, _) = started(options_of(server.address()), first).await;
        assert_eq!(other.highest_floor(), None, "{first:?}");
        other.stop().await;
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_that_was_used_before_has_a_floor_from_the_start() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let before = time_of(&server);
    let (hub, _) = started(options_of(server.address()), FirstStart::Shared).await;
    for floor in floors(&hub) {
        let floor = floor.expect("a floor").0;
        assert!((before + ABOVE..=time_of(&server) + ABOVE).contains(&floor), "{floor}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_replicas_and_the_margin_ahead_are_in_the_floor() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let options =
        RedisOptions { ahead_ms: 7_000, max_lag_ms: 11_000, ..options_of(server.address()) };
    let before = time_of(&server);
    let (hub, _) = started(options, FirstStart::Shared).await;
    let floor = hub.highest_floor().expect("a floor").0;
    assert!((before + 18_500..=time_of(&server) + 18_500).contains(&floor), "{floor}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_from_elsewhere_is_kept_and_no_other_comes_with_it() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let first = FirstStart::Elsewhere { floor: WallMs(77) };
    let (hub, _) = started(options_of(server.address()), first).await;
    assert_eq!(floors(&hub), vec![Some(WallMs(77)); 128]);
    assert_eq!(get(&server, "edgeward:f:{3}").as_deref(), Some("77"));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_memory_raises_every_floor() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    let old = hub.link(bucket(0)).expect("a link").identity().to_owned();
    recorder.forget();
    server.kill().expect("killed");
    until("no link", || hub.link(bucket(0)).is_err()).await;
    until("all are told", || recorder.closed() == 128).await;
    assert_eq!((hub.confirmed_at(), hub.clock_ahead_ms()), (None, None));
    let before = hub_clock();
    server.restart().expect("started");
    let link = another(&hub, &old).await;
    for floor in floors(&hub) {
        assert!(floor.expect("a floor") > WallMs(before + ABOVE - 1), "{floor:?}");
    }
    assert_eq!(get(&server, "edgeward:e:{64}").as_deref(), Some(link.identity()));
    assert!(recorder.events().contains(&Event::Opened(all(), Push::Tracking)));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_from_an_old_dump_raises_every_floor_above_the_dumps() {
    let snapshots = ServerOptions { snapshots: true, ..ServerOptions::default() };
    let server = Redis::start(snapshots).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Shared).await;
    let old = hub.link(bucket(0)).expect("a link").identity().to_owned();
    let first = floors(&hub);
    server.command(&["SAVE"]).expect("saved");
    server.kill().expect("killed");
    server.restart().expect("started");
    // the dump has the epochs of the server that is no more, and its floors
    another(&hub, &old).await;
    for (floor, first) in floors(&hub).iter().zip(&first) {
        assert!(floor > first, "{floor:?} {first:?}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_raises_every_floor_at_once_and_voids_what_was_read() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    let identity = hub.link(bucket(0)).expect("a link").identity().to_owned();
    recorder.forget();
    let before = time_of(&server);
    server.command(&["FLUSHALL"]).expect("flushed");
    until("every floor is up", || {
        floors(&hub).iter().all(|floor| floor.is_some_and(|floor| floor.0 >= before + ABOVE))
    })
    .await;
    let told = [Event::Closed(all()), Event::Opened(all(), Push::Tracking)];
    assert_eq!(recorder.events(), told);
    let link = hub.link(bucket(0)).expect("a link");
    assert_eq!(link.identity(), identity);
    assert_eq!(get(&server, "edgeward:e:{0}"), Some(identity));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_renewals_of_one_bucket_are_one_and_a_floor_never_goes_down() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let link = hub.link(bucket(5)).expect("a link");
    hub.note_floor(bucket(9), WallMs(4_000_000_000_000));
    server.command(&["DEL", "edgeward:e:{5}"]).expect("lost");
    server.command(&["CONFIG", "RESETSTAT"]).expect("reset");
    let renewals = (0..50).map(|_| hub.renew(bucket(5), &link));
    let renewed = futures_util::future::join_all(renewals).await;
    // the highest floor that the node knows, be it of another bucket
    assert!(
        renewed.iter().all(|floor| floor == &Ok(Some(WallMs(4_000_000_000_000)))),
        "{renewed:?}"
    );
    // one, and one for those who came when that was done
    let stat = server.info("cmdstat_eval").expect("some");
    let calls =
        stat.strip_prefix("calls=").and_then(|it| it.split(',').next()?.parse::<u32>().ok());
    assert!(calls.is_some_and(|calls| calls < 5), "{stat}");
    assert_eq!(get(&server, "edgeward:e:{5}").as_deref(), Some(link.identity()));

    // an epoch that is in order is left alone, and so is a floor that is higher than any here
    server.command(&["SET", "edgeward:f:{5}", "4000000000001"]).expect("set");
    assert_eq!(hub.renew(bucket(5), &link).await, Ok(Some(WallMs(4_000_000_000_001))));
    assert_eq!(hub.floor(bucket(5)), Some(WallMs(4_000_000_000_001)));
    hub.note_floor(bucket(5), WallMs(1));
    assert_eq!(hub.floor(bucket(5)), Some(WallMs(4_000_000_000_001)));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_went_back_raises_the_floor_above_what_it_showed() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let link = hub.link(bucket(0)).expect("a link");
    let seen = time_of(&server) + 60_000;
    server.command(&["SET", "edgeward:t:{0}", &seen.to_string()]).expect("set");
    for _ in 0..2 {
        assert_eq!(hub.renew(bucket(0), &link).await, Ok(Some(WallMs(seen + ABOVE))));
    }
    // less than a second is no step
    let seen = time_of(&server) + 500;
    server.command(&["SET", "edgeward:t:{1}", &seen.to_string()]).expect("set");
    assert_eq!(hub.renew(bucket(1), &link).await, Ok(None));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_lies_above_what_the_clock_of_the_last_server_shows() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let machine_clock = machine_clock();
    let options =
        RedisOptions { clock: Arc::clone(&machine_clock), ..options_of(server.address()) };
    let (hub, _) = started(options, FirstStart::Fresh).await;
    let link = hub.link(bucket(0)).expect("a link");
    let mut is_above = false;
    for _ in 0..20 {
        // as of a server before this one; each beat brings this one's own
        let shown = time_of(&server) + 5_000;
        let now = machine_clock.now().mono;
        let reading = Reading { shown: WallMs(shown), asked: now, answered: now };
        hub.shared.measured(&[bucket(0)], reading);
        server.command(&["DEL", "edgeward:e:{0}", "edgeward:f:{0}"]).expect("lost");
        let floor = hub.renew(bucket(0), &link).await.expect("renewed").expect("a floor").0;
        assert!(floor <= time_of(&server) + 5_000 + ABOVE + 100, "{floor}");
        is_above |= floor >= shown + ABOVE - 100;
    }
    assert!(is_above);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_a_replica_meanwhile_is_another_server() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let other = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let old = hub.link(bucket(0)).expect("a link").identity().to_owned();
    let port = other.address().port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &port]).expect("demoted");
    until("a replica has no link", || hub.link(bucket(0)).is_err()).await;
    server.command(&["REPLICAOF", "NO", "ONE"]).expect("promoted");
    let link = another(&hub, &old).await;
    assert_eq!(link.identity().split('/').next(), old.split('/').next(), "the same process");
    assert!(floors(&hub).iter().all(Option::is_some));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_evicted_raises_every_floor_though_the_server_is_the_same() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let old = hub.link(bucket(0)).expect("a link").identity().to_owned();
    for number in 0..50 {
        server.command(&["SET", &format!("other:{number}"), &"x".repeat(10_000)]).expect("SET");
    }
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).expect("set");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).expect("set");
    until("some are evicted", || server.info("evicted_keys").is_ok_and(|count| count != "0")).await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).expect("set");
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).expect("set");
    let evicted = server.info("evicted_keys").expect("a number");
    let link = another(&hub, &old).await;
    assert_eq!(link.identity(), format!("{old}/{evicted}"));
    assert!(floors(&hub).iter().all(Option::is_some));
    hub.stop().await;
}

fn hub_clock() -> u64 {
    machine_clock().now().wall.0
}
