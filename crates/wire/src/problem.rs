//! Refusals as the wire says them: RFC 9457 problems with a code, and what a client should do.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::TraceId;

/// What a client should do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// The request is wrong in itself.
    FixRequest,
    /// Sign the request.
    Sign,
    /// Correct the clock by `server_time_ms`, once and within bounds, and sign again.
    CorrectClock,
    /// Start a session.
    StartSession,
    /// Stop; pick up a rotated secret, or enrol again.
    RenewSecret,
    /// Sign again with a new nonce.
    NewNonce,
    /// Refresh the JWT.
    RefreshToken,
    /// Nothing helps without a person.
    Stop,
    /// Wait as `Retry-After` says, and sign again.
    Wait,
    /// Sign again if the call is idempotent.
    RetryIfIdempotent,
    /// Sign again after `Retry-After`.
    Retry,
}

/// Declares the table of codes: variant, text, status, title, advice.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $text:literal $status:ident $title:literal $advice:ident;)*) => {
        /// The public code of a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code, in the order of the protocol's table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it is written on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// One short line for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What a client should do.
            pub const fn advice(self) -> Advice {
                match self { $(Self::$variant => Advice::$advice,)* }
            }

            /// Reads a code from the wire; `None` for one that this version does not know.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// A header, the method, the body or its framing has a form that is not accepted.
    RequestMalformed "request_malformed" BAD_REQUEST "The request is malformed" FixRequest;
    /// Two parsers could read the target differently.
    TargetAmbiguous "target_ambiguous" BAD_REQUEST "The request target can be read in two ways" FixRequest;
    /// No credentials came with the request.
    CredentialsMissing "credentials_missing" UNAUTHORIZED "The request carries no credentials" Sign;
    /// The timestamp lies outside the window or under the replay floor.
    TimestampOutsideWindow "timestamp_outside_window" UNAUTHORIZED "The timestamp is outside the accepted window" CorrectClock;
    /// The route asks for a session.
    SessionRequired "session_required" UNAUTHORIZED "A session is required" StartSession;
    /// The session is unknown, ended, expired or another agent's.
    SessionInvalid "session_invalid" UNAUTHORIZED "The session is not valid" StartSession;
    /// The signature is not that of a live secret of this agent.
    SignatureInvalid "signature_invalid" UNAUTHORIZED "The signature is not valid" RenewSecret;
    /// The call asks for a nonce.
    NonceRequired "nonce_required" UNAUTHORIZED "A nonce is required" NewNonce;
    /// This agent has used the nonce before.
    NonceReplayed "nonce_replayed" UNAUTHORIZED "The nonce has been used before" NewNonce;
    /// The call asks for a JWT.
    TokenRequired "token_required" UNAUTHORIZED "A token is required" RefreshToken;
    /// The JWT is not valid here, now, for this caller.
    TokenInvalid "token_invalid" UNAUTHORIZED "The token is not valid" RefreshToken;
    /// The enrolment code, or the proof that came with it, is not valid.
    EnrollCodeInvalid "enroll_code_invalid" UNAUTHORIZED "The enrolment code is not valid" Stop;
    /// The device proof is missing or wrong.
    DeviceProofInvalid "device_proof_invalid" UNAUTHORIZED "The device proof is not valid" Stop;
    /// The agent is blocked or retired.
    AgentBlocked "agent_blocked" FORBIDDEN "The agent is blocked" Stop;
    /// The address is outside the deployment's, the route's or the agent's allowlist.
    AddressNotAllowed "address_not_allowed" FORBIDDEN "The address is not allowed" Stop;
    /// The agent's record lacks a scope that the route asks for.
    ScopeMissing "scope_missing" FORBIDDEN "A scope is missing" Stop;
    /// The owner may not do this.
    OwnerNotAllowed "owner_not_allowed" FORBIDDEN "The owner is not allowed to do this" Stop;
    /// There is no such route.
    RouteUnknown "route_unknown" NOT_FOUND "There is no such route" Stop;
    /// No new secret has been prepared.
    NothingPrepared "nothing_prepared" NOT_FOUND "No secret has been prepared" Stop;
    /// The body is larger than the route takes.
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is too large" FixRequest;
    /// The agent's rate is used up.
    RateLimited "rate_limited" TOO_MANY_REQUESTS "The rate limit is reached" Wait;
    /// The source has failed too often.
    BackingOff "backing_off" TOO_MANY_REQUESTS "Too many failures from this source" Wait;
    /// As many streams as allowed are open.
    TooManyStreams "too_many_streams" TOO_MANY_REQUESTS "Too many streams are open" Wait;
    /// The upstream could not be reached or broke off.
    UpstreamFailed "upstream_failed" BAD_GATEWAY "The upstream failed" RetryIfIdempotent;
    /// The upstream did not answer in time.
    UpstreamTimeout "upstream_timeout" GATEWAY_TIMEOUT "The upstream did not answer in time" RetryIfIdempotent;
    /// Something that the edge needs to decide could not be asked.
    DependencyUnavailable "dependency_unavailable" SERVICE_UNAVAILABLE "A dependency is unavailable" Retry;
    /// The edge is starting, or waits behind a replay floor.
    Starting "starting" SERVICE_UNAVAILABLE "The edge is starting" Retry;
    /// The edge is stopping.
    Draining "draining" SERVICE_UNAVAILABLE "The edge is draining" Retry;
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `application/problem+json` (RFC 9457) as the edge sends it. Members that a later version adds
/// are passed over when read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URN that names the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// One short line for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The code.
    pub code: String,
    /// What is wrong with the request itself, where saying so gives nothing away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request's trace.
    pub trace_id: TraceId,
    /// How long to wait before the next try, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The edge's clock, epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time_ms: Option<u64>,
}

impl Problem {
    /// The media type.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem of this code, without its optional members.
    pub fn new(code: Code, trace_id: TraceId) -> Self {
        Self {
            kind: format!("urn:edgeward:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            code: code.as_str().to_owned(),
            detail: None,
            trace_id,
            retry_after_ms: None,
            server_time_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_and_are_distinct() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
        assert_eq!(Code::ALL.len(), 28);
        assert_eq!(Code::parse("no_such_code"), None);
    }

    #[test]
    fn a_problem_has_the_members_of_rfc_9457() {
        let trace = TraceId::from_random([1; 16]);
        let value = serde_json::to_value(Problem::new(Code::RateLimited, trace)).unwrap();
        assert_eq!(value["type"], "urn:edgeward:problem:rate_limited");
        assert_eq!(value["status"], 429);
        assert_eq!(value["code"], "rate_limited");
        assert_eq!(value["trace_id"], trace.to_string());
        assert!(value.get("retry_after_ms").is_none());
    }
}
