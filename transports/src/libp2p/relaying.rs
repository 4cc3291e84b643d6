//! Being reachable through relays, and approaching relays on the way to other peers.

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, relay};
use tokio::time::Instant;

use super::Libp2pTransport;
use super::circuit;
use super::config::way_to_relay;
use super::dials::is_quic;
use super::reservations::Step;
use handover_core::dial::{by_relay, is_relayed};

impl Libp2pTransport {
    /// Makes and gives up reservations as due. Returns true if there was anything to do.
    pub(super) fn keep_reservations(&mut self, now: Instant) -> bool {
        let announces = self.dht.as_ref().is_some_and(super::Dht::announces);
        // A user who names a relay wants to be reachable there, even if there are other paths to this peer.
        let needed = self.setting.relays_named || (announces && !self.needs_no_relay());
        self.reservations.set_needed(needed);
        let steps = self.reservations.wake(now);
        let any = !steps.is_empty();
        for step in steps {
            match step {
                Step::Reserve { relay, addresses } => self.reserve(relay, addresses, now),
                Step::GiveUp(relay) => {
                    self.reserving.remove(&relay);
                    self.let_go(relay);
                }
            }
        }
        any
    }

    /// True if, as far as is known, every peer can reach this one without a relay.
    fn needs_no_relay(&self) -> bool {
        if !self.setting.asks {
            return self.is_public();
        }
        // A peer with only IPv4 can't connect over IPv6, nor the other way round.
        let over = |ipv6| {
            let mut external = self.swarm.external_addresses();
            external.any(|address| !is_relayed(address) && is_ipv6(address) == ipv6)
        };
        over(false) && over(true) && (self.ports.any() || self.strangers.came())
    }

    /// True if some peers can reach this one without a relay.
    pub(super) fn is_public(&self) -> bool {
        let mut external = self.swarm.external_addresses();
        external.any(|address| !is_relayed(address))
    }

    fn reserve(&mut self, relay: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        tracing::debug!(%relay, ?addresses, "a relay is asked for a reservation");
        self.letting_go.remove(&relay);
        if self.approach(relay, &addresses, now) {
            self.reserving.insert(relay, addresses);
        } else {
            self.listen_at(relay, &addresses, now);
        }
    }

    /// Continues dials and reservations that waited for this relay to be approached.
    pub(super) fn relay_known(&mut self, relay: PeerId, now: Instant) {
        let steps = self.dials.approached(relay, now);
        self.perform(steps);
        if let Some(addresses) = self.reserving.remove(&relay) {
            self.listen_at(relay, &addresses, now);
        }
    }

    /// A dial of a relay has finished, successfully (`good`) or not.
    pub(super) fn settled(&mut self, connection: ConnectionId, good: bool) {
        let now = Instant::now();
        if let Some(relay) = self.approaches.settled(connection, good, now) {
            self.relay_known(relay, now);
        }
    }

    /// Requests a reservation, which is renewed as long as the listener exists.
    fn listen_at(&mut self, relay: PeerId, addresses: &[Multiaddr], now: Instant) {
        let standing = self.connections.0.values();
        let dialled = standing
            .filter(|carrier| carrier.peer == relay && carrier.dialled && !carrier.is_relayed())
            .map(|carrier| &carrier.remote);
        // Prefer addresses without names: other peers should not have to resolve them.
        let ways: Vec<&Multiaddr> = dialled.chain(addresses).collect();
        let way = ways.iter().find(|way| !is_named(way)).or(ways.first());
        let Some(way) = way else {
            return self.reservations.failed(relay, now);
        };
        let at = (*way)
            .clone()
            .with(Protocol::P2p(relay))
            .with(Protocol::P2pCircuit);
        match self.swarm.listen_on(at) {
            Ok(listener) => {
                self.relayed.insert(listener, relay);
            }
            Err(error) => {
                tracing::debug!(%relay, %error, "can't reserve at a relay");
                self.reservations.failed(relay, now);
            }
        }
    }

    /// Handles a closed listener. Returns true if it was at a relay.
    pub(super) fn on_relay_gone(&mut self, listener: ListenerId) -> bool {
        let Some(relay) = self.relayed.remove(&listener) else {
            return false;
        };
        // If the relay was asked again, it has another listener.
        if !self.relayed.values().any(|other| *other == relay) {
            tracing::debug!(%relay, "a relay is lost");
            self.reservations.failed(relay, Instant::now());
        }
        true
    }

