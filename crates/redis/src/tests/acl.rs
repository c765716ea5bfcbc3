//! The ACL users of docs/redis.md: they may do what must be done, and nothing else.

use edgeward_services::{
    Redis, RedisCluster, RedisOptions as ServerOptions, RedisWithSentinel, ServiceError,
};
use edgeward_wire::SecretText;
use redis::{Pipeline, Value};

use super::*;
use crate::line::Dialer;
use crate::link::Script;
use crate::start::StartError;

const PAGE: &str = include_str!("../../../../docs/redis.md");

/// The rule of the page for a user.
fn rule(user: &str) -> String {
    let begins = format!("user {user} on ");
    PAGE.lines().find(|line| line.starts_with(&begins)).expect("a rule").to_owned()
}

/// Servers on which nobody else may do anything.
fn guarded(rule: &str) -> ServerOptions {
    let users = vec![rule.to_owned(), "user default off".to_owned()];
    ServerOptions { users, ..ServerOptions::default() }
}

fn as_edgeward(options: RedisOptions) -> RedisOptions {
    RedisOptions {
        username: Some("edgeward".to_owned()),
        password: Some(SecretText::new("PASSWORD".to_owned())),
        ..options
    }
}

/// What the server answers this user.
async fn asked(options: &RedisOptions, command: &[&str]) -> Value {
    let Servers::Single(address) = &options.servers else { panic!("one server") };
    let line = Dialer::to_servers(options).expect("a dialer").dial(address, None).await;
    let line = line.expect("a line");
    let mut pipeline = Pipeline::new();
    pipeline.cmd(command[0]).arg(&command[1..]);
    line.send(&pipeline, PATIENCE).await.expect("an answer").remove(0)
}

