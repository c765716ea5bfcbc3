//! Every reason to refuse a request, and the one table that says how each is answered, counted,
//! recorded and followed up.
//!
//! Several reasons may share one public [`Code`]: outside they are the same answer. The label tells
//! them apart inside.

use std::borrow::Cow;

use edgeward_wire::Code;

use crate::limit::gcra::Rate;
use crate::read::bearer::JwtFault;

/// Who could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// The durable store.
    Database,
    /// The store of sessions.
    Sessions,
    /// The store of nonces and rates.
    Nonces,
    /// Sealing keys or signing keys.
    Keys,
    /// The owners' JWKS.
    OwnerKeys,
    /// Memory for bodies that nobody has been proven to have sent.
    BodyMemory,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Rejection {
    /// A form is wrong; the text shows none of the request's values.
    Malformed(Cow<'static, str>),
    /// The target can be read in two ways.
    TargetAmbiguous(&'static str),
    /// There are none, or only a part.
    CredentialsMissing,
    /// The secret itself was sent, which this deployment does not take.
    HeaderSecretRefused,
    /// Outside the deployment's own list.
    DeploymentAddress,
    /// The source, or this agent from it, waits.
    BackingOff {
        /// How long, in milliseconds.
        retry_after_ms: u64,
    },
    /// The timestamp lies before (negative) or after the window; by how much, in milliseconds.
    ClockOutside {
        /// Timestamp less clock.
        skew_ms: i64,
    },
    /// The timestamp lies at or under the replay floor.
    UnderFloor,
    /// By the store's clock the timestamp left the window on the way.
    Stale,
    /// The clock has not passed the replay floor yet, or the edge is not ready.
    Starting {
        /// How long, in milliseconds.
        retry_after_ms: u64,
    },
    /// The node's clock cannot be relied on: it stepped a moment ago, or is apart from the store's.
    ClockUnsteady {
        /// Until it may be again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The edge is stopping.
    Draining,
    /// The route asks for a session.
    SessionRequired,
    /// No such session.
    SessionUnknown,
    /// It has ended by time.
    SessionExpired,
    /// Another agent's.
    SessionOfAnother,
    /// The agent's epoch has been raised since.
    SessionEpoch,
    /// Larger than the route takes.
    BodyTooLarge,
    /// Slower than a body may be, or broken off.
    BodyTooSlow,
    /// There is no such agent.
    UnknownAgent,
    /// No live secret, or not the session's key.
    WrongSignature,
    /// The body-only signature where it is not taken.
    BodySignatureRefused,
    /// Version 2 by an agent whose secret is good for the body-only form alone.
    LegacySecret,
    /// An operator has blocked the agent.
    Blocked,
    /// The agent is gone for good.
    Retired,
    /// Outside the route's list.
    RouteAddress,
    /// Outside the agent's list, with a right signature.
    AgentAddress,
    /// There is no such route.
    RouteUnknown,
    /// A JWT is due.
    TokenRequired,
    /// The JWT does not verify.
    TokenInvalid(JwtFault),
    /// The owner's JWT is missing.
    OwnerTokenRequired,
    /// The owner's JWT does not verify.
    OwnerTokenInvalid(JwtFault),
    /// The owner may not do this.
    OwnerNotAllowed(&'static str),
    /// The code is unknown, used, expired or worn out, or the proof with it is wrong.
    EnrollCode,
    /// A device proof is due.
    DeviceProofMissing,
    /// The device proof is wrong.
    DeviceProofWrong,
    /// The agent's record lacks a scope of the route.
    ScopeMissing,
    /// A nonce is due.
    NonceRequired,
    /// The nonce was used before.
    NonceReplayed,
    /// The rate is used up.
    RateLimited {
        /// Until the next request fits, in milliseconds.
        retry_after_ms: u64,
        /// The rate that refused.
        rate: Rate,
    },
    /// As many streams as allowed are open.
    TooManyStreams,
    /// Every place for a nonce is held by a live one.
    NonceMemoryFull,
    /// Somebody could not be asked.
    Unavailable(Dependency),
}

/// How loud a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Happens in healthy fleets.
    Info,
    /// Worth a look when there are many.
    Warning,
    /// Worth a look at once.
    Alert,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Status, title and advice follow from it.
    pub code: Code,
    /// The metric's and the log's name for the reason.
    pub reason: &'static str,
    /// How loud.
    pub severity: Severity,
    /// Whether it counts against its source.
    pub counts: bool,
    /// Whether it is kept as an audit event. What anybody can bring about at no cost, before any
    /// credential was looked at, is not: a flood of it must write nothing.
    pub recorded: bool,
    /// The page for whoever is called.
    pub runbook: Option<&'static str>,
}

impl Rejection {
    /// The row of this reason.
    pub fn spec(&self) -> Spec {
        use Severity::{Alert, Info, Warning};
        let row = |code, reason, severity| Spec {
            code,
            reason,
            severity,
            counts: counts(code),
            recorded: recorded(code),
            runbook: None,
        };
        match self {
            Self::Malformed(_) => row(Code::RequestMalformed, "malformed", Info),
            Self::BodyTooSlow => row(Code::RequestMalformed, "body_too_slow", Info),
            Self::TargetAmbiguous(_) => row(Code::TargetAmbiguous, "target_ambiguous", Warning),
            Self::CredentialsMissing => row(Code::CredentialsMissing, "credentials_missing", Info),
            Self::HeaderSecretRefused => {
                row(Code::CredentialsMissing, "header_secret_refused", Warning)
            }
            Self::DeploymentAddress => {
                Spec { recorded: false, ..row(Code::AddressNotAllowed, "deployment_address", Info) }
            }
            Self::RouteAddress => row(Code::AddressNotAllowed, "route_address", Warning),
            Self::AgentAddress => Spec {
                runbook: Some("incident-leaked-secret"),
                ..row(Code::AddressNotAllowed, "agent_address", Alert)
            },
            Self::BackingOff { .. } => row(Code::BackingOff, "backing_off", Info),
            Self::ClockOutside { .. } => row(Code::TimestampOutsideWindow, "clock_outside", Info),
            Self::UnderFloor => row(Code::TimestampOutsideWindow, "under_floor", Info),
            Self::Stale => row(Code::TimestampOutsideWindow, "stale_at_claim", Info),
            Self::Starting { .. } => row(Code::Starting, "starting", Info),
            Self::ClockUnsteady { .. } => row(Code::Starting, "clock_unsteady", Alert),
            Self::Draining => row(Code::Draining, "draining", Info),
            Self::SessionRequired => row(Code::SessionRequired, "session_required", Info),
            Self::SessionUnknown => row(Code::SessionInvalid, "session_unknown", Info),
            Self::SessionExpired => row(Code::SessionInvalid, "session_expired", Info),
            Self::SessionOfAnother => row(Code::SessionInvalid, "session_of_another", Alert),
            Self::SessionEpoch => row(Code::SessionInvalid, "session_epoch", Info),
            Self::BodyTooLarge => row(Code::BodyTooLarge, "body_too_large", Info),
            Self::UnknownAgent => row(Code::SignatureInvalid, "unknown_agent", Warning),
            Self::WrongSignature => row(Code::SignatureInvalid, "wrong_signature", Warning),
            Self::BodySignatureRefused => {
                row(Code::SignatureInvalid, "body_signature_refused", Warning)
            }
            Self::LegacySecret => row(Code::SignatureInvalid, "legacy_secret", Warning),
            Self::Blocked => row(Code::AgentBlocked, "blocked", Info),
            Self::Retired => row(Code::AgentBlocked, "retired", Info),
            Self::RouteUnknown => row(Code::RouteUnknown, "route_unknown", Info),
            Self::TokenRequired => row(Code::TokenRequired, "token_required", Info),
            Self::TokenInvalid(fault) => row(Code::TokenInvalid, token_reason(*fault), Info),
            Self::OwnerTokenRequired => row(Code::TokenRequired, "owner_token_required", Info),
            Self::OwnerTokenInvalid(_) => {
                Spec { counts: true, ..row(Code::TokenInvalid, "owner_token_invalid", Warning) }
            }
            Self::OwnerNotAllowed(_) => row(Code::OwnerNotAllowed, "owner_not_allowed", Warning),
            Self::EnrollCode => row(Code::EnrollCodeInvalid, "enroll_code_invalid", Warning),
            Self::DeviceProofMissing => row(Code::DeviceProofInvalid, "device_proof_missing", Info),
            Self::DeviceProofWrong => Spec {
                runbook: Some("incident-leaked-secret"),
                ..row(Code::DeviceProofInvalid, "device_proof_wrong", Alert)
            },
            Self::ScopeMissing => row(Code::ScopeMissing, "scope_missing", Info),
            Self::NonceRequired => row(Code::NonceRequired, "nonce_required", Info),
            Self::NonceReplayed => Spec {
                runbook: Some("incident-replay"),
                ..row(Code::NonceReplayed, "nonce_replayed", Alert)
            },
            Self::RateLimited { .. } => row(Code::RateLimited, "rate_limited", Info),
            Self::TooManyStreams => row(Code::TooManyStreams, "too_many_streams", Info),
            Self::NonceMemoryFull => row(Code::DependencyUnavailable, "nonce_memory_full", Alert),
            Self::Unavailable(dependency) => {
                row(Code::DependencyUnavailable, dependency_reason(*dependency), Alert)
            }
        }
    }

    /// How long the caller should wait, in milliseconds, where the answer says so.
    ///
    /// Reasons of one code answer alike: either all of them have a wait or none.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match (self, self.spec().code) {
            (
                Self::BackingOff { retry_after_ms }
                | Self::Starting { retry_after_ms }
                | Self::ClockUnsteady { retry_after_ms }
                | Self::RateLimited { retry_after_ms, .. },
                _,
            ) => Some((*retry_after_ms).max(1)),
            (
                _,
                Code::DependencyUnavailable
                | Code::Draining
                | Code::Starting
                | Code::TooManyStreams,
            ) => Some(1000),
            (_, _) => None,
        }
    }

    /// Whether a refusal of the assessment says that the caller is the agent: the signature had held,
    /// or the token where there is no signature.
    pub fn follows_proof(&self, signed: bool) -> bool {
        match self.spec().code {
            Code::AgentBlocked
            | Code::AddressNotAllowed
            | Code::RouteUnknown
            | Code::ScopeMissing
            | Code::DeviceProofInvalid
            | Code::NonceRequired
            | Code::RequestMalformed => true,
            Code::TokenRequired | Code::TokenInvalid => signed,
            Code::TargetAmbiguous
            | Code::CredentialsMissing
            | Code::TimestampOutsideWindow
            | Code::SessionRequired
            | Code::SessionInvalid
            | Code::SignatureInvalid
            | Code::NonceReplayed
            | Code::EnrollCodeInvalid
            | Code::OwnerNotAllowed
            | Code::NothingPrepared
            | Code::BodyTooLarge
            | Code::RateLimited
            | Code::BackingOff
            | Code::TooManyStreams
            | Code::UpstreamFailed
            | Code::UpstreamTimeout
            | Code::DependencyUnavailable
            | Code::Starting
            | Code::Draining => false,
        }
    }

    /// What may be told of a request that is wrong in itself.
    pub fn detail(&self) -> Option<&str> {
        if let Self::Malformed(detail) = self {
            return Some(detail);
        }
        if let Self::TargetAmbiguous(detail) | Self::OwnerNotAllowed(detail) = self {
            return Some(detail);
        }
        None
    }
}

/// Only failures to prove who one is count against a source.
fn counts(code: Code) -> bool {
    matches!(
        code,
        Code::SignatureInvalid
            | Code::NonceReplayed
            | Code::EnrollCodeInvalid
            | Code::DeviceProofInvalid
    )
}

/// Refusals that come before credentials, or say nothing of the caller, are only counted.
fn recorded(code: Code) -> bool {
    !matches!(
        code,
        Code::RequestMalformed
            | Code::TargetAmbiguous
            | Code::CredentialsMissing
            | Code::BackingOff
            | Code::TimestampOutsideWindow
            | Code::SessionRequired
            | Code::BodyTooLarge
            | Code::DependencyUnavailable
            | Code::Starting
            | Code::Draining
    )
}

fn token_reason(fault: JwtFault) -> &'static str {
    match fault {
        JwtFault::Form => "token_form",
        JwtFault::Header => "token_header",
        JwtFault::Claims => "token_claims",
        JwtFault::UnknownKey => "token_unknown_key",
        JwtFault::Algorithm => "token_algorithm",
        JwtFault::Signature => "token_signature",
        JwtFault::Expired => "token_expired",
        JwtFault::NotYetValid => "token_not_yet_valid",
        JwtFault::Issuer => "token_issuer",
        JwtFault::Audience => "token_audience",
        JwtFault::Subject => "token_subject",
        JwtFault::Epoch => "token_epoch",
        JwtFault::Role => "token_role",
    }
}

