//! What this peer learns from the network, and what it reveals about itself

use std::collections::BTreeSet;

use handover_core::dial::{ip_of, is_inside, is_relayed, of_each_kind, path_kind};
use handover_core::engine::PathKind;
use handover_core::network::Network;
use libp2p::kad::{self, InboundRequest};
use libp2p::request_response;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, StreamProtocol};
use libp2p::{Multiaddr, PeerId, identify, relay};
use tokio::time::Instant;

use super::config::Serve;
use super::dht::wire::{self, Answer, PeerAt};
use super::dht::{self, Around, Asker, Asking, Kad, RunId, Step};
use super::dials::{is_quic, split};
use super::interfaces::farthest_first;
use super::{Libp2pTransport, TransportEvent};

/// Maximum number of addresses reported for this peer.
const TOLD: usize = 32;
/// Number of those kept for circuit addresses.
const TOLD_RELAYED: usize = 12;
/// Maximum number of confirmed addresses, not counting circuit addresses.
const CONFIRMED: usize = 16;
/// Maximum number of addresses announced in the DHT.
const ANNOUNCED: usize = 16;
/// Maximum number of a node's own listen addresses that are used.
const SHOWN: usize = 16;

impl Libp2pTransport {
    /// All addresses of this peer without duplicates: listen addresses, external addresses and circuits. Those that
    /// several nodes could not reach come last: they help when both sides dial at once.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let mut addresses: Vec<Multiaddr> = Vec::new();
        let all = self
            .swarm
            .listeners()
            .chain(self.swarm.external_addresses());
        let (relayed, mut direct): (Vec<_>, Vec<_>) = all.partition(|address| is_relayed(address));
        farthest_first(&mut direct);
        direct.truncate(TOLD - relayed.len().min(TOLD_RELAYED));
        let now = Instant::now();
        let is_doubtful = |address: &&Multiaddr| self.is_doubtful(&split(address).0, now);
        let (doubtful, direct): (Vec<_>, Vec<_>) = direct.into_iter().partition(is_doubtful);
        for address in direct.into_iter().chain(relayed).chain(doubtful) {
            let (address, _) = split(address);
            if addresses.len() < TOLD && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Handles a listen address that was added (`new`) or removed.
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

    /// Handles an address that was confirmed as reachable.
    pub(super) fn on_confirmed(&mut self, address: &Multiaddr) {
        self.listening_changed = true;
        let direct = |address: &&Multiaddr| !is_relayed(address);
        let confirmed = self.swarm.external_addresses().filter(direct).count();
        let forwarded = self.ports.forward(address);
        if direct(&address) && !forwarded && confirmed > CONFIRMED {
            self.swarm.remove_external_address(address);
        }
        self.identify_anew();
    }

    /// Sends identify with the current addresses to all peers. For a peer they are connected to, some DHT nodes
    /// (go-libp2p) return the addresses from identify and not those of its record.
    fn identify_anew(&mut self) {
        let connections = self.connections.0.values();
        let direct = connections.filter(|carrier| !carrier.is_relayed());
        let peers: BTreeSet<PeerId> = direct.map(|carrier| carrier.peer).collect();
        self.swarm.behaviour_mut().identify.push(peers);
    }

    /// Starts or stops serving others as needed. Returns true if that changed.
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

    /// Dials the bootstrap nodes if that is due. Returns true if it was.
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

    /// Advances announces and lookups. Returns true if there was anything to do.
    pub(super) fn keep_searching(&mut self, now: Instant) -> bool {
        let is_due =
            |dht: &dht::Dht| dht.has_changed() || self.search_due.is_some_and(|at| at <= now);
        if !self.dht.as_ref().is_some_and(is_due) {
            return false;
        }
        let around = Around {
            nodes_may_come: self.bootstrap.may_come(),
            addresses: self.announced_addresses(),
        };
        let Some((dht, kad)) = self.dht_and_kad() else {
            return false;
        };
        let steps = dht.go_on(&around, kad, now);
        self.search_due = dht.next_wake(now);
        self.search(steps);
        true
    }

    pub(super) fn dht_and_kad(&mut self) -> Option<(&mut dht::Dht, &mut Kad)> {
        let kad = self.swarm.behaviour_mut().dht.as_mut();
        self.dht.as_mut().zip(kad)
    }

    /// The addresses to announce: confirmed ones, circuits, and public addresses of this machine that neither an
    /// address test nor several nodes have found unreachable. The latter may still be wrong, so this peer keeps its
    /// reservations all the same.
    fn announced_addresses(&self) -> Vec<Multiaddr> {
        let plain = |address: &Multiaddr| split(address).0;
        let confirmed = self.swarm.external_addresses().map(plain);
        let (relayed, mut direct): (Vec<_>, Vec<_>) = confirmed.partition(is_relayed);
        if self.setting.asks {
            let now = Instant::now();
            let is_closed =
                |own: &Multiaddr| self.seen.is_unreachable(own) || self.is_doubtful(own, now);
            let own = self.swarm.listeners().map(plain);
            direct.extend(own.filter(|own| is_public(own) && !is_closed(own)));
        }
        of_each_kind(direct.into_iter().chain(relayed), ANNOUNCED)
    }

    fn search(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Tell(event) => self.tell_found(event),
                Step::Ask(run, asking) => self.ask(run, asking),
            }
        }
    }

    fn ask(&mut self, run: RunId, asking: Asking) {
        let Asking {
            node,
            question,
            asker,
        } = asking;
        let peer = node.0;
        let is_asked = match asker {
            Asker::Witness => match &mut self.witness {
                Some(witness) => witness.ask(run, node, question),
                None => false,
            },
            Asker::Local => self.ask_node(run, node, question),
        };
        if !is_asked {
            self.told(run, (peer, asker), None);
        }
    }

    /// Asks a node, but not another peer of a share unless that is known to be a DHT node.
    fn ask_node(
        &mut self,
        run: RunId,
        (node, addresses): PeerAt,
        question: wire::Question,
    ) -> bool {
        let behaviour = self.swarm.behaviour_mut();
        let is_shut = behaviour
            .gate
            .as_ref()
            .is_some_and(|gate| gate.is_shut(node));
        let kad = behaviour.dht.as_mut();
        if is_shut && !kad.is_some_and(|kad| dht::knows(kad, node)) {
            return false;
        }
        let Some(asking) = behaviour.asking.as_mut() else {
            return false;
        };
        let id = asking.send_request_with_addresses(&node, question, addresses);
        self.asked.insert(id, (run, node));
        true
    }

    pub(super) fn told(&mut self, run: RunId, by: (PeerId, Asker), answer: Option<Answer>) {
        let Some((dht, kad)) = self.dht_and_kad() else {
            return;
        };
        let steps = dht.told(run, by, answer, kad, Instant::now());
        self.search(steps);
    }

    pub(super) fn on_answer(&mut self, event: request_response::Event<wire::Question, Answer>) {
        let Some((id, answer)) = wire::ended(event) else {
            return;
        };
        let answer = answer.map(|(connection, answer)| self.usable(connection, answer));
        if let Some((run, node)) = self.asked.remove(&id) {
            self.told(run, (node, Asker::Local), answer);
        }
    }

    /// Removes relayed addresses from an answer, and addresses of private networks that a public node names.
    fn usable(&self, connection: ConnectionId, mut answer: Answer) -> Answer {
        let carrier = self.connections.0.get(&connection);
        let path = carrier.map_or(PathKind::Loopback, |carrier| carrier.path);
        for (_, addresses) in &mut answer.closer {
            addresses.retain(|address| !is_relayed(address) && path_kind(address) >= path);
        }
        answer
    }

    /// Adds a DHT node to all walks.
    fn know(&mut self, node: PeerId, addresses: &[Multiaddr]) {
        if let Some(dht) = &mut self.dht {
            dht.know(node, addresses);
        }
    }

    pub(super) fn on_dht_event(&mut self, event: kad::Event) {
        let Some(kad) = self.swarm.behaviour_mut().dht.as_mut() else {
            return;
        };
        match event {
            kad::Event::InboundRequest {
                request: InboundRequest::AddProvider { record },
            } => {
                let connections = self.connections.0.values();
                let from = record.as_ref().and_then(|record| {
                    let mut own = connections.filter(|of| of.peer == record.provider);
                    own.next().map(|of| Network::of(&of.remote))
                });
                // A provider that has already disconnected has nothing to fetch from it.
                if let (Some(record), Some(networks)) = (record, from)
                    && let Err(why) = kad.store_mut().announced(record, networks)
                {
                    tracing::debug!(%why, "an announcement is not kept");
                }
                self.seen.dht_keys = kad.store_mut().len();
            }
            kad::Event::RoutingUpdated {
                peer, addresses, ..
            } => {
                self.seen.dht_nodes = dht::nodes(kad);
                self.know(peer, &addresses.into_vec());
            }
            _ => {}
        }
    }

    /// Reports an event to the owner, which then dials found peers itself, at those addresses that the DHT may name.
    /// Kademlia keeps dialling peers that are DHT nodes too, unless this peer hides.
    fn tell_found(&mut self, mut event: TransportEvent) {
        match &mut event {
            TransportEvent::Found {
                peer, addresses, ..
            } => {
                addresses.retain(|address| self.permits.may_dial(address));
                tracing::debug!(%peer, ?addresses, "a node of the DHT tells of a peer");
                let kad = self.swarm.behaviour_mut().dht.as_mut();
                let serves = kad.is_some_and(|kad| dht::knows(kad, *peer));
                if !serves || !self.setting.direct {
                    self.shut(*peer);
                }
            }
            TransportEvent::LookedUp { reached: false, .. } => {
                self.bootstrap.nobody_answered(Instant::now());
            }
            TransportEvent::Announced { report, .. } => {
                tracing::debug!(?report, "announced in the DHT");
                if report.nodes == 0 {
                    self.bootstrap.nobody_answered(Instant::now());
                }
            }
            _ => {}
        }
        self.ready.push_back(event);
    }

    /// From now on, this peer is dialled only on purpose, not by Kademlia.
    pub(super) fn shut(&mut self, peer: PeerId) {
        if let Some(gate) = self.swarm.behaviour_mut().gate.as_mut() {
            gate.shut(peer);
        }
    }

    /// Handles an identify message: protocols and addresses of a node, and the address at which it sees this peer.
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
            // A public node can't know addresses in this peer's private network; a node of that network can.
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
                if let Some(dht) = &mut self.dht {
                    dht.know(peer_id, &addresses);
                }
            }
            let candidates = behaviour.candidates.as_mut();
            let heard =
                candidates.is_some_and(|it| it.observed(connection_id, &info.observed_addr));
            if heard {
                self.seen.sighted(peer_id, &info.observed_addr);
            }
            let relays = speaks(relay::HOP_PROTOCOL_NAME);
            self.ask_to_dial_back(connection_id, &info, heard);
            if relays {
                self.reservations.met(peer_id, addresses, now);
            }
        }
        self.settled(connection_id, true);
    }
}

/// True if this listen address is public, as far as the IP address shows.
fn is_public(address: &Multiaddr) -> bool {
    path_kind(address) == PathKind::Direct && !ip_of(address).is_some_and(is_inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_own_addresses_those_are_announced_that_are_public_by_their_numbers() {
        let public = ["/ip4/11.0.0.1/tcp/1", "/ip6/2001:db8::1/tcp/1"];
        let private = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.168.1.1/tcp/1",
            "/ip4/100.64.0.1/tcp/1",
            "/ip4/100.127.0.1/udp/1/quic-v1",
            "/ip4/169.254.0.1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
        ];
        let is_public = |address: &str| is_public(&address.parse().unwrap());
        assert!(public.into_iter().all(is_public));
        assert!(!private.into_iter().any(is_public));
    }
}
