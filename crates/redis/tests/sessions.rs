//! Sessions and signals at several nodes over one Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod fleet;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use edgeward_core::record::Session;
use edgeward_redis::{RedisStore, Servers};
use edgeward_services::{Redis, RedisCluster, RedisOptions};
use edgeward_store::conformance::Forge;
use edgeward_store::shared::{NewSession, Sessions, Signals, Told};
use edgeward_store::{Clock as _, StoreError};
use edgeward_wire::{MacKey, SecretText, SessionId, SessionIdHash, SessionKey};
use tokio::sync::mpsc::UnboundedReceiver;

use fleet::{PATIENCE, PLENTY, RealClock, keys, until};

const LIFE_MS: u64 = 60_000;
const EAR: &str = "user ear on >ear-password ~* &* +@all -client|tracking";
const MUTE: &str = "user mute on >mute-password ~* resetchannels +@all -client|tracking";

fn redis() -> Redis {
    Redis::start(RedisOptions::default()).unwrap()
}

/// A server whose users may not do everything.
fn redis_with_users() -> Redis {
    let users = vec![EAR.to_owned(), MUTE.to_owned()];
    Redis::start(RedisOptions { users, ..RedisOptions::default() }).unwrap()
}

async fn node_as(server: &Redis, clock: &Arc<RealClock>, user: &str) -> Arc<RedisStore> {
    named(server, clock, user, &format!("node-{user}")).await
}

async fn named(server: &Redis, clock: &Arc<RealClock>, user: &str, name: &str) -> Arc<RedisStore> {
    let mut options = fleet::options(fleet::single(server), clock, name);
    options.username = Some(user.to_owned());
    options.password = Some(SecretText::new(format!("{user}-password")));
    fleet::open(options).await
}

async fn start(store: &RedisStore, forge: &Forge, number: u8, clock: &RealClock) -> Session {
    let new = forge.session(number, clock.now().mono, LIFE_MS);
    store.start_session(new.clone()).await.unwrap();
    new.session
}

async fn find(store: &RedisStore, one: &Session) -> Option<Session> {
    store.find_session(one.agent, &one.id).await.unwrap()
}

async fn heard(told: &mut UnboundedReceiver<Told>, what: Told) {
    let wait = async { while told.recv().await.unwrap() != what {} };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never told: {what:?}"));
}

