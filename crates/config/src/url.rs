//! URLs as settings hold them: an origin, perhaps a path and a query, never a user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// The parts of an `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl {
    pub(crate) tls: bool,
    /// IPv6 in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Begins with a slash.
    pub(crate) path: String,
    pub(crate) has_query: bool,
}

impl HttpUrl {
    /// Reads one; the error says what the matter is, without the URL.
    pub(crate) fn read(raw: &str) -> Result<Self, &'static str> {
        if raw.contains('#') {
            return Err("it has a fragment");
        }
        if raw.contains('@') {
            return Err("it names a user or a password");
        }
        let uri: Uri = raw.parse().map_err(|_| "it is not a URL")?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err("it does not begin with http:// or https://"),
        };
        let host = uri.host().unwrap_or_default();
        if !is_host(host) {
            return Err("its host is not a name or an address");
        }
        let port = match uri.authority().map(|authority| authority.as_str()) {
            Some(authority) if authority == host => default_port(tls),
            _ => uri
                .port_u16()
                .filter(|port| *port > 0)
                .ok_or("its port is not a number from 1 to 65535")?,
        };
        Ok(Self {
            tls,
            host: host.to_ascii_lowercase(),
            port,
            path: uri.path().to_owned(),
            has_query: uri.query().is_some(),
        })
    }

    /// The host as an address, if it is one; `localhost` counts as 127.0.0.1.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        address(&self.host)
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Whether a host in lower case, IPv6 in brackets or not, is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    address(host).is_some_and(|address| address.is_loopback())
}

fn address(host: &str) -> Option<IpAddr> {
    let host = host.trim_end_matches('.');
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    bracketed(host).unwrap_or(host).parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

pub(crate) fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// A DNS name, an IPv4 address in its one usual form, or an IPv6 address in brackets. A name whose last label is a number
/// is refused: resolvers read `127.1` and `0x7f.1` as addresses.
pub(crate) fn is_host(host: &str) -> bool {
    if let Some(inner) = bracketed(host) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    let name = host.trim_end_matches('.');
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(legal) {
        return false;
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.starts_with(|first: char| first.is_ascii_digit())
        && last
            .trim_start_matches("0x")
            .trim_start_matches("0X")
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit());
    if numeric { name.parse::<Ipv4Addr>().is_ok() } else { !name.split('.').any(str::is_empty) }
}

/// The scheme of a URL, if it is one whose name says nothing.
pub(crate) fn known_scheme(raw: &str) -> Option<&str> {
    const KNOWN: [&str; 11] = [
        "http",
        "https",
        "sqlite",
        "postgres",
        "postgresql",
        "redis",
        "rediss",
        "redis-sentinel",
        "rediss-sentinel",
        "redis-cluster",
        "rediss-cluster",
    ];
    raw.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| KNOWN.contains(scheme))
}

#[cfg(test)]
mod tests {
    use super::HttpUrl;

    #[test]
    fn the_parts_of_a_url() {
        let url = HttpUrl::read("https://Example.org/a?b=c").expect("a URL");
        assert_eq!((url.tls, url.host.as_str(), url.port), (true, "example.org", 443));
        assert_eq!((url.path.as_str(), url.has_query), ("/a", true));
        let url = HttpUrl::read("http://[::1]:9000").expect("a URL");
        assert_eq!((url.host.as_str(), url.port), ("[::1]", 9000));
        assert!(url.is_loopback());
    }

    #[test]
    fn what_is_no_url_of_ours() {
        for raw in [
            "",
            "example.org",
            "/path",
            "ftp://example.org",
            "http://",
            "http://user@example.org",
            "http://user:pw@example.org:80",
            "http://example.org/#f",
            "http://example.org:0",
            "http://example.org:",
            "http://example.org:99999",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.0.0.0x1",
            "http://a..b",
            "http://a!b",
            "http://exa mple",
        ] {
            assert!(HttpUrl::read(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn loopback_in_all_its_spellings() {
        for (raw, expected) in [
            ("http://localhost", true),
            ("http://LOCALHOST.", true),
            ("http://x.localhost:1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.org", false),
        ] {
            assert_eq!(HttpUrl::read(raw).expect(raw).is_loopback(), expected, "{raw}");
        }
    }
}
