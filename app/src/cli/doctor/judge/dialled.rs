//! Evaluates the outcomes of dials: why no node was reached, and which traffic gets out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use handover_core::dial::is_relayed;
use handover_core::{Multiaddr, PeerId};
use handover_transports::libp2p::{BootstrapNode, Contact, NetworkState, Outcome, Reason};
use multiaddr::Protocol;
use serde::Serialize;

use super::{Udp, ip, is_quic, port};

/// The ports of the web, which even the strictest firewalls let out.
const WEB: [u16; 2] = [80, 443];
/// Minimum number of hosts that have to fail in the same way. A single one may be at fault itself.
const SEVERAL: usize = 2;

/// Why no bootstrap node was reached, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Obstacle {
    /// Something on the path answers in place of the nodes: a captive portal.
    Portal,
    /// The nodes speak other transports, multiplexers or security protocols.
    OtherProtocols,
    /// Nodes with other identities answer.
    OtherNodes,
    /// Connections are accepted and then closed.
    Cut,
    /// Connections are accepted, but no data arrives on them.
    Silence,
    /// Connections are refused because nothing listens there.
    Refused,
    /// No name could be resolved, and no node is configured by its IP address.
    Names,
    /// There is no route to the internet.
    NoNetwork,
    /// No answer arrives.
    NoAnswer,
}

/// Whether names can be resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Names {
    /// No bootstrap node is configured by name.
    Off,
    Unknown,
    Fail,
    Work,
}

/// Whether TCP gets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tcp {
    Unknown,
    /// Only to the ports of the web.
    WebOnly,
    Works,
}

/// Why no bootstrap node was reached. `None` if one was, or if none is configured.
pub(super) fn obstacle(nodes: &[BootstrapNode]) -> Option<Obstacle> {
    if nodes.is_empty() || nodes.iter().any(BootstrapNode::is_reached) {
        return None;
    }
    let failures: Vec<(&Multiaddr, Reason)> = failures(nodes).collect();
    let any = |wanted: &[Reason]| failures.iter().any(|(_, why)| wanted.contains(why));
    let hosts = |wanted: Reason| {
        let of = failures.iter().filter(|(_, why)| *why == wanted);
        of.map(|(address, _)| host(address))
            .collect::<BTreeSet<_>>()
            .len()
    };
    // If names fail because nothing gets out, the addresses without names show that.
    let mut but_names = failures.iter().filter(|(_, why)| *why != Reason::Unnamed);
    let all = |wanted: Reason| {
        let mut failures = failures.iter();
        !failures.clone().all(|(_, why)| *why == Reason::Unnamed)
            && failures.all(|(_, why)| [wanted, Reason::Unnamed].contains(why))
    };
    Some(
        // A portal's name server resolves every name to the portal's address.
        if any(&[Reason::Http, Reason::Forbidden]) || hosts(Reason::Foreign) >= SEVERAL {
            Obstacle::Portal
        } else if any(&[Reason::NoMuxer, Reason::NoSecurity, Reason::UnknownKey])
            || all(Reason::Unsupported)
        {
            Obstacle::OtherProtocols
        } else if outcomes(nodes).any(|outcome| matches!(outcome, Outcome::OtherPeer(_))) {
            Obstacle::OtherNodes
        } else if any(&[Reason::Foreign, Reason::Closed, Reason::Insecure]) {
            Obstacle::Cut
        } else if any(&[Reason::Silent]) {
            Obstacle::Silence
        } else if all(Reason::Refused) {
            Obstacle::Refused
        } else if leads_nowhere(&failures) {
            Obstacle::NoNetwork
        } else if !failures.is_empty() && but_names.next().is_none() && !is_waiting(nodes) {
            Obstacle::Names
        } else {
            Obstacle::NoAnswer
        },
    )
}

/// True if there is no route to any host. UDP does not report that: packets are lost, and only TCP to the same host
/// shows the reason.
fn leads_nowhere(failures: &[(&Multiaddr, Reason)]) -> bool {
    let unreachable = failures
        .iter()
        .filter(|(_, why)| *why == Reason::Unreachable);
    let unreachable: BTreeSet<_> = unreachable.map(|(address, _)| host(address)).collect();
    let says_so = |(address, why): &(&Multiaddr, Reason)| match why {
        Reason::Unreachable | Reason::Unnamed => true,
        Reason::TimedOut => is_quic(address) && unreachable.contains(&host(address)),
        _ => false,
    };
    !unreachable.is_empty() && failures.iter().all(says_so)
}

fn outcomes(nodes: &[BootstrapNode]) -> impl Iterator<Item = Outcome> {
    let addresses = nodes.iter().flat_map(|node| &node.addresses);
    addresses.filter_map(|(_, outcome)| *outcome)
}

fn failures(nodes: &[BootstrapNode]) -> impl Iterator<Item = (&Multiaddr, Reason)> {
    let addresses = nodes.iter().flat_map(|node| &node.addresses);
    addresses.filter_map(|(address, outcome)| match outcome {
        Some(Outcome::Failed(reason)) => Some((address, *reason)),
        _ => None,
    })
}

