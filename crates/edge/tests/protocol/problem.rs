//! What every refusal looks like, whatever its reason.

use edgeward_testkit::Answer;
use edgeward_wire::{Code, Problem};
use serde_json::Value;

/// The statuses of the protocol's table, written down a second time.
pub(crate) const TABLE: &[(&str, u16)] = &[
    ("request_malformed", 400),
    ("target_ambiguous", 400),
    ("credentials_missing", 401),
    ("timestamp_outside_window", 401),
    ("session_required", 401),
    ("session_invalid", 401),
    ("signature_invalid", 401),
    ("nonce_required", 401),
    ("nonce_replayed", 401),
    ("token_required", 401),
    ("token_invalid", 401),
    ("enroll_code_invalid", 401),
    ("device_proof_invalid", 401),
    ("agent_blocked", 403),
    ("address_not_allowed", 403),
    ("scope_missing", 403),
    ("owner_not_allowed", 403),
    ("route_unknown", 404),
    ("nothing_prepared", 404),
    ("body_too_large", 413),
    ("rate_limited", 429),
    ("backing_off", 429),
    ("too_many_streams", 429),
    ("upstream_failed", 502),
    ("upstream_timeout", 504),
    ("dependency_unavailable", 503),
    ("starting", 503),
    ("draining", 503),
];

const MEMBERS: [&str; 8] =
    ["type", "title", "status", "code", "detail", "trace_id", "retry_after_ms", "server_time_ms"];

/// Asserts that an answer is the refusal with this code, in all that the protocol says of refusals.
#[track_caller]
pub(crate) fn assert_refusal(answer: &Answer, code: &str) -> Problem {
    let shown = format!("{:?} {}", answer.head, answer.text());
    assert_eq!(answer.code(), Some(code), "{shown}");
    let status = TABLE.iter().find(|(given, _)| *given == code).expect(code).1;
    assert_eq!(answer.status(), status, "{shown}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{shown}");

    let value: Value = answer.json();
    for member in value.as_object().unwrap().keys() {
        assert!(MEMBERS.contains(&member.as_str()), "{member} in {shown}");
    }
    let problem: Problem = answer.json();
    assert_eq!((problem.code.as_str(), problem.status), (code, status), "{shown}");
    assert_eq!(problem.kind, format!("urn:edgeward:problem:{code}"), "{shown}");
    assert_eq!(Some(problem.title.as_str()), Code::parse(code).map(Code::title), "{shown}");
    assert_eq!(answer.header("x-trace-id"), Some(problem.trace_id.to_string().as_str()), "{shown}");

    let challenge = (status == 401).then(|| format!("Edgeward error=\"{code}\""));
    assert_eq!(answer.header("www-authenticate"), challenge.as_deref(), "{shown}");
    let waits = status == 429 || status == 503;
    assert_eq!(problem.retry_after_ms.is_some(), waits, "{shown}");
    let seconds = problem.retry_after_ms.map(|wait| wait.div_ceil(1000).to_string());
    assert_eq!(answer.header("retry-after"), seconds.as_deref(), "{shown}");
    let limited = code == "rate_limited" || code == "too_many_streams";
    assert_eq!(answer.header("ratelimit").is_some(), limited, "{shown}");
    assert_eq!(answer.header("ratelimit-policy").is_some(), limited, "{shown}");
    let told = code == "timestamp_outside_window" || code == "starting";
    assert_eq!(problem.server_time_ms.is_some(), told, "{shown}");
    problem
}

#[test]
fn the_table_is_that_of_the_code() {
    let coded: Vec<_> =
        Code::ALL.iter().map(|code| (code.as_str(), code.status().as_u16())).collect();
    assert_eq!(coded, TABLE);
}
