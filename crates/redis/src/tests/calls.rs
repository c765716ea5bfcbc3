//! Calls: their budget, their errors, and a link that comes back by itself.

use std::sync::atomic::Ordering;

use edgeward_services::{Gate, Redis, RedisOptions as ServerOptions};
use edgeward_store::StoreError;
use redis::{Pipeline, Value};

use super::*;
use crate::link::Script;

fn ping() -> Pipeline {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("PING");
    pipeline
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_costs_its_budget_once_and_comes_back_without_a_floor() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let options =
        RedisOptions { timeout: Duration::from_millis(100), ..options_of(server.address()) };
    let (hub, recorder) = started(options, FirstStart::Fresh).await;
    let budget = hub.link(bucket(0)).expect("a link").timeout;
    // the next beat is a second away
    until("a beat", || hub.confirmed_at().is_some()).await;
    server.pause().expect("frozen");
    let asked = Instant::now();
    // the link may be found dead by a beat meanwhile, which is as good
    let link = hub.link(bucket(0));
    if let Ok(link) = &link {
        let answer = link.send(&ping()).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
    assert!(asked.elapsed() < budget * 5, "{:?}", asked.elapsed());
    // whoever still has the link waits no more
    if let Ok(link) = &link {
        let again = Instant::now();
        for _ in 0..100 {
            assert!(link.send(&ping()).await.is_err());
        }
        assert!(again.elapsed() < budget, "{:?}", again.elapsed());
    }
    until("closed", || recorder.closed() == 128).await;
    assert!(matches!(hub.link(bucket(1)), Err(StoreError::Unavailable(_))));
    assert_eq!(hub.confirmed_at(), None);
    server.resume().expect("resumed");
    until("back", || hub.link(bucket(1)).is_ok()).await;
    assert_eq!(hub.highest_floor(), None);
    hub.stop().await;
}

/// On one thread, so that the task which takes a dead link away has had no turn yet.
#[tokio::test]
async fn a_link_that_has_died_leads_nowhere_before_it_is_taken_away() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    hub.link(bucket(0)).expect("a link").line.end("it died");
    assert!(matches!(hub.link(bucket(0)), Err(StoreError::Unavailable(_))));
    assert_eq!(recorder.closed(), 0, "nobody has taken it away yet");
    until("back", || hub.link(bucket(0)).is_ok()).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_cut_closes_the_link_at_once_and_a_mended_one_opens_it() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let gate = Gate::to(server.address()).expect("a gate");
    let (hub, recorder) = started(options_of(gate.address()), FirstStart::Fresh).await;
    gate.cut();
    until("closed", || recorder.closed() == 128).await;
    assert!(hub.link(bucket(0)).is_err());
    let tries = || hub.shared.serials.load(Ordering::SeqCst);
    let so_far = tries();
    until("some tries in vain", || tries() > so_far + 5).await;
    gate.mend();
    until("back", || hub.link(bucket(0)).is_ok()).await;
    assert_eq!(hub.highest_floor(), None);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_stalls_is_noticed_by_a_beat() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let gate = Gate::to(server.address()).expect("a gate");
    let (hub, recorder) = started(options_of(gate.address()), FirstStart::Fresh).await;
    until("confirmed", || hub.confirmed_at().is_some()).await;
    gate.stall();
    // nobody calls
    until("closed", || recorder.closed() == 128).await;
    assert_eq!(hub.confirmed_at(), None);
    gate.mend();
    until("confirmed again", || hub.confirmed_at().is_some()).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_by_its_name_and_by_its_text_where_that_is_not_known() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let link = hub.link(bucket(0)).expect("a link");
    let script = Script::new("return {KEYS[1], ARGV[1]}");
    let run = || async { link.script(&script, &["edgeward:n:{0}:k"], &["a"]).await };
    let answer = Value::Array(vec![
        Value::BulkString(b"edgeward:n:{0}:k".to_vec()),
        Value::BulkString(b"a".to_vec()),
    ]);
    server.command(&["CONFIG", "RESETSTAT"]).expect("reset");
    for _ in 0..3 {
        assert_eq!(run().await, Ok(answer.clone()));
    }
    server.command(&["SCRIPT", "FLUSH"]).expect("forgotten");
    assert_eq!(run().await, Ok(answer));
    assert_eq!(server.info("cmdstat_eval").expect("EVAL").split(',').next(), Some("calls=2"));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_fails_its_call_and_leaves_the_link() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    let link = hub.link(bucket(0)).expect("a link");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).expect("set");
    let mut set = Pipeline::new();
    set.cmd("SET").arg("edgeward:n:{0}:x").arg("");
    let Err(StoreError::Unavailable(why)) = link.send(&set).await else { panic!("a full server") };
    assert!(why.contains("OOM") && why.contains("SET"), "{why}");
    assert!(link.send(&ping()).await.is_ok());
    assert_eq!(recorder.closed(), 0);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).expect("set");
    assert!(link.send(&set).await.is_ok());
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_what_has_become_a_replica_ends_the_link() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let other = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let link = hub.link(bucket(0)).expect("a link");
    // the next beat, which would notice as well, is a second away
    until("a beat", || hub.confirmed_at().is_some()).await;
    let port = other.address().port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &port]).expect("demoted");
    let mut set = Pipeline::new();
    set.cmd("SET").arg("edgeward:n:{0}:x").arg("");
    assert!(link.send(&set).await.is_err());
    assert!(link.send(&ping()).await.is_err(), "the link is dead for all");
    until("closed", || hub.link(bucket(0)).is_err()).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_strict_mode_a_write_counts_once_a_replica_has_it() {
    let primary = Redis::start(ServerOptions::default()).expect("Redis");
    let options = RedisOptions { strict: true, ..options_of(primary.address()) };
    let (hub, _) = started(options, FirstStart::Fresh).await;
    let script = Script::new("return redis.call('SET', KEYS[1], ARGV[1])");
    let write = |value: &'static str| {
        let link = hub.link(bucket(0));
        let script = &script;
        async move { link?.script(script, &["edgeward:n:{0}:x"], &[value]).await }
    };
    let alone = write("1").await;
    assert!(matches!(alone, Err(StoreError::Unavailable(_))), "{alone:?}");

    let replica = ServerOptions { replica_of: Some(primary.address()), ..ServerOptions::default() };
    let replica = Redis::start(replica).expect("a replica");
    replica.wait_for("master_link_status", "up").expect("joined");
    // the first replica gives the primary a new replication id
    timeout(PATIENCE, async {
        while write("2").await.is_err() {
            tokio::task::yield_now().await
        }
    })
    .await
    .expect("confirmed");
    let on_replica = replica.command(&["GET", "edgeward:n:{0}:x"]).expect("GET").text();
    assert_eq!(on_replica.as_deref(), Some("2"));

    replica.pause().expect("frozen");
    let unconfirmed = write("3").await;
    assert!(matches!(unconfirmed, Err(StoreError::Unavailable(_))), "{unconfirmed:?}");
    replica.resume().expect("resumed");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_hub_has_closed_everything_and_leaves_no_connection() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    hub.stop().await;
    assert_eq!(recorder.closed(), 128);
    assert!(hub.link(bucket(0)).is_err());
    until("no connection but the one that asks", || {
        let list = server.command(&["CLIENT", "LIST"]).expect("CLIENT LIST").text();
        !list.unwrap_or_default().contains("name=edgeward:n1")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_that_went_elsewhere_and_came_back_are_opened_again() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    recorder.forget();
    // as when a map is followed that was wrong, and right again before the task has looked
    hub.shared.close_elsewhere(|it| (it == bucket(7)).then(|| at(server.address())));
    assert!(hub.link(bucket(0)).is_err() && hub.link(bucket(7)).is_ok());
    until("back", || all().iter().all(|bucket| hub.link(*bucket).is_ok())).await;
    let others: Vec<Bucket> = all().into_iter().filter(|it| *it != bucket(7)).collect();
    let told = [Event::Closed(others.clone()), Event::Opened(others, Push::Tracking)];
    until("told", || recorder.events().len() == 2).await;
    assert_eq!(recorder.events(), told);
    hub.stop().await;
}
