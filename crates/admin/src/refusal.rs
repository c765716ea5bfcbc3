//! What the admin listener refuses: one table, and its form on the wire (RFC 9457).

use axum::body::Body;
use axum::response::Response;
use edgeward_wire::{Problem, TraceId};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    HostMalformed,
    HostNotOurs,
    OriginRefused,
    PeerNotAllowed,
    CredentialsMissing,
    TokenInvalid,
    RouteUnknown,
    MethodNotAllowed,
    BodyTooLarge,
    TooSlow,
    /// The role does not reach so far.
    RoleInsufficient,
    AgentIdMalformed,
    MediaTypeUnsupported,
    BodyMalformed,
    AgentUnknown,
    /// Something other than retired was asked for an agent that is.
    AgentRetired,
    /// What was asked could not be done, or its end could not be learned.
    SourceUnavailable,
}

/// A row of the table.
struct Spec {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Option<&'static str>,
    challenge: Option<&'static str>,
    retry: bool,
}

/// When to ask again what may work then.
const RETRY_SECONDS: u16 = 1;

impl Refusal {
    /// The code, for logs.
    pub(crate) fn code(self) -> &'static str {
        self.spec().code
    }

    /// The answer.
    pub(crate) fn response(self, trace: TraceId) -> Response {
        let spec = self.spec();
        let problem = Problem {
            kind: format!("urn:edgeward:problem:{}", spec.code),
            title: spec.title.to_owned(),
            status: spec.status.as_u16(),
            code: spec.code.to_owned(),
            detail: spec.detail.map(str::to_owned),
            trace_id: trace,
            retry_after_ms: spec.retry.then_some(u64::from(RETRY_SECONDS) * 1000),
            server_time_ms: None,
        };
        // Strings and numbers only: there is nothing in it that could fail.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = spec.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        if let Some(challenge) = spec.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if spec.retry {
            headers.insert(RETRY_AFTER, RETRY_SECONDS.into());
        }
        response
    }

    fn spec(self) -> Spec {
        let row = |status, code, title| Spec {
            status,
            code,
            title,
            detail: None,
            challenge: None,
            retry: false,
        };
        match self {
            Self::HostMalformed => row(
                StatusCode::BAD_REQUEST,
                "host_malformed",
                "The request needs one Host header that can be read",
            ),
            Self::HostNotOurs => Spec {
                detail: Some(
                    "Host must be localhost, 127.0.0.1 or [::1], with the port of this listener",
                ),
                ..row(
                    StatusCode::MISDIRECTED_REQUEST,
                    "host_not_ours",
                    "The request is meant for another host",
                )
            },
            Self::OriginRefused => row(
                StatusCode::FORBIDDEN,
                "origin_refused",
                "A web page may not change anything here",
            ),
            Self::PeerNotAllowed => Spec {
                detail: Some("The peer of the socket must be root or the user who runs the edge"),
                ..row(StatusCode::FORBIDDEN, "peer_not_allowed", "The peer is not allowed")
            },
            Self::CredentialsMissing => Spec {
                challenge: Some(r#"Bearer realm="edgeward-admin""#),
                ..row(
                    StatusCode::UNAUTHORIZED,
                    "credentials_missing",
                    "The request carries no credentials",
                )
            },
            Self::TokenInvalid => Spec {
                challenge: Some(r#"Bearer realm="edgeward-admin", error="invalid_token""#),
                ..row(StatusCode::UNAUTHORIZED, "token_invalid", "The token is not valid")
            },
            Self::RouteUnknown => {
                row(StatusCode::NOT_FOUND, "route_unknown", "There is no such route")
            }
            Self::MethodNotAllowed => row(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "The route does not take this method",
            ),
            Self::BodyTooLarge => {
                row(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large")
            }
            Self::TooSlow => Spec {
                detail: Some("What was asked may have been done: asking again does no harm"),
                retry: true,
                ..row(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too_slow",
                    "The answer could not be made in time",
                )
            },
            Self::RoleInsufficient => row(
                StatusCode::FORBIDDEN,
                "role_insufficient",
                "The operator's role does not allow this",
            ),
            Self::AgentIdMalformed => Spec {
                detail: Some("An agent's id is a lower-case hyphenated UUID"),
                ..row(StatusCode::BAD_REQUEST, "request_malformed", "The request is malformed")
            },
            Self::MediaTypeUnsupported => Spec {
                detail: Some("The body must be application/json"),
                ..row(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "media_type_unsupported",
                    "The media type is not taken here",
                )
            },
            Self::BodyMalformed => Spec {
                detail: Some(
                    "The body must be a JSON object with at most `reason`: 1 to 500 characters without control characters",
                ),
                ..row(StatusCode::BAD_REQUEST, "request_malformed", "The request is malformed")
            },
            Self::AgentUnknown => {
                row(StatusCode::NOT_FOUND, "agent_unknown", "There is no such agent")
            }
            Self::AgentRetired => {
                row(StatusCode::CONFLICT, "agent_retired", "The agent is retired, which is final")
            }
            Self::SourceUnavailable => Spec {
                detail: Some("What was asked may have been done: asking again does no harm"),
                retry: true,
                ..row(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "dependency_unavailable",
                    "A dependency is unavailable",
                )
            },
        }
    }
}