    /// Ends a reservation: no more connections are accepted through this relay, and the connections to it are closed
    /// once they carry no circuits. (Most relays then drop the reservation; the protocol has no message to return it.)
    pub(super) fn let_go(&mut self, relay: PeerId) {
        let at_relay = self.relayed.iter().filter(|(_, at)| **at == relay);
        for listener in at_relay.map(|(listener, _)| *listener).collect::<Vec<_>>() {
            self.swarm.remove_listener(listener);
        }
        if self.connections.through(relay) > 0 {
            self.letting_go.insert(relay);
            return;
        }
        let mut to_close = Vec::new();
        for (id, carrier) in &mut self.connections.0 {
            if carrier.peer == relay && !carrier.is_relayed() && !carrier.is_used() {
                to_close.push(*id);
            }
        }
        for id in to_close {
            if !self.dials.holds(id) {
                self.swarm.close_connection(id);
            }
        }
    }

    pub(super) fn on_relays_event(&mut self, event: &circuit::Event) {
        match event {
            circuit::Event::Reserved { relay } => {
                tracing::debug!(%relay, "a relay makes this peer reachable");
                self.reservations.accepted(*relay, Instant::now());
                self.remember_relays();
            }
            circuit::Event::Refused { relay, status } => {
                let status = *status;
                tracing::info!(%relay, status = status.name(), "a relay refused a reservation");
                self.reservations.refused(*relay, status, Instant::now());
            }
        }
    }

    /// Stores the current relays for the next run.
    fn remember_relays(&mut self) {
        let held: Vec<_> = self.reservations.held().collect();
        let relays = held.into_iter().map(|(relay, _)| {
            let standing = self.connections.0.values();
            let ways = standing.filter(|it| it.peer == relay && it.dialled && !it.is_relayed());
            (relay, ways.map(|it| it.remote.clone()).collect())
        });
        self.remembered.remember(relays);
    }

    pub(super) fn on_relay_event(&mut self, event: &relay::Event) {
        let direct = |peer: &PeerId| {
            let mut all = self.connections.0.values();
            all.any(|carrier| carrier.peer == *peer && !carrier.is_relayed())
        };
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
                self.seen.reserved(*src_peer_id);
            }
            // libp2p reports this for every closed connection, even one without a reservation.
            relay::Event::ReservationClosed { src_peer_id } if direct(src_peer_id) => {}
            relay::Event::ReservationClosed { src_peer_id }
            | relay::Event::ReservationTimedOut { src_peer_id } => {
                self.seen.unreserved(*src_peer_id);
            }
            relay::Event::CircuitReqAccepted { .. } => self.seen.circuit_opened(),
            relay::Event::CircuitClosed { .. } => self.seen.circuit_closed(),
            _ => {}
        }
    }

    /// Approaches the relays in these addresses.
    pub(super) fn approach_relays_of(&mut self, addresses: &[Multiaddr], now: Instant) {
        for (relay, circuits) in by_relay(addresses.to_vec()) {
            let ways: Vec<_> = circuits.iter().map(way_to_relay).collect();
            self.approach(relay, &ways, now);
        }
    }

    /// Dials a relay over TCP and QUIC, and over IPv4 and IPv6 each, from the listening port, unless such a connection
    /// exists. Returns true if the caller should wait for the dials.
    fn approach(&mut self, relay: PeerId, addresses: &[Multiaddr], now: Instant) -> bool {
        if !self.setting.punch {
            return false;
        }
        if self.approaches.under_way(relay) {
            return true;
        }
        let mut open = Vec::new();
        for (quic, ipv6) in [(false, false), (true, false), (false, true), (true, true)] {
            let way = |address: &Multiaddr| is_quic(address) == quic && is_ipv6(address) == ipv6;
            let standing = self
                .connections
                .0
                .iter()
                .find(|(_, carrier)| {
                    carrier.peer == relay && !carrier.is_relayed() && way(&carrier.remote)
                })
                .map(|(id, carrier)| (*id, carrier.identified));
            let ways: Vec<Multiaddr> = addresses.iter().filter(|it| way(it)).cloned().collect();
            match standing {
                Some((_, true)) => {}
                Some((id, false)) => open.push(id),
                None => open.extend(self.dial_relay(relay, ways)),
            }
        }
        self.approaches.begin(relay, open, now)
    }

    fn dial_relay(&mut self, relay: PeerId, addresses: Vec<Multiaddr>) -> Option<ConnectionId> {
        if addresses.is_empty() {
            return None;
        }
        let opts = DialOpts::peer_id(relay)
            .condition(PeerCondition::Always)
            .addresses(addresses)
            .build();
        let id = opts.connection_id();
        self.begin(opts).is_ok().then_some(id)
    }
}

/// True if the address is, or resolves to, an IPv6 address.
fn is_ipv6(address: &Multiaddr) -> bool {
    let host = address.iter().next();
    matches!(host, Some(Protocol::Ip6(_) | Protocol::Dns6(_)))
}

/// True if the address contains a name to resolve.
fn is_named(address: &Multiaddr) -> bool {
    address.iter().any(|part| {
        matches!(
            part,
            Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)
        )
    })
}
