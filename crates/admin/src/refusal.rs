//! What the admin listener refuses: one table, and its form on the wire (RFC 9457).

use axum::body::Body;
use axum::response::Response;
use edgeward_wire::{Problem, TraceId};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};

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
}

/// A row of the table.
struct Spec {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Option<&'static str>,
    challenge: Option<&'static str>,
}

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
            retry_after_ms: None,
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
        response
    }

    fn spec(self) -> Spec {
        let row = |status, code, title| Spec { status, code, title, detail: None, challenge: None };
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
            Self::TooSlow => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_slow",
                "The answer could not be made in time",
            ),
        }
    }
}
