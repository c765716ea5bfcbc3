//! What the edges share: sessions, nonces, and the work.

use edgeward_client::Agent;
use edgeward_edge::clock::SystemClock;
use edgeward_wire::Code;
use http::{HeaderMap, Method, StatusCode};

use super::Cluster;
use super::node::Node;
use crate::demo::caller::{Holder, Sent};
use crate::demo::upstream::HELLO;
use crate::demo::verdict::Answer;

/// Calls for each edge.
const CALLS_EACH: u64 = 100;
/// Sessions that are opened at one edge and used at others.
const SESSIONS: u32 = 20;
/// How often the same bytes are sent to all edges at once.
const ROUNDS: u64 = 50;

/// Calls through the balancer, which every edge must get its share of.
pub(super) async fn in_turn(cluster: &Cluster, agent: &Agent) -> anyhow::Result<((), String)> {
    let admitted = || cluster.edges.each_ref().map(|node| node.meter().admitted);
    let (before, started) = (admitted(), SystemClock::instant());
    let calls = CALLS_EACH.saturating_mul(before.len() as u64);
    for _ in 0..calls {
        let answer = agent.call(Method::GET, HELLO, HeaderMap::new(), "").await?;
        let status = answer.status();
        anyhow::ensure!(status == StatusCode::OK, "{status} instead of 200");
        answer.bytes().await?;
    }
    let each_us = started.elapsed().as_micros() / u128::from(calls.max(1));
    let mut shares = admitted();
    for (share, before) in shares.iter_mut().zip(before) {
        *share = share.saturating_sub(before);
    }
    anyhow::ensure!(shares == [CALLS_EACH; 3], "of {calls} calls the edges admitted {shares:?}");
    Ok((
        (),
        format!(
            "{calls} in one session, {CALLS_EACH} at each edge, answered in {each_us} \u{b5}s on average"
        ),
    ))
}

/// Opens sessions at the agent's own edge, and uses each at these others as soon as it is told.
pub(super) async fn elsewhere(
    agent: &Agent,
    [one, other]: [&Node; 2],
) -> anyhow::Result<((), String)> {
    for _ in 0..SESSIONS {
        agent.open_session().await?;
        let holder = Holder::of(agent)?;
        let (first, second) = (holder.hello()?, holder.hello()?);
        let answers = tokio::join!(one.caller.answer(&first), other.caller.answer(&second));
        anyhow::ensure!(answers.0.is_passed(), "{}: {}", one.name, answers.0);
        anyhow::ensure!(answers.1.is_passed(), "{}: {}", other.name, answers.1);
    }
    Ok((
        (),
        format!(
            "{SESSIONS} opened at edge 1, each good at {} and {} at once",
            one.name, other.name
        ),
    ))
}

/// Sends one request to the first edge, then the same to the others.
pub(super) async fn replay(
    agent: &Agent,
    [one, two, three]: &[Node; 3],
) -> anyhow::Result<((), String)> {
    let request = Holder::of(agent)?.hello()?;
    let first = one.caller.answer(&request).await;
    anyhow::ensure!(first.is_passed(), "the first time, at {}: {first}", one.name);
    for node in [two, three] {
        let again = node.caller.answer(&request).await;
        anyhow::ensure!(again.is_refused(Code::NonceReplayed), "again, at {}: {again}", node.name);
    }
    Ok(((), format!("200 at {}; 401 nonce_replayed at {} and {}", one.name, two.name, three.name)))
}

/// Sends the same bytes to all edges at the same time, many times.
pub(super) async fn at_once(cluster: &Cluster, agent: &Agent) -> anyhow::Result<((), String)> {
    let holder = Holder::of(agent)?;
    let before = cluster.upstream.seen();
    for round in 1..=ROUNDS {
        let answers = everywhere(&cluster.edges, &holder.hello()?).await;
        let passed = answers.iter().filter(|answer| answer.is_passed()).count();
        let replayed =
            answers.iter().filter(|answer| answer.is_refused(Code::NonceReplayed)).count();
        anyhow::ensure!((passed, replayed) == (1, 2), "round {round}: {answers:?}");
    }
    let seen = cluster.upstream.seen().saturating_sub(before);
    anyhow::ensure!(seen == ROUNDS, "the upstream was reached {seen} times in {ROUNDS} rounds");
    Ok((
        (),
        format!("{ROUNDS} times to all three: one passed each time, two were 401 nonce_replayed"),
    ))
}

/// Sends one request to every edge at the same time.
pub(super) async fn everywhere([one, two, three]: &[Node; 3], request: &Sent) -> [Answer; 3] {
    tokio::join!(
        one.caller.answer(request),
        two.caller.answer(request),
        three.caller.answer(request)
    )
    .into()
}
