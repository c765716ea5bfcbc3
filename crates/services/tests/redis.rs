//! A throwaway Redis starts, answers, and survives what is done to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::process::{Command, Stdio};

use edgeward_services::{Redis, RedisOptions, RedisTls, Reply};

fn with(change: impl FnOnce(&mut RedisOptions)) -> Redis {
    let mut options = RedisOptions::default();
    change(&mut options);
    Redis::start(options).unwrap()
}

fn value(server: &Redis) -> Reply {
    server.command(&["GET", "key"]).unwrap()
}

#[test]
fn it_answers_and_comes_back_empty_on_the_same_port() {
    let server = with(|_| ());
    assert_eq!(server.command(&["SET", "key", "a\r\nb"]).unwrap(), Reply::Status("OK".into()));
    assert_eq!(value(&server), Reply::Bulk("a\r\nb".into()));
    let (address, first) = (server.address(), server.info("run_id").unwrap());
    server.kill().unwrap();
    assert!(server.command(&["PING"]).is_err());
    server.restart().unwrap();
    assert_eq!(value(&server), Reply::Nil);
    assert_eq!(server.address(), address);
    assert_ne!(server.info("run_id").unwrap(), first);
}

#[test]
fn an_append_only_file_survives_a_kill_and_a_snapshot_a_stop() {
    let server = with(|options| options.appendonly = true);
    server.command(&["SET", "key", "kept"]).unwrap();
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(value(&server), Reply::Bulk("kept".into()));

    let server = with(|options| options.snapshots = true);
    server.command(&["SET", "key", "kept"]).unwrap();
    server.stop().unwrap();
    server.restart().unwrap();
    assert_eq!(value(&server), Reply::Bulk("kept".into()));
    server.command(&["SET", "key", "lost"]).unwrap();
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(value(&server), Reply::Bulk("kept".into()), "the dump is an old one");
}

#[test]
fn options_reach_the_server() {
    let server = with(|options| {
        options.max_memory = Some(50 << 20);
        options.max_memory_policy = Some("allkeys-lru".to_owned());
        options.config = vec!["maxclients 77".to_owned()];
        options.users =
            vec!["user default off".to_owned(), "user edge on >secret ~edge:* &* +get".to_owned()];
    });
    for (name, value) in
        [("maxmemory", "52428800"), ("maxmemory-policy", "allkeys-lru"), ("maxclients", "77")]
    {
        assert_eq!(server.command(&["CONFIG", "GET", name]).unwrap().texts(), [name, value]);
    }
    let list = server.command(&["ACL", "LIST"]).unwrap().texts();
    assert!(list.iter().any(|user| user.starts_with("user default off")), "{list:?}");
    assert!(list.iter().any(|user| user.contains("~edge:*")), "{list:?}");
}

#[test]
fn a_replica_follows_a_primary_with_users() {
    let users = vec!["user default off".to_owned()];
    let primary = with(|options| options.users = users.clone());
    let replica = with(|options| {
        options.users = users.clone();
        options.replica_of = Some(primary.address());
    });
    replica.wait_for("master_link_status", "up").unwrap();
    primary.command(&["SET", "key", "copied"]).unwrap();
    assert_eq!(primary.command(&["WAIT", "1", "10000"]).unwrap(), Reply::Integer(1));
    assert_eq!(value(&replica), Reply::Bulk("copied".into()));
}

#[test]
fn a_frozen_server_answers_nothing_until_it_goes_on() {
    let server = with(|_| ());
    server.pause().unwrap();
    std::thread::scope(|scope| {
        let (sender, answers) = std::sync::mpsc::channel();
        let server = &server;
        scope.spawn(move || sender.send(server.command(&["PING"])).unwrap());
        // it answers within a millisecond when it is not frozen
        let silence = std::time::Duration::from_millis(500);
        assert!(answers.recv_timeout(silence).is_err());
        server.resume().unwrap();
        assert_eq!(answers.recv().unwrap().unwrap(), Reply::Status("PONG".into()));
    });
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let options = RedisOptions { config: vec!["no-such-setting".to_owned()], ..Default::default() };
    let error = Redis::start(options).unwrap_err().to_string();
    assert!(error.contains("Redis did not start") && error.contains("no-such-setting"), "{error}");
}

#[test]
fn it_listens_for_tls_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=localhost", "-days", "2", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let server = with(|options| {
        options.tls = Some(RedisTls {
            certificate: file("cert.pem"),
            key: file("key.pem"),
            authority: file("cert.pem"),
        });
    });
    assert_eq!(server.command(&["PING"]).unwrap(), Reply::Status("PONG".into()));
    let address = server.tls_address().unwrap().to_string();
    let client = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-verify_return_error", "-CAfile", "cert.pem"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
}
