//! The database away: what nodes know goes on while Redis confirms it, nothing else does, and nothing
//! that was acknowledged is lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use edgeward_services::Postgres;
use edgeward_testkit::{Agent, Answer, AsDoor as _, Enrolment, Session, eventually};
use edgeward_wire::AgentId;
use futures_util::future::{join, join_all};
use serde_json::json;
use tokio::time::Instant;

use crate::blocks::change;
use crate::load::is_to_sign_again;
use crate::node::{Node, Plan};
use crate::pushes::{PATIENCE_MS, Pushes};
use crate::scene::{Scene, Shared};
use crate::stream::Stream;
use crate::times::{Times, proof};

/// `EDGE_DATABASE_TIMEOUT_MS`: how long one call may take.
const BUDGET: Duration = Duration::from_millis(1_500);

async fn two_nodes(
    postgres: &Postgres,
    shared: Shared,
    change: impl FnOnce(Plan) -> Plan,
) -> Scene {
    let database = postgres.fresh_database().unwrap();
    let change = |plan: Plan| {
        let plan = plan.set("EDGE_REDIS_TIMEOUT_MS", PATIENCE_MS);
        change(plan.set("EDGE_DATABASE_TIMEOUT_MS", BUDGET.as_millis()))
    };
    Scene::start_on(postgres, database, 2, shared, change).await
}

/// Closed: 503, and when to come again.
#[track_caller]
fn assert_closed(answer: &Answer) {
    assert_eq!(
        (answer.status(), answer.code()),
        (503, Some("dependency_unavailable")),
        "{answer:?}"
    );
    assert!(answer.header("retry-after").is_some(), "{:?}", answer.head);
}

/// How a database goes away, and how it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    Stopped,
    Killed,
    Frozen,
}

impl Away {
    fn begin(self, postgres: &Postgres) {
        match self {
            Self::Stopped => postgres.stop().unwrap(),
            Self::Killed => postgres.kill().unwrap(),
            Self::Frozen => postgres.pause().unwrap(),
        }
    }

    async fn end(self, postgres: &Postgres) {
        match self {
            Self::Stopped | Self::Killed => restart(postgres).await,
            Self::Frozen => postgres.resume().unwrap(),
        }
    }
}

/// Starts it again. Processes of one that was killed may be about to end, and it does not start
/// beside them.
async fn restart(postgres: &Postgres) {
    eventually("the start of Postgres", async || postgres.restart().is_ok()).await;
}

/// An agent that both nodes know, and one that only the first does.
struct Known {
    agent: Agent,
    session: Session,
    stranger: Agent,
}

impl Known {
    async fn at(scene: &Scene) -> Self {
        let agent = scene.agent().await;
        let session = agent.session(&scene.nodes[0]).await;
        let known = Self { agent, session, stranger: scene.agent().await };
        for node in &scene.nodes {
            known.goes_on(node).await;
        }
        known
    }

    /// In its session and without one, with a nonce and without one.
    async fn goes_on(&self, node: &Node) {
        let request = || self.agent.signed("GET", "/v1/x");
        let in_session = || request().in_session(&self.session);
        for request in [request(), request().no_nonce(), in_session(), in_session().no_nonce()] {
            request.send(node).await.expect(200);
        }
        let echo = self.agent.call("/agent/protected/echo", &json!({})).in_session(&self.session);
        echo.send(node).await.expect(200);
    }
}

/// Whatever needs the database says that it is away, and soon; how long that took.
async fn the_rest_is_closed(scene: &Scene, known: &Known) -> Times {
    let Known { agent, session, stranger } = known;
    let there = &scene.nodes[1];
    let nobody = AgentId::from_bytes([7; 16]);
    let requests = [
        stranger.signed("GET", "/v1/x"),
        stranger.call("/agent/session/start", &json!({})),
        stranger.signed("GET", "/v1/x").named(nobody),
        agent.call("/agent/session/start", &json!({})),
        agent.call("/agent/token/refresh", &json!({})),
        agent.call("/agent/session/end", &json!({})).in_session(session),
    ];
    let since = Instant::now();
    let closed = requests.iter().map(async |request| {
        assert_closed(&request.send(there).await);
        since.elapsed()
    });
    let enrolment = async {
        let jwt = there.door().owner_jwt("owner-1", &[]);
        assert_closed(&there.door().enroll_start(Some(&jwt), json!({})).await);
        since.elapsed()
    };
    let (closed, enrolment) = join(join_all(closed), enrolment).await;
    let mut times = Times::default();
    times.extend(closed);
    times.extend([enrolment]);
    times
}

