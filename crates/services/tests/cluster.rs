//! A cluster shares slots, moves them, and replaces a primary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use edgeward_services::{RedisCluster, RedisOptions, Reply};

#[test]
fn three_primaries_share_the_slots_and_one_can_be_moved() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, 0).unwrap();
    let nodes = cluster.nodes();
    assert_eq!(cluster.addresses().len(), 3);
    for (slot, node) in [(0, 0), (5460, 0), (5461, 1), (16383, 2)] {
        assert_eq!(cluster.owner(slot).unwrap().address(), nodes[node].address(), "{slot}");
    }
    // the slot of {1} by the specification's CRC16
    let slot = 9842;
    nodes[1].command(&["SET", "{1}", "value"]).unwrap();
    cluster.move_slot(slot, &nodes[2]).unwrap();
    assert_eq!(cluster.owner(slot).unwrap().address(), nodes[2].address());
    assert_eq!(nodes[2].command(&["GET", "{1}"]).unwrap(), Reply::Bulk("value".into()));
    let moved = nodes[1].command(&["GET", "{1}"]).unwrap_err().to_string();
    assert!(moved.contains(&format!("MOVED {slot} {}", nodes[2].address())), "{moved}");
    cluster.wait_until_whole().unwrap();
}

#[test]
fn a_replica_takes_the_place_of_a_killed_primary() {
    let options =
        RedisOptions { users: vec!["user default off".to_owned()], ..RedisOptions::default() };
    let cluster = RedisCluster::start(options, 3, 1).unwrap();
    let [first, _, _, replica, ..] = cluster.nodes() else { panic!("six nodes") };
    first.kill().unwrap();
    replica.wait_for("role", "master").unwrap();
    first.restart().unwrap();
    first.wait_for("role", "slave").unwrap();
    cluster.wait_until_whole().unwrap();
    assert_eq!(cluster.owner(0).unwrap().address(), replica.address());
}

#[test]
fn two_primaries_are_refused() {
    assert!(RedisCluster::start(RedisOptions::default(), 2, 0).is_err());
}
