//! What came back against what should have: the one judgement behind every line of the table.

use std::fmt;
use std::time::Duration;

use edgeward_wire::Code;
use serde_json::{Value, json};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// An answer, with the edge's code if it is the edge's refusal.
    Http { status: u16, code: Option<String> },
    /// The stream was cut, so long after its session was ended.
    StreamEnded { after: Duration },
    /// Something else.
    Odd(String),
}

/// What should come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// The edge's refusal of this code, before any upstream hears of the request.
    Refused(Code),
    /// The end of the stream.
    StreamEnds,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) sent: &'static str,
    pub(super) answer: Answer,
    pub(super) expected: Expected,
    pub(super) why: &'static str,
    /// Whether the upstream heard of it.
    pub(super) passed_on: bool,
}

impl Answer {
    /// Whether it came from the upstream, as asked for.
    pub(super) fn is_passed(&self) -> bool {
        *self == Self::Http { status: 200, code: None }
    }

    /// Whether it is the edge's refusal of this code.
    pub(super) fn is_refused(&self, as_code: Code) -> bool {
        match self {
            Self::Http { status, code } => {
                *status == as_code.status().as_u16() && code.as_deref() == Some(as_code.as_str())
            }
            Self::StreamEnded { .. } | Self::Odd(_) => false,
        }
    }
}

impl Refusal {
    /// The verdict.
    pub(super) fn is_as_it_should_be(&self) -> bool {
        match (&self.answer, self.expected) {
            (answer @ Answer::Http { .. }, Expected::Refused(expected)) => {
                !self.passed_on && answer.is_refused(expected)
            }
            (Answer::StreamEnded { .. }, Expected::StreamEnds) => true,
            (Answer::Odd(_), Expected::Refused(_) | Expected::StreamEnds)
            | (Answer::Http { .. }, Expected::StreamEnds)
            | (Answer::StreamEnded { .. }, Expected::Refused(_)) => false,
        }
    }

    /// What came back, in a few words.
    pub(super) fn found(&self) -> String {
        let passed_on = if self.passed_on { ", and the upstream was reached" } else { "" };
        // One line, whatever a library has to say.
        format!("{}{passed_on}", self.answer).replace('\n', " ")
    }

    pub(super) fn as_json(&self) -> Value {
        json!({
            "sent": self.sent,
            "answer": self.found(),
            "expected": self.expected.to_string(),
            "why": self.why,
            "ok": self.is_as_it_should_be(),
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { status, code: Some(code) } => write!(f, "{status} {code}"),
            Self::Http { status, code: None } => write!(f, "{status}"),
            Self::StreamEnded { after } => write!(f, "ended after {} ms", after.as_millis()),
            Self::Odd(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "{} {code}", code.status().as_u16()),
            Self::StreamEnds => f.write_str("ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLAY: Expected = Expected::Refused(Code::NonceReplayed);

    fn http(status: u16, code: Option<&str>) -> Answer {
        Answer::Http { status, code: code.map(str::to_owned) }
    }

    fn ended(ms: u64) -> Answer {
        Answer::StreamEnded { after: Duration::from_millis(ms) }
    }

    fn verdict(answer: Answer, expected: Expected, passed_on: bool) -> bool {
        Refusal { sent: "", answer, expected, why: "", passed_on }.is_as_it_should_be()
    }

    #[test]
    fn only_the_very_refusal_counts_and_only_if_the_upstream_heard_nothing() {
        let right = http(401, Some("nonce_replayed"));
        assert!(verdict(right.clone(), REPLAY, false));
        assert!(!verdict(right, REPLAY, true));
        for wrong in [
            http(200, None),
            http(401, None),
            http(401, Some("signature_invalid")),
            http(403, Some("nonce_replayed")),
            ended(1),
            Answer::Odd("no answer".to_owned()),
        ] {
            assert!(!verdict(wrong.clone(), REPLAY, false), "{wrong}");
        }
    }

    #[test]
    fn a_stream_must_end() {
        assert!(verdict(ended(2), Expected::StreamEnds, false));
        for wrong in [http(204, None), Answer::Odd("still open".to_owned())] {
            assert!(!verdict(wrong.clone(), Expected::StreamEnds, false), "{wrong}");
        }
    }

    #[test]
    fn what_was_found_says_when_the_upstream_was_reached() {
        let refusal = Refusal {
            sent: "",
            answer: http(200, None),
            expected: REPLAY,
            why: "",
            passed_on: true,
        };
        assert_eq!(refusal.found(), "200, and the upstream was reached");
        assert_eq!(refusal.as_json()["ok"], false);
    }
}
