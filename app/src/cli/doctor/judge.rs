//! Derives from a peer's network state what transfers to expect.

mod dialled;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use handover_core::dial::{is_relayed, path_kind};
use handover_core::dial_back::Hint;
use handover_core::engine::PathKind;
use handover_core::{Multiaddr, PeerId};
use handover_transports::libp2p::circuit::Status;
use handover_transports::libp2p::{BootstrapNode, NetworkState, PortMapping, Sighting, Verdict};
use multiaddr::Protocol;
use serde::Serialize;

use self::dialled::is_waiting;
pub(crate) use self::dialled::{Names, Obstacle, Tcp, untried_over_udp};
use super::clock::Clock;

/// Facts that [`NetworkState`] does not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// True if a DHT is in use.
    pub(crate) dht: bool,
    /// True if other peers may only learn relayed addresses.
    pub(crate) relayed_only: bool,
    /// True if other nodes have to test which addresses are reachable. If false, all of this machine's addresses count.
    pub(crate) asks: bool,
    pub(crate) clock: Clock,
    /// Result of the lookup; `None` while it runs.
    pub(crate) looked_up: Option<LookedUp>,
}

/// Result of a lookup in the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LookedUp {
    /// True if any node has answered.
    pub(crate) reached: bool,
    /// Duration, including the connection to the first node.
    pub(crate) took: Duration,
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) ipv4: Presence,
    pub(crate) ipv6: Presence,
    /// Dial outcomes of each bootstrap node.
    pub(crate) bootstrap: Vec<BootstrapNode>,
    /// Why no bootstrap node was reached.
    pub(crate) obstacle: Option<Obstacle>,
    pub(crate) names: Names,
    pub(crate) dht: Dht,
    pub(crate) nat: Nat,
    pub(crate) tcp: Tcp,
    pub(crate) udp: Udp,
    pub(crate) reachable: Reach,
    /// Answers of nodes that were asked to dial back. They prove nothing, and no other finding depends on them.
    pub(crate) hints: Vec<Hint>,
    pub(crate) port_mapping: Mapping,
    /// Number of relays with a reservation.
    pub(crate) relays: usize,
    /// Relays that refused a reservation, and why.
    pub(crate) refusals: Vec<(PeerId, Status)>,
    /// True if this peer needs a relay. Without one, no peer behind a NAT of its own can connect to it.
    pub(crate) relays_needed: bool,
    pub(crate) clock: Clock,
    pub(crate) expect: Outlook,
    /// True while a dial whose outcome may change a finding has not ended.
    pub(crate) undecided: bool,
}

impl Diagnosis {
    /// Returns the number of bootstrap nodes that were reached.
    pub(crate) fn bootstrap_reached(&self) -> usize {
        let reached = self.bootstrap.iter().filter(|node| node.is_reached());
        reached.count()
    }
}

/// The best kind of address in an address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Presence {
    None,
    /// Valid on this machine only.
    Loopback,
    /// Valid in a local network only.
    Private,
    Public,
}

/// Whether the DHT answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dht {
    /// The DHT is not in use.
    Off,
    /// No result within the time available.
    Late,
    /// No node is known, so none could be asked.
    Silent,
    /// Nodes are known, but none has answered.
    Hangs,
    Answers(Duration),
}

/// The NAT's mapping of the port that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Nat {
    /// There is no NAT.
    None,
    /// The external port is the same.
    PortKept,
    /// The external port differs, but is the same for every destination.
    OnePort,
    /// Too few nodes have reported an address.
    Unknown,
    /// The external address or port differs by destination.
    Symmetric,
}

/// Whether UDP gets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Udp {
    /// UDP is not in use.
    Off,
    Unknown,
    Blocked,
    Works,
}

/// Which peers can connect from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reach {
    /// None: this peer does not listen.
    Off,
    /// Not tested: a private network.
    Assumed,
    /// No test has given a result.
    Unknown,
    /// Not even peers that were dialled before.
    Nobody,
    /// At least peers that were dialled before.
    Acquaintances,
    Strangers,
}

/// The router's answer to the request for a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mapping {
    /// Not requested.
    Off,
    /// No answer yet.
    Asked,
    Mapped,
    /// The router has withdrawn the mapping.
    Lost,
    NoRouter,
    RouterNotPublic,
}

