//! Address ranges that one party may have to itself. Resources that strangers can claim are counted per range, so that
//! one computer alone cannot take the places of all others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Multiaddr;
use crate::dial::{carried_v4, ip_of};

/// Number of places of a site, as a multiple of those of one network.
const NETWORKS_OF_A_SITE: usize = 2;

/// An address range that one party may have to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// One IPv4 address.
    V4(Ipv4Addr),
    /// One link-local address (`fe80::/10`). Each neighbour has its own, and the prefix belongs to none of them.
    Neighbour(Ipv6Addr),
    /// The first 64 bits: the prefix from which one computer may choose its addresses.
    V6([u16; 4]),
    /// The first 48 bits: the prefix that a provider assigns to one customer.
    Site([u16; 3]),
}

impl Network {
    /// Returns the networks that contain an address: two for most IPv6 addresses, none for loopback or without an IP.
    pub fn of(address: &Multiaddr) -> Vec<Self> {
        match ip_of(address).map(|ip| ip.to_canonical()) {
            Some(ip) if ip.is_loopback() => Vec::new(),
            Some(IpAddr::V4(ip)) => vec![Self::V4(ip)],
            Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() => vec![Self::Neighbour(ip)],
            Some(IpAddr::V6(ip)) => {
                let carried = carried_v4(ip);
                if !carried.is_empty() {
                    // An IPv4 address carried in IPv6, as behind NAT64, counts like a plain one.
                    return carried.into_iter().map(Self::V4).collect();
                }
                let [a, b, c, d, ..] = ip.segments();
                vec![Self::V6([a, b, c, d]), Self::Site([a, b, c])]
            }
            None => Vec::new(),
        }
    }

    /// Returns the number of places of this network, where a single address has `of_one`.
    pub fn share(self, of_one: usize) -> usize {
        match self {
            Self::V4(_) | Self::Neighbour(_) | Self::V6(_) => of_one,
            Self::Site(_) => of_one.saturating_mul(NETWORKS_OF_A_SITE),
        }
    }
}

/// True if each of `networks` has a free place, where a single address has `of_one`. `taken` are the networks of each
/// holder of a place.
pub fn has_room(
    networks: &[Network],
    taken: impl IntoIterator<Item: AsRef<[Network]>>,
    of_one: usize,
) -> bool {
    let mut counts = vec![0; networks.len()];
    for other in taken {
        for (count, network) in counts.iter_mut().zip(networks) {
            *count += usize::from(other.as_ref().contains(network));
        }
    }
    let mut counted = counts.into_iter().zip(networks);
    counted.all(|(count, network)| count < network.share(of_one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_that_is_full_is_enough() {
        let (here, there) = (
            of("/ip6/2001:db8::1/tcp/1"),
            of("/ip6/2001:db8:0:1::1/tcp/1"),
        );
        assert!(has_room(&here, [&[]; 0], 1) && !has_room(&here, [&here], 1));
        // A site has twice as many places.
        assert!(has_room(&there, [&here], 1));
        assert!(!has_room(&there, [&here, &here], 1));
        let twice = [here.clone(), here.clone()].concat();
        assert!(has_room(&there, [&twice], 1), "one place is counted once");
        assert!(has_room(&[], [&here], 0), "this machine");
    }

    fn of(address: &str) -> Vec<Network> {
        Network::of(&address.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_party_are_in_one_network() {
        let v4 = of("/ip4/192.0.2.1/tcp/1");
        assert_eq!(v4, of("/ip4/192.0.2.1/udp/2/quic-v1"));
        assert_eq!(v4, of("/ip6/::ffff:192.0.2.1/tcp/1"));
        assert_eq!(v4, of("/ip6/64:ff9b::192.0.2.1/tcp/1"));
        assert_ne!(v4, of("/ip4/192.0.2.2/tcp/1"));
        let (here, there) = (of("/ip6/2001:db8::1/tcp/1"), of("/ip6/2001:db8::2/tcp/1"));
        assert_eq!(here, there);
        let next_door = of("/ip6/2001:db8:0:1::1/tcp/1");
        assert_ne!(here[0], next_door[0]);
        assert_eq!(here[1], next_door[1]);
        assert_eq!(
            here.iter().map(|of| of.share(3)).collect::<Vec<_>>(),
            [3, 6]
        );
    }

    #[test]
    fn this_machine_and_what_has_no_address_is_in_none() {
        for address in ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/memory/1"] {
            assert_eq!(of(address), []);
        }
    }
}
