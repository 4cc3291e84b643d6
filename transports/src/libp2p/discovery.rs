//! What this peer learns of the network, and what it lets the network know.

use handover_core::dial::path_kind;
use libp2p::kad::{self, InboundRequest};
use libp2p::swarm::StreamProtocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, identify, relay};
use tokio::time::Instant;

use super::config::Serve;
use super::dht::{self, Ready};
use super::dials::{is_quic, split};
use super::interfaces::farthest_first;
use super::{Libp2pTransport, TransportEvent};
use handover_core::dial::is_relayed;

/// Addresses that are told of this peer.
const TOLD: usize = 32;
/// So many of those are kept for addresses through relays.
const TOLD_RELAYED: usize = 12;
/// Addresses that count as confirmed, but for those through relays.
const CONFIRMED: usize = 16;
/// Addresses of a node that are looked at.
const SHOWN: usize = 16;

impl Libp2pTransport {
    /// Everything this peer can be reached at, each address once: where it listens, where it is seen, and relays.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let mut addresses: Vec<Multiaddr> = Vec::new();
        let all = self
            .swarm
            .listeners()
            .chain(self.swarm.external_addresses());
        let (relayed, mut direct): (Vec<_>, Vec<_>) = all.partition(|address| is_relayed(address));
        farthest_first(&mut direct);
        direct.truncate(TOLD - relayed.len().min(TOLD_RELAYED));
        for address in direct.into_iter().chain(relayed) {
            let (address, _) = split(address);
            if addresses.len() < TOLD && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// An address is listened on, or not any more.
    pub(super) fn on_address(&mut self, address: Multiaddr, new: bool) {
        self.listening_changed = true;
        if new && !is_relayed(&address) {
            self.outset.listening(Instant::now());
        }
        let gone = self.ports.listening(&address, new);
        self.not_forwarded(gone);
        if !self.setting.listening_is_reachable || is_relayed(&address) {
            return;
        }
        if new {
            self.swarm.add_external_address(address);
        } else {
            self.swarm.remove_external_address(&address);
        }
    }

    /// An address is known to be reachable.
    pub(super) fn on_confirmed(&mut self, address: &Multiaddr) {
        self.listening_changed = true;
        let direct = |address: &&Multiaddr| !is_relayed(address);
        let confirmed = self.swarm.external_addresses().filter(direct).count();
        let forwarded = self.ports.forward(address);
        if direct(&address) && !forwarded && confirmed > CONFIRMED {
            self.swarm.remove_external_address(address);
        }
    }

    /// Serves others, or not any more; whether that changed.
    pub(super) fn keep_serving(&mut self, now: Instant) -> bool {
        let since = self.setting.public_since;
        self.setting.public_since = self.is_public().then(|| since.unwrap_or(now));
        let serves = match self.setting.serve {
            Serve::Never => false,
            Serve::WhenReachable(_) => self.setting.serves_at().is_some_and(|at| at <= now),
            Serve::Always => true,
        };
        let changed = serves != self.setting.serves;
        if changed {
            self.setting.serves = serves;
            self.swarm.behaviour_mut().serve(serves);
        }
        changed
    }

    /// Dials the bootstrap nodes if it is time; whether it was.
    pub(super) fn keep_bootstrapped(&mut self, now: Instant) -> bool {
        let nodes = self.bootstrap.wake(self.seen.dht_nodes > 0, now);
        let any = !nodes.is_empty();
        for (node, addresses) in nodes {
            let opts = DialOpts::peer_id(node)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addresses)
                .build();
            if let Err(error) = self.begin(opts) {
                tracing::debug!(%node, %error, "a bootstrap node is not dialled");
            }
        }
        any
    }

    /// Starts queries that have waited for enough; whether any has.
    pub(super) fn keep_searching(&mut self, now: Instant) -> bool {
        let ready = Ready {
            nodes: self.seen.dht_nodes > 0,
            nodes_may_come: self.bootstrap.may_come(),
            address_may_come: self.reservations.pending(),
        };
        let kad = self.swarm.behaviour_mut().dht.as_mut();
        let (Some(dht), Some(kad)) = (&mut self.dht, kad) else {
            return false;
        };
        let waiting = dht.waiting();
        let told = dht.go_on(ready, kad, now);
        self.ready.extend(told);
        dht.waiting() != waiting
    }

