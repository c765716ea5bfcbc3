//! What an attacker would send, and what a broken agent might: each with one thing wrong.

use bytes::Bytes;
use edgeward_client::{Agent, Session};
use edgeward_edge::clock::SystemClock;
use edgeward_wire::{Code, header};
use http::Method;

use super::caller::{Caller, Holder, Sent, nonce, sign};
use super::flowing::Flowing;
use super::upstream::{HELLO, Upstream};
use super::verdict::{Answer, Expected, Refusal};
use crate::settings::now_ms;

/// Twice the window.
const SKEW_MS: i64 = 120_000;

/// Whom the refusals need.
pub(super) struct Cast<'a> {
    pub(super) caller: &'a Caller,
    pub(super) upstream: &'a Upstream,
    /// An agent that holds a session.
    pub(super) agent: &'a Agent,
    /// Another, that holds one as well; it is ended here.
    pub(super) other: &'a Agent,
}

/// Makes them all, in the order of the table.
///
/// # Errors
/// When one could not even be made; that an answer is wrong is no error here.
pub(super) async fn all(cast: &Cast<'_>) -> anyhow::Result<Vec<Refusal>> {
    let (agent, other) = (Holder::of(cast.agent)?, Holder::of(cast.other)?);
    let mut refusals = vec![no_signature(cast, &agent).await?];
    let (wrong, right) = wrong_signature(cast, &agent).await?;
    refusals.push(wrong);
    refusals.push(replay(cast, &right).await);
    refusals.push(restamped(cast, right).await?);
    refusals.push(skew(cast, &agent).await?);
    refusals.push(swapped_body(cast, &agent).await?);
    refusals.push(foreign_session(cast, &agent, &other).await?);
    refusals.push(ended_stream(cast, &other).await?);
    refusals.push(ended_session(cast, &other).await?);
    Ok(refusals)
}

impl Cast<'_> {
    async fn refused(
        &self,
        sent: &'static str,
        request: &Sent,
        code: Code,
        why: &'static str,
    ) -> Refusal {
        let before = self.upstream.seen();
        let answer = self.caller.answer(request).await;
        let passed_on = self.upstream.seen() != before;
        Refusal { sent, answer, expected: Expected::Refused(code), why, passed_on }
    }
}

async fn no_signature(cast: &Cast<'_>, agent: &Holder) -> anyhow::Result<Refusal> {
    let mut request = agent.hello()?;
    request.headers.remove(header::X_SIGNATURE);
    let why = "An agent's name and its token prove nothing about this request.";
    Ok(cast.refused("no signature", &request, Code::CredentialsMissing, why).await)
}

/// Also hands back the request with its right signature.
async fn wrong_signature(cast: &Cast<'_>, agent: &Holder) -> anyhow::Result<(Refusal, Sent)> {
    let right = agent.hello()?;
    let mut wrong = right.clone();
    let signature = right.headers.get(header::X_SIGNATURE).and_then(|value| value.to_str().ok());
    let (rest, last) = signature.unwrap_or_default().split_at_checked(66).unwrap_or_default();
    wrong.set(header::X_SIGNATURE, &format!("{rest}{}", if last == "0" { "1" } else { "0" }))?;
    let why = "One digit is off from what the session's key gives.";
    let refusal = cast.refused("wrong signature", &wrong, Code::SignatureInvalid, why).await;
    Ok((refusal, right))
}

/// The request passes once, since the wrong signature before it has not used up its nonce.
async fn replay(cast: &Cast<'_>, request: &Sent) -> Refusal {
    let first = cast.caller.answer(request).await;
    let why = "Passed a moment ago; a nonce is good for one request.";
    let mut refusal = cast.refused("replay", request, Code::NonceReplayed, why).await;
    if !first.is_passed() {
        refusal.answer = Answer::Odd(format!("the first time already: {first}"));
    }
    refusal
}

async fn restamped(cast: &Cast<'_>, mut captured: Sent) -> anyhow::Result<Refusal> {
    captured.set(header::X_TIMESTAMP, &now_ms().saturating_add(1).to_string())?;
    captured.set(header::X_NONCE, nonce()?.as_str())?;
    let why = "Time and nonce are signed, so what was captured stays old.";
    Ok(cast.refused("re-stamped time", &captured, Code::SignatureInvalid, why).await)
}

async fn skew(cast: &Cast<'_>, agent: &Holder) -> anyhow::Result<Refusal> {
    let at_ms = now_ms().saturating_sub(SKEW_MS);
    let request = sign(agent, (Method::GET, HELLO, ""), at_ms)?;
    let why = "Rightly signed two minutes ago; the window is one minute.";
    Ok(cast.refused("skew", &request, Code::TimestampOutsideWindow, why).await)
}

async fn swapped_body(cast: &Cast<'_>, agent: &Holder) -> anyhow::Result<Refusal> {
    let mut request = agent.sign((Method::POST, HELLO, r#"{"pay":10}"#))?;
    request.body = Bytes::from_static(br#"{"pay":99}"#);
    let why = "The body's hash is signed: 10 was, 99 came.";
    Ok(cast.refused("swapped body", &request, Code::SignatureInvalid, why).await)
}

/// Signed by the other agent, under its own name, on a session that is not its own.
async fn foreign_session(
    cast: &Cast<'_>,
    agent: &Holder,
    other: &Holder,
) -> anyhow::Result<Refusal> {
    let (Some(own), Some(foreign)) = (&other.session, &agent.session) else {
        anyhow::bail!("no session is held");
    };
    let session = Some(Session { id: foreign.id.clone(), ..own.clone() });
    let request = Holder { session, ..other.clone() }.hello()?;
    let why = "A session serves only the agent that opened it.";
    Ok(cast.refused("another agent's session", &request, Code::SessionInvalid, why).await)
}

/// Ends the session under an open stream and waits for the stream's end.
async fn ended_stream(cast: &Cast<'_>, agent: &Holder) -> anyhow::Result<Refusal> {
    let stream = Flowing::open(cast.caller, agent).await?;
    let started = SystemClock::instant();
    let end = agent.sign((Method::POST, "/agent/session/end", "{}"))?;
    let ended = cast.caller.answer(&end).await;
    let cut = stream.ends_in_time().await;
    let after = started.elapsed();
    let answer = match (ended, cut) {
        (Answer::Http { status: 204, .. }, true) => Answer::StreamEnded { after },
        (Answer::Http { status: 204, .. }, false) => Answer::Odd("still open".to_owned()),
        (other, _) => Answer::Odd(format!("ending the session: {other}")),
    };
    let why = "A stream lives on its session, and is cut with it.";
    let expected = Expected::StreamEnds;
    Ok(Refusal { sent: "stream, session ended", answer, expected, why, passed_on: false })
}

async fn ended_session(cast: &Cast<'_>, agent: &Holder) -> anyhow::Result<Refusal> {
    let why = "The key is the right one, but its session is over.";
    let request = agent.hello()?;
    Ok(cast.refused("ended session", &request, Code::SessionInvalid, why).await)
}
