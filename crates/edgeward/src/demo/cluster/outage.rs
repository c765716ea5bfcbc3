//! Redis is killed and comes back empty: nothing is let in that cannot be checked, and nothing that was
//! captured before passes afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use edgeward_client::Agent;
use edgeward_edge::clock::SystemClock;
use edgeward_wire::Code;
use http::{HeaderMap, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::node::{Node, until};
use super::share::everywhere;
use crate::demo::caller::{Holder, Sent};
use crate::demo::flowing::Flowing;
use crate::demo::upstream::HELLO;

/// Requests that are captured for each edge, half of them signed by the session, half by the secret.
const CAPTURED_EACH: usize = 20;
/// Fresh calls to each edge while Redis is gone.
const FRESH_EACH: usize = 10;
/// Far beyond what honest agents wait.
const BACK_WITHIN: Duration = Duration::from_secs(35);
/// Between two rounds of replays.
const REST: Duration = Duration::from_millis(100);

/// Captures requests that pass, kills Redis, and calls.
pub(super) async fn kill(cluster: &Cluster, agent: &Agent) -> anyhow::Result<(Vec<Sent>, String)> {
    let holder = Holder::of(agent)?;
    let by_secret = Holder { session: None, ..holder.clone() };
    let captured = capture(&cluster.edges, [&holder, &by_secret]).await?;
    let [_, _, three] = &cluster.edges;
    let mut stream = Flowing::open(&three.caller, &holder).await?;

    cluster.services.kill_redis().await?;
    let (mut slowest, mut calls) = (Duration::ZERO, 0);
    for holder in [&holder, &by_secret].into_iter().cycle().take(FRESH_EACH) {
        let (started, request) = (SystemClock::instant(), holder.hello()?);
        let answers = everywhere(&cluster.edges, &request).await;
        slowest = slowest.max(started.elapsed());
        for (answer, node) in answers.iter().zip(&cluster.edges) {
            let closed = answer.is_refused(Code::DependencyUnavailable);
            anyhow::ensure!(closed, "without Redis, at {}: {answer}", node.name);
            calls += 1;
        }
    }
    stream.event().await?;
    let found = format!(
        "kill -9: {calls} calls, each 503 within {} ms, never 401; an open stream goes on",
        slowest.as_millis()
    );
    Ok((captured, found))
}

/// Requests that have passed, at each edge.
async fn capture(edges: &[Node; 3], holders: [&Holder; 2]) -> anyhow::Result<Vec<Sent>> {
    let mut captured = Vec::new();
    for node in edges {
        for holder in holders.into_iter().cycle().take(CAPTURED_EACH) {
            let request = holder.hello()?;
            let answer = node.caller.answer(&request).await;
            anyhow::ensure!(answer.is_passed(), "before, at {}: {answer}", node.name);
            captured.push(request);
        }
    }
    Ok(captured)
}

/// Starts Redis again and waits for honest calls, while whatever was captured is sent again and again.
/// In the end both agents hold sessions.
pub(super) async fn restart(
    cluster: &Cluster,
    (agent, other): (&Agent, &Agent),
    captured: &[Sent],
) -> anyhow::Result<((), String)> {
    let seen = cluster.upstream.seen();
    cluster.services.restart_redis().await?;
    let (back, mut replays) = (CancellationToken::new(), Replays::default());
    let honest = async {
        let back = back.clone().drop_guard();
        let after = come_back(cluster, agent).await;
        drop(back);
        after
    };
    let (after, ()) = tokio::join!(honest, async {
        while !back.is_cancelled() {
            replays.round(&cluster.edges, captured).await;
            tokio::time::sleep(REST).await;
        }
        // Once more, now that there is a session and everything is served.
        replays.round(&cluster.edges, captured).await;
    });
    let (after, honest) = after?;
    replays.judge()?;
    let seen = cluster.upstream.seen().saturating_sub(seen);
    anyhow::ensure!(seen == honest, "the upstream was reached {seen} times by {honest} calls");
    other.open_session().await?;
    let found = format!(
        "{} captured requests sent {} times: none passed; honest calls do after {:.1} s",
        captured.len(),
        replays.sent(),
        after.as_secs_f64()
    );
    Ok(((), found))
}

/// Calls until each edge lets the agent in; how long that took, and the calls that passed.
async fn come_back(cluster: &Cluster, agent: &Agent) -> anyhow::Result<(Duration, u64)> {
    let started = SystemClock::instant();
    let by_secret = Holder { credentials: agent.credentials(), session: None };
    for node in &cluster.edges {
        until("served again", BACK_WITHIN, async || {
            Ok(node.caller.answer(&by_secret.hello()?).await.is_passed())
        })
        .await?;
    }
    let after = started.elapsed();
    // The client finds its session gone, and opens another one.
    let answer = agent.call(Method::GET, HELLO, HeaderMap::new(), "").await?;
    let status = answer.status();
    anyhow::ensure!(status == StatusCode::OK, "in a new session: {status}");
    Ok((after, 1 + cluster.edges.len() as u64))
}

/// What came of sending captured requests again.
#[derive(Debug, Default)]
struct Replays {
    passed: u64,
    refused: BTreeMap<String, u64>,
}

impl Replays {
    async fn round(&mut self, edges: &[Node; 3], captured: &[Sent]) {
        for request in captured {
            for answer in everywhere(edges, request).await {
                if answer.is_passed() {
                    self.passed += 1;
                } else {
                    *self.refused.entry(answer.to_string()).or_default() += 1;
                }
            }
        }
    }

    fn sent(&self) -> u64 {
        self.passed + self.refused.values().sum::<u64>()
    }

    /// None passed; there was nothing but refusals of the edge, while its memory was incomplete and after.
    fn judge(&self) -> anyhow::Result<()> {
        let passed = self.passed;
        anyhow::ensure!(passed == 0, "{passed} of {} replays passed", self.sent());
        let codes = [
            Code::DependencyUnavailable,
            Code::Starting,
            Code::SessionInvalid,
            Code::TimestampOutsideWindow,
            Code::NonceReplayed,
        ];
        let known = codes.map(|code| format!("{} {code}", code.status().as_u16()));
        let odd = self.refused.keys().find(|answer| !known.contains(answer));
        anyhow::ensure!(odd.is_none(), "a replay was answered with {odd:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replays(passed: u64, answer: &str) -> Replays {
        Replays { passed, refused: BTreeMap::from([(answer.to_owned(), 9)]) }
    }

    #[test]
    fn one_replay_that_passed_or_was_not_refused_by_an_edge_is_a_fault() {
        assert!(replays(0, "503 dependency_unavailable").judge().is_ok());
        assert!(replays(0, "401 nonce_replayed").judge().is_ok());
        let passed = replays(1, "503 starting").judge().unwrap_err();
        assert_eq!(passed.to_string(), "1 of 10 replays passed");
        for odd in ["204", "502", "502 upstream_failed", "no answer: closed"] {
            assert!(replays(0, odd).judge().is_err(), "{odd}");
        }
    }
}
