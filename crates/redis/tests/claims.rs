//! Nonces and rates at several nodes over one Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod fleet;

use std::sync::Arc;

use edgeward_core::limit::gcra::Rate;
use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::time::WallMs;
use edgeward_redis::{RedisStore, Servers};
use edgeward_services::{Redis, RedisCluster, RedisOptions};
use edgeward_store::conformance::Forge;
use edgeward_store::shared::{Claims, Sessions};
use edgeward_store::{Clock as _, StoreError};
use tokio::sync::Barrier;

use fleet::{PLENTY, RealClock, calls, keys, until};

type Outcome = Result<ClaimOutcome, StoreError>;

fn redis() -> Redis {
    Redis::start(RedisOptions::default()).unwrap()
}

async fn claim(store: &RedisStore, claim: &Claim) -> ClaimOutcome {
    store.claim_nonce_and_rate(claim).await.unwrap()
}

/// The same claim by 64 at once, at all nodes in turn.
async fn at_once(nodes: &[Arc<RedisStore>], claim: &Claim) -> Vec<Outcome> {
    let start = Arc::new(Barrier::new(64));
    let ask = |number: usize| {
        let (node, start) = (Arc::clone(&nodes[number % nodes.len()]), Arc::clone(&start));
        let claim = claim.clone();
        tokio::spawn(async move {
            start.wait().await;
            node.claim_nonce_and_rate(&claim).await
        })
    };
    let asked: Vec<_> = (0..64).map(ask).collect();
    let mut outcomes = Vec::new();
    for task in asked {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

async fn of_equal_claims_one_is_granted(servers: Servers, rounds: u64) {
    let clock = RealClock::start();
    let nodes = fleet::three(&servers, &clock).await;
    for round in 0..rounds {
        let forge = Forge::new(round, PLENTY);
        let one = forge.claim(clock.now().wall, Some(&format!("round-{round:05}")));
        let outcomes = at_once(&nodes, &one).await;
        let count = |outcome| outcomes.iter().filter(|one| **one == Ok(outcome)).count();
        let both = (count(ClaimOutcome::Granted), count(ClaimOutcome::Replayed));
        assert_eq!(both, (1, 63), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_equal_claims_at_three_nodes_one_is_granted() {
    let server = redis();
    of_equal_claims_one_is_granted(fleet::single(&server), 300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_equal_claims_at_three_nodes_over_a_cluster_one_is_granted() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, 0).unwrap();
    of_equal_claims_one_is_granted(fleet::cluster(&cluster), 200).await;
}

/// Everything that was granted comes again after `lose`, at every node, until Redis decides.
async fn nothing_passes_twice(server: &Redis, lose: impl FnOnce(&Redis)) {
    let clock = RealClock::start();
    let mut nodes = Vec::new();
    for name in ["node-a", "node-b", "node-c"] {
        let mut options = fleet::options(fleet::single(server), &clock, name);
        options.ahead_ms = Forge::AHEAD_MS;
        nodes.push(fleet::open(options).await);
    }
    let mut granted = Vec::new();
    for number in 0..300 {
        // Some are stamped as far ahead as they may be.
        let stamp = clock.now().wall.plus(number % 3 * (Forge::AHEAD_MS / 2 - 50));
        let one = Forge::new(number % 50, PLENTY).claim(stamp, Some(&format!("number-{number}")));
        assert_eq!(claim(&nodes[number as usize % 3], &one).await, ClaimOutcome::Granted);
        granted.push(one);
    }
    lose(server);
    for (number, one) in granted.iter().enumerate() {
        let node = &nodes[number % 3];
        until("Redis decides", || async {
            match node.claim_nonce_and_rate(one).await {
                Ok(ClaimOutcome::Granted) => panic!("number {number} passed twice"),
                Ok(ClaimOutcome::Stale | ClaimOutcome::Replayed) => true,
                _ => false,
            }
        })
        .await;
    }
    // And an honest client is let in again.
    let forge = Forge::new(7, PLENTY);
    until("a new claim is granted", || async {
        let fresh = forge.claim(clock.now().wall, Some("a-new-nonce"));
        nodes[0].claim_nonce_and_rate(&fresh).await == Ok(ClaimOutcome::Granted)
    })
    .await;
    assert!(nodes[0].replay_floor(forge.agent()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_twice_over_a_flush() {
    nothing_passes_twice(&redis(), |server| {
        server.command(&["FLUSHALL"]).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_twice_over_a_restart_with_nothing() {
    nothing_passes_twice(&redis(), |server| {
        server.kill().unwrap();
        server.restart().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_twice_over_a_restart_from_an_old_dump() {
    let options = RedisOptions { snapshots: true, ..RedisOptions::default() };
    let server = Redis::start(options).unwrap();
    // A dump that knows of the deployment, and of none of what is granted later.
    let clock = RealClock::start();
    let early = fleet::node(fleet::single(&server), &clock, "node-0").await;
    early.stop().await;
    server.command(&["SAVE"]).unwrap();
    nothing_passes_twice(&server, |server| {
        server.kill().unwrap();
        server.restart().unwrap();
        assert!(!keys(server, "edgeward:e:*").is_empty(), "the dump was read");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_raises_the_floor() {
    let (server, clock) = (redis(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    let forge = Forge::new(1, PLENTY);
    let fresh = |nonce| forge.claim(clock.now().wall, Some(nonce));
    assert_eq!(claim(&store, &fresh("the-first-nonce")).await, ClaimOutcome::Granted);
    let [nonce] = keys(&server, "edgeward:n:*").try_into().unwrap();
    let seen =
        format!("edgeward:t:{}", &nonce[nonce.find('{').unwrap()..=nonce.find('}').unwrap()]);
    let show = |at: WallMs| server.command(&["SET", &seen, &at.0.to_string()]).unwrap();
    // Half a second back is no more than nonces outlive the window by, and the furthest is known by.
    show(clock.now().wall.plus(500));
    assert_eq!(claim(&store, &fresh("the-next-nonce")).await, ClaimOutcome::Granted);
    let furthest = clock.now().wall.plus(4_000);
    show(furthest);
    let outcome = claim(&store, &fresh("the-second-nonce")).await;
    let ClaimOutcome::Starting { retry_after_ms } = outcome else { panic!("{outcome:?}") };
    let floor = furthest.plus(Forge::AHEAD_MS + 500);
    assert!((1..=5_001).contains(&retry_after_ms), "{retry_after_ms}");
    assert_eq!(store.replay_floor(forge.agent()), Some(floor));
    // Without a nonce as well, though no nonce is lost.
    let outcome = claim(&store, &forge.claim(clock.now().wall, None)).await;
    assert!(matches!(outcome, ClaimOutcome::Starting { .. }), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_nothing_is_granted_or_charged() {
    let (server, clock) = (redis(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    let memory = |bytes: &str| server.command(&["CONFIG", "SET", "maxmemory", bytes]).unwrap();
    let forge = Forge::new(1, Rate { per_sec: 1, burst: 1 });
    // The furthest time is written now and need not be for a second, so that the nonce comes first.
    let same_bucket = Forge::new(1, PLENTY);
    let warm = same_bucket.claim(clock.now().wall, Some("the-first-nonce"));
    assert_eq!(claim(&store, &warm).await, ClaimOutcome::Granted);
    let charged = async || !keys(&server, "edgeward:r:*").is_empty();
    until("what it was charged is paid", async || !charged().await).await;
    memory("1");
    let one = forge.claim(clock.now().wall, Some("the-other-nonce"));
    for _ in 0..3 {
        let refused = store.claim_nonce_and_rate(&one).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    assert!(!charged().await, "charged");
    assert!(keys(&server, "edgeward:n:*other-nonce").is_empty(), "used up");
    let first = store.claim_nonce_and_rate(&forge.claim(clock.now().wall, None)).await;
    assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
    memory("0");
    assert_eq!(claim(&store, &one).await, ClaimOutcome::Granted);
}

fn rate_key(server: &Redis, forge: &Forge) -> String {
    let [key] = keys(server, &format!("edgeward:r:*:{}", forge.agent())).try_into().unwrap();
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_grants_nothing() {
    let (server, clock) = (redis(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    // Slow, so that its key is there to be seen.
    let forge = Forge::new(1, Rate { per_sec: 10, burst: 1_000 });
    let warm = forge.claim(clock.now().wall, Some("the-first-nonce"));
    assert_eq!(claim(&store, &warm).await, ClaimOutcome::Granted);
    let key = rate_key(&server, &forge);
    for odd in [vec!["SET", &key, "nonsense"], vec!["LPUSH", &key, "nonsense"]] {
        server.command(&["DEL", &key]).unwrap();
        server.command(&odd).unwrap();
        for nonce in [Some("the-next-nonce"), None] {
            let refused = store.claim_nonce_and_rate(&forge.claim(clock.now().wall, nonce)).await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        }
    }
    assert!(keys(&server, "edgeward:n:*next-nonce").is_empty(), "used up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_stalls_nobody_for_longer_than_the_budget() {
    let (server, clock) = (redis(), RealClock::start());
    let mut options = fleet::options(fleet::single(&server), &clock, "node-a");
    options.timeout = std::time::Duration::from_millis(100);
    let store = fleet::open(options).await;
    let forge = Forge::new(1, PLENTY);
    let with = |nonce| forge.claim(clock.now().wall, Some(nonce));
    assert_eq!(claim(&store, &with("the-first-nonce")).await, ClaimOutcome::Granted);
    assert_eq!(claim(&store, &forge.claim(clock.now().wall, None)).await, ClaimOutcome::Granted);
    let unknown = forge.session(1, clock.now().mono, 60_000).session.id;
    server.pause().unwrap();
    let begun = clock.now().mono;
    let unavailable = |outcome: Outcome| matches!(outcome, Err(StoreError::Unavailable(_)));
    assert!(unavailable(store.claim_nonce_and_rate(&with("a-second-nonce")).await));
    assert!(clock.now().mono.since(begun) < 500, "five times the budget");
    // The link is dead, and taken away by and by.
    until("nothing is decided without it", || async {
        unavailable(store.claim_nonce_and_rate(&forge.claim(clock.now().wall, None)).await)
    })
    .await;
    let begun = clock.now().mono;
    for _ in 0..50 {
        assert!(unavailable(store.claim_nonce_and_rate(&with("a-second-nonce")).await));
        assert!(unavailable(
            store.claim_nonce_and_rate(&forge.claim(clock.now().wall, None)).await
        ));
        assert!(store.find_session(forge.agent(), &unknown).await.is_err());
    }
    assert!(clock.now().mono.since(begun) < 500, "once it is known to be silent, nobody waits");
    server.resume().unwrap();
    until("it is back by itself", || async {
        store.claim_nonce_and_rate(&with("a-later-nonce")).await == Ok(ClaimOutcome::Granted)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_with_a_nonce_is_one_round_trip_and_one_without_is_none() {
    let (server, clock) = (redis(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    let forge = Forge::new(1, PLENTY);
    let mono = clock.now().mono;
    let session = forge.session(1, mono, 60_000);
    let id = session.session.id;
    store.start_session(session).await.unwrap();
    let request = async |number: Option<u32>| {
        let nonce = number.map(|number| format!("number-{number:05}"));
        let one = forge.claim_in(1, mono, clock.now().wall, nonce.as_deref());
        assert!(store.find_session(forge.agent(), &id).await.unwrap().is_some());
        assert_eq!(claim(&store, &one).await, ClaimOutcome::Granted);
        assert!(store.find_session(forge.agent(), &id).await.unwrap().is_some());
    };
    let scripts = || calls(&server, "evalsha") + calls(&server, "eval");
    request(Some(0)).await;
    request(None).await;
    until("the session is kept near", || async {
        let before = store.round_trips();
        store.find_session(forge.agent(), &id).await.unwrap();
        store.round_trips() == before
    })
    .await;

    // No copy of a session is confirmed before two seconds have passed.
    let (trips, asked, read) = (store.round_trips(), scripts(), calls(&server, "get"));
    for number in 1..=200 {
        request(Some(number)).await;
    }
    let confirmed = clock.now().mono.since(mono) / 2_000;
    let read = calls(&server, "get") - read;
    assert_eq!(store.round_trips() - trips, 200);
    let told = 2;
    assert!((200..=200 + told).contains(&(scripts() - asked)), "{}", scripts() - asked);
    // Epoch, floor, clock, widest settings and rate within each script; more only where a copy was confirmed.
    assert!((1_000..=1_000 + 5 * told + confirmed).contains(&read), "{read}");

    let (trips, asked, begun) = (store.round_trips(), scripts(), clock.now().mono);
    for _ in 0..2_000 {
        request(None).await;
    }
    for stamp in [clock.now().wall.minus(Forge::WINDOW_MS + 500), clock.now().wall.plus(5_000)] {
        assert_eq!(claim(&store, &forge.claim(stamp, None)).await, ClaimOutcome::Stale);
    }
    assert_eq!(store.round_trips(), trips, "without a nonce nobody waits");
    let flushes = clock.now().mono.since(begun) / 50 + 2;
    assert!(scripts() - asked <= flushes, "{} in {flushes} flushes", scripts() - asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_without_asking_is_charged_everywhere() {
    let (server, clock) = (redis(), RealClock::start());
    let nodes = fleet::three(&fleet::single(&server), &clock).await;
    // Too slow to give anything back while the test runs.
    let forge = Forge::new(1, Rate { per_sec: 1, burst: 1_000 });
    let begun = clock.now().mono;
    let mut granted = 0_u64;
    let mut refused = 0;
    while refused < 3 {
        refused = 0;
        for node in &nodes {
            let outcome = claim(node, &forge.claim(clock.now().wall, None)).await;
            let passed = outcome == ClaimOutcome::Granted;
            assert!(passed || matches!(outcome, ClaimOutcome::RateLimited { .. }), "{outcome:?}");
            granted += u64::from(passed);
            refused += u32::from(!passed);
        }
    }
    let given_back = clock.now().mono.since(begun) / 1_000 + 1;
    assert!(granted >= 990, "{granted}");
    // An eighth of the burst is more than a sixtieth of ten seconds at this rate.
    let most = 1_000 + 3 * (1_010 / 60) + given_back;
    assert!(granted <= most, "{granted} of at most {most}");
    until("the nodes have told it", || async {
        let with_nonce = forge.claim(clock.now().wall, Some("the-only-nonce"));
        matches!(claim(&nodes[0], &with_nonce).await, ClaimOutcome::RateLimited { .. })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_what_was_granted() {
    let (server, clock) = (redis(), RealClock::start());
    // Now and then it has been told by the way before.
    for round in 0..4 {
        let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
        // A second each; four are few enough that nobody hurries to tell them.
        let forge = Forge::new(round, Rate { per_sec: 1, burst: 1_000 });
        let fresh = || forge.claim(clock.now().wall, None);
        let begun = clock.now().wall;
        for _ in 0..4 {
            assert_eq!(claim(&store, &fresh()).await, ClaimOutcome::Granted);
        }
        assert_eq!(store.round_trips(), 1);
        store.stop().await;
        let state = server.command(&["GET", &rate_key(&server, &forge)]).unwrap().text().unwrap();
        let arrival: u64 = state.split(':').next().unwrap().parse().unwrap();
        assert!(arrival >= begun.plus(3_990).0, "{state} after {begun:?}");
        let refused = store.claim_nonce_and_rate(&fresh()).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_ended_claims_nothing() {
    let (server, clock) = (redis(), RealClock::start());
    let nodes = fleet::three(&fleet::single(&server), &clock).await;
    let forge = Forge::new(1, Rate { per_sec: 1, burst: 1 });
    let mono = clock.now().mono;
    let session = forge.session(1, mono, 60_000);
    let id = session.session.id;
    nodes[0].start_session(session).await.unwrap();
    let within = || forge.claim_in(1, mono, clock.now().wall, Some("the-only-nonce"));
    assert!(nodes[0].end_session(forge.agent(), &id).await.unwrap());
    for node in &nodes {
        assert_eq!(claim(node, &within()).await, ClaimOutcome::SessionGone);
    }
    // Neither the nonce nor the rate was used.
    let session = forge.session(1, mono, 60_000);
    nodes[0].start_session(session).await.unwrap();
    assert_eq!(claim(&nodes[1], &within()).await, ClaimOutcome::Granted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_noticed_without_any_nonce() {
    let (server, clock) = (redis(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    // Slow, so that its key is there to be seen.
    let forge = Forge::new(1, Rate { per_sec: 1, burst: 10_000 });
    let granted = async || claim(&store, &forge.claim(clock.now().wall, None)).await;
    assert_eq!(granted().await, ClaimOutcome::Granted);
    assert_eq!(granted().await, ClaimOutcome::Granted, "without asking");
    let epoch = rate_key(&server, &forge).replace(":r:", ":e:");
    let epoch = &epoch[..=epoch.find('}').unwrap()];
    assert_eq!(server.command(&["DEL", epoch]).unwrap().text().unwrap(), "1");
    assert_eq!(granted().await, ClaimOutcome::Granted, "without asking");
    until("the floor is raised", || async { store.replay_floor(forge.agent()).is_some() }).await;
    // What another node raised is told along, too.
    let floor = epoch.replace(":e:", ":f:");
    let raised = store.replay_floor(forge.agent()).unwrap().plus(1_000);
    server.command(&["SET", &floor, &raised.0.to_string()]).unwrap();
    until("the floor is heard of", || async {
        let _ = store.claim_nonce_and_rate(&forge.claim(clock.now().wall, None)).await;
        store.replay_floor(forge.agent()) == Some(raised)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violation_at_one_node_counts_at_all() {
    let (server, clock) = (redis(), RealClock::start());
    let nodes = fleet::three(&fleet::single(&server), &clock).await;
    let forge = Forge::new(1, Rate { per_sec: 1, burst: 100 });
    let ask = async |node: usize, nonce: Option<&str>| {
        claim(&nodes[node], &forge.claim(clock.now().wall, nonce)).await
    };
    while ask(0, None).await == ClaimOutcome::Granted {}
    let mut last = 0;
    for _ in 0..4 {
        let ClaimOutcome::RateLimited { retry_after_ms, .. } = ask(0, None).await else {
            panic!("granted")
        };
        assert!(retry_after_ms > last, "{retry_after_ms} after {last}");
        last = retry_after_ms;
    }
    // It tells the others before it ends.
    nodes[0].stop().await;
    let outcome = ask(1, Some("the-only-nonce")).await;
    let ClaimOutcome::RateLimited { retry_after_ms, .. } = outcome else { panic!("{outcome:?}") };
    assert!(retry_after_ms > last, "{retry_after_ms} after {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_refuses_is_not_charged_to_the_agent_without_a_nonce() {
    let (server, clock) = (redis(), RealClock::start());
    let nodes = fleet::three(&fleet::single(&server), &clock).await;
    let (own, route) = (Rate { per_sec: 1, burst: 2 }, Rate { per_sec: 1, burst: 1 });
    let forge = Forge::new(1, own);
    let on = |rate| forge.claim_on(rate, clock.now().wall, None);
    assert_eq!(claim(&nodes[0], &on(Some(route))).await, ClaimOutcome::Granted);
    for node in &nodes[1..] {
        let outcome = claim(node, &on(Some(route))).await;
        assert!(matches!(outcome, ClaimOutcome::RateLimited { rate, .. } if rate == route));
    }
    assert_eq!(claim(&nodes[0], &on(None)).await, ClaimOutcome::Granted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_epoch_is_noticed_by_the_very_next_claim() {
    let (server, clock) = (redis(), RealClock::start());
    let store = fleet::node(fleet::single(&server), &clock, "node-a").await;
    for round in 0..20 {
        let forge = Forge::new(round, PLENTY);
        let one = forge.claim(clock.now().wall, Some("the-only-nonce"));
        if claim(&store, &one).await != ClaimOutcome::Granted {
            // The bucket of an agent before.
            continue;
        }
        let [nonce] =
            keys(&server, &format!("edgeward:n:*:{}:*", forge.agent())).try_into().unwrap();
        let epoch =
            format!("edgeward:e:{}", &nonce[nonce.find('{').unwrap()..=nonce.find('}').unwrap()]);
        let lose =
            if round % 2 == 0 { ["DEL", &epoch, ""] } else { ["SET", &epoch, "another/server"] };
        server.command(&["DEL", &nonce]).unwrap();
        server.command(&lose[..if round % 2 == 0 { 2 } else { 3 }]).unwrap();
        let outcome = claim(&store, &one).await;
        assert!(matches!(outcome, ClaimOutcome::Starting { .. }), "{outcome:?}");
    }
}
