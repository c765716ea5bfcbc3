//! What is wrong with a set of settings, said so that it can be put right.

use std::fmt;

use serde::Serialize;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The edge starts, and says so.
    Warning,
    /// The edge does not start.
    Error,
}

/// One thing that is wrong with one setting. No field ever holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The setting's name, or a path into the file such as `routes[2].upstream[0]`.
    pub setting: String,
    /// Whether it stops the start.
    pub level: Level,
    /// What stands there now, and where it came from.
    pub found: String,
    /// What may stand there.
    pub expected: String,
    /// One sentence in the imperative.
    pub what_to_do: String,
}

impl Finding {
    pub(crate) fn error(
        setting: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self {
            setting: setting.into(),
            level: Level::Error,
            found: found.into(),
            expected: expected.into(),
            what_to_do: what_to_do.into(),
        }
    }

    pub(crate) fn warning(
        setting: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warning, ..Self::error(setting, found, expected, what_to_do) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: found {}; expected {}. {}",
            self.setting, self.found, self.expected, self.what_to_do
        )
    }
}

/// Every fault of a set of settings, in one message. Never empty, and never with a secret's value in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(Vec<Finding>);

impl Faults {
    pub(crate) fn new(findings: Vec<Finding>) -> Self {
        Self(findings)
    }

    /// The faults, in the order of the reference page.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "fault" } else { "faults" };
        write!(f, "{} {noun} in the settings:", self.0.len())?;
        for (index, finding) in self.0.iter().enumerate() {
            write!(f, "\n  {}. {finding}", index + 1)?;
        }
        Ok(())
    }
}

/// A value as it may be shown: quoted, control characters escaped, cut at 80 characters.
pub(crate) fn quoted(raw: &str) -> String {
    let mut shown: String = raw.chars().take(80).collect();
    if shown.len() < raw.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::{Faults, Finding, quoted};

    #[test]
    fn every_fault_is_numbered() {
        let faults = Faults::new(vec![
            Finding::error("A", "1", "2", "Do it."),
            Finding::error("B", "3", "4", "Do that."),
        ]);
        assert_eq!(
            faults.to_string(),
            "2 faults in the settings:\n  1. A: found 1; expected 2. Do it.\n  2. B: found 3; expected 4. Do that."
        );
    }

    #[test]
    fn shown_values_are_escaped_and_bounded() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert!(quoted(&"x".repeat(500)).chars().count() < 90);
    }
}