/// The kind of transfers to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outlook {
    /// Direct with most peers.
    Direct,
    /// Direct with peers that can be reached, relayed with others.
    ReachablePeers,
    /// Relayed only.
    Relays,
    /// Too little is known to say.
    Unknown,
    /// None beyond the local network.
    LocalNetwork,
}

/// Derives all findings.
pub(crate) fn judge(network: &NetworkState, facts: &Facts) -> Diagnosis {
    let own: BTreeSet<IpAddr> = network.listening.iter().filter_map(ip).collect();
    let mut diagnosis = Diagnosis {
        ipv4: presence(own.iter().filter(|ip| ip.is_ipv4())),
        ipv6: presence(own.iter().filter(|ip| ip.is_ipv6())),
        bootstrap: network.bootstrap.clone(),
        obstacle: dialled::obstacle(&network.bootstrap),
        names: dialled::names(&network.bootstrap),
        dht: dht(network, facts),
        nat: nat(network, &own),
        tcp: dialled::tcp(network),
        udp: dialled::udp(network),
        reachable: reach(network, facts),
        hints: network.hints.clone(),
        port_mapping: mapping(&network.port_mapping),
        relays: network.reservations.len(),
        refusals: network.refusals.clone(),
        relays_needed: facts.dht && needs_relay(network, facts),
        clock: facts.clock,
        expect: Outlook::Unknown,
        undecided: false,
    };
    diagnosis.undecided = is_undecided(network, &diagnosis);
    diagnosis.expect = outlook(&diagnosis, facts.relayed_only);
    diagnosis
}

/// True if further waiting cannot change a finding.
pub(crate) fn is_settled(diagnosis: &Diagnosis) -> bool {
    let asked = diagnosis.port_mapping == Mapping::Asked;
    if diagnosis.undecided || asked {
        return false;
    }
    match diagnosis.dht {
        Dht::Late => return false,
        // Without any answer, nothing more is expected from this network.
        Dht::Off | Dht::Silent | Dht::Hangs => return true,
        Dht::Answers(_) => {}
    }
    let lacks_relay = diagnosis.relays_needed && diagnosis.relays == 0;
    let nat = diagnosis.nat != Nat::Unknown || diagnosis.reachable == Reach::Assumed;
    nat && !lacks_relay && diagnosis.reachable != Reach::Unknown
}

/// True if dials that matter have not ended: of bootstrap nodes while none is reached or only web ports get through,
/// and over UDP while it is unknown whether UDP gets out.
fn is_undecided(network: &NetworkState, of: &Diagnosis) -> bool {
    let nodes = (of.bootstrap_reached() == 0 || of.tcp != Tcp::Works) && is_waiting(&of.bootstrap);
    let udp = of.udp == Udp::Unknown && !untried_over_udp(network).is_empty();
    nodes || udp
}

fn presence<'a>(ips: impl Iterator<Item = &'a IpAddr>) -> Presence {
    let of = |ip: &IpAddr| match path_kind(&Multiaddr::from(*ip)) {
        _ if ip.is_unspecified() => Presence::None,
        PathKind::Loopback => Presence::Loopback,
        PathKind::Direct if is_global(*ip) => Presence::Public,
        _ => Presence::Private,
    };
    ips.map(of).max().unwrap_or(Presence::None)
}

/// True for addresses of the public internet, as far as an address alone shows. Carrier NATs use addresses that look
/// public.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !is_shared(ip),
        // Only 2000::/3 has been allocated so far.
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    }
}

/// `100.64.0.0/10` (RFC 6598), used behind the NATs of carriers.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0xc0 == 64
}

fn dht(network: &NetworkState, facts: &Facts) -> Dht {
    let known = network.dht_nodes > 0;
    match facts.looked_up {
        _ if !facts.dht => Dht::Off,
        None => Dht::Late,
        Some(LookedUp { reached: false, .. }) if known => Dht::Hangs,
        Some(LookedUp { reached: false, .. }) => Dht::Silent,
        Some(LookedUp { took, .. }) => Dht::Answers(took),
    }
}

