//! The clocks of several servers: each bucket goes by its own, and readiness by the one that is off the
//! furthest of those that are open.

use edgeward_services::{Redis, RedisOptions as ServerOptions};

use super::*;
use crate::calls::Calls;
use crate::reading::Reading;

#[tokio::test(flavor = "multi_thread")]
async fn the_clocks_of_the_servers_that_are_open_are_known() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let serial = hub.link(bucket(0)).expect("a link").serial;
    hub.shared.close(serial, &[bucket(5)]);
    // the next beat opens it again, which changes nothing here
    assert!(hub.clock_ahead_ms().is_some());
    hub.shared.close(serial, &all());
    hub.stop().await;
    assert_eq!(hub.clock_ahead_ms(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_goes_by_the_clock_of_its_own_server() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let clock = machine_clock();
    let options = RedisOptions { clock: Arc::clone(&clock), ..options_of(server.address()) };
    let (hub, _) = started(options.clone(), FirstStart::Fresh).await;
    let keys = hub.shared.keys.clone();
    hub.stop().await;
    let calls = Calls::new(Arc::clone(&hub), keys, Arc::clone(&clock), options.timeout);
    let Now { wall, mono } = clock.now();
    let reading = Reading { shown: wall.plus(9_000), asked: mono, answered: mono };
    hub.shared.measured(&[bucket(1)], reading);
    let [here, there] = [0, 1].map(|it| calls.server_now(bucket(it)).wall.since(wall));
    assert!(here < 8_000 && there >= 9_000, "{here} {there}");
}
