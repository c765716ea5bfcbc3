//! Making a link ready: who the server is, the epochs of its buckets, and how it tells of changes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Pipeline, PushKind, Value};

use crate::bucket::Bucket;
use crate::hub::Push;
use crate::identity::{Around, QUESTIONS, Standing, ask, text};
use crate::line::Line;
use crate::link::{CallError, Link};
use crate::options::{HostPort, Servers};
use crate::shared::Shared;
use crate::start::StartError;

/// The budget of each step. Nobody waits for it.
const STEP: Duration = Duration::from_secs(1);

/// Renews buckets; those that this server serves. Nothing is written to a store that is not this node's.
pub(crate) async fn renewed_here(
    shared: &Shared,
    buckets: &[Bucket],
    link: &Link,
) -> Result<Vec<Bucket>, StartError> {
    let mut buckets = buckets.to_vec();
    if buckets.iter().any(|bucket| bucket.has_store_id()) && !same_store(shared, link).await? {
        buckets.retain(|bucket| !bucket.has_store_id());
    }
    let mut here = Vec::with_capacity(buckets.len());
    for (bucket, renewed) in shared.renew(&buckets, link, STEP).await? {
        match renewed {
            Ok(()) => here.push(bucket),
            // its slot is on the way; the map will say, or the next beat
            Err(error) if error.is_elsewhere() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(here)
}

/// Makes sure that the store is the one that this node knows, and gives it an id where it has none: the one
/// that is known, or a new one. False while the slot that it lies in is on the way.
async fn same_store(shared: &Shared, link: &Link) -> Result<bool, StartError> {
    let expected = shared.store_id();
    let key = shared.keys.store_id();
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("SET").arg(&key).arg(expected.clone().map_or_else(new_id, Ok)?).arg("NX");
    pipeline.cmd("GET").arg(&key);
    let mut answers = link.call_each(&pipeline, STEP).await?.into_iter();
    let made = match answers.next() {
        Some(Err(error)) => {
            return if error.is_elsewhere() { Ok(false) } else { Err(error.into()) };
        }
        set => matches!(set, Some(Ok(Value::Okay))) && expected.is_none(),
    };
    let answer = match answers.next() {
        Some(Err(error)) if error.is_elsewhere() => return Ok(false),
        Some(answer) => answer?,
        None => Value::Nil,
    };
    let odd = || CallError::Odd { address: link.address.clone(), command: "GET" };
    let found = text(&answer).ok_or_else(odd)?;
    if made {
        shared.made_id.store(true, Ordering::SeqCst);
    }
    let expected = shared.knows_store(&found);
    if found == expected {
        return Ok(true);
    }
    Err(StartError::OtherStore { address: link.address.to_string(), found, expected })
}

/// 128 random bits.
fn new_id() -> Result<String, StartError> {
    let mut random = [0_u8; 16];
    let none = |_| StartError::Setting("the system has no randomness");
    aws_lc_rs::rand::fill(&mut random).map_err(none)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Chooses the database, asks a server who it is, and gives it our name, which it may decline.
pub(crate) async fn introduce(
    shared: &Shared,
    line: &Line,
    address: &HostPort,
) -> Result<Standing, StartError> {
    let broken = |reason| CallError::Broken { address: address.clone(), reason };
    if shared.options.db != 0 {
        let mut select = Pipeline::with_capacity(1);
        select.cmd("SELECT").arg(shared.options.db);
        let answers = line.send(&select, STEP).await.map_err(broken)?;
        accepted(&answers, address, &select)?;
    }
    let mut pipeline = Pipeline::with_capacity(QUESTIONS + 1);
    ask(&mut pipeline);
    pipeline.cmd("CLIENT").arg("SETNAME").arg(format!("edgeward:{}", shared.options.node));
    let around = Around::asked(&*shared.options.clock);
    let answers = line.send(&pipeline, STEP).await.map_err(broken)?;
    standing(answers.get(..QUESTIONS), &around, address, &pipeline)
}

pub(crate) fn standing(
    answers: Option<&[Value]>,
    around: &Around<'_>,
    address: &HostPort,
    asked: &Pipeline,
) -> Result<Standing, StartError> {
    let answers = answers.unwrap_or_default();
    accepted(answers, address, asked)?;
    let odd = || CallError::Odd { address: address.clone(), command: "INFO" };
    Ok(Standing::read(answers, around).ok_or_else(odd)?)
}

/// Whether none of the answers is an error.
pub(crate) fn accepted(
    answers: &[Value],
    address: &HostPort,
    asked: &Pipeline,
) -> Result<(), CallError> {
    for (answer, command) in answers.iter().zip(asked.cmd_iter()) {
        if let Value::ServerError(error) = answer {
            return Err(CallError::refused(address, error, command));
        }
    }
    Ok(())
}

pub(crate) fn usable(
    standing: &Standing,
    shared: &Shared,
    address: &HostPort,
) -> Result<(), StartError> {
    standing.usable(address, matches!(shared.options.servers, Servers::Cluster(_)))
}

/// Has the server tell of changes over this connection, by the best way that it permits.
pub(crate) async fn have_changes_told(shared: &Shared, link: &Link) -> Result<Push, StartError> {
    let keys = &shared.keys;
    let mut tracking = Pipeline::with_capacity(1);
    tracking.cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST");
    let canaries = keys.canaries_of(&shared.options.node);
    for prefix in [keys.sessions(), keys.agent_signals(), canaries] {
        tracking.arg("PREFIX").arg(prefix);
    }
    let broken = |reason| CallError::Broken { address: link.address.clone(), reason };
    let answers = link.line.send(&tracking, STEP).await.map_err(broken)?;
    if answers == [Value::Okay] {
        return Ok(Push::Tracking);
    }
    let mut channel = Pipeline::with_capacity(1);
    channel.cmd("SUBSCRIBE").arg(keys.told());
    let answers = link.line.send(&channel, STEP).await.map_err(broken)?;
    if matches!(answers.as_slice(), [Value::Push { kind: PushKind::Subscribe, .. }]) {
        tracing::warn!(
            address = %link.address,
            "Redis permits no client tracking: changes are told on a channel"
        );
        return Ok(Push::PubSub);
    }
    tracing::warn!(
        address = %link.address,
        "Redis permits neither client tracking nor the channel: what is read is not remembered"
    );
    Ok(Push::None)
}
