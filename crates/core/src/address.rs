//! Address lists, and the client's address behind trusted proxies.

use std::net::IpAddr;

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

/// The client's address: the socket's peer, or, when that is a trusted proxy, the right-most
/// address of `X-Forwarded-For` that is not one itself.
///
/// `forwarded_for` holds the values of all `X-Forwarded-For` lines in their order. An entry that is
/// no address ends the walk: what stands left of it was written by nobody we trust.
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
        let Ok(address) = entry.trim().parse::<IpAddr>() else {
            break;
        };
        client = address.to_canonical();
        if !trusted.contains(client) {
            break;
        }
    }
    client
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
        assert_eq!(of("10.0.0.1", &["6.6.6.6, nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
    }
}
