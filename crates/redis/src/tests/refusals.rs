//! What a start is refused for, and what closes links later.

use edgeward_services::{Redis, RedisOptions as ServerOptions};
use edgeward_store::clock::ManualClock;
use edgeward_wire::SecretText;

use super::*;
use crate::start::StartError;

async fn refused(options: RedisOptions) -> StartError {
    let listener = Arc::new(Recorder::default());
    Hub::start(options, FirstStart::Fresh, listener).await.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_is_refused_at_the_start_and_noticed_later() {
    let evicting = ServerOptions {
        max_memory_policy: Some("allkeys-lru".to_owned()),
        ..ServerOptions::default()
    };
    let server = Redis::start(evicting).expect("Redis");
    let error = refused(options_of(server.address())).await;
    assert!(matches!(error, StartError::Evicts { .. }), "{error}");
    assert!(error.to_string().contains("allkeys-lru"), "{error}");

    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).expect("set");
    let (hub, recorder) = started(options_of(server.address()), FirstStart::Fresh).await;
    server.command(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).expect("set");
    until("noticed", || hub.link(bucket(0)).is_err()).await;
    until("all are told", || recorder.closed() == 128).await;
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).expect("set");
    until("back", || hub.link(bucket(0)).is_ok()).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_refused() {
    let primary = Redis::start(ServerOptions::default()).expect("Redis");
    let replica = ServerOptions { replica_of: Some(primary.address()), ..ServerOptions::default() };
    let replica = Redis::start(replica).expect("Redis");
    let error = refused(options_of(replica.address())).await;
    assert!(matches!(error, StartError::NotPrimary { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_and_shown_nowhere() {
    let protected = ServerOptions {
        users: vec![
            "user edge on >right-secret ~* &* +@all".to_owned(),
            "user default off".to_owned(),
        ],
        ..ServerOptions::default()
    };
    let server = Redis::start(protected).expect("Redis");
    let wrong = RedisOptions {
        username: Some("edge".to_owned()),
        password: Some(SecretText::new("wrong-secret".to_owned())),
        ..options_of(server.address())
    };
    let shown = format!("{wrong:?}");
    assert!(shown.contains("edge") && !shown.contains("wrong-secret"), "{shown}");
    let error = refused(wrong.clone()).await;
    assert!(matches!(error, StartError::Refused { .. }), "{error}");
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
    let error = refused(options_of(server.address())).await;
    assert!(matches!(error, StartError::Refused { .. }), "{error}");

    let right =
        RedisOptions { password: Some(SecretText::new("right-secret".to_owned())), ..wrong };
    let (hub, _) = started(right, FirstStart::Fresh).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_that_is_not_permitted_is_named() {
    for (denied, command) in [("-info", "INFO"), ("-eval", "EVAL"), ("-@all +hello +auth", "INFO")]
    {
        let server = Redis::start(ServerOptions {
            users: vec![format!("user default on nopass ~* &* +@all {denied}")],
            ..ServerOptions::default()
        })
        .expect("Redis");
        let error = refused(options_of(server.address())).await;
        let StartError::NotPermitted { command: named, .. } = &error else { panic!("{error}") };
        assert_eq!(named, command);
    }
    let other_keys = Redis::start(ServerOptions {
        users: vec!["user default on nopass ~other:* &* +@all".to_owned()],
        ..ServerOptions::default()
    })
    .expect("Redis");
    let error = refused(options_of(other_keys.address())).await;
    assert!(matches!(error, StartError::NotPermitted { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_an_error_that_names_the_place() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    server.kill().expect("killed");
    let error = refused(options_of(server.address())).await;
    assert!(matches!(error, StartError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&server.address().to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_far_off_raises_no_floor() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let clock = ManualClock::at(WallMs(time_of(&server) + 3_600_000));
    let options = RedisOptions { clock: Arc::new(clock.clone()), ..options_of(server.address()) };
    let error = refused(options.clone()).await;
    assert!(matches!(error, StartError::Clock { .. }), "{error}");
    assert_eq!(server.command(&["DBSIZE"]).expect("DBSIZE").text().as_deref(), Some("0"));

    clock.set_wall(WallMs(time_of(&server) + 3_000));
    let (hub, _) = started(options, FirstStart::Fresh).await;
    let ahead = hub.clock_ahead_ms().expect("known");
    // the manual clock stands still while the server's goes on
    assert!((-3_100..30_000).contains(&ahead), "{ahead}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_meant_are_refused_before_anything_is_dialled() {
    let place = HostPort::new("127.0.0.1", 1);
    let good = options_for_servers(Servers::Single(place.clone()));
    for bad in [
        RedisOptions { prefix: String::new(), ..good.clone() },
        RedisOptions { prefix: "a:{1}".to_owned(), ..good.clone() },
        RedisOptions { node: "a{1}".to_owned(), ..good.clone() },
        RedisOptions { node: String::new(), ..good.clone() },
        RedisOptions { username: Some("u".to_owned()), ..good.clone() },
        RedisOptions { timeout: Duration::ZERO, ..good.clone() },
        RedisOptions { servers: Servers::Cluster(vec![]), ..good.clone() },
        RedisOptions { servers: Servers::Cluster(vec![place]), db: 1, ..good.clone() },
        RedisOptions {
            servers: Servers::Sentinel { sentinels: vec![], name: "m".to_owned() },
            ..good.clone()
        },
    ] {
        let error = refused(bad).await;
        assert!(matches!(error, StartError::Setting(_)), "{error}");
    }
}
