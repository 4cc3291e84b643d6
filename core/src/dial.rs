//! Which addresses of a code are dialled.
//!
//! A code comes from somebody else. Dialled unchecked, its addresses could make this machine connect to its own services,
//! to its router or to whole networks. So only plain addresses of other machines are dialled, or of relays that lead
//! there, and only a limited number.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use multiaddr::Protocol;

use crate::engine::PathKind;
use crate::limits::Limits;
use crate::{Multiaddr, PeerId};

/// A code's addresses, sorted into those to dial and those to refuse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vetted {
    /// Addresses to dial, in the code's order, without duplicates, at most `limits.addresses`.
    pub dial: Vec<Multiaddr>,
    /// Addresses that are not dialled, with the reason.
    pub refused: Vec<(Multiaddr, Refused)>,
}

/// Why an address of a code is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not `/ip4|ip6/…/tcp/…`, `/ip4|ip6/…/udp/…/quic-v1` or `/memory/…`, nor one of these followed by
    /// `/p2p/…/p2p-circuit`.
    #[error("this kind of address is not supported")]
    Unsupported,
    /// This machine itself, without the user's permission to dial it.
    #[error("the address is this machine itself")]
    Loopback,
    /// `0.0.0.0/8` or `::`.
    #[error("the address names no machine")]
    Unspecified,
    /// `169.254.0.0/16` or `fe80::/10`.
    #[error("the address holds on one network cable only")]
    LinkLocal,
    /// `224.0.0.0/4` or `ff00::/8`.
    #[error("the address is a group of machines")]
    Multicast,
    /// `255.255.255.255`.
    #[error("the address is every machine of a network")]
    Broadcast,
    /// Port 0.
    #[error("the address has no port")]
    PortZero,
    /// More addresses than the limit.
    #[error("the code has too many addresses")]
    TooMany,
}

/// Sorts the addresses of a code. `allow_loopback` is the user's permission to dial this machine.
pub fn vet(addresses: &[Multiaddr], allow_loopback: bool, limits: &Limits) -> Vetted {
    let mut vetted = Vetted::default();
    for address in addresses {
        if vetted.dial.contains(address) {
            continue;
        }
        match judge(address, allow_loopback) {
            Ok(()) if vetted.dial.len() < limits.addresses => vetted.dial.push(address.clone()),
            Ok(()) => vetted.refused.push((address.clone(), Refused::TooMany)),
            Err(refused) => vetted.refused.push((address.clone(), refused)),
        }
    }
    vetted
}

/// Explains to the user why there is nothing to dial.
pub fn explain_none(refused: &[(Multiaddr, Refused)]) -> String {
    if refused.is_empty() {
        return "the code names no address".to_string();
    }
    if refused.iter().all(|(_, why)| *why == Refused::Loopback) {
        return "the code only names this machine itself; to allow that, use --loopback"
            .to_string();
    }
    let why = refused.first().map(|(_, why)| why.to_string());
    format!(
        "none of the code's addresses can be dialled: {}",
        why.unwrap_or_default()
    )
}

/// Addresses by transport, each kind in its original order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    /// Direct, over TCP.
    pub tcp: Vec<Multiaddr>,
    /// Direct, over QUIC.
    pub quic: Vec<Multiaddr>,
    /// Through a relay.
    pub relayed: Vec<Multiaddr>,
}

/// Sorts addresses by transport. Unsupported ones are left out.
pub fn ways(addresses: &[Multiaddr]) -> Ways {
    let mut ways = Ways::default();
    for address in addresses {
        let way = match (is_relayed(address), endpoint(address)) {
            (_, None) => continue,
            (true, _) => &mut ways.relayed,
            (false, Some((_, Transport::Tcp, _))) => &mut ways.tcp,
            (false, Some((_, Transport::Quic, _))) => &mut ways.quic,
        };
        way.push(address.clone());
    }
    ways
}

