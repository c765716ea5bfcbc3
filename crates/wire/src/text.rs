//! Text that must not be shown, of whatever form.

use std::fmt;

use zeroize::Zeroizing;

/// A secret as text: wiped when dropped, masked in `Debug` and `Display`.
///
/// It has no `Serialize`, so that it reaches no file or answer unless somebody says `expose`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(***)")
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Zeroizing<String>> for SecretText {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::SecretText;

    #[test]
    fn a_secret_shows_itself_only_when_asked_to() {
        let secret = SecretText::new("correct horse".into());
        assert_eq!(format!("{secret} {secret:?}"), "*** SecretText(***)");
        assert_eq!(secret.expose(), "correct horse");
    }
}
