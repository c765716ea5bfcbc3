//! The routes that change whether an agent may act.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use edgeward_core::record::Standing;
use edgeward_wire::{AgentId, TraceId};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use http_body_util::LengthLimitError;
use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Role};
use crate::gate::{MAX_BODY, Trace};
use crate::refusal::Refusal;
use crate::source::{Source, StandingAnswer};

/// The longest reason, in characters.
const MAX_REASON: usize = 500;

/// What a handler is given besides the call itself.
type Given = (
    State<Arc<dyn Source>>,
    Extension<Actor>,
    Extension<Trace>,
    Result<Path<String>, PathRejection>,
);

pub(crate) async fn block(given: Given, call: Request<Body>) -> Response {
    change(Standing::Blocked, Role::Operator, given, call).await
}

pub(crate) async fn unblock(given: Given, call: Request<Body>) -> Response {
    change(Standing::Active, Role::Operator, given, call).await
}

/// Final, so that it takes more than the runbooks do.
pub(crate) async fn retire(given: Given, call: Request<Body>) -> Response {
    change(Standing::Retired, Role::Admin, given, call).await
}

/// How an agent stands, and what came of asking.
#[derive(Debug, Serialize)]
struct Stands {
    agent_id: AgentId,
    standing: &'static str,
    epoch: u64,
    changed: bool,
    streams_cut: u64,
}

/// The body of a call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    reason: Option<String>,
}

async fn change(to: Standing, least: Role, given: Given, call: Request<Body>) -> Response {
    let (State(source), Extension(actor), Extension(Trace(trace)), path) = given;
    let done = async {
        if actor.role < least {
            return Err(Refusal::RoleInsufficient);
        }
        let id = path.ok().and_then(|Path(id)| AgentId::parse(&id).ok());
        let id = id.ok_or(Refusal::AgentIdMalformed)?;
        let reason = reason(call).await?;
        set(&*source, id, to, &actor, reason, trace).await
    };
    match done.await {
        Ok(stands) => Json(stands).into_response(),
        Err(refusal) => refusal.response(trace),
    }
}

async fn set(
    source: &dyn Source,
    id: AgentId,
    to: Standing,
    actor: &Actor,
    reason: Option<String>,
    trace: TraceId,
) -> Result<Stands, Refusal> {
    match source.set_standing(id, to, actor, reason).await {
        Ok(Some(StandingAnswer::AsAsked { epoch, changed, streams_cut })) => {
            Ok(Stands { agent_id: id, standing: name(to), epoch, changed, streams_cut })
        }
        Ok(Some(StandingAnswer::Retired)) => Err(Refusal::AgentRetired),
        Ok(None) => Err(Refusal::AgentUnknown),
        Err(error) => {
            let to = name(to);
            tracing::warn!(%trace, agent = %id, to, %error, "a standing could not be changed");
            Err(Refusal::SourceUnavailable)
        }
    }
}

fn name(standing: Standing) -> &'static str {
    match standing {
        Standing::Active => "active",
        Standing::Blocked => "blocked",
        Standing::Retired => "retired",
    }
}

/// Why, if the caller says so. It is shown to people at terminals and stands in logs.
async fn reason(call: Request<Body>) -> Result<Option<String>, Refusal> {
    let (head, body) = call.into_parts();
    if !is_json(&head.headers) {
        return Err(Refusal::MediaTypeUnsupported);
    }
    let bytes = axum::body::to_bytes(body, MAX_BODY).await.map_err(|error| broken(&error))?;
    let Asked { reason } = serde_json::from_slice(&bytes).map_err(|_| Refusal::BodyMalformed)?;
    match reason {
        Some(text) if text.trim().is_empty() => Err(Refusal::BodyMalformed),
        Some(text) if text.chars().count() > MAX_REASON => Err(Refusal::BodyMalformed),
        Some(text) if text.contains(char::is_control) => Err(Refusal::BodyMalformed),
        said => Ok(said),
    }
}

/// One content type, and that of JSON; its parameters say nothing (RFC 8259, section 11).
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let media = value.to_str().ok().and_then(|value| value.split(';').next());
    media.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

/// A body that was cut at its length, or that did not arrive whole.
fn broken(error: &axum::Error) -> Refusal {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return Refusal::BodyTooLarge;
        }
        cause = error.source();
    }
    Refusal::BodyMalformed
}

#[cfg(test)]
mod tests;
