//! What can go wrong, told so that whoever reads it knows what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use edgeward_wire::{Advice, Code, Problem};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not succeed.
///
/// None of the variants holds a secret, so all of them can be logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The edge refused, and what the client may do about it by itself did not help.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The edge could not be reached, or the connection broke off.
    #[error("{during}: {}", chain(source))]
    Transport {
        /// What was being done.
        during: &'static str,
        /// What the HTTP library says.
        source: reqwest::Error,
    },
    /// No answer came within the time that [`Settings`](crate::Settings) allow.
    #[error("no answer within {after_ms} ms")]
    TimedOut {
        /// The time that was allowed, milliseconds.
        after_ms: u128,
    },
    /// A file could not be read or written, or others may read it.
    #[error("{}: {what}", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// The system's error, where there is one.
        source: Option<io::Error>,
    },
    /// The other side does not speak the protocol.
    #[error("the answer does not follow the protocol: {0}")]
    Protocol(String),
    /// The request cannot be sent as it is: its target, a header, the URL of the edge.
    #[error("the request cannot be sent: {0}")]
    Invalid(String),
    /// An upstream answered a stream's request with something else than a stream.
    #[error("the upstream answered {status} instead of a stream")]
    NotAStream {
        /// The status.
        status: u16,
    },
    /// The edge's clock is further away than [`Settings`](crate::Settings) let this one follow.
    #[error(
        "the edge's clock differs by {skew_ms} ms from this machine's, more than the {bound_ms} ms \
         that may be corrected: set this machine's clock"
    )]
    ClockSkew {
        /// The edge's clock less this machine's, milliseconds.
        skew_ms: i64,
        /// The bound, milliseconds.
        bound_ms: u64,
    },
    /// The code belongs to another owner than the one that was expected. Nothing was enrolled.
    #[error("the code was issued by {found}, not by {expected}; nothing was enrolled")]
    OwnerMismatch {
        /// Whom the caller expected.
        expected: String,
        /// Whose code it is.
        found: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Entropy,
}

impl Error {
    /// The refusal, if the edge refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }

    /// The code of the refusal, if the edge refused with one that this version knows.
    pub fn code(&self) -> Option<Code> {
        self.refusal().and_then(|refusal| refusal.code)
    }

    /// Whether the network is at fault: the edge was not reached or did not answer in time.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::TimedOut { .. })
    }

    pub(crate) fn local(path: &Path, doing: &str, source: io::Error) -> Self {
        Self::Local {
            path: path.to_owned(),
            what: format!("{doing}: {source}"),
            source: Some(source),
        }
    }

    pub(crate) fn unfit(path: &Path, what: impl Into<String>) -> Self {
        Self::Local { path: path.to_owned(), what: what.into(), source: None }
    }
}

/// `error: its cause: the cause of that`: the HTTP library keeps the interesting part inside.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// A refusal of the edge: an answer with `X-Edgeward-Code`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code; `None` for one that this version does not know.
    pub code: Option<Code>,
    /// The code as sent.
    pub code_text: String,
    /// The HTTP status.
    pub status: u16,
    /// The request's trace, for whoever runs the edge: `edgeward explain <trace id>`.
    pub trace_id: Option<String>,
    /// One short line.
    pub title: String,
    /// What is wrong with the request itself, where the edge says so.
    pub detail: Option<String>,
    /// How long the edge asks to wait, milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The edge's clock, epoch milliseconds.
    pub server_time_ms: Option<u64>,
}

impl Refusal {
    /// The protocol's advice; for an unknown code there is none, so a person must look.
    pub fn advice(&self) -> Advice {
        self.code.map_or(Advice::Stop, Code::advice)
    }

    /// What to do about it, in a sentence.
    pub fn what_to_do(&self) -> &'static str {
        match self.code {
            Some(Code::EnrollCodeInvalid) => {
                "check the code and the audience, or ask the owner for a new code"
            }
            Some(Code::AgentBlocked) => "ask whoever runs the edge; the agent is blocked",
            Some(Code::AddressNotAllowed) => "call from an address on the agent's allowlist",
            Some(Code::ScopeMissing) => "ask the owner to enrol the agent with the scope",
            Some(Code::RouteUnknown) => "check the target; the edge has no route for it",
            Some(_) | None => what_to_do(self.advice()),
        }
    }

    pub(crate) fn from_problem(code_text: String, status: u16, problem: Option<Problem>) -> Self {
        let code = Code::parse(&code_text);
        let title = match (&problem, code) {
            (Some(problem), _) => problem.title.clone(),
            (None, Some(code)) => code.title().to_owned(),
            (None, None) => "The edge refused".to_owned(),
        };
        Self {
            code,
            code_text,
            status,
            trace_id: problem.as_ref().map(|problem| problem.trace_id.to_string()),
            title,
            detail: problem.as_ref().and_then(|problem| problem.detail.clone()),
            retry_after_ms: problem.as_ref().and_then(|problem| problem.retry_after_ms),
            server_time_ms: problem.as_ref().and_then(|problem| problem.server_time_ms),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code_text, self.status, self.title)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        if let Some(trace_id) = &self.trace_id {
            write!(f, " [trace {trace_id}]")?;
        }
        write!(f, "; {}", self.what_to_do())
    }
}

impl std::error::Error for Refusal {}

fn what_to_do(advice: Advice) -> &'static str {
    match advice {
        Advice::FixRequest => "the request is wrong in itself; sending it again changes nothing",
        Advice::Sign => "the request must be signed; does something on the way drop its headers?",
        Advice::CorrectClock => "set this machine's clock",
        Advice::StartSession => "start a session",
        Advice::RenewSecret => {
            "stop; the secret is not, or no longer, valid: enrol the agent again"
        }
        Advice::NewNonce => "sign again with a new nonce",
        Advice::RefreshToken => "refresh the agent's JWT",
        Advice::Stop => "stop; nothing helps without a person",
        Advice::Wait => "wait as long as the edge asks, then try again",
        Advice::RetryIfIdempotent => "try again if the call may be made twice",
        Advice::Retry => "try again a little later",
    }
}

#[cfg(test)]
mod tests {
    use edgeward_wire::TraceId;

    use super::*;

    #[test]
    fn a_refusal_says_code_trace_detail_and_what_to_do() {
        let mut problem = Problem::new(Code::RequestMalformed, TraceId::from_random([7; 16]));
        problem.detail = Some("X-Nonce stands twice".to_owned());
        let refusal = Refusal::from_problem("request_malformed".to_owned(), 400, Some(problem));
        let error = Error::from(Box::new(refusal));
        let text = error.to_string();
        assert_eq!(
            text,
            "request_malformed (400): The request is malformed: X-Nonce stands twice \
             [trace 07070707070707070707070707070707]; \
             the request is wrong in itself; sending it again changes nothing"
        );
        assert_eq!(error.code(), Some(Code::RequestMalformed));
    }

    #[test]
    fn an_unknown_code_means_stop() {
        let refusal = Refusal::from_problem("of_next_year".to_owned(), 418, None);
        assert_eq!(refusal.code, None);
        assert_eq!(refusal.advice(), Advice::Stop);
        assert!(refusal.to_string().starts_with("of_next_year (418): "));
    }
}