async fn goes_on_without(away: Away, postgres: &Postgres, scene: &Scene) {
    let known = Known::at(scene).await;
    let enrolling = Enrolment::default();
    let started = enrolling.start(&scene.nodes[0]).await;
    let mut streams = Vec::new();
    for node in &scene.nodes {
        let request = known.agent.signed("GET", "/v1/x").in_session(&known.session);
        streams.push(Stream::open(&scene.upstream, request, node).await);
    }

    away.begin(postgres);
    for node in &scene.nodes {
        known.goes_on(node).await;
    }
    let completion = enrolling.completion(&started);
    let (closed, (completed, blocked)) = join(
        the_rest_is_closed(scene, &known),
        join(
            Enrolment::complete(&scene.nodes[0], &completion),
            change(&scene.nodes[0], &known.agent, "block"),
        ),
    )
    .await;
    assert_closed(&completed);
    assert_eq!(blocked.0, 503, "{}", blocked.1);
    for (node, stream) in scene.nodes.iter().zip(&mut streams) {
        known.goes_on(node).await;
        stream.carries("it is kept").await;
        assert_eq!(node.health().await, "ok");
    }
    proof(&format!("{away:?} database: refusals of what needs it"), &closed);
    closed.assert_within(BUDGET);

    away.end(postgres).await;
    let since = Instant::now();
    // An agent that the node did not know, and then all the rest.
    eventually("an answer about an agent that was unknown", async || {
        let answer = known.stranger.signed("GET", "/v1/x").send(&scene.nodes[1]).await;
        assert!(answer.status() == 200 || is_to_sign_again(&answer), "{answer:?}");
        answer.status() == 200
    })
    .await;
    eventually("enrolments", async || {
        let jwt = scene.nodes[0].door().owner_jwt("owner-1", &[]);
        scene.nodes[0].door().enroll_start(Some(&jwt), json!({})).await.status() == 200
    })
    .await;
    proof(&format!("{away:?} database: back after"), format!("{} ms", since.elapsed().as_millis()));
    // A code from before is good.
    let completed = Enrolment::complete(&scene.nodes[0], &completion).await;
    let enrolled = Agent::of(&scene.nodes[0], completed.expect(200).json(), enrolling.device);
    enrolled.signed("GET", "/v1/x").send(&scene.nodes[1]).await.expect(200);
    for (node, stream) in scene.nodes.iter().zip(&mut streams) {
        known.goes_on(node).await;
        stream.carries("it was kept").await;
    }
    // Blocks are made again, and heard of by the other node.
    let (status, body) = change(&scene.nodes[0], &known.agent, "block").await;
    assert_eq!(status, 200, "{body}");
    join_all(streams.into_iter().map(Stream::cut)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn known_agents_go_on_while_the_database_is_away_and_the_rest_when_it_is_back() {
    let postgres = Postgres::start().unwrap();
    let scene = two_nodes(&postgres, Shared::single(), |plan| plan).await;
    for away in [Away::Stopped, Away::Killed, Away::Frozen] {
        goes_on_without(away, &postgres, &scene).await;
    }
}

/// With the database away and nodes that hear nothing from Redis, nobody can say whether an agent has
/// been blocked.
#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_confirms_is_closed_after_the_time_it_may_be_stale() {
    const STALE: Duration = Duration::from_secs(2);
    let postgres = Postgres::start().unwrap();
    for (pushes, held) in [(Pushes::Tracking, true), (Pushes::Cut, false)] {
        let (shared, url) = pushes.redis();
        let change = |plan: Plan| {
            plan.set("EDGE_REDIS_URL", url).set("AGENT_POLICY_STALE_MS", STALE.as_millis())
        };
        let scene = two_nodes(&postgres, shared, change).await;
        let known = Known::at(&scene).await;
        let mut streams = Vec::new();
        for node in &scene.nodes {
            let request = known.agent.signed("GET", "/v1/x").in_session(&known.session);
            streams.push(Stream::open(&scene.upstream, request, node).await);
        }
        postgres.stop().unwrap();
        let since = Instant::now();
        if held {
            // Redis confirms, for longer than nodes do without.
            while since.elapsed() < STALE + STALE / 2 {
                for node in &scene.nodes {
                    known.goes_on(node).await;
                }
            }
            for stream in &mut streams {
                stream.carries("it is kept").await;
            }
            scene.shared.redis().stop().unwrap();
        }
        let since = Instant::now();
        let cuts = streams.into_iter().map(async |stream| {
            stream.cut().await;
            since.elapsed()
        });
        let closed = scene.nodes.iter().map(async |node| {
            let ask = async || {
                known.agent.signed("GET", "/v1/x").in_session(&known.session).send(node).await
            };
            eventually("a refusal", async || {
                let answer = ask().await;
                if answer.status() == 200 {
                    return false;
                }
                assert_closed(&answer);
                true
            })
            .await;
            let took = since.elapsed();
            assert_closed(&ask().await);
            took
        });
        let (mut cut, mut refused) = (Times::default(), Times::default());
        let (cuts, closed) = join(join_all(cuts), join_all(closed)).await;
        cut.extend(cuts);
        refused.extend(closed);
        let name = if held { "neither Redis nor database" } else { "no database, Redis untold" };
        proof(&format!("{name}, stale after 2 s: refused"), &refused);
        proof(&format!("{name}, stale after 2 s: streams cut"), &cut);
        refused.assert_within(STALE);
        cut.assert_within(STALE);

        restart(&postgres).await;
        if held {
            scene.shared.redis().restart().unwrap();
        }
        for node in &scene.nodes {
            eventually("a node that takes requests again", async || {
                let answer = known.agent.signed("GET", "/v1/x").send(node).await;
                assert!(answer.status() == 200 || is_to_sign_again(&answer), "{answer:?}");
                answer.status() == 200
            })
            .await;
        }
    }
}

/// Enrolments, sessions and blocks until the database is killed under them; whatever was answered
/// well is there afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_when_the_database_is_killed() {
    let postgres = Postgres::start().unwrap();
    let scene = two_nodes(&postgres, Shared::single(), |plan| plan).await;
    let (mut enrolled, mut blocked) = (Vec::new(), Vec::new());
    let done = AtomicUsize::new(0);
    for _ in 0..3 {
        let before = done.load(Ordering::SeqCst);
        let killed = AtomicBool::new(false);
        let workers = (0..4).map(async |worker| {
            let (mut agents, mut blocks) = (Vec::new(), Vec::new());
            let node = &scene.nodes[worker % 2];
            // One refusal is no end: connections from before the last kill fail once each.
            while !killed.load(Ordering::SeqCst) {
                let Some(agent) = try_enroll(node).await else { continue };
                // Every other one is blocked, or nobody knows whether it is.
                if agents.len() % 2 == 1 {
                    let (status, body) = change(node, &agent, "block").await;
                    if status != 200 {
                        assert_eq!(status, 503, "{body}");
                        continue;
                    }
                    blocks.push(agent.clone());
                }
                agents.push(agent);
                done.fetch_add(1, Ordering::SeqCst);
            }
            (agents, blocks)
        });
        let kill = async {
            eventually("work under way", async || done.load(Ordering::SeqCst) >= before + 30).await;
            postgres.kill().unwrap();
            killed.store(true, Ordering::SeqCst);
        };
        let (work, ()) = join(join_all(workers), kill).await;
        for (agents, blocks) in work {
            enrolled.extend(agents);
            blocked.extend(blocks);
        }
        restart(&postgres).await;
        for node in &scene.nodes {
            eventually("a node whose database is back", async || {
                let jwt = node.door().owner_jwt("owner-1", &[]);
                node.door().enroll_start(Some(&jwt), json!({})).await.status() == 200
            })
            .await;
        }
    }
    for (at, agent) in enrolled.iter().enumerate() {
        let is_blocked = blocked.iter().any(|blocked| blocked.id == agent.id);
        let answer = agent.signed("GET", "/v1/x").send(&scene.nodes[at % 2]).await;
        if is_blocked {
            answer.refused("agent_blocked");
        } else {
            answer.expect(200);
        }
    }
    let (all, blocked) = (enrolled.len(), blocked.len());
    proof(
        "the database killed -9 three times under work",
        format!("{all} agents enrolled and {blocked} blocked, 0 lost"),
    );
}

/// An agent, unless the database is away.
async fn try_enroll(node: &Node) -> Option<Agent> {
    let plan = Enrolment::default();
    let jwt = node.door().owner_jwt(&plan.owner, &["demo"]);
    let started = node.door().enroll_start(Some(&jwt), plan.start.clone()).await;
    if started.status() != 200 {
        assert_closed(&started);
        return None;
    }
    let answer = Enrolment::complete(node, &plan.completion(&started.json())).await;
    if answer.status() != 200 {
        assert_closed(&answer);
        return None;
    }
    Some(Agent::of(node, answer.json(), plan.device))
}