fn dependency_reason(dependency: Dependency) -> &'static str {
    match dependency {
        Dependency::Database => "database_unavailable",
        Dependency::Sessions => "sessions_unavailable",
        Dependency::Nonces => "nonces_unavailable",
        Dependency::Keys => "keys_unavailable",
        Dependency::OwnerKeys => "owner_keys_unavailable",
        Dependency::BodyMemory => "body_memory_full",
    }
}

/// What went wrong behind the edge. It says nothing about the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamFault {
    /// No connection could be made.
    Connect,
    /// The connection broke before an answer.
    Broken,
    /// No connection in time.
    ConnectTimeout,
    /// No answer in time.
    FirstByteTimeout,
    /// It answered, and by then the caller might no longer have the answer. What it did stands, so
    /// that the caller must not be told to send the request again.
    Withheld,
}

impl UpstreamFault {
    /// The public code.
    pub fn code(self) -> Code {
        match self {
            Self::Connect | Self::Broken | Self::Withheld => Code::UpstreamFailed,
            Self::ConnectTimeout | Self::FirstByteTimeout => Code::UpstreamTimeout,
        }
    }

    /// The metric's and the log's name.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Connect => "upstream_connect",
            Self::Broken => "upstream_broken",
            Self::ConnectTimeout => "upstream_connect_timeout",
            Self::FirstByteTimeout => "upstream_first_byte_timeout",
            Self::Withheld => "answer_withheld",
        }
    }
}

#[cfg(test)]
mod tests;
