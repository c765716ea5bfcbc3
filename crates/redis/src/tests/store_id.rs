//! A store has an id, and a node goes on with no other.

use edgeward_services::{Redis, RedisOptions as ServerOptions};
use edgeward_store::StoreError;
use edgeward_store::durable::Sealed;
use edgeward_store::shared::SealSessions;
use edgeward_wire::{SessionIdHash, SessionKey};

use super::*;
use crate::RedisStore;
use crate::start::StartError;

fn id(server: &Redis) -> Option<String> {
    server.command(&["GET", "edgeward:i:{0}"]).expect("GET").text()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_reads_the_same_id_and_it_is_written_again_after_a_loss() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let known = hub.shared.store_id();
    assert_eq!((id(&server), known.as_ref().map(String::len)), (known.clone(), Some(32)));
    let (other, _) = started(options_of(server.address()), FirstStart::Shared).await;
    assert_eq!(other.shared.store_id(), known);
    other.stop().await;
    server.command(&["FLUSHALL"]).expect("flushed");
    until("it is written again", || id(&server) == known).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_id_is_not_used_until_it_has_the_right_one() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let (hub, _) = started(options_of(server.address()), FirstStart::Fresh).await;
    let known = hub.shared.store_id().expect("an id");
    server.command(&["SET", "edgeward:i:{0}", "another"]).expect("SET");
    server.command(&["SET", "edgeward:e:{1}", "untouched"]).expect("SET");
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).expect("killed");
    until("it is reported", || {
        matches!(hub.shared.what_is_missing(), StartError::OtherStore { .. })
    })
    .await;
    let trouble = hub.shared.what_is_missing().to_string();
    assert!(trouble.contains("EDGE_REDIS_URL"), "{trouble}");
    assert!(all().iter().all(|it| hub.link(*it).is_err()));
    let epoch = server.command(&["GET", "edgeward:e:{1}"]).expect("GET").text();
    assert_eq!(epoch.as_deref(), Some("untouched"));

    server.command(&["SET", "edgeward:i:{0}", &known]).expect("SET");
    until("a link", || all().iter().all(|it| hub.link(*it).is_ok())).await;
    hub.stop().await;
}

/// What a start that is refused must leave behind: nothing that it has made, and everything that was there.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_a_start_has_made_can_be_taken_back_and_no_other() {
    let server = Redis::start(ServerOptions::default()).expect("Redis");
    let open = async || {
        let seal = Arc::new(NoSeal);
        RedisStore::open(options_of(server.address()), FirstStart::Shared, seal)
            .await
            .expect("it opens")
    };
    let first = open().await;
    let made = id(&server);
    let second = open().await;
    second.withdraw_id().await.expect("nothing to do");
    assert_eq!(id(&server), made, "it is the first one's");
    first.withdraw_id().await.expect("taken back");
    assert_eq!(id(&server), None);
    server.command(&["SET", "edgeward:i:{0}", "the right one"]).expect("SET");
    first.withdraw_id().await.expect("nothing to do");
    assert_eq!(id(&server).as_deref(), Some("the right one"));
    second.stop().await;
    first.stop().await;
}

/// Nothing is sealed here.
struct NoSeal;

impl SealSessions for NoSeal {
    fn seal(&self, _: &SessionIdHash, _: &[u8], _: &SessionKey) -> Result<Sealed, StoreError> {
        Err(StoreError::Unavailable("not of this test".to_owned()))
    }

    fn open(&self, _: &SessionIdHash, _: &[u8], _: &Sealed) -> Result<SessionKey, StoreError> {
        Err(StoreError::Unavailable("not of this test".to_owned()))
    }
}
