//! A block at one node is in force at all, by whatever way they hear of it.

use std::time::Duration;

use edgeward_testkit::{Agent, Answer, Enrolment, Reply, Session, eventually, soon};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::load::is_to_sign_again;
use crate::node::Node;
use crate::pushes::Pushes;
use crate::scene::Scene;
use crate::stream::{Stream, ended};
use crate::times::{Times, proof, rounds};

/// `POST /agents/{id}/block` or `unblock` on the operators' socket.
pub(crate) async fn change(node: &Node, agent: &Agent, to: &str) -> (u16, Value) {
    let path = format!("/agents/{}/{to}", agent.id);
    let answer = node.operators().post(&path, &json!({"reason": "a test"})).await;
    let (status, body) = answer.unwrap();
    (status.as_u16(), body)
}

/// A request that stands on what the node knows of the agent, not on a session or a nonce.
async fn ask(agent: &Agent, node: &Node) -> Answer {
    agent.signed("GET", "/v1/x").no_nonce().send(node).await
}

/// How long since then until a node refuses the agent as blocked, and nothing else before.
async fn until_blocked(agent: &Agent, node: &Node, since: Instant) -> Duration {
    let refused = async {
        loop {
            let answer = ask(agent, node).await;
            if answer.status() != 200 {
                break answer;
            }
        }
    };
    soon("a refusal", refused).await.refused("agent_blocked");
    since.elapsed()
}

/// The same until it gives the agent a token again.
async fn until_unblocked(agent: &Agent, node: &Node, since: Instant) -> Duration {
    soon("a token", async {
        loop {
            let answer = agent.call("/agent/token/refresh", &json!({})).send(node).await;
            if answer.status() == 200 {
                break;
            }
            answer.refused("agent_blocked");
        }
    })
    .await;
    since.elapsed()
}

/// A stream in a session, which its end would cut as well, and one without.
async fn streams_of(agent: &Agent, session: &Session, scene: &Scene, node: &Node) -> [Stream; 2] {
    let request = || agent.signed("GET", "/v1/x");
    let in_session = Stream::open(&scene.upstream, request().in_session(session), node).await;
    [in_session, Stream::open(&scene.upstream, request(), node).await]
}