/// Address kinds among which [`of_each_kind`] alternates: relayed or not, QUIC or not, IPv6 or not.
type Kind = (bool, bool, bool);

fn kind(address: &Multiaddr) -> Kind {
    let is_quic = |part: Protocol<'_>| matches!(part, Protocol::QuicV1 | Protocol::Quic);
    let is_ipv6 = matches!(
        address.iter().next(),
        Some(Protocol::Ip6(_) | Protocol::Dns6(_))
    );
    (is_relayed(address), address.iter().any(is_quic), is_ipv6)
}

/// Returns at most `most` of these addresses without duplicates: the first of each kind (relayed or direct, TCP or QUIC,
/// IPv4 or IPv6), then the second of each, and so on. Otherwise, where many of one kind come first, the only address
/// that works may be the last, and other peers may read only the first few.
pub fn of_each_kind(addresses: impl IntoIterator<Item = Multiaddr>, most: usize) -> Vec<Multiaddr> {
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, Multiaddr)> = Vec::new();
    for address in addresses {
        if !turns.iter().any(|(_, known)| *known == address) {
            let turn = counts.entry(kind(&address)).or_default();
            turns.push((*turn, address));
            *turn += 1;
        }
    }
    turns.sort_by_key(|(turn, _)| *turn);
    let chosen = turns.into_iter().take(most);
    chosen.map(|(_, address)| address).collect()
}

/// Groups relayed addresses by relay, in the order in which the relays first appear. Direct addresses are left out.
pub fn by_relay(addresses: Vec<Multiaddr>) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let mut relays: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
    for address in addresses {
        let Some(relay) = relay_of(&address) else {
            continue;
        };
        match relays.iter_mut().find(|(known, _)| *known == relay) {
            Some((_, known)) => known.push(address),
            None => relays.push((relay, vec![address])),
        }
    }
    relays
}

/// Returns the IP address at the start of a multiaddress: the one that is dialled.
pub fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Returns the relay of the relayed addresses, if there are any and all have the same one.
pub(crate) fn only_relay(addresses: &[Multiaddr]) -> Option<PeerId> {
    let mut relays = addresses.iter().filter_map(relay_of);
    let first = relays.next()?;
    relays.all(|relay| relay == first).then_some(first)
}

/// Returns the relay that an address leads through.
pub fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut last = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => last = Some(peer),
            Protocol::P2pCircuit => return last,
            _ => {}
        }
    }
    None
}

/// True if an address leads through a relay.
pub fn is_relayed(address: &Multiaddr) -> bool {
    address
        .iter()
        .any(|part| matches!(part, Protocol::P2pCircuit))
}

/// True if an IP address is valid only inside one network or machine (per the IANA registries of special-purpose
/// addresses), or embeds such an IPv4 address.
pub fn is_inside(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            // Carrier-grade NAT; also used by many VPNs.
            let is_shared = a == 100 && b & 0xc0 == 64;
            let is_special = (a, b, c) == (192, 0, 0) || (a == 198 && b & 0xfe == 18);
            let is_local = ip.is_private() || ip.is_loopback() || ip.is_link_local();
            is_local || is_shared || is_special
        }
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            // Site-local addresses are deprecated, and NAT64 addresses belong to the local network.
            let is_site_local = first & 0xffc0 == 0xfec0;
            let is_translated = (first, second) == (0x64, 0xff9b);
            let is_local = ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local();
            let mut carried = carried_v4(ip).into_iter();
            is_local || is_site_local || is_translated || carried.any(|ip| is_inside(ip.into()))
        }
    }
}

/// Returns the kind of path to a peer, from the peer's address.
pub fn path_kind(address: &Multiaddr) -> PathKind {
    if is_relayed(address) {
        return PathKind::Relayed;
    }
    let ip = address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(unmapped(ip)),
        // Both ends are in the same process.
        Protocol::Memory(_) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => None,
    });
    match ip {
        Some(ip) if ip.is_loopback() => PathKind::Loopback,
        Some(IpAddr::V4(ip)) if ip.is_private() || ip.is_link_local() => PathKind::Lan,
        Some(IpAddr::V6(ip)) if ip.is_unique_local() || ip.is_unicast_link_local() => PathKind::Lan,
        _ => PathKind::Direct,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Quic,
}

