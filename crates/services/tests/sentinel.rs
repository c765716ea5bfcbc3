//! Sentinels replace a primary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use edgeward_services::{RedisOptions, RedisWithSentinel, Reply};

#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    let options =
        RedisOptions { users: vec!["user default off".to_owned()], ..RedisOptions::default() };
    let redis = RedisWithSentinel::start(options).unwrap();
    assert_eq!(redis.sentinel_addresses().len(), 3);
    let [first, second] = redis.servers();
    assert_eq!(redis.current_primary().unwrap(), first.address());
    first.kill().unwrap();
    assert_eq!(redis.next_primary(first.address()).unwrap().address(), second.address());
    first.restart().unwrap();
    redis.settle().unwrap();
    assert_eq!(first.info("role").unwrap(), "slave");
    assert_eq!(redis.replica().unwrap().address(), first.address());
}

#[test]
fn a_failover_on_order_swaps_both_and_back() {
    let redis = RedisWithSentinel::start(RedisOptions::default()).unwrap();
    let [first, second] = redis.servers();
    redis.failover().unwrap();
    assert_eq!(redis.primary().unwrap().address(), second.address());
    redis.failover().unwrap();
    assert_eq!(redis.primary().unwrap().address(), first.address());
    assert_eq!(redis.master_name(), "edgeward");
}

#[test]
fn a_parted_replica_misses_what_is_written_until_it_is_joined() {
    let redis = RedisWithSentinel::start(RedisOptions::default()).unwrap();
    let key = || redis.replica().unwrap().command(&["GET", "key"]).unwrap();
    redis.part_replica().unwrap();
    redis.primary().unwrap().command(&["SET", "key", "value"]).unwrap();
    assert_eq!(key(), Reply::Nil);
    redis.join_replica().unwrap();
    assert_eq!(key(), Reply::Bulk("value".into()));

    redis.part_replica().unwrap();
    let primary = redis.primary().unwrap();
    primary.command(&["SET", "key", "lost"]).unwrap();
    primary.kill().unwrap();
    let next = redis.next_primary(primary.address()).unwrap();
    assert_eq!(next.command(&["GET", "key"]).unwrap(), Reply::Bulk("value".into()));
}