fn is_denied(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOPERM")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_page_is_enough_for_one_server_in_every_mode() {
    let server = Redis::start(guarded(&rule("edgeward"))).expect("Redis");
    let replica =
        ServerOptions { replica_of: Some(server.address()), ..guarded(&rule("edgeward")) };
    let replica = Redis::start(replica).expect("a replica");
    replica.wait_for("master_link_status", "up").expect("joined");
    let options = RedisOptions { strict: true, ..as_edgeward(options_of(server.address())) };
    let (hub, recorder) = started(options, FirstStart::Fresh).await;
    assert_eq!(recorder.events(), [Event::Opened(all(), Push::Tracking)]);
    until("a canary is back", || hub.confirmed_at().is_some()).await;
    let link = hub.link(bucket(0)).expect("a link");
    let script = Script::new("return redis.call('PUBLISH', ARGV[1], ARGV[2])");
    let published = link.script(&script, &["edgeward:a:{0}:x"], &["edgeward:told", "x"]).await;
    assert_eq!(published, Ok(Value::Int(0)));
    hub.stop().await;

    let untracked =
        Redis::start(guarded(&(rule("edgeward") + " -client|tracking"))).expect("Redis");
    let (hub, recorder) =
        started(as_edgeward(options_of(untracked.address())), FirstStart::Fresh).await;
    assert_eq!(recorder.events(), [Event::Opened(all(), Push::PubSub)]);
    until("a canary is back", || hub.confirmed_at().is_some()).await;
    hub.stop().await;
    // none of all this asked for what it may not
    for server in [&server, &untracked] {
        let denied = server.command(&["ACL", "LOG"]).expect("ACL LOG");
        let expected = usize::from(server.address() == untracked.address());
        let edgeward_services::Reply::Array(denied) = denied else { panic!("{denied:?}") };
        assert_eq!(denied.len(), expected, "{denied:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_needs_one_command_more() {
    let server = Redis::start(guarded(&rule("edgeward"))).expect("Redis");
    let options = RedisOptions { db: 3, ..as_edgeward(options_of(server.address())) };
    let listener = Arc::new(Recorder::default());
    let error =
        Hub::start(options.clone(), FirstStart::Fresh, listener).await.expect_err("refused");
    let StartError::NotPermitted { command, .. } = &error else { panic!("{error}") };
    assert_eq!(command, "SELECT");
    server.command(&["ACL", "SETUSER", "edgeward", "+select"]).expect("permitted");
    let (hub, _) = started(options, FirstStart::Fresh).await;
    hub.stop().await;
    let server_has = |db: &str| {
        let keyspace = server.info(db).ok();
        keyspace.is_some_and(|keys| keys.starts_with("keys="))
    };
    assert!(server_has("db3") && !server_has("db0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_page_may_do_nothing_else() {
    let server = Redis::start(guarded(&rule("edgeward"))).expect("Redis");
    let options = as_edgeward(options_of(server.address()));
    for command in [
        &["GET", "other:s:{0}:x"][..],
        &["SET", "edgewards:x", ""],
        &["EVAL", "return 1", "1", "other:x"],
        &["PUBLISH", "other", "x"],
        &["SUBSCRIBE", "other"],
        &["PSUBSCRIBE", "*"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["FLUSHALL"],
        &["FLUSHDB"],
        &["CONFIG", "GET", "*"],
        &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
        &["ACL", "WHOAMI"],
        &["CLIENT", "LIST"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["REPLICAOF", "NO", "ONE"],
        &["MONITOR"],
        &["SAVE"],
        &["SHUTDOWN"],
        &["SCRIPT", "FLUSH"],
        &["FUNCTION", "LIST"],
        &["MIGRATE", "127.0.0.1", "1", "edgeward:x", "0", "10"],
        &["CLUSTER", "NODES"],
        &["SELECT", "1"],
    ] {
        let answer = asked(&options, command).await;
        assert!(is_denied(&answer), "{command:?}: {answer:?}");
    }
    for script in ["return redis.call('GET', 'other:x')", "return redis.call('FLUSHALL')"] {
        let answer = asked(&options, &["EVAL", script, "0"]).await;
        assert!(matches!(&answer, Value::ServerError(_)), "{script}: {answer:?}");
    }
    assert_eq!(asked(&options, &["SET", "edgeward:x", ""]).await, Value::Okay);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_the_layer_itself_needs_is_named_when_it_is_missing() {
    for (missing, command) in
        [("-info", "INFO"), ("-time", "TIME"), ("-eval", "EVAL"), ("-evalsha", "EVALSHA")]
    {
        let server =
            Redis::start(guarded(&format!("{} {missing}", rule("edgeward")))).expect("Redis");
        let listener = Arc::new(Recorder::default());
        let options = as_edgeward(options_of(server.address()));
        let error = Hub::start(options, FirstStart::Fresh, listener).await.expect_err("refused");
        let StartError::NotPermitted { command: named, .. } = &error else { panic!("{error}") };
        assert_eq!(named, command);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_page_is_enough_for_a_cluster() {
    let cluster = RedisCluster::start(guarded(&rule("edgeward")), 3, 0).expect("a cluster");
    let servers = Servers::Cluster(cluster.addresses().into_iter().map(at).collect());
    let options = options_for_servers(servers);
    let (hub, _) = started(as_edgeward(options), FirstStart::Fresh).await;
    until("canaries are back", || hub.confirmed_at().is_some()).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_the_page_are_enough_for_sentinels() {
    let servers = RedisWithSentinel::start(guarded(&rule("edgeward"))).expect("five servers");
    let sentinel_rule = rule("edgeward-sentinel");
    let words: Vec<&str> = sentinel_rule.split_whitespace().skip(1).collect();
    let set_user = [&["ACL", "SETUSER"][..], &words].concat();
    let guard = || -> Result<(), ServiceError> {
        for sentinel in servers.sentinels() {
            sentinel.command(&set_user)?;
            sentinel.command(&["ACL", "SETUSER", "default", "resetpass", ">other"])?;
        }
        Ok(())
    };
    guard().expect("guarded");
    let sentinels = servers.sentinel_addresses().into_iter().map(at).collect();
    let name = servers.master_name().to_owned();
    let named = Servers::Sentinel { sentinels, name };
    let options = as_edgeward(options_for_servers(named));
    let without = options.clone();
    let options = RedisOptions {
        sentinel_username: Some("edgeward-sentinel".to_owned()),
        sentinel_password: Some(SecretText::new("PASSWORD".to_owned())),
        ..options
    };
    let (hub, _) = started(options, FirstStart::Fresh).await;
    until("a canary is back", || hub.confirmed_at().is_some()).await;
    hub.stop().await;

    let listener = Arc::new(Recorder::default());
    let error = Hub::start(without, FirstStart::Fresh, listener).await.expect_err("no login");
    assert!(matches!(&error, StartError::Refused { .. } | StartError::Odd { .. }), "{error}");
}