/// Splits an address of a supported shape into its parts. For a relayed address these are the relay's.
fn endpoint(address: &Multiaddr) -> Option<(IpAddr, Transport, u16)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        // The in-memory transport: a stream inside this process, treated as loopback.
        Protocol::Memory(port) => {
            let alone = ends(parts);
            let port = u16::from(port != 0);
            return alone.then_some((IpAddr::V4(Ipv4Addr::LOCALHOST), Transport::Tcp, port));
        }
        _ => return None,
    };
    let (transport, port) = match parts.next()? {
        Protocol::Tcp(port) => (Transport::Tcp, port),
        Protocol::Udp(port) if parts.next() == Some(Protocol::QuicV1) => (Transport::Quic, port),
        _ => return None,
    };
    ends(parts).then_some((ip, transport, port))
}

/// True if nothing is left of an address but an optional relay suffix.
fn ends<'a>(mut parts: impl Iterator<Item = Protocol<'a>>) -> bool {
    let rest = (parts.next(), parts.next(), parts.next());
    matches!(
        rest,
        (None, ..) | (Some(Protocol::P2p(_)), Some(Protocol::P2pCircuit), None)
    )
}

fn judge(address: &Multiaddr, allow_loopback: bool) -> Result<(), Refused> {
    let (ip, _, port) = endpoint(address).ok_or(Refused::Unsupported)?;
    if port == 0 {
        return Err(Refused::PortZero);
    }
    match ip {
        IpAddr::V4(ip) => judge_v4(ip, allow_loopback),
        IpAddr::V6(ip) => judge_v6(ip, allow_loopback),
    }
}

fn judge_v4(ip: Ipv4Addr, allow_loopback: bool) -> Result<(), Refused> {
    if ip.is_loopback() && !allow_loopback {
        Err(Refused::Loopback)
    } else if ip.is_link_local() {
        Err(Refused::LinkLocal)
    } else {
        no_machine(ip.into()).map_or(Ok(()), Err)
    }
}

fn judge_v6(ip: Ipv6Addr, allow_loopback: bool) -> Result<(), Refused> {
    if ip.is_loopback() {
        return if allow_loopback {
            Ok(())
        } else {
            Err(Refused::Loopback)
        };
    }
    if ip.is_unicast_link_local() {
        return Err(Refused::LinkLocal);
    }
    if let Some(refused) = no_machine(ip.into()) {
        return Err(refused);
    }
    let mut inner = embedded_v4(ip).into_iter().chain(carried_v4(ip));
    inner.try_for_each(|ip| judge_v4(ip, allow_loopback))
}

/// Returns why an address does not belong to exactly one machine, or `None` if it does.
pub fn no_machine(ip: IpAddr) -> Option<Refused> {
    match ip {
        // Linux treats 0.0.0.0 as this machine.
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Some(Refused::Unspecified),
        IpAddr::V4(ip) if ip.is_broadcast() => Some(Refused::Broadcast),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(Refused::Unspecified),
        ip if ip.is_multicast() => Some(Refused::Multicast),
        _ => None,
    }
}

/// Returns the IPv4 address that an IPv6 address is another spelling of: mapped (`::ffff:0:0/96`) or compatible (`::/96`).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0, 0, 0, 0, 0, 0 | 0xffff, high, low] = ip.segments() else {
        return None;
    };
    Some(v4(high, low))
}

