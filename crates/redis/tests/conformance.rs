//! What every shared store promises, kept by real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod fleet;

use std::sync::Arc;

use edgeward_redis::{FirstStart, RedisStore, Servers};
use edgeward_services::{Redis, RedisCluster, RedisOptions};
use edgeward_store::{Clock as _, conformance};

use fleet::{RealClock, RealTime, TestSeal};

async fn claims_and_sessions(servers: &Servers) {
    let clock = RealClock::start();
    let time = RealTime(Arc::clone(&clock));
    let store = fleet::node(servers.clone(), &clock, "node-a").await;
    let (claims, sessions) = (Arc::clone(&store), Arc::clone(&store));
    tokio::join!(conformance::claims(claims, &time), conformance::sessions(sessions, &time));
    store.stop().await;
}

async fn a_floor_from_elsewhere(servers: &Servers) {
    let clock = RealClock::start();
    let floor = clock.now().wall.minus(100);
    let options = fleet::options(servers.clone(), &clock, "node-a");
    let first = FirstStart::Elsewhere { floor };
    let store = RedisStore::open(options, first, Arc::new(TestSeal)).await.unwrap();
    conformance::claims_above_a_floor(&*store, floor).await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_keeps_the_promises() {
    let server = Redis::start(RedisOptions::default()).unwrap();
    claims_and_sessions(&fleet::single(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_promises() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, 0).unwrap();
    claims_and_sessions(&fleet::cluster(&cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_takes_over_a_floor() {
    let server = Redis::start(RedisOptions::default()).unwrap();
    a_floor_from_elsewhere(&fleet::single(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_takes_over_a_floor() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, 0).unwrap();
    a_floor_from_elsewhere(&fleet::cluster(&cluster)).await;
}
