//! The ACL user of docs/redis.md is enough for all that a store does, and may do nothing that none does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod fleet;

use std::collections::BTreeSet;
use std::sync::Arc;

use edgeward_redis::{RedisOptions, RedisStore, Servers};
use edgeward_services::{Redis, RedisOptions as ServerOptions, Reply};
use edgeward_store::conformance;
use edgeward_store::shared::{Sessions as _, Signals as _};
use edgeward_wire::{AgentId, SecretText, SessionIdHash};

use fleet::{RealClock, RealTime};

const PAGE: &str = include_str!("../../../docs/redis.md");

/// Servers that know no other user than that of the page.
fn guarded(replica_of: Option<&Redis>) -> Redis {
    let rule = PAGE.lines().find(|line| line.starts_with("user edgeward on ")).unwrap();
    let users = vec![rule.to_owned(), "user default off".to_owned()];
    let replica_of = replica_of.map(Redis::address);
    Redis::start(ServerOptions { users, replica_of, ..ServerOptions::default() }).unwrap()
}

/// What the page permits, as `INFO commandstats` names it.
fn permitted() -> BTreeSet<String> {
    let rule = PAGE.lines().find(|line| line.starts_with("user edgeward on ")).unwrap();
    rule.split_whitespace().filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect()
}

/// What the server was asked.
fn asked(server: &Redis) -> BTreeSet<String> {
    let Reply::Bulk(text) = server.command(&["INFO", "commandstats"]).unwrap() else {
        panic!("no text")
    };
    let name = |line: &str| Some(line.strip_prefix("cmdstat_")?.split(':').next()?.to_owned());
    text.lines().filter_map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_page_is_enough_and_none_of_its_commands_is_idle() {
    let server = guarded(None);
    let replica = guarded(Some(&server));
    replica.wait_for("master_link_status", "up").unwrap();
    let clock = RealClock::start();
    let options = |servers: Servers, node| RedisOptions {
        username: Some("edgeward".to_owned()),
        password: Some(SecretText::new("PASSWORD".to_owned())),
        ..fleet::options(servers, &clock, node)
    };

    let store = fleet::open(options(fleet::single(&server), "node-a")).await;
    let time = RealTime(Arc::clone(&clock));
    let (claims, sessions) = (Arc::clone(&store), Arc::clone(&store));
    tokio::join!(conformance::claims(claims, &time), conformance::sessions(sessions, &time));
    let agent = AgentId::from_bytes([1; 16]);
    store.tell_agent(agent).await.unwrap();
    store.stop().await;

    let strict = RedisOptions { strict: true, ..options(fleet::single(&server), "node-b") };
    let store = fleet::open(strict).await;
    store.end_session(agent, &SessionIdHash::from_bytes([1; 32])).await.unwrap();
    store.stop().await;
    assert_eq!(denied(&server), 0);

    server.command(&["ACL", "SETUSER", "edgeward", "-client|tracking"]).unwrap();
    let store: Arc<RedisStore> = fleet::open(options(fleet::single(&server), "node-c")).await;
    store.tell_agent(agent).await.unwrap();
    store.stop().await;
    assert_eq!(denied(&server), 1, "what was just taken away");

    // of one server nobody asks for slots
    let mut used = asked(&server);
    used.insert("cluster|slots".to_owned());
    let idle: Vec<_> = permitted().difference(&used).cloned().collect();
    assert!(idle.is_empty(), "{idle:?}");
}

/// How many things were asked for and not permitted.
fn denied(server: &Redis) -> usize {
    let Reply::Array(denied) = server.command(&["ACL", "LOG"]).unwrap() else { panic!("no list") };
    denied.len()
}
