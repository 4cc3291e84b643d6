//! What a peer's place in the network means for transfers.

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

/// What [`NetworkState`] does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// There is a DHT to be asked.
    pub(crate) dht: bool,
    /// Other peers may only see relays.
    pub(crate) relayed_only: bool,
    /// Which addresses can be reached is for others to find out. If not, all of this machine's own count.
    pub(crate) asks: bool,
    pub(crate) clock: Clock,
    /// What came of a look-up; `None` while it lasts.
    pub(crate) looked_up: Option<LookedUp>,
}

/// What came of a look-up in the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LookedUp {
    /// Anybody has answered.
    pub(crate) reached: bool,
    /// Connecting to the first node included.
    pub(crate) took: Duration,
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) ipv4: Presence,
    pub(crate) ipv6: Presence,
    /// How each node to begin with answered.
    pub(crate) bootstrap: Vec<BootstrapNode>,
    /// Why none of them was reached.
    pub(crate) obstacle: Option<Obstacle>,
    pub(crate) names: Names,
    pub(crate) dht: Dht,
    pub(crate) nat: Nat,
    pub(crate) tcp: Tcp,
    pub(crate) udp: Udp,
    pub(crate) reachable: Reach,
    /// Answers of nodes that were asked to dial back. They prove nothing, and nothing else is concluded from them.
    pub(crate) hints: Vec<Hint>,
    pub(crate) port_mapping: Mapping,
    /// How many relays are held.
    pub(crate) relays: usize,
    /// Relays that refused, and why.
    pub(crate) refusals: Vec<(PeerId, Status)>,
    /// Without one, nobody behind a NAT of their own gets through to this peer.
    pub(crate) relays_needed: bool,
    pub(crate) clock: Clock,
    pub(crate) expect: Outlook,
    /// A dial is under way whose outcome may change a finding.
    pub(crate) undecided: bool,
}

impl Diagnosis {
    /// How many nodes to begin with were reached.
    pub(crate) fn bootstrap_reached(&self) -> usize {
        let reached = self.bootstrap.iter().filter(|node| node.is_reached());
        reached.count()
    }
}

/// The best address of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Presence {
    None,
    /// For this machine.
    Loopback,
    /// For a local network.
    Private,
    Public,
}

/// Whether the DHT answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dht {
    /// It is left out.
    Off,
    /// Not within the time that there was.
    Late,
    /// No node could be asked.
    Silent,
    /// Nodes are known, and not one of them has answered.
    Hangs,
    Answers(Duration),
}

/// What the router makes of the port that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Nat {
    /// There is none.
    None,
    /// The same port.
    PortKept,
    /// Another port, the same for everybody.
    OnePort,
    /// Too few nodes have told.
    Unknown,
    /// A new port for everybody.
    Symmetric,
}

/// Whether UDP gets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Udp {
    /// It is left out.
    Off,
    Unknown,
    Blocked,
    Works,
}

/// Who gets in from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reach {
    /// Nobody is meant to.
    Off,
    /// Not asked: a network of one's own.
    Assumed,
    /// Nobody has told.
    Unknown,
    /// Not even who was dialled before.
    Nobody,
    /// Who was dialled before, at least.
    Acquaintances,
    Strangers,
}

/// What the router says to being asked for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mapping {
    /// It was not asked.
    Off,
    /// It has not answered.
    Asked,
    Mapped,
    /// It took the port back.
    Lost,
    NoRouter,
    RouterNotPublic,
}

/// What transfers to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outlook {
    /// Direct ones with most peers.
    Direct,
    /// Direct ones where the other side can be reached, relayed ones elsewhere.
    ReachablePeers,
    /// Relayed ones.
    Relays,
    /// Too little was found out to say.
    Unknown,
    /// None beyond this network.
    LocalNetwork,
}

/// The findings.
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

/// Whether waiting any longer may change a finding.
pub(crate) fn is_settled(diagnosis: &Diagnosis) -> bool {
    let asked = diagnosis.port_mapping == Mapping::Asked;
    if diagnosis.undecided || asked {
        return false;
    }
    match diagnosis.dht {
        Dht::Late => return false,
        // Nothing more is heard from a network that nobody answers in.
        Dht::Off | Dht::Silent | Dht::Hangs => return true,
        Dht::Answers(_) => {}
    }
    let lacks_relay = diagnosis.relays_needed && diagnosis.relays == 0;
    let nat = diagnosis.nat != Nat::Unknown || diagnosis.reachable == Reach::Assumed;
    nat && !lacks_relay && diagnosis.reachable != Reach::Unknown
}

/// Asks if dials are under way that matter: of bootstrap nodes as long as none, or none but by the ports of the web, is
/// reached, and over UDP as long as nobody has answered that.
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

/// Of the public internet, as far as an address alone tells. Carrier NATs have addresses that look like it.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !is_shared(ip),
        // 2000::/3 is all that was given out so far.
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    }
}

/// `100.64.0.0/10` (RFC 6598), behind the NATs of carriers.
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

/// IPv4 where it is used, for that is where NATs are; over UDP or TCP, whichever is the better.
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

/// Those from the internet, or else all: a neighbour sees nothing of the router.
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

/// As the transport sees it: it reserves until it is known that everybody gets through without.
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
