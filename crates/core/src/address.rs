//! Address lists, and the client's address behind trusted proxies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;

/// A set of networks. Looking an address up costs the same for one network as for thousands.
#[derive(Clone, Default)]
pub struct AddressList {
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
    restricts: bool,
}

impl AddressList {
    /// From networks; none means that the list restricts nothing.
    pub fn new(networks: &[IpNet]) -> Self {
        let mut list = Self { restricts: !networks.is_empty(), ..Self::default() };
        for network in networks {
            match network {
                IpNet::V4(network) => drop(list.v4.insert(network.trunc())),
                IpNet::V6(network) => drop(list.v6.insert(network.trunc())),
            }
        }
        list
    }

    /// Whether `address` lies in one of the networks, or there are none.
    pub fn allows(&self, address: IpAddr) -> bool {
        !self.restricts || self.contains(address)
    }

    /// Whether `address` lies in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).is_some(),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).is_some(),
        }
    }

    /// Whether the list has no network.
    pub fn is_empty(&self) -> bool {
        !self.restricts
    }
}

impl std::fmt::Debug for AddressList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.v4.iter()).entries(self.v6.iter()).finish()
    }
}

/// What stands for a client whose proxy names it in a form that cannot be read: no list of networks
/// that somebody wrote for their own machines contains it.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The client's address: the socket's peer, or, when that is a trusted proxy, the right-most
/// address of `X-Forwarded-For` that is not one itself.
///
/// `forwarded_for` holds the values of all `X-Forwarded-For` lines in their order. An entry is an
/// address, with a port or without (as in RFC 7239, section 6). One that is no address ends the
/// walk: what stands left of it was written by nobody we trust, and the client is unknown,
/// `0.0.0.0`. It never counts as the proxy.
pub fn client_address<'a>(
    peer: IpAddr,
    forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &AddressList,
) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return peer;
    }
    let mut client = peer;
    for entry in forwarded_for.rev().flat_map(|line| line.rsplit(',')) {
        let Some(address) = node_address(entry.trim()) else {
            return UNKNOWN;
        };
        client = address;
        if !trusted.contains(client) {
            break;
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn node_address(text: &str) -> Option<IpAddr> {
    let bracketed = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
        .or_else(bracketed)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(networks: &[&str]) -> AddressList {
        AddressList::new(
            &networks.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>(),
        )
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_contains_its_networks_and_nothing_else() {
        let some = list(&["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
        for inside in ["10.255.0.1", "192.0.2.7", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(some.allows(ip(inside)), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::1"] {
            assert!(!some.allows(ip(outside)), "{outside}");
        }
        assert!(list(&[]).allows(ip("203.0.113.1")));
        assert!(!list(&[]).contains(ip("203.0.113.1")));
    }

    #[test]
    fn host_bits_of_a_network_do_not_matter() {
        assert!(list(&["10.1.2.3/8"]).allows(ip("10.9.9.9")));
    }

    #[test]
    fn forwarded_for_is_believed_from_the_right_and_from_trusted_proxies_only() {
        let trusted = list(&["10.0.0.0/8"]);
        let of = |peer: &str, lines: &[&str]| {
            client_address(ip(peer), lines.iter().copied(), &trusted).to_string()
        };
        assert_eq!(of("203.0.113.9", &["1.1.1.1"]), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(of("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"]), "1.1.1.1");
        assert_eq!(of("10.0.0.1", &["6.6.6.6", "1.1.1.1"]), "1.1.1.1");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_port_beside_a_forwarded_address_is_passed_over() {
        let trusted = list(&["10.0.0.0/8"]);
        for (entry, client) in [
            ("1.2.3.4:567", "1.2.3.4"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
            ("6.6.6.6, 1.2.3.4:567, 10.0.0.2:81", "1.2.3.4"),
        ] {
            let read = client_address(ip("10.0.0.1"), std::iter::once(entry), &trusted);
            assert_eq!(read, ip(client), "{entry}");
        }
    }

    #[test]
    fn a_client_that_cannot_be_read_is_unknown_and_never_the_proxy() {
        let trusted = list(&["10.0.0.0/8"]);
        for entry in [
            "nonsense",
            "unknown",
            "",
            "10.0.0.7, ",
            "6.6.6.6, nonsense, 10.0.0.2",
            "1.2.3.4:",
            "1.2.3.4:99999",
            "[1.2.3.4]",
            "[10.0.0.3",
            "2001:db8::1]:80",
            "_hidden",
        ] {
            let read = client_address(ip("10.0.0.1"), std::iter::once(entry), &trusted);
            assert_eq!(read, UNKNOWN, "{entry}");
            assert!(!trusted.contains(read));
        }
    }
}
