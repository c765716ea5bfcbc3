//! What is taken back at one edge, and from when on it is gone at all of them.

use std::time::Duration;

use anyhow::Context as _;
use edgeward_client::Agent;
use edgeward_edge::clock::SystemClock;
use edgeward_wire::Code;

use super::node::{Node, until};
use super::share::everywhere;
use crate::demo::caller::Holder;
use crate::demo::flowing::{Flowing, IN_FORCE_WITHIN};

/// Ends a session at the agent's own edge under a stream at the last one.
pub(super) async fn session(agent: &Agent, edges: &[Node; 3]) -> anyhow::Result<((), String)> {
    let holder = Holder::of(agent)?;
    let [_, _, three] = edges;
    let stream = Flowing::open(&three.caller, &holder).await?;
    let started = SystemClock::instant();
    anyhow::ensure!(agent.end_session().await?, "there was no session to end");
    anyhow::ensure!(stream.ends_in_time().await, "the stream at {} is still open", three.name);
    let cut = started.elapsed().as_millis();
    for (answer, node) in everywhere(edges, &holder.hello()?).await.iter().zip(edges) {
        anyhow::ensure!(answer.is_refused(Code::SessionInvalid), "{}: {answer}", node.name);
    }
    Ok((
        (),
        format!("at edge 1; its stream at {} was cut after {cut} ms, and all refuse", three.name),
    ))
}

/// Blocks an agent at one edge. What it held is handed back.
pub(super) async fn block(agent: &Agent, edges: &[Node; 3]) -> anyhow::Result<(Holder, String)> {
    let holder = Holder::of(agent)?;
    // The secret outlives the session: it, too, must not help.
    let by_secret = Holder { session: None, ..holder.clone() };
    let [one, two, three] = edges;
    let streams = tokio::try_join!(
        Flowing::open(&one.caller, &holder),
        Flowing::open(&two.caller, &holder),
        Flowing::open(&three.caller, &holder)
    )?;
    two.agents("block", holder.credentials.agent_id).await?;
    let (cut, refused) = tokio::join!(
        slowest([cut(one, streams.0), cut(two, streams.1), cut(three, streams.2)]),
        slowest([blocked(one, &by_secret), blocked(two, &by_secret), blocked(three, &by_secret)])
    );
    let (cut, refused) = (cut?.as_millis(), refused?.as_millis());
    for (answer, node) in everywhere(edges, &holder.hello()?).await.iter().zip(edges) {
        let is_refused =
            answer.is_refused(Code::SessionInvalid) || answer.is_refused(Code::AgentBlocked);
        anyhow::ensure!(is_refused, "in its session at {}: {answer}", node.name);
    }
    let found = format!(
        "at {}: {refused} ms after the answer all refuse, after {cut} ms a stream at each is cut",
        two.name
    );
    Ok((holder, found))
}

/// Lets the agent in again at another edge. What it held before stays void.
pub(super) async fn unblock(
    agent: &Agent,
    before: &Holder,
    edges: &[Node; 3],
) -> anyhow::Result<((), String)> {
    let [one, two, three] = edges;
    let started = SystemClock::instant();
    three.agents("unblock", before.credentials.agent_id).await?;
    // By whichever edge, some of which may not have heard of it.
    until("let in", IN_FORCE_WITHIN, async || Ok(agent.open_session().await.is_ok())).await?;
    let holder = Holder::of(agent)?;
    slowest([let_in(one, &holder), let_in(two, &holder), let_in(three, &holder)]).await?;
    let after = started.elapsed().as_millis();
    for (answer, node) in everywhere(edges, &before.hello()?).await.iter().zip(edges) {
        let void = answer.is_refused(Code::SessionInvalid);
        anyhow::ensure!(void, "the session from before, at {}: {answer}", node.name);
    }
    Ok((
        (),
        format!(
            "at {}: after {after} ms a new session is good at all; the old one stays void",
            three.name
        ),
    ))
}

async fn cut(node: &Node, stream: Flowing) -> anyhow::Result<Duration> {
    let started = SystemClock::instant();
    anyhow::ensure!(stream.ends_in_time().await, "the stream at {} is still open", node.name);
    Ok(started.elapsed())
}

async fn blocked(node: &Node, holder: &Holder) -> anyhow::Result<Duration> {
    until("blocked", IN_FORCE_WITHIN, async || {
        Ok(node.caller.answer(&holder.hello()?).await.is_refused(Code::AgentBlocked))
    })
    .await
    .context(node.name.clone())
}

async fn let_in(node: &Node, holder: &Holder) -> anyhow::Result<Duration> {
    until("let in", IN_FORCE_WITHIN, async || {
        Ok(node.caller.answer(&holder.hello()?).await.is_passed())
    })
    .await
    .context(node.name.clone())
}

/// Waits for all three; how long the last of them took.
async fn slowest(
    [one, two, three]: [impl Future<Output = anyhow::Result<Duration>>; 3],
) -> anyhow::Result<Duration> {
    let (one, two, three) = tokio::try_join!(one, two, three)?;
    Ok(one.max(two).max(three))
}
