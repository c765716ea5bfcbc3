//! The request target, checked as it came over the wire: one that two parsers could read
//! differently is refused, never tidied.

use http::Uri;

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetFault {
    /// Longer than [`MAX_TARGET`] bytes.
    TooLong,
    /// Not origin-form, or holding bytes that no target has.
    Malformed(&'static str),
    /// Two parsers could read it differently.
    Ambiguous(&'static str),
}

impl std::fmt::Display for TargetFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => f.write_str("the target is longer than 8 KiB"),
            Self::Malformed(what) => f.write_str(what),
            Self::Ambiguous(what) => {
                write!(f, "it holds {what}, which two parsers could read differently")
            }
        }
    }
}

/// The longest target that is accepted, in bytes.
pub const MAX_TARGET: usize = 8 * 1024;

/// Path and query of `uri` as sent; for absolute-form too (RFC 9112, section 3.2.2).
pub fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str)
}

/// Checks a raw path and query (RFC 3986, sections 3.3, 3.4 and 6.2.2).
///
/// # Errors
/// See [`TargetFault`].
pub fn check(target: &str) -> Result<(), TargetFault> {
    use TargetFault::{Ambiguous, Malformed, TooLong};
    if target.len() > MAX_TARGET {
        return Err(TooLong);
    }
    if !target.starts_with('/') {
        return Err(Malformed("the target must begin with a slash"));
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Malformed("the target holds a byte that must be escaped"));
    }
    if target.contains('#') {
        return Err(Ambiguous("a fragment"));
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    check_path(path)?;
    query.map_or(Ok(()), check_query)
}

fn check_path(path: &str) -> Result<(), TargetFault> {
    use TargetFault::Ambiguous;
    if path.contains("//") {
        return Err(Ambiguous("an empty segment"));
    }
    if path.contains('\\') {
        return Err(Ambiguous("a backslash, or a fragment"));
    }
    if path.contains(';') {
        return Err(Ambiguous("a semicolon"));
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(Ambiguous("a dot segment"));
    }
    for escape in escapes(path) {
        match escape {
            None => return Err(Ambiguous("an invalid escape")),
            Some(0) => return Err(Ambiguous("an escaped NUL")),
            Some(b'/' | b'\\') => return Err(Ambiguous("an escaped separator")),
            Some(b'%') => return Err(Ambiguous("a doubly escaped form")),
            Some(byte) if is_unreserved(byte) => {
                return Err(Ambiguous("an escape of an unreserved character"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn check_query(query: &str) -> Result<(), TargetFault> {
    for escape in escapes(query) {
        match escape {
            None => return Err(TargetFault::Ambiguous("an invalid escape in the query")),
            Some(0) => return Err(TargetFault::Ambiguous("an escaped NUL in the query")),
            Some(_) => {}
        }
    }
    Ok(())
}

/// The byte of each `%xx`; `None` for one that is cut short or not hexadecimal.
fn escapes(text: &str) -> impl Iterator<Item = Option<u8>> + '_ {
    text.split('%').skip(1).map(|rest| {
        let digits = rest.as_bytes().first_chunk::<2>()?;
        let value = |digit: u8| char::from(digit).to_digit(16);
        u8::try_from(value(digits[0])? * 16 + value(digits[1])?).ok()
    })
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_targets_pass() {
        for good in [
            "/",
            "/v1/ping",
            "/v1/",
            "/v1/agents?limit=10&after=a%20b&x=%C3%A9",
            "/a%20b/c",
            "/a.b/..c/d..",
            "/q?path=/../x//y;z\\%2f%2F%5c%25",
            "/v1/a:b@c,d=e+f!$&'()*~",
            "/?",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_ambiguous() {
        for bad in [
            "//",
            "//evil/x",
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/a/.",
            "/..",
            "/a\\b",
            "/a;b",
            "/a;v=1/b",
            "/%41",
            "/%61",
            "/%2e%2e/x",
            "/%2E",
            "/%7e",
            "/%2f",
            "/%2F",
            "/%5c",
            "/%5C",
            "/%00",
            "/%252f",
            "/%25",
            "/%2541",
            "/%",
            "/%2",
            "/%zz",
            "/%+1",
            "/a?x=%",
            "/a?x=%0",
            "/a?x=%g0",
            "/a?x=%00",
            "/a#b",
            "/a?b#c",
        ] {
            assert!(
                matches!(check(bad), Err(TargetFault::Ambiguous(_))),
                "{bad}: {:?}",
                check(bad)
            );
        }
    }

    #[test]
    fn other_forms_are_malformed() {
        for bad in ["", "*", "a", "http://h/x", "/a b", "/é", "/\u{7f}", "/a\tb"] {
            assert!(matches!(check(bad), Err(TargetFault::Malformed(_))), "{bad}");
        }
        let long = format!("/{}", "a".repeat(MAX_TARGET));
        assert_eq!(check(&long), Err(TargetFault::TooLong));
        assert_eq!(check(&long[..MAX_TARGET]), Ok(()));
    }
}