/// Returns the IPv4 addresses that an IPv6 address leads to: NAT64 with the well-known prefix (`64:ff9b::/96`, RFC 6052)
/// or the local-use one (`64:ff9b:1::/48`, RFC 8215, in which each network chooses its own /96), 6to4 (`2002::/16`,
/// RFC 3056), or Teredo (`2001::/32`, RFC 4380), whose server and client are both returned.
pub fn carried_v4(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => vec![v4(high, low)],
        [0x2001, 0, high, low, _, _, hidden_high, hidden_low] => {
            vec![v4(high, low), v4(!hidden_high, !hidden_low)]
        }
        _ => Vec::new(),
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low))
}

fn unmapped(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn verdict(text: &str, allow_loopback: bool) -> Option<Refused> {
        let vetted = vet(&[address(text)], allow_loopback, &Limits::default());
        assert_eq!(vetted.dial.len() + vetted.refused.len(), 1);
        vetted.refused.first().map(|(_, refused)| *refused)
    }

    /// A js-libp2p node returned sixteen addresses of a sharer in alphabetical order. Eight were read, and the ninth was
    /// the only one that the receiver could use.
    #[test]
    fn many_addresses_of_one_kind_leave_room_for_the_others() {
        let quic = (1..=30).map(|host| format!("/ip4/203.0.113.{host}/udp/1/quic-v1"));
        let relayed = format!("/ip4/203.0.113.40/tcp/1/p2p/{PEER}/p2p-circuit");
        let others = ["/ip4/203.0.113.1/tcp/1", "/ip6/2001:db8::1/tcp/1", &relayed];
        let others = others.map(address);
        let all: Vec<_> = quic.map(|text| address(&text)).collect();
        let all = all.iter().chain(&others).cloned();
        let chosen = of_each_kind(all.clone().chain(all), 8);
        assert_eq!(chosen.len(), 8);
        assert!(others.iter().all(|other| chosen[..4].contains(other)));
        assert_eq!(chosen[4], address("/ip4/203.0.113.2/udp/1/quic-v1"));
        assert_eq!(of_each_kind(others.clone(), 8), others);
        assert_eq!(of_each_kind(others, 0), []);
    }

    #[test]
    fn a_relay_is_known_where_there_is_no_other() {
        const OTHER: &str = "12D3KooWEL7nv2Kjeu5EJKGoFuPGEQYKN9YgbLvVcBAGcZPVTVu3";
        let through =
            |relay: &str| address(&format!("/ip4/203.0.113.9/tcp/1/p2p/{relay}/p2p-circuit"));
        let straight = address("/ip4/203.0.113.9/tcp/1");
        let (one, two) = (through(PEER), through(OTHER));
        assert_eq!(only_relay(&[]), None);
        assert_eq!(only_relay(std::slice::from_ref(&straight)), None);
        let both = [straight, one.clone(), one.clone()];
        assert_eq!(only_relay(&both), Some(PEER.parse().unwrap()));
        assert_eq!(only_relay(&[one, two]), None);
    }

    #[test]
    fn addresses_of_other_machines_are_dialled() {
        for text in [
            "/ip4/192.168.1.2/tcp/4000",
            "/ip4/203.0.113.9/udp/4000/quic-v1",
            "/ip6/2001:db8::1/tcp/1",
            "/ip6/fd00::1/udp/65535/quic-v1",
            "/ip6/64:ff9b::203.0.113.9/tcp/1",
            &format!("/ip4/203.0.113.9/tcp/1/p2p/{PEER}/p2p-circuit"),
            &format!("/ip4/203.0.113.9/udp/1/quic-v1/p2p/{PEER}/p2p-circuit"),
        ] {
            assert_eq!(verdict(text, false), None, "{text}");
        }
    }

    /// Row 26.
    #[test]
    fn addresses_that_are_no_other_machine_are_refused() {
        use Refused::*;
        for (text, refused) in [
            ("/ip4/127.0.0.1/tcp/1", Loopback),
            ("/ip4/127.9.9.9/udp/1/quic-v1", Loopback),
            ("/ip6/::1/tcp/1", Loopback),
            ("/ip6/::ffff:127.0.0.1/tcp/1", Loopback),
            ("/ip6/64:ff9b::127.0.0.1/tcp/1", Loopback),
            ("/ip6/2002:7f00:1::/tcp/1", Loopback),
            ("/ip6/::127.0.0.1/tcp/1", Loopback),
            ("/ip4/0.0.0.0/tcp/1", Unspecified),
            ("/ip6/::/tcp/1", Unspecified),
            ("/ip6/::ffff:0.0.0.0/tcp/1", Unspecified),
            ("/ip4/169.254.169.254/tcp/80", LinkLocal),
            ("/ip6/fe80::1/tcp/1", LinkLocal),
            ("/ip6/febf::1/tcp/1", LinkLocal),
            ("/ip6/::ffff:169.254.0.1/tcp/1", LinkLocal),
            ("/ip4/224.0.0.1/udp/1/quic-v1", Multicast),
            ("/ip6/ff02::1/udp/1/quic-v1", Multicast),
            ("/ip6/::ffff:239.0.0.1/tcp/1", Multicast),
            ("/ip4/255.255.255.255/tcp/1", Broadcast),
            ("/ip4/192.168.1.2/tcp/0", PortZero),
            ("/ip4/192.168.1.2/udp/0/quic-v1", PortZero),
            ("/ip4/192.168.1.2", Unsupported),
            ("/ip4/192.168.1.2/udp/1", Unsupported),
            ("/ip4/192.168.1.2/tcp/1/ws", Unsupported),
            ("/ip4/192.168.1.2/udp/1/quic-v1/webtransport", Unsupported),
            ("/dns4/example.org/tcp/1", Unsupported),
            ("/memory/7", Loopback),
        ] {
            assert_eq!(verdict(text, false), Some(refused), "{text}");
        }
        // A relay's address is dialled too.
        for (relay, refused) in [
            ("/ip4/127.0.0.1/tcp/1", Loopback),
            ("/ip4/203.0.113.9/tcp/0", PortZero),
            ("/dns4/example.org/tcp/1", Unsupported),
            ("", Unsupported),
        ] {
            let text = format!("{relay}/p2p/{PEER}/p2p-circuit");
            assert_eq!(verdict(&text, false), Some(refused), "{text}");
        }
        for behind in ["/p2p-circuit", "/tcp/1", &format!("/p2p/{PEER}")] {
            let text = format!("/ip4/203.0.113.9/tcp/1/p2p/{PEER}/p2p-circuit{behind}");
            assert_eq!(verdict(&text, false), Some(Unsupported), "{text}");
        }
    }

    #[test]
    fn loopback_is_dialled_only_where_the_user_allows_it() {
        for text in ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/udp/1/quic-v1"] {
            assert_eq!(verdict(text, true), None);
        }
        assert_eq!(
            verdict("/ip4/0.0.0.0/tcp/1", true),
            Some(Refused::Unspecified)
        );
    }

    /// Row 14, and the thousands of addresses of row 26.
    #[test]
    fn each_address_is_dialled_once_and_only_so_many() {
        let limits = Limits {
            addresses: 3,
            ..Limits::default()
        };
        let numbers: Vec<_> = [1, 1, 2, 3, 2, 4, 5]
            .map(|port| address(&format!("/ip4/192.0.2.1/tcp/{port}")))
            .into();
        let vetted = vet(&numbers, false, &limits);
        assert_eq!(
            vetted.dial,
            [&numbers[0], &numbers[2], &numbers[3]].map(Clone::clone)
        );
        let refused: Vec<_> = vetted.refused.iter().map(|(_, refused)| *refused).collect();
        assert_eq!(refused, [Refused::TooMany, Refused::TooMany]);
        assert!(vet(&numbers[..4], false, &limits).refused.is_empty());
    }

    #[test]
    fn a_code_without_a_good_address_is_explained() {
        let explain = |texts: &[&str]| {
            let addresses: Vec<_> = texts.iter().map(|text| address(text)).collect();
            explain_none(&vet(&addresses, false, &Limits::default()).refused)
        };
        let explained = [
            explain(&[]),
            explain(&["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"]),
            explain(&["/ip4/127.0.0.1/tcp/1", "/dns4/example.org/tcp/1"]),
        ];
        insta::assert_snapshot!(explained.join("\n"));
    }

    #[test]
    fn transports_are_told_apart() {
        let tcp = address("/ip4/192.0.2.1/tcp/1");
        let quic = address("/ip6/2001:db8::1/udp/1/quic-v1");
        let relayed = address(&format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit"));
        let all = [
            quic.clone(),
            address("/dns4/example.org/tcp/1"),
            relayed.clone(),
            tcp.clone(),
        ];
        let sorted = Ways {
            tcp: vec![tcp],
            quic: vec![quic],
            relayed: vec![relayed],
        };
        assert_eq!(ways(&all), sorted);
    }

    #[test]
    fn relays_are_told_apart() {
        const OTHER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
        let at = |port, relay| {
            address(&format!(
                "/ip4/192.0.2.1/tcp/{port}/p2p/{relay}/p2p-circuit"
            ))
        };
        let all = vec![at(1, PEER), at(2, OTHER), at(3, PEER)];
        let relays = by_relay(all);
        let wanted = [
            (PEER.parse().unwrap(), vec![at(1, PEER), at(3, PEER)]),
            (OTHER.parse().unwrap(), vec![at(2, OTHER)]),
        ];
        assert_eq!(relays, wanted);
        let direct = address(&format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}"));
        assert_eq!(relay_of(&direct), None);
    }

    #[test]
    fn an_address_tells_the_kind_of_path() {
        let relay = format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}/p2p-circuit");
        for (text, kind) in [
            ("/ip4/127.0.0.1/tcp/1", PathKind::Loopback),
            ("/ip6/::ffff:127.0.0.1/tcp/1", PathKind::Loopback),
            ("/ip6/::1/udp/1/quic-v1", PathKind::Loopback),
            ("/memory/1", PathKind::Loopback),
            ("/ip4/10.1.2.3/tcp/1", PathKind::Lan),
            ("/ip4/169.254.1.1/tcp/1", PathKind::Lan),
            ("/ip6/fd12::1/tcp/1", PathKind::Lan),
            ("/ip6/fe80::1/tcp/1", PathKind::Lan),
            ("/ip4/203.0.113.9/tcp/1", PathKind::Direct),
            ("/ip6/2001:db8::1/tcp/1", PathKind::Direct),
            (&relay, PathKind::Relayed),
        ] {
            assert_eq!(path_kind(&address(text)), kind, "{text}");
        }
    }

    #[test]
    fn addresses_that_hold_inside_are_told_from_others() {
        let inside = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "::ffff:10.1.2.3",
            "64:ff9b::8.8.8.8",
            "2002:c0a8:101::1",
        ];
        let outside = ["8.8.8.8", "100.128.0.1", "2a00::1", "2002:808:808::1"];
        let is_inside = |ip: &str| is_inside(ip.parse().unwrap());
        assert!(inside.into_iter().all(is_inside));
        assert!(!outside.into_iter().any(is_inside));
    }

    proptest! {
        #[test]
        fn nothing_that_is_dialled_is_special(ip: u32, high in any::<bool>(), port: u16) {
            let ip = if high { Ipv4Addr::from_bits(ip | 0xe000_0000) } else { Ipv4Addr::from_bits(ip & 0x7fff_ffff) };
            for text in [format!("/ip4/{ip}/tcp/{port}"), format!("/ip6/{}/tcp/{port}", ip.to_ipv6_mapped())] {
                let dialled = verdict(&text, false).is_none();
                let special = ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local()
                    || ip.octets()[0] == 0 || port == 0;
                prop_assert_eq!(dialled, !special);
            }
        }
    }
}
