//! What the demo shows, in order: an agent's life first, then what is refused.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use edgeward_client::{Agent, Enrollment, Settings, StreamOptions};
use edgeward_edge::clock::SystemClock;
use edgeward_wire::header;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::Scene as _;
use super::caller::{Caller, PATIENCE};
use super::config::Owner;
use super::refusals::{self, Cast};
use super::show::{Authentication, Show};
use super::stage::Stage;
use super::upstream::{HELLO, STREAM};
use crate::settings::now_ms;

/// How long events are streamed.
const STREAMED: Duration = Duration::from_secs(3);
/// Calls that are made to measure.
const MEASURED: u64 = 400;

/// Tells it all. The agent, with its session open, is what is left in the end; `None` when a step has
/// failed.
pub(super) async fn tell(stage: &Stage, show: &mut Show) -> Option<Agent> {
    let caller = Caller::new(stage.url());
    let owner = stage.owner();
    let code = show.step("an owner's code", code(owner, &caller)).await?;
    let agent =
        show.step("the agent enrols", enrol(stage.url(), &stage.credentials(), &code)).await?;
    show.step("it opens a session", open_session(&agent)).await?;
    show.step("a signed call", call(&agent)).await?;
    show.step("events through the edge", stream(&agent)).await?;
    let other = show.step("another agent enrols", another(owner, &caller)).await?;
    let took = show.step("signed calls in a row", measure(stage, &agent)).await?;

    let cast = Cast { caller: &caller, upstream: stage.upstream(), agent: &agent, other: &other };
    refusals(show, &cast).await?;
    show.authentication(took);
    Some(agent)
}

/// Sends what must be refused, and shows it as a table.
pub(super) async fn refusals(show: &mut Show, cast: &Cast<'_>) -> Option<()> {
    let refusals = show
        .step("what must be refused", async {
            let refusals = refusals::all(cast).await?;
            let found = format!("{} requests, each with one thing wrong", refusals.len());
            Ok((refusals, found))
        })
        .await?;
    show.refusals(refusals);
    Some(())
}

pub(super) async fn code(owner: &Owner, caller: &Caller) -> anyhow::Result<(String, String)> {
    let started = caller.enroll_code(&owner.jwt()?).await?;
    let found = format!(
        "{}, good once and for {} minutes",
        started.enroll_code,
        started.expires_in_sec / 60
    );
    Ok((started.enroll_code, found))
}

pub(super) async fn enrol(
    url: &str,
    credentials: &Path,
    code: &str,
) -> anyhow::Result<(Agent, String)> {
    let mut enrollment = Enrollment::new(url, code)?;
    enrollment.alias = Some("demo".to_owned());
    let agent = Agent::enroll(enrollment, credentials, Settings::default()).await?;
    let id = agent.credentials().agent_id;
    Ok((agent, format!("{id}, with a device key of its own")))
}

pub(super) async fn open_session(agent: &Agent) -> anyhow::Result<((), String)> {
    let session = agent.open_session().await?;
    let minutes = session.ends_at_ms.saturating_sub(now_ms().unsigned_abs()).div_ceil(60_000);
    Ok(((), format!("good for {minutes} minutes; its own key signs from here, not the secret")))
}

/// What the upstream says that it saw.
#[derive(Deserialize)]
struct Seen {
    headers: serde_json::Map<String, Value>,
}

/// The upstream must learn who is calling, and none of the credentials.
async fn call(agent: &Agent) -> anyhow::Result<((), String)> {
    let answer = agent.call(Method::GET, HELLO, HeaderMap::new(), "").await?;
    let status = answer.status();
    anyhow::ensure!(status == StatusCode::OK, "{status} instead of 200");
    let seen: Seen = answer.json().await?;
    let told = seen.headers.get(header::X_EDGEWARD_AGENT_ID.as_str()).and_then(Value::as_str);
    let id = agent.credentials().agent_id.to_string();
    anyhow::ensure!(told == Some(id.as_str()), "the upstream was not told who is calling");
    let credentials = [
        header::X_AGENT_ID,
        header::X_SESSION_ID,
        header::X_SIGNATURE,
        header::X_NONCE,
        header::X_TIMESTAMP,
        http::header::AUTHORIZATION,
    ];
    for name in credentials {
        anyhow::ensure!(!seen.headers.contains_key(name.as_str()), "the upstream saw {name}");
    }
    Ok(((), format!("GET {HELLO}: 200; the upstream was told who calls and saw no credential")))
}

/// An event of the upstream.
#[derive(Deserialize)]
struct Tick {
    n: u64,
    sent_at_ms: i64,
}

async fn stream(agent: &Agent) -> anyhow::Result<((), String)> {
    let mut options = StreamOptions::default();
    options.resume = false;
    let mut events = agent.stream(STREAM, options)?;
    let (mut count, mut slowest_ms) = (0, 0);
    let until = tokio::time::Instant::now() + STREAMED;
    // The first is owed whatever the time; after it, whatever comes while the time lasts.
    let mut next = tokio::time::timeout(PATIENCE, events.next()).await;
    while let Ok(event) = next {
        let event = event.context("the stream ended by itself")??;
        let tick: Tick = serde_json::from_str(&event.data)?;
        count += 1;
        anyhow::ensure!(tick.n == count, "event {} came where {count} was due", tick.n);
        slowest_ms = slowest_ms.max(now_ms().saturating_sub(tick.sent_at_ms));
        next = tokio::time::timeout_at(until, events.next()).await;
    }
    anyhow::ensure!(count > 1, "{count} events came in {} s", STREAMED.as_secs());
    Ok(((), format!("{count}, none lost, each at most {slowest_ms} ms after it was sent")))
}

/// Enrols where the caller asks, and opens a session there.
pub(super) async fn another(owner: &Owner, caller: &Caller) -> anyhow::Result<(Agent, String)> {
    let started = caller.enroll_code(&owner.jwt()?).await?;
    let enrollment = Enrollment::new(caller.url(), &started.enroll_code)?;
    let agent = Agent::enroll_unkept(enrollment, Settings::default()).await?;
    agent.open_session().await?;
    let id = agent.credentials().agent_id;
    Ok((agent, format!("{id}, and opens a session as well")))
}

async fn measure(stage: &Stage, agent: &Agent) -> anyhow::Result<(Authentication, String)> {
    let before = stage.meter().admitted;
    let started = SystemClock::instant();
    for _ in 0..MEASURED {
        let answer = agent.call(Method::GET, HELLO, HeaderMap::new(), "").await?;
        let status = answer.status();
        anyhow::ensure!(status == StatusCode::OK, "{status} instead of 200");
        answer.bytes().await?;
    }
    let each_us = started.elapsed().as_micros() / u128::from(MEASURED);
    let reading = stage.meter();
    let admitted = reading.admitted.saturating_sub(before);
    anyhow::ensure!(admitted == MEASURED, "{admitted} of {MEASURED} were counted as admitted");
    let took = Authentication {
        admitted: reading.admitted,
        p50_us: reading.p50_us,
        p95_us: reading.p95_us,
    };
    Ok((took, format!("{MEASURED}, each answered in {each_us} \u{b5}s on average")))
}