    pub(super) fn on_dht_event(&mut self, event: kad::Event) {
        let Some(kad) = self.swarm.behaviour_mut().dht.as_mut() else {
            return;
        };
        match event {
            kad::Event::OutboundQueryProgressed {
                id,
                result,
                stats,
                step,
            } => {
                let Some(dht) = &mut self.dht else {
                    return;
                };
                let told = dht.progressed(id, result, &stats, step.last, kad);
                self.tell_found(told);
            }
            kad::Event::InboundRequest {
                request: InboundRequest::AddProvider { .. },
            } => self.seen.dht_keys = kad.store_mut().len(),
            kad::Event::RoutingUpdated { .. } => self.seen.dht_nodes = dht::nodes(kad),
            _ => {}
        }
    }

    /// Tells the owner, and leaves it to that to dial whom was found. Nodes of the DHT go on being dialled by Kademlia,
    /// unless this peer hides.
    fn tell_found(&mut self, told: Vec<TransportEvent>) {
        for event in told {
            match &event {
                TransportEvent::Found { peer, .. } => {
                    let kad = self.swarm.behaviour_mut().dht.as_mut();
                    let serves = kad.is_some_and(|kad| dht::knows(kad, *peer));
                    if !serves || !self.setting.direct {
                        self.shut(*peer);
                    }
                }
                TransportEvent::LookedUp { reached: false, .. }
                | TransportEvent::Announced { reached: false, .. } => {
                    self.bootstrap.nobody_answered(Instant::now());
                }
                _ => {}
            }
            self.ready.push_back(event);
        }
    }

    /// This peer is dialled by choice only.
    pub(super) fn shut(&mut self, peer: PeerId) {
        if let Some(gate) = self.swarm.behaviour_mut().gate.as_mut() {
            gate.shut(peer);
        }
    }

    /// A node has said who it is, what it speaks, where it is, and what it sees of this peer.
    pub(super) fn on_identified(&mut self, event: identify::Event) {
        let identify::Event::Received {
            connection_id,
            peer_id,
            info,
        } = event
        else {
            return;
        };
        let now = Instant::now();
        let Some(carrier) = self.connections.0.get_mut(&connection_id) else {
            return;
        };
        carrier.identified = true;
        if !carrier.is_relayed() {
            let path = carrier.path;
            // A public node has nothing to say of private networks; one of a private network has.
            let usable = |address: &Multiaddr| {
                !is_relayed(address) && path_kind(address) >= path && !address.is_empty()
            };
            let shown = info.listen_addrs.iter().map(|address| split(address).0);
            let dialled = carrier.dialled.then(|| carrier.remote.clone());
            let shown = shown.filter(usable).take(SHOWN);
            let mut addresses: Vec<Multiaddr> = Vec::new();
            for address in dialled.into_iter().chain(shown) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            let quic = addresses.iter().filter(|address| is_quic(address)).cloned();
            self.contacts.speaks_quic(peer_id, quic.collect());
            let speaks = |protocol: StreamProtocol| info.protocols.contains(&protocol);
            let behaviour = self.swarm.behaviour_mut();
            if let Some(kad) = behaviour.dht.as_mut()
                && speaks(dht::PROTOCOL)
            {
                dht::add_node(kad, peer_id, &addresses);
                self.seen.dht_nodes = dht::nodes(kad);
            }
            if let Some(candidates) = behaviour.candidates.as_mut()
                && candidates.observed(connection_id, &info.observed_addr)
            {
                self.seen.sighted(peer_id, &info.observed_addr);
            }
            if speaks(relay::HOP_PROTOCOL_NAME) {
                self.reservations.met(peer_id, addresses, now);
            }
        }
        self.settled(connection_id, true);
    }
}
