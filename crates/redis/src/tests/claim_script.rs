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
}

/// What the script says of a claim that is stamped now.
async fn claim(hub: &Hub, server: &Redis, nonce: &str, settings: Settings) -> String {
    let link = hub.link(bucket(0)).expect("a link");
    let Settings { window, ahead, ttl } = settings;
    let keys = ["e:{0}", "f:{0}", "t:{0}", &format!("n:{{0}}:a:{nonce}")]
        .map(|key| format!("edgeward:{key}"));
    let numbers = [time_of(server), window, ahead, ttl, 0].map(|number| number.to_string());
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
    let spare = Settings { window: 60_000, ahead: 2_000, ttl: 64_000 };
    show(&server, 900);
    assert_eq!(claim(&hub, &server, "first", spare).await, "ok");
    let tight = Settings { ttl: 63_000, ..spare };
    show(&server, 900);
    assert_eq!(claim(&hub, &server, "second", tight).await, "starting");
    hub.stop().await;
}
