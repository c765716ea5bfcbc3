//! How a command ends, and what it says about it.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use edgeward_client::Error;

/// How a command ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Refused,
    Usage,
    Network,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Refused => 1,
            Outcome::Usage => 2,
            Outcome::Network => 3,
        })
    }
}

/// Why a command could not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    Client(Error),
    /// The command line asks for something that cannot be.
    Usage(String),
    /// A file.
    File(String),
    /// Standard output.
    Output(io::Error),
}

impl Failure {
    /// Says it on stderr.
    pub(super) fn report(&self) -> Outcome {
        let (text, outcome) = match self {
            Self::Client(error @ Error::Invalid(_)) => (error.to_string(), Outcome::Usage),
            Self::Client(error) if error.is_network() => (error.to_string(), Outcome::Network),
            Self::Client(error) => (error.to_string(), Outcome::Refused),
            Self::Usage(text) => (text.clone(), Outcome::Usage),
            Self::File(text) => (text.clone(), Outcome::Refused),
            // Whoever reads has seen enough, as `head` does.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Outcome::Done;
            }
            Self::Output(error) => (format!("cannot write the output: {error}"), Outcome::Refused),
        };
        note(&format!("error: {text}"));
        outcome
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

/// Writes to stdout, at once.
pub(super) fn print(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes.as_ref()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Writes a line to stderr, where a failure to write can be told to nobody.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints JSON for programs, indented.
pub(super) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(format!("{value:#}\n"))
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::File(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_documented_exit_codes() {
        for (failure, outcome) in [
            (Failure::Usage(String::new()), Outcome::Usage),
            (Failure::Client(Error::Invalid(String::new())), Outcome::Usage),
            (Failure::Client(Error::TimedOut { after_ms: 1 }), Outcome::Network),
            (Failure::Client(Error::Entropy), Outcome::Refused),
            (Failure::File(String::new()), Outcome::Refused),
            (Failure::Output(io::ErrorKind::BrokenPipe.into()), Outcome::Done),
            (Failure::Output(io::ErrorKind::StorageFull.into()), Outcome::Refused),
        ] {
            assert_eq!(failure.report(), outcome, "{failure:?}");
        }
    }
}