/// True if a dial of an unreached bootstrap node has not ended.
pub(super) fn is_waiting(nodes: &[BootstrapNode]) -> bool {
    let missing = nodes.iter().filter(|node| !node.is_reached());
    // The first answer ends the dial, even if it comes from another node.
    let other = |node: &&BootstrapNode| {
        let mut addresses = node.addresses.iter();
        addresses.any(|(_, outcome)| matches!(outcome, Some(Outcome::OtherPeer(_))))
    };
    let missing = missing.filter(|node| !other(node));
    let mut addresses = missing.flat_map(|node| &node.addresses);
    addresses.any(|(_, outcome)| outcome.is_none())
}

pub(super) fn names(nodes: &[BootstrapNode]) -> Names {
    let addresses = nodes.iter().flat_map(|node| &node.addresses);
    let named = addresses.filter(|(address, _)| has_name(address));
    let all: Vec<Option<Outcome>> = named.map(|(_, outcome)| *outcome).collect();
    let failed = |outcome: &Outcome| *outcome == Outcome::Failed(Reason::Unnamed);
    let mut ended = all.iter().flatten();
    if all.is_empty() {
        Names::Off
    } else if ended.clone().any(|outcome| !failed(outcome)) {
        Names::Work
    } else if ended.next().is_some() {
        Names::Fail
    } else {
        Names::Unknown
    }
}

fn has_name(address: &Multiaddr) -> bool {
    address.iter().any(|part| {
        matches!(
            part,
            Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)
        )
    })
}

fn host(address: &Multiaddr) -> Option<String> {
    address.iter().next().map(|part| part.to_string())
}

/// True if the host has answered in any way.
fn has_answered(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Connected | Outcome::OtherPeer(_) => true,
        Outcome::Failed(reason) => reason.has_answered(),
    }
}

/// Whether only the ports of the web get out. A host that answers on one of them but not on another port shows that.
/// Hosts that answer on none may be dead, so several of them are required.
pub(super) fn tcp(network: &NetworkState) -> Tcp {
    let over_tcp = |contact: &&Contact| !is_relayed(&contact.address) && is_tcp(&contact.address);
    let contacts = || network.contacts.iter().filter(over_tcp);
    let is_web =
        |contact: &&Contact| port(&contact.address).is_some_and(|port| WEB.contains(&port));
    let answered: BTreeSet<IpAddr> = contacts()
        .filter(|contact| is_web(contact) && has_answered(contact.outcome))
        .filter_map(|contact| ip(&contact.address))
        .collect();
    let mut others = contacts().filter(|contact| !is_web(contact));
    if others.clone().any(|contact| has_answered(contact.outcome)) {
        return Tcp::Works;
    }
    let silent: BTreeSet<IpAddr> = others
        .clone()
        .filter_map(|contact| ip(&contact.address))
        .collect();
    let one_host =
        others.any(|contact| ip(&contact.address).is_some_and(|ip| answered.contains(&ip)));
    if !answered.is_empty() && (one_host || silent.len() >= SEVERAL) {
        Tcp::WebOnly
    } else {
        Tcp::Unknown
    }
}

fn is_tcp(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}

/// Whether UDP gets out. Only nodes that speak QUIC and are reached by TCP can show that it does not.
pub(super) fn udp(network: &NetworkState) -> Udp {
    let over_quic = |contact: &&Contact| !is_relayed(&contact.address) && is_quic(&contact.address);
    let quic = || network.contacts.iter().filter(over_quic);
    let mut sighted = network.sightings.iter().map(|seen| &seen.address);
    let silent = |contact: &Contact| {
        let failed = matches!(contact.outcome, Outcome::Failed(reason) if !reason.has_answered());
        failed
            && contact
                .peer
                .is_some_and(|peer| reached_by_tcp(network, peer))
    };
    if !network.listening.iter().any(is_quic) {
        Udp::Off
    } else if sighted.any(is_quic) || quic().any(|contact| has_answered(contact.outcome)) {
        Udp::Works
    } else if quic().any(silent) {
        Udp::Blocked
    } else {
        Udp::Unknown
    }
}

/// Nodes that are reached by TCP, speak QUIC and have not been dialled over it, with their addresses.
pub(crate) fn untried_over_udp(network: &NetworkState) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let is_tried = |peer: PeerId| {
        let mut contacts = network.contacts.iter();
        contacts.any(|contact| contact.peer == Some(peer) && is_quic(&contact.address))
    };
    let nodes = network.quic_nodes.iter();
    nodes
        .filter(|node| !is_tried(node.peer) && reached_by_tcp(network, node.peer))
        .map(|node| (node.peer, node.addresses.clone()))
        .collect()
}

fn reached_by_tcp(network: &NetworkState, peer: PeerId) -> bool {
    let mut contacts = network.contacts.iter();
    contacts.any(|contact| {
        let direct = is_tcp(&contact.address) && !is_relayed(&contact.address);
        direct && contact.peer == Some(peer) && contact.outcome == Outcome::Connected
    })
}