async fn what_one_node_starts_another_finds_at_once(servers: Servers) {
    let clock = RealClock::start();
    let nodes = fleet::three(&servers, &clock).await;
    for round in 0..1_000_u64 {
        let forge = Forge::new(round % 100, PLENTY);
        let at = round as usize % 3;
        let one = start(&nodes[at], &forge, (round / 100) as u8, &clock).await;
        assert!(find(&nodes[(at + 1) % 3], &one).await.is_some(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_starts_at_one_node_is_found_at_another_at_once() {
    let server = redis();
    what_one_node_starts_another_finds_at_once(fleet::single(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_starts_at_one_node_is_found_at_another_at_once_over_a_cluster() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, 0).unwrap();
    what_one_node_starts_another_finds_at_once(fleet::cluster(&cluster)).await;
}

/// What is found without asking Redis.
async fn is_near(store: &RedisStore, one: &Session) -> bool {
    let before = store.round_trips();
    find(store, one).await.is_some() && store.round_trips() == before
}

async fn an_end_is_told_to_all(nodes: &[Arc<RedisStore>], clock: &RealClock) {
    for round in 0..30_u8 {
        let forge = Forge::new(u64::from(round), PLENTY);
        let (one, other) =
            (start(&nodes[0], &forge, 1, clock).await, start(&nodes[0], &forge, 2, clock).await);
        for node in nodes {
            until("it is near", || is_near(node, &one)).await;
            until("it is near", || is_near(node, &other)).await;
        }
        let mut ears: Vec<_> = nodes.iter().map(|node| node.told()).collect();
        assert!(nodes[0].end_session(one.agent, &one.id).await.unwrap());
        assert!(find(&nodes[0], &one).await.is_none(), "at once where it was ended");
        let ended = vec![other.id];
        for (node, told) in nodes.iter().zip(&mut ears) {
            heard(told, Told::Session { agent: one.agent, id: one.id }).await;
            assert!(find(node, &one).await.is_none(), "once it was told");
            assert!(find(node, &other).await.is_some());
        }
        assert_eq!(nodes[0].end_sessions_of(one.agent).await.unwrap(), ended);
        assert!(find(&nodes[0], &other).await.is_none(), "at once where it was ended");
        for (node, told) in nodes.iter().zip(&mut ears) {
            heard(told, Told::Session { agent: one.agent, id: other.id }).await;
            assert!(find(node, &other).await.is_none(), "once it was told");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_pushed_to_all_nodes() {
    let (server, clock) = (redis(), RealClock::start());
    let nodes = fleet::three(&fleet::single(&server), &clock).await;
    an_end_is_told_to_all(&nodes, &clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_pushed_to_all_nodes_over_a_cluster() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, 0).unwrap();
    let clock = RealClock::start();
    let nodes = fleet::three(&fleet::cluster(&cluster), &clock).await;
    an_end_is_told_to_all(&nodes, &clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_published_to_nodes_that_may_not_track() {
    let (server, clock) = (redis_with_users(), RealClock::start());
    let nodes = [
        named(&server, &clock, "ear", "node-a").await,
        named(&server, &clock, "ear", "node-b").await,
        fleet::node(fleet::single(&server), &clock, "node-c").await,
    ];
    an_end_is_told_to_all(&nodes, &clock).await;
}

/// Whoever keeps using a session at a node that nobody tells of its end.
async fn an_end_is_noticed_untold(reader: &RedisStore, writer: &RedisStore, clock: &RealClock) {
    let forge = Forge::new(1, PLENTY);
    let one = start(writer, &forge, 1, clock).await;
    until("it is near", || is_near(reader, &one)).await;
    let mut told = reader.told();
    assert!(writer.end_session(one.agent, &one.id).await.unwrap());
    until("it is gone", || async { find(reader, &one).await.is_none() }).await;
    assert!(told.try_recv().is_err(), "it was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_push_is_lost_is_noticed_all_the_same() {
    let (server, clock) = (redis_with_users(), RealClock::start());
    // One listens on the channel, and the other cannot say anything on it.
    let (ear, mute) =
        (node_as(&server, &clock, "ear").await, node_as(&server, &clock, "mute").await);
    an_end_is_noticed_untold(&ear, &mute, &clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_noticed_where_nothing_can_be_told() {
    let (server, clock) = (redis_with_users(), RealClock::start());
    let (reader, writer) =
        (node_as(&server, &clock, "mute").await, node_as(&server, &clock, "ear").await);
    an_end_is_noticed_untold(&reader, &writer, &clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_race_reads_leave_nothing_stale() {
    // Far more than the clocks of two nodes may seem to be apart.
    const STEP_MS: u64 = 100_000;
    let (server, clock) = (redis(), RealClock::start());
    let nodes = fleet::three(&fleet::single(&server), &clock).await;
    let reader = Arc::clone(&nodes[2]);
    let long = async |number| {
        let new = Forge::new(1, PLENTY).session(number, clock.now().mono, 4_000 * STEP_MS);
        nodes[0].start_session(new.clone()).await.unwrap();
        new.session
    };
    let mut told = reader.told();
    let (one, fence) = (long(1).await, long(2).await);
    // Each write is told once: none of these may be taken for one of a later write.
    heard(&mut told, Told::Session { agent: fence.agent, id: fence.id }).await;
    // Whoever reads without a pause reads while the second of two writes is on its way.
    let stop = Arc::new(AtomicBool::new(false));
    let read = || {
        let (stop, reader, one) = (Arc::clone(&stop), Arc::clone(&reader), one.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                assert!(find(&reader, &one).await.is_some());
                tokio::task::yield_now().await;
            }
        })
    };
    let readers = [read(), read()];
    let mut stale = 0;
    for round in 1..=1_500 {
        let at = |step: u64| one.expires_at.plus((2 * round + step) * STEP_MS);
        let extend = async |node: usize, step| {
            nodes[node].extend_session(one.agent, &one.id, at(step)).await.unwrap().unwrap()
        };
        tokio::join!(extend(0, 0), extend(1, 1));
        // What is told later than this is told after both.
        let fenced = fence.expires_at.plus(round * STEP_MS);
        nodes[0].extend_session(fence.agent, &fence.id, fenced).await.unwrap();
        heard(&mut told, Told::Session { agent: fence.agent, id: fence.id }).await;
        for _ in 0..2 {
            let found = find(&reader, &one).await.unwrap();
            stale += u32::from(found.expires_at.plus(STEP_MS / 2) < at(1));
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in readers {
        task.await.unwrap();
    }
    assert_eq!(stale, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_about_an_agent_reaches_all_nodes() {
    let (server, clock) = (redis_with_users(), RealClock::start());
    let nodes = [
        fleet::node(fleet::single(&server), &clock, "node-a").await,
        fleet::node(fleet::single(&server), &clock, "node-b").await,
        node_as(&server, &clock, "ear").await,
    ];
    let mut ears: Vec<_> = nodes.iter().map(|node| node.told()).collect();
    for (round, node) in nodes.iter().enumerate() {
        let agent = Forge::new(round as u64, PLENTY).agent();
        node.tell_agent(agent).await.unwrap();
        for told in &mut ears {
            heard(told, Told::Agent(agent)).await;
        }
    }
    until("it is certain that all arrives", || async { nodes[0].confirmed_at().is_some() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_voids_everything_that_was_read() {
    let (server, clock) = (redis(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    let one = start(&store, &Forge::new(1, PLENTY), 1, &clock).await;
    until("it is near", || is_near(&store, &one)).await;
    let mut told = store.told();
    server.kill().unwrap();
    heard(&mut told, Told::Everything).await;
    let gone = store.find_session(one.agent, &one.id).await;
    assert!(matches!(gone, Err(StoreError::Unavailable(_))), "{gone:?}");
    assert!(store.tell_agent(one.agent).await.is_err());
    server.restart().unwrap();
    heard(&mut told, Told::Everything).await;
    assert!(find(&store, &one).await.is_none(), "Redis has lost it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_voids_everything_that_was_read() {
    let (server, clock) = (redis(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    let one = start(&store, &Forge::new(1, PLENTY), 1, &clock).await;
    until("it is near", || is_near(&store, &one)).await;
    let mut told = store.told();
    server.command(&["FLUSHALL"]).unwrap();
    heard(&mut told, Told::Everything).await;
    let found = store.find_session(one.agent, &one.id).await;
    assert!(!matches!(found, Ok(Some(_))), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_redis_gives_a_key_or_an_id_away() {
    let config = vec!["rdbcompression no".to_owned()];
    let options = RedisOptions { snapshots: true, config, ..RedisOptions::default() };
    let (server, clock) = (Redis::start(options).unwrap(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    // Letters, so that it can be seen in a text.
    let planted = *b"planted-key-planted-key-planted!";
    let forge = Forge::new(1, PLENTY);
    let id = SessionId::from_random(&planted);
    let key = SessionKey::from_bytes(planted);
    let new = forge.session(1, clock.now().mono, LIFE_MS);
    let session = Session { id: id.hash(), key: MacKey::of_session(&key), ..new.session.clone() };
    store.start_session(NewSession { session, key, ..new }).await.unwrap();
    store.extend_session(forge.agent(), &id.hash(), clock.now().mono).await.unwrap();

    let mut all = Vec::new();
    for key in keys(&server, "*") {
        let value = match server.command(&["TYPE", &key]).unwrap().text().unwrap().as_str() {
            "string" => server.command(&["GET", &key]).unwrap().text().unwrap(),
            "zset" => server.command(&["ZRANGE", &key, "0", "-1"]).unwrap().texts().join(" "),
            other => panic!("{key} is a {other}"),
        };
        all.extend_from_slice(format!("{key} {value}\n").as_bytes());
    }
    server.command(&["SAVE"]).unwrap();
    let folder = server.command(&["CONFIG", "GET", "dir"]).unwrap().texts().remove(1);
    all.extend(std::fs::read(format!("{folder}/dump.rdb")).unwrap());

    let contains = |what: &[u8]| all.windows(what.len()).any(|part| part == what);
    assert!(contains(id.hash().to_string().as_bytes()), "the search works");
    let hex: String = planted.iter().map(|byte| format!("{byte:02x}")).collect();
    let forms = [
        planted.to_vec(),
        hex.clone().into_bytes(),
        hex.to_uppercase().into_bytes(),
        URL_SAFE_NO_PAD.encode(planted).into_bytes(),
        STANDARD_NO_PAD.encode(planted).into_bytes(),
        id.expose().as_bytes().to_vec(),
    ];
    for form in forms {
        assert!(!contains(&form), "{}", String::from_utf8_lossy(&form));
    }
}

fn key_of(server: &Redis, id: &SessionIdHash) -> String {
    let [key] = keys(server, &format!("edgeward:s:*:{id}")).try_into().unwrap();
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_to_redis_cannot_widen_a_session() {
    let (server, clock) = (redis(), RealClock::start());
    let nodes = fleet::three(&fleet::single(&server), &clock).await;
    let forge = Forge::new(1, PLENTY);
    let one = start(&nodes[0], &forge, 1, &clock).await;
    let other = start(&nodes[0], &forge, 2, &clock).await;
    let (key, other_key) = (key_of(&server, &one.id), key_of(&server, &other.id));
    let value = server.command(&["GET", &key]).unwrap().text().unwrap();
    let foreign = server.command(&["GET", &other_key]).unwrap().text().unwrap();
    let most = number_after(&value, "\"max_ms\":");
    let ends = number_after(&value, "\"exp_ms\":");
    let corrupt = [
        String::new(),
        "nonsense".to_owned(),
        "null".to_owned(),
        "[1]".to_owned(),
        value[..value.len() - 1].to_owned(),
        value.replace(&format!("\"max_ms\":{most}"), &format!("\"max_ms\":{}", most + 1)),
        value.replace("\"epoch\":1", "\"epoch\":2"),
        value.replace("\"secret_version\":1", "\"secret_version\":2"),
        value.replace("\"v\":1", "\"v\":2"),
        value.replace("\"v\":1", "\"v\":1,\"more\":1"),
        value.replace(&one.agent.to_string(), &Forge::new(2, PLENTY).agent().to_string()),
        value.replace("\"key\":\"", "\"key\":\"AAAA"),
        value.replace("\"key\":\"", "\"key\":\"!"),
        foreign,
    ];
    for text in corrupt {
        assert_ne!(text, value);
        server.command(&["SET", &key, &text]).unwrap();
        for node in &nodes {
            until("it is read anew", || async {
                let found = node.find_session(one.agent, &one.id).await;
                matches!(found, Err(StoreError::Corrupt(_)))
            })
            .await;
        }
        let extended = nodes[1].extend_session(one.agent, &one.id, one.max_expires_at).await;
        assert!(matches!(extended, Err(StoreError::Corrupt(_))), "{text}: {extended:?}");
    }
    server.command(&["DEL", &key]).unwrap();
    server.command(&["LPUSH", &key, "nonsense"]).unwrap();
    until("it is read anew", || async { nodes[2].find_session(one.agent, &one.id).await.is_err() })
        .await;

    // The end may be moved, up to the maximum.
    let later = value.replace(&format!("\"exp_ms\":{ends}"), "\"exp_ms\":99999999999999");
    server.command(&["SET", &key, &later]).unwrap();
    until("it is read anew", || async {
        let found = nodes[0].find_session(one.agent, &one.id).await;
        found.is_ok_and(|found| found.is_some_and(|found| found.expires_at == found.max_expires_at))
    })
    .await;
}

fn number_after(text: &str, label: &str) -> u64 {
    let rest = text.split_once(label).unwrap().1;
    rest[..rest.find(|letter: char| !letter.is_ascii_digit()).unwrap()].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_of_an_agent_holds_no_more_than_what_lives() {
    let (server, clock) = (redis(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    let forge = Forge::new(1, PLENTY);
    for number in 0..5 {
        let short = forge.session(number, clock.now().mono, 150);
        store.start_session(short).await.unwrap();
    }
    until("they have expired", || async { keys(&server, "edgeward:s:*").is_empty() }).await;
    let one = start(&store, &forge, 9, &clock).await;
    let [index] = keys(&server, "edgeward:o:*").try_into().unwrap();
    let held = server.command(&["ZRANGE", &index, "0", "-1"]).unwrap().texts();
    assert_eq!(held, [key_of(&server, &one.id)]);
    let left = server.command(&["PTTL", &index]).unwrap().text().unwrap();
    assert!((1..=2 * LIFE_MS as i64).contains(&left.parse::<i64>().unwrap()), "{left}");
    let late = one.max_expires_at.plus(LIFE_MS);
    store.extend_session(one.agent, &one.id, late).await.unwrap().unwrap();
    let left = server.command(&["PTTL", &key_of(&server, &one.id)]).unwrap().text().unwrap();
    let life_ms = LIFE_MS as i64 + 1..=2 * LIFE_MS as i64 + 100;
    assert!(life_ms.contains(&left.parse::<i64>().unwrap()), "{left}");
    assert!(store.end_session(one.agent, &one.id).await.unwrap());
    assert!(keys(&server, "edgeward:o:*").is_empty());
}
