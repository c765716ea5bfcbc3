//! While Redis is away nothing is let in and nothing is blamed on an agent; streams go on, blocks arrive
//! all the same, and it ends by itself.

use std::time::Duration;

use edgeward_services::{Gate, Redis, RedisOptions};
use edgeward_testkit::{Agent, Answer, AsDoor as _, Session, Signed, eventually};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::load::doubles;
use crate::load::is_to_sign_again;
use crate::node::{Node, Plan};
use crate::replay_loss::order;
use crate::scene::{Scene, Shared};
use crate::stream::Stream;
use crate::times::{Times, proof};

/// `EDGE_REDIS_TIMEOUT_MS`, unless it is set.
const BUDGET: Duration = Duration::from_millis(100);
/// How often each request is tried.
const TRIES: usize = 10;

/// How Redis goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// It is stopped.
    Stopped,
    /// It takes bytes and answers nothing.
    Frozen,
    /// The way to it swallows everything.
    Stalled,
}

impl Away {
    fn begin(self, redis: &Redis, gate: &Gate) {
        order(|| match self {
            Self::Stopped => redis.stop().unwrap(),
            Self::Frozen => redis.pause().unwrap(),
            Self::Stalled => gate.stall(),
        });
    }

    fn end(self, redis: &Redis, gate: &Gate) {
        order(|| match self {
            Self::Stopped => redis.restart().unwrap(),
            Self::Frozen => redis.resume().unwrap(),
            Self::Stalled => gate.mend(),
        });
    }
}

/// An agent with a session and a stream in it at every node.
struct Busy {
    agent: Agent,
    session: Session,
    streams: Vec<Stream>,
}

impl Busy {
    async fn at(scene: &Scene) -> Self {
        let agent = scene.agent().await;
        let session = agent.session(&scene.nodes[0]).await;
        let mut streams = Vec::new();
        for node in &scene.nodes {
            let request = agent.signed("GET", "/v1/x").in_session(&session);
            streams.push(Stream::open(&scene.upstream, request, node).await);
        }
        Self { agent, session, streams }
    }

    async fn carries(&mut self, event: &str) {
        for stream in &mut self.streams {
            stream.carries(event).await;
        }
    }

    /// Everything that an agent signs.
    fn requests(&self) -> Vec<Signed> {
        let Self { agent, session, .. } = self;
        let nothing = json!({});
        vec![
            agent.signed("GET", "/v1/x"),
            agent.signed("GET", "/v1/x").in_session(session),
            agent.call("/agent/session/start", &nothing),
            agent.call("/agent/session/extend", &nothing).in_session(session),
            agent.call("/agent/token/refresh", &nothing),
            agent.call("/agent/protected/echo", &nothing),
            agent.signed("GET", "/agent/events").accept_events().in_session(session),
        ]
    }
}

fn is_closed(answer: &Answer) -> bool {
    let retry = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
    answer.status() == 503
        && answer.code() == Some("dependency_unavailable")
        && retry.is_some_and(|seconds| seconds > 0)
}

/// Every signed request is refused for Redis's sake, in time.
async fn all_closed(busy: &Busy, nodes: &[Node], times: &mut Times) {
    for _ in 0..TRIES {
        for node in nodes {
            for request in busy.requests() {
                let since = Instant::now();
                let answer = request.send(node).await;
                times.extend([since.elapsed()]);
                assert!(is_closed(&answer), "{request:?}: {answer:?}");
            }
        }
    }
}

/// What is wrong with a request without Redis being asked is said as ever.
async fn shapes_stay(agent: &Agent, node: &Node) {
    let good = || agent.signed("GET", "/v1/x");
    good().bare().no_bearer().send(node).await.expect(401).refused("credentials_missing");
    good().duplicate_header("X-Nonce").send(node).await.expect(400).refused("request_malformed");
    good().swapped_target("/v1//x").send(node).await.expect(400).refused("target_ambiguous");
    let old = good().timestamp_offset_ms(-120_000);
    old.send(node).await.expect(401).refused("timestamp_outside_window");
    good().wrong_signature().send(node).await.expect(401).refused("signature_invalid");
}

/// What operators are told of Redis.
async fn finds_redis(node: &Node) -> bool {
    let (_, ready) = node.operators().get("/readyz").await.unwrap();
    let checks = ready["checks"].as_array().unwrap();
    let redis = checks.iter().find(|check| check["name"] == "redis").unwrap();
    assert!(redis["ok"] == true || ready["ready"] == false);
    redis["ok"] == Value::Bool(true)
}

