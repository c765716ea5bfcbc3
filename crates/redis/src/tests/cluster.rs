//! A cluster: buckets lie where their slots do.

use std::collections::BTreeSet;

use edgeward_services::{Redis, RedisCluster, RedisOptions as ServerOptions};

use super::*;
use crate::start::StartError;

fn options_for(cluster: &RedisCluster) -> RedisOptions {
    let first = cluster.addresses().first().copied().expect("a node");
    options_for_servers(Servers::Cluster(vec![at(first)]))
}

/// Whether every bucket's link leads to whoever has its slot now.
fn all_is_well(hub: &Hub, cluster: &RedisCluster) -> bool {
    all().iter().all(|bucket| {
        let owner = cluster.owner(bucket.slot()).expect("an owner").address();
        hub.link(*bucket).is_ok_and(|link| link.address == at(owner))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bucket_is_at_its_slot_and_everything_is_told_from_everywhere() {
    let cluster = RedisCluster::start(ServerOptions::default(), 3, 0).expect("a cluster");
    let node = &cluster.nodes()[0];
    for bucket in all() {
        let slot = node.command(&["CLUSTER", "KEYSLOT", &bucket.tag()]).expect("KEYSLOT").text();
        assert_eq!(slot, Some(bucket.slot().to_string()), "{bucket:?}");
    }
    let (hub, recorder) = started(options_for(&cluster), FirstStart::Fresh).await;
    assert!(all_is_well(&hub, &cluster));
    let servers: BTreeSet<String> = all()
        .iter()
        .map(|bucket| hub.link(*bucket).expect("a link").identity().to_owned())
        .collect();
    assert_eq!(servers.len(), 3);
    until("confirmed by all three", || hub.confirmed_at().is_some()).await;
    assert!(hub.clock_ahead_ms().is_some_and(|ahead| ahead.abs() < 500));
    recorder.forget();
    for bucket in all() {
        let key = format!("edgeward:s:{}:x", bucket.tag());
        let owner = cluster.owner(bucket.slot()).expect("an owner");
        owner.command(&["SET", &key, ""]).expect("SET");
    }
    until("128 keys are told", || recorder.events().len() == 128).await;
    assert_eq!(hub.highest_floor(), None);
    hub.stop().await;
    assert_eq!(recorder.closed(), 128);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_that_tells_nothing_leaves_all_unconfirmed() {
    let cluster = RedisCluster::start(ServerOptions::default(), 3, 0).expect("a cluster");
    let mute = &cluster.nodes()[1];
    mute.command(&["ACL", "SETUSER", "default", "-client|tracking", "resetchannels"])
        .expect("mute");
    let (hub, _) = started(options_for(&cluster), FirstStart::Fresh).await;
    for node in cluster.nodes() {
        node.command(&["CONFIG", "RESETSTAT"]).expect("reset");
    }
    until("three beats of each", || {
        cluster.nodes().iter().all(|node| {
            let stat = node.info("cmdstat_time").unwrap_or_default();
            let calls =
                stat.strip_prefix("calls=").and_then(|it| it.split(',').next()?.parse().ok());
            calls.is_some_and(|calls: u32| calls >= 3)
        })
    })
    .await;
    assert_eq!(hub.confirmed_at(), None);
    assert!(hub.clock_ahead_ms().is_some());
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_raises_the_floors_of_its_own_buckets_alone() {
    let cluster = RedisCluster::start(ServerOptions::default(), 3, 1).expect("a cluster");
    let (hub, recorder) = started(options_for(&cluster), FirstStart::Fresh).await;
    let dying = cluster.owner(bucket(0).slot()).expect("an owner");
    let (its, others): (Vec<_>, Vec<_>) = all()
        .into_iter()
        .partition(|bucket| hub.link(*bucket).expect("a link").address == at(dying.address()));
    assert!(!its.is_empty() && !others.is_empty());
    let others_links: Vec<u64> =
        others.iter().map(|bucket| hub.link(*bucket).expect("a link").serial).collect();
    recorder.forget();
    dying.kill().expect("killed");
    until("closed", || its.iter().all(|bucket| hub.link(*bucket).is_err())).await;
    assert_eq!(hub.confirmed_at(), None);
    assert!(hub.clock_ahead_ms().is_some(), "of the servers that are open");
    until("whole again", || all().iter().all(|bucket| hub.link(*bucket).is_ok())).await;
    for bucket in &its {
        assert!(hub.floor(*bucket).is_some());
        assert_ne!(hub.link(*bucket).expect("a link").address, at(dying.address()));
    }
    let served: Vec<u64> =
        others.iter().map(|bucket| hub.link(*bucket).expect("a link").serial).collect();
    assert_eq!(served, others_links, "the others went on");
    assert!(others.iter().all(|bucket| hub.floor(*bucket).is_none()));
    assert!(!recorder.events().iter().any(|event| {
        matches!(event, Event::Closed(buckets) if buckets.iter().any(|it| others.contains(it)))
    }));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_takes_its_bucket_along() {
    let cluster = RedisCluster::start(ServerOptions::default(), 3, 0).expect("a cluster");
    let (hub, recorder) = started(options_for(&cluster), FirstStart::Fresh).await;
    let moving = bucket(40);
    let from = cluster.owner(moving.slot()).expect("an owner").address();
    let to = cluster.nodes().iter().find(|node| node.address() != from).expect("another");
    recorder.forget();
    cluster.move_slot(moving.slot(), to).expect("moved");
    // a call finds out
    let moved = |hub: &Hub| hub.link(moving).is_ok_and(|link| link.address == at(to.address()));
    timeout(PATIENCE, async {
        while !moved(&hub) {
            if let Ok(link) = hub.link(moving) {
                let renewed = hub.renew(moving, &link).await;
                assert!(renewed.is_err() || moved(&hub), "{renewed:?}");
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("moved");
    assert!(hub.floor(moving).is_some(), "another server may have forgotten");
    let closed = recorder.events().into_iter().find(|event| matches!(event, Event::Closed(_)));
    assert_eq!(closed, Some(Event::Closed(vec![moving])));
    let link = hub.link(moving).expect("a link");
    hub.renew(moving, &link).await.expect("it works there");
    assert!(all_is_well(&hub, &cluster));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_on_the_way_is_unavailable_and_takes_nothing_else_along() {
    let cluster = RedisCluster::start(ServerOptions::default(), 3, 0).expect("a cluster");
    let (hub, _) = started(options_for(&cluster), FirstStart::Fresh).await;
    let moving = bucket(40);
    let slot = moving.slot().to_string();
    let from = cluster.owner(moving.slot()).expect("an owner");
    let to = cluster.nodes().iter().find(|node| node.address() != from.address()).expect("another");
    let id =
        |node: &Redis| node.command(&["CLUSTER", "MYID"]).expect("MYID").text().expect("an id");
    for key in ["e", "f", "t"].map(|letter| format!("edgeward:{letter}:{}", moving.tag())) {
        from.command(&["DEL", &key]).expect("moved, as it were");
    }
    to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]).expect("importing");
    from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]).expect("migrating");
    let link = hub.link(moving).expect("a link");
    let renewed = hub.renew(moving, &link).await;
    assert!(renewed.is_err(), "{renewed:?}");
    // a new connection meanwhile opens all others, and this one once it has arrived
    from.command(&["CLIENT", "KILL", "TYPE", "normal"]).expect("killed");
    until("all others", || {
        let its =
            |it: &Bucket| cluster.owner(it.slot()).is_ok_and(|it| it.address() == from.address());
        all()
            .iter()
            .filter(|it| its(it))
            .all(|it| hub.link(*it).is_ok_and(|it| it.serial != link.serial) == (*it != moving))
    })
    .await;
    from.command(&["CLUSTER", "SETSLOT", &slot, "STABLE"]).expect("stays");
    to.command(&["CLUSTER", "SETSLOT", &slot, "STABLE"]).expect("stays");
    until("this one too", || hub.link(moving).is_ok()).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_is_no_cluster_and_a_cluster_is_not_one_server() {
    let listener = Arc::new(Recorder::default());
    let single = Redis::start(ServerOptions::default()).expect("Redis");
    let options = RedisOptions {
        servers: Servers::Cluster(vec![at(single.address())]),
        ..options_of(single.address())
    };
    let error =
        Hub::start(options, FirstStart::Fresh, listener.clone()).await.expect_err("no cluster");
    assert!(matches!(error, StartError::Mode { .. }), "{error}");
    assert!(error.to_string().contains("standalone"), "{error}");

    let cluster = RedisCluster::start(ServerOptions::default(), 3, 0).expect("a cluster");
    let options = options_of(cluster.addresses()[0]);
    let error = Hub::start(options, FirstStart::Fresh, listener).await.expect_err("a cluster");
    assert!(matches!(error, StartError::Mode { .. }), "{error}");
    assert!(error.to_string().contains("redis-cluster://"), "{error}");
}