/// Blocks and unblocks at one node after the other; all nodes follow.
async fn in_force_everywhere(scene: &Scene, name: &str, promise: Duration, rounds: usize) {
    let mut agent = scene.agent().await;
    let (mut refused, mut cut, mut back) = (Times::default(), Times::default(), Times::default());
    for round in 0..rounds {
        let at = &scene.nodes[round % 3];
        let session = agent.session(at).await;
        let mut streams = Vec::new();
        for node in &scene.nodes {
            ask(&agent, node).await.expect(200);
            streams.extend(streams_of(&agent, &session, scene, node).await);
        }
        let asked = Instant::now();
        let (status, body) = change(at, &agent, "block").await;
        assert_eq!((status, &body["changed"]), (200, &json!(true)), "{body}");
        let since = Instant::now();
        ask(&agent, at).await.refused("agent_blocked");
        let refusals = scene.nodes.iter().map(|node| until_blocked(&agent, node, since));
        let cuts = streams.into_iter().map(async |stream| {
            stream.cut().await;
            asked.elapsed()
        });
        let (refusals, cuts) = join(join_all(refusals), join_all(cuts)).await;
        refused.extend(refusals);
        cut.extend(cuts);

        let (status, body) = change(&scene.nodes[(round + 1) % 3], &agent, "unblock").await;
        assert_eq!(status, 200, "{body}");
        let since = Instant::now();
        let unblocked = scene.nodes.iter().map(|node| until_unblocked(&agent, node, since));
        back.extend(join_all(unblocked).await);
        // Its old session is gone for good, and a new one is good everywhere.
        agent.refresh(at).await;
        let session_now = agent.session(at).await;
        for node in &scene.nodes {
            let request = |session| agent.signed("GET", "/v1/x").in_session(session).no_nonce();
            request(&session).send(node).await.refused("session_invalid");
            request(&session_now).send(node).await.expect(200);
        }
    }
    proof(&format!("{name}: refused by each"), &refused);
    proof(&format!("{name}: streams cut, from the asking on"), &cut);
    proof(&format!("{name}: unblocked at each"), &back);
    for times in [refused, cut, back] {
        times.assert_within(promise);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_in_force_everywhere() {
    let scene = Pushes::Tracking.scene(3, |plan| plan).await;
    let name = "a block at one node";
    in_force_everywhere(&scene, name, Duration::from_secs(1), rounds(100) / 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_in_force_everywhere_by_the_database_when_redis_tells_nothing() {
    let scene = Pushes::Cut.scene(3, |plan| plan).await;
    let name = "a block with Redis's pushes cut, by NOTIFY";
    in_force_everywhere(&scene, name, Duration::from_secs(1), rounds(100) / 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_in_force_everywhere_by_the_poll_when_nothing_is_told() {
    let scene = Pushes::Cut.scene(3, |plan| plan.set("EDGE_DATABASE_LISTEN_URL", "none")).await;
    for node in &scene.nodes {
        assert!(!node.log().contains("hears notices"), "{}", *node.log());
    }
    let name = "a block with NOTIFY cut as well, by the poll of 1 s";
    in_force_everywhere(&scene, name, Duration::from_secs(3), (rounds(100) / 33).min(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_while_redis_is_down_cuts_streams_and_holds_when_it_is_back() {
    let scene = Pushes::Tracking.scene(3, |plan| plan).await;
    let agent = scene.agent().await;
    let session = agent.session(&scene.nodes[0]).await;
    let mut streams = Vec::new();
    for node in &scene.nodes {
        let request = agent.signed("GET", "/v1/x").in_session(&session);
        streams.push(Stream::open(&scene.upstream, request, node).await);
    }
    scene.shared.redis().stop().unwrap();
    for (node, stream) in scene.nodes.iter().zip(&mut streams) {
        eventually("a refusal for the want of Redis", async || {
            ask(&agent, node).await.status() == 503
        })
        .await;
        stream.carries("streams are kept meanwhile").await;
    }
    let asked = Instant::now();
    let (status, body) = change(&scene.nodes[0], &agent, "block").await;
    assert_eq!((status, &body["changed"]), (200, &json!(true)), "{body}");
    let mut cut = Times::default();
    cut.extend(
        join_all(streams.into_iter().map(async |stream| {
            stream.cut().await;
            asked.elapsed()
        }))
        .await,
    );
    proof("a block while Redis is down: streams cut at each, from the asking on", &cut);
    cut.assert_within(Duration::from_secs(1));
    scene.shared.redis().restart().unwrap();
    for node in &scene.nodes {
        eventually("a refusal of the agent itself", async || {
            let answer = ask(&agent, node).await;
            assert!(answer.status() == 403 || is_to_sign_again(&answer), "{answer:?}");
            answer.code() == Some("agent_blocked")
        })
        .await;
    }
}

/// How long since then until a node refuses the old agent, and until it takes the new one.
async fn until_replaced(
    old: &Agent,
    session: &Session,
    new: &Agent,
    node: &Node,
    since: Instant,
) -> (Duration, Duration) {
    let in_session =
        async || old.signed("GET", "/v1/x").in_session(session).no_nonce().send(node).await;
    let refused = async {
        // On a busy machine a store may be slow for a moment, which refuses and says nothing of the agent.
        let not_yet = |answer: &Answer| [200, 503].contains(&answer.status());
        loop {
            let (by_secret, by_session) = (ask(old, node).await, in_session().await);
            if not_yet(&by_secret) || not_yet(&by_session) {
                continue;
            }
            by_secret.refused("signature_invalid");
            by_session.refused("session_invalid");
            return since.elapsed();
        }
    };
    let good = async {
        while ask(new, node).await.status() != 200 {}
        since.elapsed()
    };
    soon("the new agent in the place of the old", join(refused, good)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_enrolled_anew_at_one_node_is_another_at_all() {
    let scene = Pushes::Tracking.scene(3, |plan| plan).await;
    let (mut refused, mut cut, mut good) = (Times::default(), Times::default(), Times::default());
    let mut old = scene.agent().await;
    for round in 0..rounds(100) / 10 {
        let session = old.session(&scene.nodes[round % 3]).await;
        let mut streams = Vec::new();
        for node in &scene.nodes {
            ask(&old, node).await.expect(200);
            streams.extend(streams_of(&old, &session, &scene, node).await);
        }
        let mut plan = Enrolment::default();
        plan.start["agent_id"] = json!(old.id);
        let asked = Instant::now();
        let new = Agent::enroll_as(&scene.nodes[round % 3], plan).await;
        let since = Instant::now();
        assert_eq!(new.id, old.id);
        let cuts = streams.into_iter().map(async |stream| {
            stream.cut().await;
            asked.elapsed()
        });
        let follow =
            scene.nodes.iter().map(|node| until_replaced(&old, &session, &new, node, since));
        let (followed, cuts) = join(join_all(follow), join_all(cuts)).await;
        let (refusals, goods): (Vec<_>, Vec<_>) = followed.into_iter().unzip();
        refused.extend(refusals);
        cut.extend(cuts);
        good.extend(goods);
        old = new;
    }
    proof("an agent enrolled anew: the old one refused by each", &refused);
    proof("an agent enrolled anew: its old streams cut, from the asking on", &cut);
    proof("an agent enrolled anew: the new one good at each", &good);
    for times in [refused, cut, good] {
        times.assert_within(Duration::from_secs(1));
    }
}

/// It was not asked for as a stream, so that no block could cut it; it is looked at once more when it
/// turns out to be one.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_turns_out_to_be_a_stream_after_a_block_elsewhere_is_refused() {
    let scene = Pushes::Tracking.scene(2, |plan| plan).await;
    let agent = scene.agent().await;
    let (begin, begun) = oneshot::channel();
    let mut late = Some(Reply::After(begun, Box::new(Reply::Events)));
    scene.upstream.plan(move |request| match request.target().as_str() {
        "/v1/late" => late.take().unwrap(),
        _ => Reply::Echo,
    });
    let request = agent.signed("GET", "/v1/late");
    let block = async {
        eventually("the request at the upstream", async || scene.upstream.count() == 1).await;
        assert_eq!(change(&scene.nodes[0], &agent, "block").await.0, 200);
        until_blocked(&agent, &scene.nodes[1], Instant::now()).await;
        begin.send(()).unwrap();
    };
    let ((head, _), ()) = join(request.open(&scene.nodes[1]), block).await;
    assert_eq!((head.status, head.header("x-edgeward-code")), (403, Some("agent_blocked")));
}

/// Streams are opened as fast as they can be, in a session and without one, at nodes that are not
/// the one where the agent is blocked. Whatever was let in before the block was known is cut.
#[tokio::test(flavor = "multi_thread")]
async fn no_stream_that_was_opening_outlives_a_block() {
    let scene = Pushes::Tracking.scene(3, |plan| plan).await;
    let mut agent = scene.agent().await;
    let (rounds, mut opened, mut left) = (rounds(100) / 5, 0, Times::default());
    for _ in 0..rounds {
        let session = agent.session(&scene.nodes[0]).await;
        let openers = scene.nodes[1..].iter().flat_map(|node| [(node, true), (node, false)]);
        let openers = openers.map(async |(node, in_session)| {
            let mut open = Vec::new();
            loop {
                let request = agent.signed("GET", "/v1/x").no_nonce().accept_events();
                let request = if in_session { request.in_session(&session) } else { request };
                let (head, conn) = request.open(node).await;
                match head.status {
                    200 => open.push(conn),
                    401 | 403 => break open,
                    other => panic!("{other} {head:?}"),
                }
            }
        });
        let block = async {
            // Some are open, and others are opening.
            for _ in 0..8 {
                scene.upstream.next_stream().await.event("x").await;
            }
            assert_eq!(change(&scene.nodes[0], &agent, "block").await.0, 200);
            Instant::now()
        };
        let until_refused = soon("an end of opening", join_all(openers));
        let (open, since) = join(until_refused, block).await;
        let open: Vec<_> = open.into_iter().flatten().collect();
        opened += open.len();
        left.extend(
            join_all(open.into_iter().map(async |mut conn| {
                ended(&mut conn).await;
                since.elapsed()
            }))
            .await,
        );
        assert_eq!(change(&scene.nodes[0], &agent, "unblock").await.0, 200);
        for node in &scene.nodes {
            until_unblocked(&agent, node, since).await;
        }
        agent.refresh(&scene.nodes[0]).await;
    }
    proof(
        "streams opening while their agent is blocked",
        format!("{rounds} times, {opened} let in before it was known, 0 outlived it"),
    );
    proof("streams opening while their agent is blocked: cut", &left);
    left.assert_within(Duration::from_secs(1));
}
