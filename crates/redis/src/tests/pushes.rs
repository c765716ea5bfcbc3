//! What changes is told, and what is not told any more is noticed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use edgeward_services::{Redis, RedisOptions as ServerOptions};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_sessions_and_signals_are_told_and_others_are_not() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    until("a canary is back", || hub.confirmed_at().is_some()).await;
    recorder.forget();
    for key in ["edgeward:n:{0}:x", "edgeward:r:{0}:x", "edgeward:p:n2:{0}", "other:s:{0}:x"] {
        server.command(&["SET", key, ""]).expect("SET");
    }
    server.command(&["SET", "edgeward:s:{0}:x", ""]).expect("SET");
    server.command(&["SET", "edgeward:a:{0}:y", ""]).expect("SET");
    let told = ["edgeward:s:{0}:x", "edgeward:a:{0}:y"];
    let told = told.map(|key| Event::Invalidated(key.to_owned()));
    until("both are told", || recorder.events().len() >= 2).await;
    assert_eq!(recorder.events(), told);
    // what expires is told as well
    recorder.forget();
    server.command(&["PEXPIRE", "edgeward:s:{0}:x", "1"]).expect("PEXPIRE");
    until("the change and the end", || recorder.events() == [told[0].clone(), told[0].clone()])
        .await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tracking_is_not_permitted_changes_are_told_on_a_channel() {
    let server = Redis::start(ServerOptions {
        users: vec!["user default on nopass ~* &* +@all -client|tracking".to_owned()],
        ..ServerOptions::default()
    })
    .expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    assert_eq!(recorder.events(), [Event::Opened(all(), Push::PubSub)]);
    until("a canary is back", || hub.confirmed_at().is_some()).await;
    server.command(&["PUBLISH", "edgeward:told", "edgeward:p:n2:{0}"]).expect("PUBLISH");
    server.command(&["PUBLISH", "edgeward:told", "something"]).expect("PUBLISH");
    let told = [Event::Opened(all(), Push::PubSub), Event::Published("something".to_owned())];
    until("published", || recorder.events().len() >= 2).await;
    assert_eq!(recorder.events(), told);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_neither_is_permitted_nothing_is_ever_confirmed() {
    let server = Redis::start(ServerOptions {
        users: vec!["user default on nopass ~* resetchannels +@all -client|tracking".to_owned()],
        ..ServerOptions::default()
    })
    .expect("Redis");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    assert_eq!(recorder.events(), [Event::Opened(all(), Push::None)]);
    server.command(&["CONFIG", "RESETSTAT"]).expect("reset");
    until("three beats", || {
        server.info("cmdstat_time").is_ok_and(|stat| stat.starts_with("calls=3,"))
    })
    .await;
    assert_eq!(hub.confirmed_at(), None);
    assert!(hub.link(bucket(0)).is_ok(), "it can be used all the same");
    assert_eq!(recorder.closed(), 0);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_confirmed_goes_on_with_the_clock() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    until("confirmed", || hub.confirmed_at().is_some()).await;
    let first = hub.confirmed_at().expect("confirmed");
    until("confirmed later", || hub.confirmed_at().is_some_and(|at| at > first)).await;
    let ahead = hub.clock_ahead_ms().expect("known");
    assert!(ahead.abs() < 500, "{ahead}");
    hub.stop().await;
}

/// The pushes of the server get lost on the way and everything else arrives: no timeout would tell.
#[tokio::test(flavor = "multi_thread")]
async fn pushes_that_do_not_arrive_are_noticed() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let sieve = Sieve::before(server.address());
    let (hub, recorder) = started(options_of(sieve.address), FirstStart::Fresh).await;
    until("confirmed", || hub.confirmed_at().is_some()).await;
    let first = hub.link(bucket(0)).expect("a link").serial;
    assert_eq!(recorder.closed(), 0);
    sieve.holds_pushes.store(true, Ordering::SeqCst);
    until("closed", || recorder.closed() >= 128).await;
    sieve.holds_pushes.store(false, Ordering::SeqCst);
    until("confirmed over another link", || {
        hub.confirmed_at().is_some() && hub.link(bucket(0)).is_ok_and(|link| link.serial > first)
    })
    .await;
    assert_eq!(hub.highest_floor(), None);
    hub.stop().await;
}

/// A way to a server on which pushes can be lost.
struct Sieve {
    address: SocketAddr,
    holds_pushes: Arc<AtomicBool>,
}

impl Sieve {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let holds_pushes = Arc::new(AtomicBool::new(false));
        let holds = Arc::clone(&holds_pushes);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let server = TcpStream::connect(server).expect("the server");
                let (from, to) = (client.try_clone().expect("a handle"), server.try_clone());
                let mut to = to.expect("a handle");
                std::thread::spawn(move || {
                    let mut from = from;
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                let holds = Arc::clone(&holds);
                std::thread::spawn(move || sift(server, client, &holds));
            }
        });
        Self { address, holds_pushes }
    }
}

/// Passes what the server says, value by value, without its pushes while they are held.
fn sift(mut server: TcpStream, mut client: TcpStream, holds: &AtomicBool) {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = server.read(&mut part) {
        bytes.extend_from_slice(&part[..read]);
        while let Some(length) = value_length(&bytes) {
            let value: Vec<u8> = bytes.drain(..length).collect();
            let held = value[0] == b'>' && holds.load(Ordering::SeqCst);
            if !held && client.write_all(&value).is_err() {
                return;
            }
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
}

/// How long the first value (RESP3) is, once it is there wholly.
fn value_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..line - 2]).expect("text").parse::<i64>();
    let inner = match bytes[0] {
        b'$' | b'=' | b'!' => {
            let length = number().expect("a length");
            let end = usize::try_from(length).map_or(line, |length| line + length + 2);
            return (bytes.len() >= end).then_some(end);
        }
        b'*' | b'~' | b'>' => number().expect("a count"),
        b'%' => number().expect("a count") * 2,
        _ => 0,
    };
    let mut end = line;
    for _ in 0..inner.max(0) {
        end += value_length(&bytes[end..])?;
    }
    Some(end)
}
