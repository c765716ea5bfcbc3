//! Names of headers, in the lower case that HTTP libraries compare by.

use http::HeaderName;

/// The agent that signs.
pub const X_AGENT_ID: HeaderName = HeaderName::from_static("x-agent-id");
/// Epoch milliseconds, decimal, 13 digits.
pub const X_TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");
/// A number used once.
pub const X_NONCE: HeaderName = HeaderName::from_static("x-nonce");
/// The session whose key signs.
pub const X_SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
/// `v2=` and 64 lower-case hex digits; 64 hex digits alone are the older form.
pub const X_SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
/// The development short cut: the secret itself.
pub const X_AGENT_SECRET: HeaderName = HeaderName::from_static("x-agent-secret");
/// W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace of this request; on every answer of the edge.
pub const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
/// The code of a refusal; only the edge can set it.
pub const X_EDGEWARD_CODE: HeaderName = HeaderName::from_static("x-edgeward-code");
/// When the session that holds this stream ends, epoch milliseconds.
pub const X_SESSION_EXPIRES_MS: HeaderName = HeaderName::from_static("x-session-expires-ms");
/// The newest version of the agent's secret.
pub const X_SECRET_VERSION: HeaderName = HeaderName::from_static("x-secret-version");
/// What is left of the agent's rate.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The agent's rate.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The verified agent, for the upstream.
pub const X_EDGEWARD_AGENT_ID: HeaderName = HeaderName::from_static("x-edgeward-agent-id");
/// The verified agent's owner, for the upstream.
pub const X_EDGEWARD_OWNER_USER_ID: HeaderName =
    HeaderName::from_static("x-edgeward-owner-user-id");
/// The verified agent's scopes, comma-separated, for the upstream.
pub const X_EDGEWARD_SCOPES: HeaderName = HeaderName::from_static("x-edgeward-scopes");
