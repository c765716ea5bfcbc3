//! Where requests go: the edge's URL and the target, signed as the bytes that are sent.

use std::fmt;

use edgeward_wire::target;
use reqwest::Url;

use crate::{Error, Result};

/// A request target (RFC 9112, section 3.2.1) that every parser reads alike.
///
/// What the edge would call ambiguous is refused here as well, and never tidied: a target that was
/// changed on the way would no longer be what was asked for, or what was signed.
///
/// ```
/// use edgeward_client::Target;
/// assert!(Target::parse("/v1/chat?stream=true").is_ok());
/// assert!(Target::parse("/v1/../admin").is_err());
/// assert!(Target::parse("/v1/%63hat").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(String);

impl Target {
    /// Reads a path that begins with a slash, with a query or without.
    ///
    /// # Errors
    /// When it is ambiguous or over 8 KiB, or holds a byte that must be escaped.
    pub fn parse(text: &str) -> Result<Self> {
        match target::check(text) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(why) => Err(Error::Invalid(format!("target {text:?}: {why}"))),
        }
    }

    /// The target as it is sent and signed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL of an edge: scheme, host and port, and the base path that all targets stand under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeUrl {
    origin: Url,
    base_path: String,
}

impl EdgeUrl {
    /// Reads `https://edge.example.com` or `https://edge.example.com/functions/v1`.
    ///
    /// # Errors
    /// When it is no http or https URL, or has user, query or fragment.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| Error::Invalid(format!("the edge's URL {text:?}: {why}"));
        let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(refused("must be http:// or https:// and a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("must not hold a user or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("must not hold a query or fragment"));
        }
        let base_path = url.path().trim_end_matches('/').to_owned();
        if !base_path.is_empty() {
            Target::parse(&base_path)?;
        }
        let mut origin = url;
        origin.set_path("");
        Ok(Self { origin, base_path })
    }

    /// The base path, empty or beginning with a slash and not ending with one.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Whether what is sent can be read on the way: plain HTTP to another machine.
    pub fn is_exposed(&self) -> bool {
        let host = self.origin.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = host == "localhost"
            || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.origin.scheme() == "http" && !loopback
    }

    /// The URL for `target`, and the whole target as it goes on the wire and into the signature.
    ///
    /// # Errors
    /// When the URL library would send other bytes than the target's.
    pub(crate) fn locate(&self, target: &Target) -> Result<(Url, String)> {
        let wanted = format!("{}{target}", self.base_path);
        // Joined as text: setting path and query apart would escape them once more.
        let text = format!("{}{wanted}", self.origin.as_str().trim_end_matches('/'));
        let url = Url::parse(&text).map_err(|error| Error::Invalid(error.to_string()))?;
        let sent = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        if sent != wanted {
            return Err(Error::Invalid(format!(
                "target {wanted:?} would be sent as {sent:?}; write it that way"
            )));
        }
        Ok((url, sent))
    }
}

impl fmt::Display for EdgeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin.as_str().trim_end_matches('/'), self.base_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_targets_are_refused_not_tidied() {
        for bad in [
            "",
            "v1",
            "http://x/y",
            "//x",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/a\\b",
            "/a;v=1",
            "/%41",
            "/%2e%2e/x",
            "/%2f",
            "/%5C",
            "/%00",
            "/%252f",
            "/%25",
            "/%",
            "/%4",
            "/%zz",
            "/a?x=%",
            "/a?x=%00",
            "/a#b",
            "/a?b#c",
            "/a b",
            "/é",
            "/a\n",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Target::parse(&format!("/{}", "a".repeat(8191))).is_ok());
        assert!(Target::parse(&format!("/{}", "a".repeat(8192))).is_err());
    }

    #[test]
    fn what_is_signed_is_what_the_url_library_sends() {
        let edge = EdgeUrl::parse("http://127.0.0.1:8600/functions/v1/").unwrap();
        for good in
            ["/", "/v1/", "/v1/x?limit=10&after=a%20b", "/a%20b/..c", "/?", "/q?p=/../x//y;z%2f%25"]
        {
            let (url, sent) = edge.locate(&Target::parse(good).unwrap()).unwrap();
            assert_eq!(sent, format!("/functions/v1{good}"));
            assert_eq!(url.as_str(), format!("http://127.0.0.1:8600/functions/v1{good}"));
        }
        // The URL library would escape these by itself.
        for rewritten in ["/a\"b", "/a<b", "/{x}", "/q?a='b'", "/q?a=<b>", "/a`b"] {
            let target = Target::parse(rewritten).unwrap();
            assert!(edge.locate(&target).is_err(), "{rewritten}");
        }
    }

    #[test]
    fn the_url_of_an_edge_has_a_base_path_and_nothing_else() {
        let edge = EdgeUrl::parse("https://edge.example.com").unwrap();
        assert_eq!((edge.base_path(), edge.to_string().as_str()), ("", "https://edge.example.com"));
        let edge = EdgeUrl::parse("http://[::1]:8600/a/b/").unwrap();
        assert_eq!(edge.base_path(), "/a/b");
        assert_eq!(edge.to_string(), "http://[::1]:8600/a/b");
        for bad in ["edge", "ftp://x", "http://u:p@x", "http://x?y", "http://x#y", "http://x/a;b"] {
            assert!(EdgeUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn plain_http_is_exposed_unless_it_stays_on_the_machine() {
        for (url, exposed) in [
            ("http://127.0.0.1:1", false),
            ("http://[::1]:1", false),
            ("http://localhost:1", false),
            ("https://edge.example.com", false),
            ("http://edge.example.com", true),
            ("http://10.0.0.1", true),
            ("http://localhost.example.com", true),
        ] {
            assert_eq!(EdgeUrl::parse(url).unwrap().is_exposed(), exposed, "{url}");
        }
    }
}
