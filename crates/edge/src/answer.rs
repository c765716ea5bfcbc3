//! Answers: JSON of the edge's own endpoints, and refusals as problems. Every refusal goes through
//! one function, by the one table.

use bytes::Bytes;
use edgeward_core::Rejection;
use edgeward_core::rejection::UpstreamFault;
use edgeward_core::time::WallMs;
use edgeward_wire::{Code, Problem, TraceId, header};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::body::AnswerBody;
use crate::value::value;

/// An answer.
pub(crate) type Answer = Response<AnswerBody>;

fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(AnswerBody::whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// 200 with JSON that nobody may keep.
pub(crate) fn json<T: Serialize>(body: &T) -> Answer {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut answer = whole(StatusCode::OK, "application/json", bytes.into());
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// 200 with JSON that may be kept for a while: public keys.
pub(crate) fn public_json(body: &str, max_age_sec: u64) -> Answer {
    let mut answer =
        whole(StatusCode::OK, "application/json", Bytes::copy_from_slice(body.as_bytes()));
    answer.headers_mut().insert(CACHE_CONTROL, value(format!("public, max-age={max_age_sec}")));
    answer
}

/// 204.
pub(crate) fn no_content() -> Answer {
    let mut answer = Response::new(AnswerBody::whole(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Gives an answer its trace.
pub(crate) fn stamp(answer: &mut Answer, trace: TraceId) {
    answer.headers_mut().insert(header::X_TRACE_ID, value(trace.to_string()));
}

/// A refusal as its problem. `jitter` is any 64 random bits: a fleet that was turned away at once
/// must not come back at once.
pub(crate) fn refusal(rejection: &Rejection, trace: TraceId, now: WallMs, jitter: u64) -> Answer {
    let code = rejection.spec().code;
    let mut problem = Problem::new(code, trace);
    problem.detail = rejection.detail().map(str::to_owned);
    problem.retry_after_ms = rejection.retry_after_ms().map(|wait| {
        if code.status() == StatusCode::SERVICE_UNAVAILABLE { wait + jitter % 1000 } else { wait }
    });
    if code == Code::TimestampOutsideWindow || code == Code::Starting {
        problem.server_time_ms = Some(now.0);
    }
    let mut answer = render(&problem, code);
    limits(rejection, answer.headers_mut());
    answer
}

/// What went wrong behind the edge, as its problem.
pub(crate) fn upstream_failure(fault: UpstreamFault, trace: TraceId) -> Answer {
    let code = fault.code();
    render(&Problem::new(code, trace), code)
}

fn render(problem: &Problem, code: Code) -> Answer {
    let bytes = serde_json::to_vec(problem).unwrap_or_default();
    let mut answer = whole(code.status(), Problem::MEDIA_TYPE, bytes.into());
    let headers = answer.headers_mut();
    headers.insert(header::X_EDGEWARD_CODE, HeaderValue::from_static(code.as_str()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if code.status() == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, value(format!("Edgeward error=\"{code}\"")));
    }
    if let Some(wait) = problem.retry_after_ms {
        headers.insert(RETRY_AFTER, value(wait.div_ceil(1000).to_string()));
    }
    answer
}

/// What an authenticated caller learns of the limit that it has met.
fn limits(rejection: &Rejection, headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, text: String| headers.insert(name, value(text));
    if let Rejection::RateLimited { retry_after_ms, rate } = rejection {
        let window = rate.burst.div_ceil(rate.per_sec.max(1)).max(1);
        set(header::RATELIMIT_POLICY, format!("\"agent\";q={};w={window}", rate.burst));
        set(header::RATELIMIT, format!("\"agent\";r=0;t={}", retry_after_ms.div_ceil(1000)));
    }
    if let Rejection::TooManyStreams = rejection {
        set(header::RATELIMIT_POLICY, "\"streams\"".to_owned());
        set(header::RATELIMIT, "\"streams\";r=0".to_owned());
    }
}
