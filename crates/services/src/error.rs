//! Why a service is not there.

use std::io;

/// Why a service cannot be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A program is not installed.
    #[error("{program} is not here: install Debian's {package}")]
    Missing {
        /// The program's name.
        program: &'static str,
        /// The package of Debian that has it.
        package: &'static str,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What came of it.
        source: io::Error,
    },
    /// A server ended instead of becoming ready.
    #[error("{what} did not start: {log}")]
    NotStarted {
        /// Which server.
        what: &'static str,
        /// The last lines of its log.
        log: String,
    },
    /// Something did not come about within the deadline.
    #[error("waited in vain until {what}")]
    TimedOut {
        /// What was waited for.
        what: String,
    },
    /// A program or a server answered with an error.
    #[error("{what}: {message}")]
    Refused {
        /// Who was asked for what.
        what: String,
        /// Its answer.
        message: String,
    },
}

/// Names what was tried when the operating system refused it.
pub(crate) trait Context<T> {
    fn to_do(self, what: impl Into<String>) -> Result<T, ServiceError>;
}

impl<T> Context<T> for io::Result<T> {
    fn to_do(self, what: impl Into<String>) -> Result<T, ServiceError> {
        self.map_err(|source| ServiceError::System { what: what.into(), source })
    }
}