/// Uses IPv4 if possible, because that is where NATs are, and the better of the results for UDP and TCP.
fn nat(network: &NetworkState, own: &BTreeSet<IpAddr>) -> Nat {
    let ports: BTreeSet<u16> = network.listening.iter().filter_map(port).collect();
    let of = |v4: bool, quic: bool| {
        let seen = network.sightings.iter();
        let seen: Vec<&Sighting> = seen
            .filter(|seen| ip(&seen.address).is_some_and(|ip| ip.is_ipv4() == v4))
            .filter(|seen| is_quic(&seen.address) == quic)
            .collect();
        nat_of(&outermost(seen), own, &ports)
    };
    let best = |v4| [of(v4, true), of(v4, false)].into_iter().flatten().min();
    best(true).or_else(|| best(false)).unwrap_or(Nat::Unknown)
}

/// Keeps only the sightings from the internet, if there are any: a neighbour does not see the router's mapping.
fn outermost(mut sightings: Vec<&Sighting>) -> Vec<&Sighting> {
    let outside = |seen: &&Sighting| path_kind(&seen.address) == PathKind::Direct;
    if sightings.iter().any(outside) {
        sightings.retain(outside);
    }
    sightings
}

fn nat_of(sightings: &[&Sighting], own: &BTreeSet<IpAddr>, ports: &BTreeSet<u16>) -> Option<Nat> {
    let is_own = |seen: &&Sighting| ip(&seen.address).is_some_and(|ip| own.contains(&ip));
    match sightings {
        [] => None,
        all if all.iter().all(is_own) => Some(Nat::None),
        [one] if port(&one.address).is_some_and(|port| ports.contains(&port)) => {
            Some(Nat::PortKept)
        }
        [one] if one.by > 1 => Some(Nat::OnePort),
        [_] => Some(Nat::Unknown),
        _ => Some(Nat::Symmetric),
    }
}

fn reach(network: &NetworkState, facts: &Facts) -> Reach {
    let is = |wanted| {
        let mut tested = network.tested.iter();
        tested.any(|tested| tested.verdict == wanted && !is_relayed(&tested.address))
    };
    if network.listening.is_empty() {
        Reach::Off
    } else if !facts.asks {
        Reach::Assumed
    } else if network.strangers {
        Reach::Strangers
    } else if is(Verdict::Reachable) {
        Reach::Acquaintances
    } else if is(Verdict::Unreachable) {
        Reach::Nobody
    } else {
        Reach::Unknown
    }
}

fn mapping(mapping: &PortMapping) -> Mapping {
    match mapping {
        PortMapping::Off => Mapping::Off,
        PortMapping::Asked => Mapping::Asked,
        PortMapping::Mapped(addresses) if addresses.is_empty() => Mapping::Lost,
        PortMapping::Mapped(_) => Mapping::Mapped,
        PortMapping::NoRouter => Mapping::NoRouter,
        PortMapping::RouterNotPublic => Mapping::RouterNotPublic,
    }
}

/// Follows the transport, which makes reservations until it is known that every peer can connect without a relay.
fn needs_relay(network: &NetworkState, facts: &Facts) -> bool {
    let public = network.external.iter().any(|address| !is_relayed(address));
    let mapped = mapping(&network.port_mapping) == Mapping::Mapped;
    !(public && (!facts.asks || mapped || network.strangers))
}

fn outlook(of: &Diagnosis, relayed_only: bool) -> Outlook {
    let open = matches!(of.reachable, Reach::Strangers | Reach::Assumed)
        || of.port_mapping == Mapping::Mapped;
    match of.dht {
        Dht::Answers(_) => {}
        Dht::Late | Dht::Hangs if of.bootstrap_reached() > 0 => return Outlook::Unknown,
        Dht::Off | Dht::Silent | Dht::Late | Dht::Hangs => return Outlook::LocalNetwork,
    }
    match of.nat {
        _ if relayed_only => Outlook::Relays,
        _ if open => Outlook::Direct,
        // Few peers listen on the ports of the web.
        _ if of.tcp == Tcp::WebOnly && of.udp != Udp::Works => Outlook::Relays,
        Nat::Unknown => Outlook::Unknown,
        Nat::None | Nat::PortKept | Nat::OnePort if of.udp != Udp::Blocked => Outlook::Direct,
        Nat::None | Nat::PortKept | Nat::OnePort | Nat::Symmetric => Outlook::ReachablePeers,
    }
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

fn port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::QuicV1))
}

#[cfg(test)]
mod tests;
