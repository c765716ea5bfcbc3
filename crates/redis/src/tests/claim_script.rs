//! What `claim.lua` decides by, with any settings.

use edgeward_services::{Redis, RedisOptions as ServerOptions};
use redis::Value;

use super::*;
use crate::link::Script;

const CLAIM: &str = concat!(
    include_str!("../scripts/clock.lua"),
    include_str!("../scripts/gcra.lua"),
    include_str!("../scripts/claim.lua")
);

/// Settings of the node that claims.
#[derive(Clone, Copy)]
struct Settings {
    window: u64,
    ahead: u64,
    ttl: u64,
    lag: u64,
}

/// What the script says of a claim that is stamped now.
async fn claim(hub: &Hub, server: &Redis, nonce: &str, settings: Settings) -> String {
    let link = hub.link(bucket(0)).expect("a link");
    let Settings { window, ahead, ttl, lag } = settings;
    let keys = ["e:{0}", "f:{0}", "t:{0}", "w:{0}", &format!("n:{{0}}:a:{nonce}")]
        .map(|key| format!("edgeward:{key}"));
    let numbers = [time_of(server), window, ahead, ttl, 0, lag].map(|number| number.to_string());
    let mut args = vec![link.identity().to_owned()];
    args.extend(numbers);
    let answer = link.script(&Script::new(CLAIM), &keys, &args).await.expect("an answer");
    let Value::Array(parts) = answer else { panic!("{answer:?}") };
    let Some(Value::BulkString(word)) = parts.first() else { panic!("{parts:?}") };
    String::from_utf8_lossy(word).into_owned()
}

fn show(server: &Redis, ahead_ms: u64) {
    let seen = (time_of(server) + ahead_ms).to_string();
    server.command(&["SET", "edgeward:t:{0}", &seen]).expect("SET");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_may_go_back_as_far_as_nonces_outlive_the_window() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let spare = Settings { window: 60_000, ahead: 2_000, ttl: 64_000, lag: 0 };
    show(&server, 900);
    assert_eq!(claim(&hub, &server, "first", spare).await, "ok");
    let tight = Settings { ttl: 63_000, ..spare };
    show(&server, 900);
    assert_eq!(claim(&hub, &server, "second", tight).await, "starting");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_outlives_the_widest_window_and_a_wider_one_begins_with_a_floor() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let text = |command: &[&str]| server.command(command).expect("an answer").text();
    let narrow = Settings { window: 1_000, ahead: 100, ttl: 3_000, lag: 0 };
    assert_eq!(claim(&hub, &server, "first", narrow).await, "ok");
    assert_eq!(text(&["GET", "edgeward:w:{0}"]).as_deref(), Some("1000:100:0"));
    assert_eq!(text(&["GET", "edgeward:f:{0}"]), None, "nothing was claimed before");

    // what was claimed with the narrow window may be gone before the wide one is over
    let wide = Settings { window: 60_000, ahead: 200, ttl: 64_000, lag: 0 };
    let before = time_of(&server);
    assert_eq!(claim(&hub, &server, "second", wide).await, "starting");
    let floor = text(&["GET", "edgeward:f:{0}"]).expect("a floor").parse::<u64>().expect("one");
    assert!((before + 700..=time_of(&server) + 700).contains(&floor), "{floor}");
    let mut outcome = String::new();
    while outcome != "ok" {
        tokio::time::sleep(Duration::from_millis(20)).await;
        outcome = claim(&hub, &server, "third", narrow).await;
        assert!(["ok", "starting", "stale"].contains(&&*outcome), "{outcome}");
    }
    // though who claimed it forgets it sooner
    let life = text(&["PTTL", "edgeward:n:{0}:a:third"]).expect("a life");
    let life = life.parse::<u64>().expect("a number");
    assert!((50_000..=61_200).contains(&life), "{life}");
    assert_eq!(text(&["GET", "edgeward:w:{0}"]).as_deref(), Some("60000:200:0"));
    assert_eq!(claim(&hub, &server, "third", wide).await, "replayed");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_lies_above_the_widest_margin_that_was_claimed_with_also_when_it_is_lost() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    // another node's
    let wide = Settings { window: 1_000, ahead: 40_000, ttl: 60_000, lag: 20_000 };
    assert_eq!(claim(&hub, &server, "first", wide).await, "ok");
    let link = hub.link(bucket(0)).expect("a link");
    for lose in [&["DEL", "edgeward:e:{0}"][..], &["DEL", "edgeward:e:{0}", "edgeward:w:{0}"]] {
        server.command(lose).expect("lost");
        let before = time_of(&server);
        let floor = hub.renew(bucket(0), &link).await.expect("renewed").expect("a floor");
        assert!(floor.0 >= before + 60_500, "{floor:?}");
    }
    hub.stop().await;
}
