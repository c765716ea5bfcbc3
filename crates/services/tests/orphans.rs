//! Servers end, and their folders go, with the process that started them, in whatever way it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use edgeward_services::{Postgres, Redis, RedisOptions};

/// Set for the process that is killed.
const VICTIM: &str = "EDGEWARD_SERVICES_TEST_VICTIM";

#[test]
fn the_servers_of_a_killed_process_end() {
    // what the servers keep; it is open to the user that Postgres runs as
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(VICTIM, "1")
        .env("TMPDIR", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut servers: Vec<TcpStream> = lines
        .map(Result::unwrap)
        .filter_map(|line| line.strip_prefix("listens: ").map(str::to_owned))
        .take(3)
        .map(|address| TcpStream::connect(address).unwrap())
        .collect();
    assert_eq!(servers.len(), 3);

    victim.kill().unwrap();
    victim.wait().unwrap();
    for server in &mut servers {
        server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // closed, or reset when it had not yet taken the connection
        let end = server.read(&mut [0]);
        assert!(!matches!(&end, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock), "it lives");
    }
    let is_empty = || std::fs::read_dir(folder.path()).unwrap().next().is_none();
    let gone = (0..3000).any(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        is_empty()
    });
    assert!(gone, "folders are left");
}

#[test]
fn the_process_that_is_killed() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let postgres = Postgres::start().unwrap();
    let redis = Redis::start(RedisOptions::default()).unwrap();
    let frozen = Redis::start(RedisOptions::default()).unwrap();
    frozen.pause().unwrap();
    for address in [postgres.address(), redis.address(), frozen.address()] {
        println!("\nlistens: {address}");
    }
    // until it is killed
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn dropping_ends_them_too() {
    let postgres = Postgres::start().unwrap();
    let redis = Redis::start(RedisOptions::default()).unwrap();
    let addresses = [postgres.address(), redis.address()];
    drop((postgres, redis));
    for address in addresses {
        assert!(TcpStream::connect(address).is_err());
    }
}