async fn closed_and_back(away: Away) {
    let redis = Redis::start(RedisOptions::default()).unwrap();
    let gate = Gate::to(redis.address()).unwrap();
    let way = if away == Away::Stalled { gate.address() } else { redis.address() };
    let url = format!("redis://{way}");
    let change = |plan: Plan| plan.set("EDGE_REDIS_URL", url).set("AGENT_HMAC_AHEAD_MS", 500);
    let scene = Scene::start(2, Shared::Single(redis), change).await;
    let (mut stays, mut blocked) = (Busy::at(&scene).await, Busy::at(&scene).await);
    for node in &scene.nodes {
        eventually("a node that finds Redis", async || finds_redis(node).await).await;
    }

    away.begin(scene.shared.redis(), &gate);
    let mut times = Times::default();
    all_closed(&stays, &scene.nodes, &mut times).await;
    for node in &scene.nodes {
        shapes_stay(&stays.agent, node).await;
        eventually("a node that misses Redis", async || !finds_redis(node).await).await;
        // without a nonce Redis need not be asked: once it is missed that is over too
        let request = stays.agent.signed("GET", "/v1/x").in_session(&stays.session).no_nonce();
        assert!(is_closed(&request.send(node).await));
    }
    all_closed(&stays, &scene.nodes, &mut times).await;
    stays.carries("while Redis is away").await;
    blocked.carries("while Redis is away").await;

    let since = Instant::now();
    block(&blocked.agent, &scene.nodes[0]).await;
    for stream in std::mem::take(&mut blocked.streams) {
        stream.cut().await;
    }
    let mut cuts = Times::default();
    cuts.extend([since.elapsed()]);
    stays.carries("after the block").await;

    away.end(scene.shared.redis(), &gate);
    let since = Instant::now();
    for node in &scene.nodes {
        eventually("an agent that is let in again", async || {
            let answer = stays.agent.signed("GET", "/v1/x").send(node).await;
            assert!(answer.status() == 200 || is_to_sign_again(&answer), "{answer:?}");
            answer.status() == 200
        })
        .await;
        let refused = blocked.agent.signed("GET", "/v1/x").send(node).await;
        refused.expect(403).refused("agent_blocked");
    }
    proof(
        &format!("Redis {away:?}"),
        format!(
            "503 within {times}; streams cut by a block after {cuts}; back after {} ms",
            since.elapsed().as_millis()
        ),
    );
    times.assert_within(BUDGET);
    cuts.assert_within(Duration::from_secs(1));
}

async fn block(agent: &Agent, by: &Node) {
    let path = format!("/agents/{}/block", agent.id);
    let (status, answer) = by.operators().post(&path, &json!({})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_stopped() {
    closed_and_back(Away::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_frozen() {
    closed_and_back(Away::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_redis_is_stalled() {
    closed_and_back(Away::Stalled).await;
}

/// One setting of a running Redis.
fn set(redis: &Redis, name: &str, value: &str) {
    order(|| redis.command(&["CONFIG", "SET", name, value])).unwrap();
}

async fn closes(agent: &Agent, node: &Node) {
    eventually("a node that is closed", async || {
        let answer = agent.signed("GET", "/v1/x").send(node).await;
        assert!(answer.status() == 200 || is_closed(&answer), "{answer:?}");
        answer.status() == 503
    })
    .await;
}

async fn opens(agent: &Agent, node: &Node) {
    eventually("a node that is open", async || {
        let answer = agent.signed("GET", "/v1/x").send(node).await;
        assert!(answer.status() == 200 || is_to_sign_again(&answer), "{answer:?}");
        answer.status() == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_without_room_is_closed_until_there_is_some() {
    let scene = Scene::start(2, Shared::single(), |plan| plan).await;
    let agent = scene.agent().await;
    let before = agent.signed("GET", "/v1/once/before");
    let bytes = before.build();
    scene.nodes[0].door().send(&bytes).await.expect(200);
    set(scene.shared.redis(), "maxmemory", "1");
    for node in &scene.nodes {
        for _ in 0..TRIES {
            let answer = agent.signed("GET", "/v1/x").send(node).await;
            assert!(is_closed(&answer), "{answer:?}");
        }
    }
    set(scene.shared.redis(), "maxmemory", "0");
    for node in &scene.nodes {
        opens(&agent, node).await;
        let replayed = node.door().send(&bytes).await.expect(401);
        assert!(["nonce_replayed", "timestamp_outside_window"].contains(&replayed.code().unwrap()));
    }
    assert_eq!(doubles(&scene.upstream), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_evicts_is_refused_at_the_start() {
    let scene = Scene::start(1, Shared::single(), |plan| plan).await;
    for policy in ["allkeys-lru", "volatile-ttl"] {
        set(scene.shared.redis(), "maxmemory-policy", policy);
        let said = scene.plan.refused().await;
        assert!(said.contains(policy) && said.contains("noeviction"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_begins_to_evict_is_closed_and_what_it_forgot_is_not_let_in() {
    const NONCES: usize = 300;
    let change = |plan: Plan| plan.set("AGENT_HMAC_AHEAD_MS", 500);
    let scene = Scene::start(2, Shared::single(), change).await;
    let (agent, redis) = (scene.agent().await, scene.shared.redis());
    let mut kept = Vec::new();
    for number in 0..NONCES {
        let bytes = agent.signed("GET", &format!("/v1/once/{number}")).build();
        scene.nodes[number % 2].door().send(&bytes).await.expect(200);
        kept.push(bytes);
    }
    // what expires is evicted, which leaves epochs and floors where they are
    set(redis, "maxmemory-policy", "volatile-ttl");
    for node in &scene.nodes {
        closes(&agent, node).await;
    }
    set(redis, "maxmemory", "1");
    eventually("nonces that are evicted", async || {
        let evicted: usize = order(|| redis.info("evicted_keys")).unwrap().parse().unwrap();
        evicted >= NONCES
    })
    .await;
    set(redis, "maxmemory", "0");
    set(redis, "maxmemory-policy", "noeviction");
    let mut again = 0;
    for node in &scene.nodes {
        opens(&agent, node).await;
        for bytes in &kept {
            again += usize::from(node.door().send(bytes).await.status() == 200);
        }
    }
    assert_eq!((again, doubles(&scene.upstream)), (0, 0), "of {NONCES}");
}
