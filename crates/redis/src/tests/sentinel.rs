//! A primary that sentinels name.

use edgeward_services::{Redis, RedisOptions as ServerOptions, RedisWithSentinel};
use redis::Pipeline;

use super::*;
use crate::start::StartError;

fn options_for(servers: &RedisWithSentinel) -> RedisOptions {
    let sentinels = servers.sentinel_addresses().into_iter().map(at).collect();
    let name = servers.master_name().to_owned();
    let servers = Servers::Sentinel { sentinels, name };
    options_for_servers(servers)
}

fn everywhere_at(hub: &Hub, address: SocketAddr) -> bool {
    all().iter().all(|bucket| hub.link(*bucket).is_ok_and(|link| link.address == at(address)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_is_followed_and_every_floor_goes_up() {
    let servers = RedisWithSentinel::start(ServerOptions::default()).expect("five servers");
    let (hub, recorder) = started(options_for(&servers), FirstStart::Fresh).await;
    let first = servers.current_primary().expect("a primary");
    assert!(everywhere_at(&hub, first));
    assert_eq!(hub.highest_floor(), None);

    // a swap in good order, over which the old one lives on
    let old = hub.link(bucket(0)).expect("a link");
    recorder.forget();
    servers.failover().expect("swapped");
    let second = servers.current_primary().expect("a primary");
    assert_ne!(first, second);
    until("all is at the second", || everywhere_at(&hub, second)).await;
    assert!(recorder.events().first() == Some(&Event::Closed(all())), "closed before opened");
    let mut ping = Pipeline::new();
    ping.cmd("PING");
    assert!(old.send(&ping).await.is_err(), "nothing goes to the old one");
    let after_swap = floors(&hub);
    assert!(after_swap.iter().all(Option::is_some));

    // and a death, once the other can take its place
    let next = servers.replica().expect("the replica");
    next.wait_for("master_link_status", "up").expect("caught up");
    let dying = servers.primary().expect("the primary");
    dying.kill().expect("killed");
    until("all is at the first", || everywhere_at(&hub, first)).await;
    for (floor, before) in floors(&hub).iter().zip(&after_swap) {
        assert!(floor > before, "{floor:?} {before:?}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_that_lives_on_gets_nothing_once_the_sentinels_name_another() {
    let servers = RedisWithSentinel::start(ServerOptions::default()).expect("five servers");
    let (hub, recorder) = started(options_for(&servers), FirstStart::Fresh).await;
    let old = hub.link(bucket(0)).expect("a link");
    let first = servers.primary().expect("the primary");
    // frozen for the sentinels and for us
    first.pause().expect("frozen");
    let second = servers.next_primary(first.address()).expect("another").address();
    until("all is at the second", || everywhere_at(&hub, second)).await;
    first.resume().expect("resumed");
    // it thinks it is the primary for a while yet; two more rounds change nothing
    let confirmed = hub.confirmed_at();
    until("two rounds", || hub.confirmed_at() > confirmed.map(|at| at.plus(2_000))).await;
    assert!(everywhere_at(&hub, second));
    assert!(
        !old.identity().is_empty()
            && hub.link(bucket(0)).expect("a link").identity() != old.identity()
    );
    assert!(recorder.closed() >= 128);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_is_followed_though_the_old_server_is_well() {
    let servers = RedisWithSentinel::start(ServerOptions::default()).expect("five servers");
    let other = Redis::start(ServerOptions::default()).expect("another primary");
    let (hub, _) = started(options_for(&servers), FirstStart::Fresh).await;
    let old = hub.link(bucket(0)).expect("a link");
    let port = other.address().port().to_string();
    for sentinel in servers.sentinels() {
        let name = servers.master_name();
        sentinel.command(&["SENTINEL", "REMOVE", name]).expect("removed");
        sentinel.command(&["SENTINEL", "MONITOR", name, "127.0.0.1", &port, "2"]).expect("named");
    }
    until("all is at the other", || everywhere_at(&hub, other.address())).await;
    let mut ping = Pipeline::new();
    ping.cmd("PING");
    assert!(old.send(&ping).await.is_err(), "nothing goes to the old one");
    assert!(floors(&hub).iter().all(Option::is_some));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_is_behind_is_not_believed() {
    let servers = RedisWithSentinel::start(ServerOptions::default()).expect("five servers");
    let before = servers.current_primary().expect("a primary");
    servers.failover().expect("swapped");
    let now = servers.current_primary().expect("a primary");
    let (hub, recorder) = started(options_for(&servers), FirstStart::Fresh).await;
    // the first that is asked begins anew, with the old primary; the others will tell it
    let (name, port) = (servers.master_name(), before.port().to_string());
    let behind = &servers.sentinels()[0];
    behind.command(&["SENTINEL", "REMOVE", name]).expect("removed");
    behind.command(&["SENTINEL", "MONITOR", name, "127.0.0.1", &port, "2"]).expect("named");
    until("it was told", || {
        hub.shared.rediscover.notify_one();
        let address = behind.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]);
        address.expect("an address").texts()[1] == now.port().to_string()
    })
    .await;
    assert_eq!(recorder.closed(), 0);
    assert!(everywhere_at(&hub, now));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_is_away_is_done_without_and_a_name_nobody_knows_is_refused() {
    let servers = RedisWithSentinel::start(ServerOptions::default()).expect("five servers");
    servers.sentinels()[0].kill().expect("killed");
    let (hub, _) = started(options_for(&servers), FirstStart::Fresh).await;
    hub.stop().await;

    let mut options = options_for(&servers);
    let Servers::Sentinel { name, .. } = &mut options.servers else { panic!("sentinels") };
    "nobody".clone_into(name);
    let listener = Arc::new(Recorder::default());
    let error = Hub::start(options, FirstStart::Fresh, listener).await.expect_err("refused");
    assert_eq!(error, StartError::UnknownName { name: "nobody".to_owned() });
}
