//! What a node knows of a loss stands in a floor, also when another node was faster and knew less.

use edgeward_core::time::WallMs;
use edgeward_services::{Redis, RedisOptions as ServerOptions};

use edgeward_store::shared::Told;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::bucket::Keys;
use crate::signals::Ears;

/// Timestamps may be 2 s ahead, servers 500 ms apart.
const ABOVE: u64 = 2_500;

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_from_elsewhere_holds_though_the_epoch_is_in_order() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    hub.stop().await;
    // remembered in memory meanwhile, and now here again
    let first = FirstStart::Elsewhere { floor: WallMs(77) };
    let (hub, _) = started(options_of(server.address()), first).await;
    assert_eq!(floors(&hub), vec![Some(WallMs(77)); 128]);
    let stored = server.command(&["GET", "edgeward:f:{3}"]).expect("GET").text();
    assert_eq!(stored.as_deref(), Some("77"));

    // for the first renewal alone: it is no loss, and what Redis knows goes on
    server.command(&["DEL", "edgeward:f:{3}"]).expect("deleted");
    let link = hub.link(bucket(3)).expect("a link");
    assert_eq!(hub.shared.renew(&[bucket(3)], &link, PATIENCE).await.expect("renewed").len(), 1);
    let stored = server.command(&["GET", "edgeward:f:{3}"]).expect("GET").text();
    assert_eq!(stored, None);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_than_before_is_a_loss_though_somebody_has_renewed_the_epoch() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let link = hub.link(bucket(0)).expect("a link");
    assert_eq!(hub.renew(bucket(0), &link).await, Ok(None), "it was here before");
    // as a node leaves it that has started on the new server and was faster
    hub.shared.was_renewed(bucket(0), "the/one before", 0);
    let before = time_of(&server);
    let floor = hub.renew(bucket(0), &link).await.expect("renewed");
    assert!(floor.is_some_and(|floor| floor.0 >= before + ABOVE), "{floor:?}");
    assert_eq!(hub.renew(bucket(0), &link).await, Ok(floor));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_was_seen_is_a_floor_though_the_epoch_is_in_order_and_just_once() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let link = hub.link(bucket(7)).expect("a link");
    let before = time_of(&server);
    // as the flush is told
    hub.shared.lost(&[bucket(7)]);
    assert!(hub.shared.is_lost(bucket(7)));
    hub.settle(bucket(7), &link).await.expect("settled");
    let floor = hub.floor(bucket(7)).expect("a floor");
    assert!(floor.0 >= before + ABOVE, "{floor:?}");
    assert!(!hub.shared.is_lost(bucket(7)));
    assert_eq!(hub.renew(bucket(7), &link).await, Ok(Some(floor)));
    assert_eq!(hub.floor(bucket(8)), None);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_finds_another_epoch_has_seen_a_loss_unless_it_was_renewed_meanwhile() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let link = hub.link(bucket(7)).expect("a link");
    let renewals = hub.renewals(bucket(7));
    let floor = hub.renew_lost(bucket(7), &link, renewals).await.expect("renewed");
    assert!(floor.is_some());
    assert_eq!(hub.renew_lost(bucket(7), &link, renewals).await, Ok(floor));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_a_loss_for_each_node_that_is_told() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let losses = hub.shared.losses(bucket(0));
    server.command(&["FLUSHALL"]).expect("flushed");
    until("it is told", || all().iter().all(|it| hub.shared.losses(*it) > losses)).await;
    until("it is settled", || all().iter().all(|it| !hub.shared.is_lost(*it))).await;
    hub.stop().await;
}

/// The next that is told.
async fn next(told: &mut UnboundedReceiver<Told>) -> Option<Told> {
    timeout(PATIENCE, told.recv()).await.expect("something is told")
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_are_told_before_everything_and_a_new_connection_is_none() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let ears = Arc::new(Ears::new(&Keys::new("edgeward")));
    let listener: Arc<dyn Listener> = ears.clone();
    let options = options_of(server.address());
    let hub = Hub::start(options.clone(), FirstStart::Fresh, listener).await.expect("a hub");
    let mut told = ears.told();
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).expect("killed");
    // closed and opened
    assert_eq!(next(&mut told).await, Some(Told::Everything));
    assert_eq!(next(&mut told).await, Some(Told::Everything));

    server.command(&["FLUSHALL"]).expect("flushed");
    assert_eq!(next(&mut told).await, Some(Told::Lost));
    assert_eq!(next(&mut told).await, Some(Told::Everything));
    until("it is settled", || all().iter().all(|it| !hub.shared.is_lost(*it))).await;
    assert_eq!(next(&mut told).await, Some(Told::Everything));

    server.kill().expect("killed");
    assert_eq!(next(&mut told).await, Some(Told::Everything));
    server.restart().expect("started");
    assert_eq!(next(&mut told).await, Some(Told::Lost));
    assert_eq!(next(&mut told).await, Some(Told::Everything));
    hub.stop().await;

    // a start that finds a loss tells whoever listens afterwards
    server.command(&["FLUSHALL"]).expect("flushed");
    let ears = Arc::new(Ears::new(&Keys::new("edgeward")));
    let hub = Hub::start(options, FirstStart::Shared, ears.clone()).await.expect("a hub");
    assert_eq!(next(&mut ears.told()).await, Some(Told::Lost));
    hub.stop().await;
}
