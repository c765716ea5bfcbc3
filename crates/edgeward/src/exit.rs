//! Exit codes, the same for all commands: 0 done, 1 refused or failed, 2 wrong usage or settings, 3
//! network.

use std::fmt::Display;
use std::process::ExitCode;

/// Wrong usage or settings.
pub(crate) const USAGE: u8 = 2;

/// Nobody was reached, or no answer came in time.
pub(crate) const NETWORK: u8 = 3;

/// Says what failed, and is 1.
pub(crate) fn failed(what: impl Display) -> ExitCode {
    eprintln!("error: {what}");
    ExitCode::FAILURE
}

/// Says what is wrong with the settings, and is 2.
pub(crate) fn unusable(what: impl Display) -> ExitCode {
    eprintln!("error: {what}");
    ExitCode::from(USAGE)
}
