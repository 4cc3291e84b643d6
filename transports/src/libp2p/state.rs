//! This peer's view of its place in the network, for the user and for metrics.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use handover_core::dial_back::Hint;
use handover_core::engine::PathKind;
use libp2p::{Multiaddr, PeerId};

use super::Libp2pTransport;
use super::circuit::{CircuitLimit, Status};
use super::contacts::{BootstrapNode, Contact, QuicNode};
use super::dials::split;
use handover_core::dial::is_relayed;

/// Maximum number of observed addresses, and of verdicts on addresses.
const REMEMBERED: usize = 16;
/// Maximum number of peers whose reservations here are remembered, whatever the quotas allow.
const SERVED: usize = 4096;

/// A peer's place in the network at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkState {
    /// Listen addresses, except those at relays.
    pub listening: Vec<Multiaddr>,
    /// Addresses at which it is reachable as far as it knows, including those through relays.
    pub external: Vec<Multiaddr>,
    /// Addresses at which other nodes saw it, or would have seen it with its listening port; the latest last.
    pub observed: Vec<Multiaddr>,
    /// Unchanged addresses at which nodes that it dialled from the listening port saw it: how its router maps that
    /// port.
    pub sightings: Vec<Sighting>,
    /// Results of testing the observed addresses.
    pub tested: Vec<TestedAddress>,
    /// Answers of nodes that were asked to dial back (`AutoNAT` v1): a hint, not a proof.
    pub hints: Vec<Hint>,
    /// True if a peer that it had not dialled before has connected to it over the internet.
    pub strangers: bool,
    /// State of the port mapping.
    pub port_mapping: PortMapping,
    /// Relays at which it has a reservation.
    pub reservations: Vec<HeldReservation>,
    /// Relays whose last answer was a refusal, and the reason.
    pub refusals: Vec<(PeerId, Status)>,
    /// Number of nodes in its DHT routing table.
    pub dht_nodes: usize,
    /// Number of bootstrap nodes that it has.
    pub bootstrap_configured: usize,
    /// Number of bootstrap nodes that it is connected to.
    pub bootstrap_connected: usize,
    /// The bootstrap nodes, and how each answered.
    pub bootstrap: Vec<BootstrapNode>,
    /// Addresses dialled recently, and the results; the latest last.
    pub contacts: Vec<Contact>,
    /// Nodes that claim to speak QUIC.
    pub quic_nodes: Vec<QuicNode>,
    /// What it does for others.
    pub served: Served,
    /// Number of connections by path.
    pub connections: ConnectionCounts,
}

/// An address of this peer, and the number of nodes that saw it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The address.
    pub address: Multiaddr,
    /// Number of nodes; at most 16 are counted.
    pub by: usize,
}

/// An address of this peer, and whether others can connect to it (`AutoNAT` v2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestedAddress {
    /// The address.
    pub address: Multiaddr,
    /// The verdict.
    pub verdict: Verdict,
}

/// Whether others can connect to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A node has connected to it.
    Reachable,
    /// A node has tried and failed.
    Unreachable,
    /// No node has reported yet.
    Unknown,
}

/// State of the port mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortMapping {
    /// No mapping was requested.
    Off,
    /// The router has not given a port so far.
    Asked,
    /// The router forwards these addresses to this peer.
    Mapped(Vec<Multiaddr>),
    /// No router supports PCP, NAT-PMP or `UPnP`.
    NoRouter,
    /// The router itself has no public address.
    RouterNotPublic,
}

/// A reservation at a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldReservation {
    /// The relay.
    pub relay: PeerId,
    /// Since when it has been held.
    pub since: Instant,
    /// The relay's limit per circuit, if any.
    pub limit: Option<CircuitLimit>,
}

/// What a peer does for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// True if it serves the DHT, relays, and tests addresses.
    pub serving: bool,
    /// Number of peers that have a reservation here now.
    pub reservations: usize,
    /// Number of circuits through it now.
    pub circuits: usize,
    /// Number of circuits through it so far, including the current ones.
    pub circuits_total: u64,
    /// Number of DHT keys that it keeps for others.
    pub dht_keys: usize,
}

/// Number of connections by path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// On this machine.
    pub loopback: usize,
    /// On the local network.
    pub lan: usize,
    /// Directly over the internet.
    pub direct: usize,
    /// Through a relay.
    pub relayed: usize,
}

/// Observations so far.
#[derive(Debug)]
pub(super) struct Seen {
    observed: VecDeque<Multiaddr>,
    sightings: VecDeque<(Multiaddr, BTreeSet<PeerId>)>,
    tested: VecDeque<(Multiaddr, bool)>,
    /// Number of nodes in the DHT routing table.
    pub(super) dht_nodes: usize,
    /// Number of keys kept for others.
    pub(super) dht_keys: usize,
    reserved: BTreeSet<PeerId>,
    circuits: usize,
    circuits_total: u64,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            observed: VecDeque::new(),
            sightings: VecDeque::new(),
            tested: VecDeque::new(),
            dht_nodes: 0,
            dht_keys: 0,
            reserved: BTreeSet::new(),
            circuits: 0,
            circuits_total: 0,
        }
    }

    /// A node has observed this peer at an address.
    pub(super) fn observed(&mut self, address: &Multiaddr) {
        let address = split(address).0;
        self.observed.retain(|known| *known != address);
        self.observed.push_back(address);
        if self.observed.len() > REMEMBERED {
            self.observed.pop_front();
        }
    }

    /// This node has observed this peer at an address.
    pub(super) fn sighted(&mut self, node: PeerId, address: &Multiaddr) {
        let address = split(address).0;
        let known = self
            .sightings
            .iter_mut()
            .find(|(known, _)| *known == address);
        match known {
            Some((_, nodes)) if nodes.len() < REMEMBERED => {
                nodes.insert(node);
            }
            Some(_) => {}
            None => {
                self.sightings.push_back((address, BTreeSet::from([node])));
                if self.sightings.len() > REMEMBERED {
                    self.sightings.pop_front();
                }
            }
        }
    }

    /// A node has tested an address.
    pub(super) fn tested(&mut self, address: &Multiaddr, reachable: bool) {
        let address = split(address).0;
        self.tested.retain(|(known, _)| *known != address);
        self.tested.push_back((address, reachable));
        if self.tested.len() > REMEMBERED {
            self.tested.pop_front();
        }
    }

    /// True if a node has tried and failed to connect to this address.
    pub(super) fn is_unreachable(&self, address: &Multiaddr) -> bool {
        let mut tested = self.tested.iter();
        tested.any(|(known, reachable)| known == address && !reachable)
    }

    /// This peer now has a reservation here.
    pub(super) fn reserved(&mut self, peer: PeerId) {
        if self.reserved.len() < SERVED {
            self.reserved.insert(peer);
        }
    }

    /// This peer no longer has a reservation here.
    pub(super) fn unreserved(&mut self, peer: PeerId) {
        self.reserved.remove(&peer);
    }

    /// True if this peer has a reservation here.
    pub(super) fn serves(&self, peer: PeerId) -> bool {
        self.reserved.contains(&peer)
    }

    pub(super) fn circuit_opened(&mut self) {
        self.circuits += 1;
        self.circuits_total += 1;
    }

    pub(super) fn circuit_closed(&mut self) {
        self.circuits = self.circuits.saturating_sub(1);
    }

    fn sightings(&self) -> Vec<Sighting> {
        let sighting = |(address, nodes): &(Multiaddr, BTreeSet<PeerId>)| Sighting {
            address: address.clone(),
            by: nodes.len(),
        };
        self.sightings.iter().map(sighting).collect()
    }

    /// The tested and the observed addresses, with the verdict on each.
    fn verdicts(&self) -> Vec<TestedAddress> {
        let tested = self
            .tested
            .iter()
            .map(|(address, reachable)| TestedAddress {
                address: address.clone(),
                verdict: if *reachable {
                    Verdict::Reachable
                } else {
                    Verdict::Unreachable
                },
            });
        let untested = self
            .observed
            .iter()
            .filter(|address| !self.tested.iter().any(|(known, _)| known == *address))
            .map(|address| TestedAddress {
                address: address.clone(),
                verdict: Verdict::Unknown,
            });
        tested.chain(untested).collect()
    }
}

impl Libp2pTransport {
    /// This peer's current place in the network.
    pub fn network(&self) -> NetworkState {
        let listening = self.swarm.listeners();
        NetworkState {
            listening: listening
                .filter(|address| !is_relayed(address))
                .cloned()
                .collect(),
            external: self
                .swarm
                .external_addresses()
                .map(|address| split(address).0)
                .collect(),
            observed: self.seen.observed.iter().cloned().collect(),
            sightings: self.seen.sightings(),
            tested: self.seen.verdicts(),
            hints: self.hints.list(tokio::time::Instant::now()),
            strangers: self.strangers.came(),
            port_mapping: self.ports.state(),
            reservations: self
                .reservations
                .held()
                .map(|(relay, since)| HeldReservation {
                    relay,
                    since: since.into_std(),
                    limit: self.swarm.behaviour().relays.promised_by(relay),
                })
                .collect(),
            refusals: self.reservations.refusals().collect(),
            dht_nodes: self.seen.dht_nodes,
            bootstrap_configured: self.bootstrap.configured(),
            bootstrap_connected: self.bootstrap.connected(),
            bootstrap: self.contacts.of_nodes(&self.bootstrap),
            contacts: self.contacts.dialled(),
            quic_nodes: self.contacts.quic(),
            served: Served {
                serving: self.setting.serves,
                reservations: self.seen.reserved.len(),
                circuits: self.seen.circuits,
                circuits_total: self.seen.circuits_total,
                dht_keys: self.seen.dht_keys,
            },
            connections: self.connection_counts(),
        }
    }

    fn connection_counts(&self) -> ConnectionCounts {
        let mut counts = ConnectionCounts::default();
        for carrier in self.connections.0.values() {
            let count = match carrier.path {
                PathKind::Loopback => &mut counts.loopback,
                PathKind::Lan => &mut counts.lan,
                PathKind::Direct => &mut counts.direct,
                PathKind::Relayed => &mut counts.relayed,
            };
            *count += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/11.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn sightings_are_counted_by_node() {
        let mut seen = Seen::new();
        let node = PeerId::random();
        seen.sighted(node, &at(1));
        seen.sighted(node, &at(1));
        seen.sighted(PeerId::random(), &at(1));
        seen.sighted(node, &at(2));
        let counted = seen
            .sightings()
            .into_iter()
            .map(|seen| (seen.address, seen.by));
        assert_eq!(counted.collect::<Vec<_>>(), [(at(1), 2), (at(2), 1)]);
    }

    #[test]
    fn sightings_have_bounds() {
        let mut seen = Seen::new();
        for _ in 0..=REMEMBERED {
            seen.sighted(PeerId::random(), &at(1));
        }
        assert_eq!(seen.sightings()[0].by, REMEMBERED);
        for port in 2..REMEMBERED + 2 {
            seen.sighted(PeerId::random(), &at(port));
        }
        let sightings = seen.sightings();
        assert_eq!(sightings.len(), REMEMBERED);
        assert!(sightings.iter().all(|sighting| sighting.address != at(1)));
    }
}
