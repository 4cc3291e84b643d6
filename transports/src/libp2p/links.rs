//! Handling of connections and of the links on them.

use handover_core::dial::path_kind;
use handover_core::engine::{DialId, PathKind};
use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionError, ConnectionId};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::Libp2pTransport;
use super::allowance;
use super::connections::Carrier;
use super::link::{LinkEvent, LinkStream};
use crate::{Link, TransportEvent, next_link_id};
use handover_core::dial::is_relayed;

impl Libp2pTransport {
    /// Dials a peer at these addresses; relays on the way are approached first.
    pub(super) fn dial_addresses(
        &mut self,
        dial: DialId,
        peer: Option<PeerId>,
        mut addresses: Vec<Multiaddr>,
    ) {
        if !self.setting.direct {
            addresses.retain(is_relayed);
            if let Some(peer) = peer {
                self.shut(peer);
            }
            if addresses.is_empty() {
                let reason = "it is not reachable through a relay, and this side hides".into();
                self.ready
                    .push_back(TransportEvent::DialFailed { dial, reason });
                return;
            }
        }
        let now = Instant::now();
        self.permits.permit(&addresses);
        self.approach_relays_of(&addresses, now);
        let approaches = &self.approaches;
        let waits = |relay| approaches.under_way(relay);
        let steps = self.dials.begin(dial, peer, addresses, waits, now);
        self.perform(steps);
    }

    /// The best connection to this peer on which a link may be opened.
    pub(super) fn best_connection(&self, peer: PeerId) -> Option<(PeerId, ConnectionId)> {
        let may = |id, carrier: &Carrier| {
            let allowed = self.setting.direct || carrier.is_relayed();
            allowed && carrier.lingers_until.is_none() && !self.dials.holds(id)
        };
        Some((peer, self.connections.best(peer, may)?))
    }

    /// Closes a connection unless it is needed. A connection that the other side dialled is left open, because closing
    /// it would break whatever the other side opens on it next; it closes after an idle timeout.
    pub(super) fn close_unused(&mut self, connection: ConnectionId) {
        let Some(carrier) = self.connections.0.get_mut(&connection) else {
            return;
        };
        if carrier.is_used() || self.dials.holds(connection) {
            return;
        }
        let (peer, relayed) = (carrier.peer, carrier.is_relayed());
        let kept = carrier.is_offered() || !(carrier.dialled || relayed);
        let needed = kept || (!relayed && self.relays_by(peer));
        if self.ending.is_some() || !needed {
            self.swarm.close_connection(connection);
        }
    }

    /// True if this peer serves as this side's relay, has a reservation here, or relays one of the connections.
    fn relays_by(&self, peer: PeerId) -> bool {
        let reserved = self.reservations.held().any(|(relay, _)| relay == peer);
        reserved || self.seen.serves(peer) || self.connections.through(peer) > 0
    }

    /// Closes unused relayed connections, whatever hole punching might still do on them, and relays being given up.
    pub(super) fn sweep(&mut self, now: Instant) {
        for connection in self.connections.stale(now) {
            if !self.dials.holds(connection) {
                self.swarm.close_connection(connection);
            }
        }
        for relay in std::mem::take(&mut self.letting_go) {
            self.let_go(relay);
        }
    }

    pub(super) fn on_established(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        endpoint: &ConnectedPoint,
    ) {
        let path = self.path_to(endpoint.get_remote_address());
        let limit = self.swarm.behaviour().relays.limit_of(connection);
        let carrier = Carrier::new(peer, endpoint, path, limit);
        if let Some(relay) = carrier.relay {
            let limit = carrier.limit;
            tracing::debug!(%peer, %relay, ?limit, "a circuit stands");
        }
        self.note_stranger(&carrier);
        if carrier.dialled {
            self.contacts.connected(peer, &carrier.remote);
        }
        self.connections.0.insert(connection, carrier);
        self.reaches.remove(&connection);
        self.bootstrap.set_connected(peer, true);
        if let Some(dht) = &mut self.dht {
            dht.connected(peer);
        }
        if self.ending.is_some() {
            self.swarm.close_connection(connection);
        }
        let steps = self.dials.established(connection, peer);
        self.offer(peer);
        self.perform(steps.unwrap_or_default());
    }

    /// Records the loss of a connection before identification as a failed dial.
    pub(super) fn note_loss(&mut self, connection: ConnectionId, cause: Option<&ConnectionError>) {
        if let Some(carrier) = self.connections.0.get(&connection)
            && carrier.dialled
            && !carrier.identified
        {
            self.contacts.lost(carrier.peer, &carrier.remote, cause);
        }
    }

    /// Records whether an incoming peer is a stranger. A peer with a relayed connection is none: hole punching has
    /// dialled it from this side too.
    fn note_stranger(&mut self, carrier: &Carrier) {
        if carrier.is_relayed() {
            return;
        }
        let mut known = self.connections.0.values();
        let by_relay = known.any(|other| other.peer == carrier.peer && other.is_relayed());
        if carrier.dialled || by_relay {
            self.strangers.dialled(&carrier.remote);
        } else if carrier.path == PathKind::Direct {
            self.strangers.came_from(&carrier.remote);
        }
    }

    /// Reports a better path to a peer, if there is one.
    fn offer(&mut self, peer: PeerId) {
        if !self.setting.direct || self.ending.is_some() {
            return;
        }
        let dials = &self.dials;
        if let Some(path) = self.connections.offer(peer, |id| dials.holds(id)) {
            self.ready.push_back(TransportEvent::Path { peer, path });
        }
    }

    pub(super) fn on_closed(&mut self, connection: ConnectionId, reason: &str) {
        let carrier = self.connections.0.remove(&connection);
        for carried in carrier.into_iter().flat_map(|carrier| carrier.links) {
            if !carried.fate.is_dropped() {
                self.ready.push_back(TransportEvent::LinkDown {
                    link: carried.link,
                    reason: reason.into(),
                });
            }
        }
        let steps = self.dials.closed(connection, reason);
        self.perform(steps);
    }

    pub(super) fn on_link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up {
                peer,
                connection,
                ours,
                stream,
                ..
            } => {
                let dial = if ours {
                    let (dial, steps) = self.dials.up(connection);
                    self.perform(steps);
                    if dial.is_none() {
                        // The dial ended earlier, so this stream is not wanted.
                        drop(stream);
                        return self.close_unused(connection);
                    }
                    dial
                } else {
                    None
                };
                self.on_up(peer, connection, dial, stream);
            }
            LinkEvent::OpenFailed {
                connection, error, ..
            } => {
                let steps = self.dials.open_failed(connection, &error);
                self.perform(steps);
            }
        }
    }

    fn on_up(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        dial: Option<DialId>,
        stream: LinkStream,
    ) {
        let Some(carrier) = self.connections.0.get_mut(&connection) else {
            // The connection is already gone, and its stream with it.
            let reason = "the connection was lost".into();
            let failed = dial.map(|dial| TransportEvent::DialFailed { dial, reason });
            return self.ready.extend(failed);
        };
        if !self.setting.direct && !carrier.is_relayed() {
            // Direct connections are allowed only to nodes of the DHT and to relays, which need no link.
            tracing::debug!(%peer, "a link that would show this peer's address is refused");
            return;
        }
        let id = next_link_id();
        carrier.carry(id, stream.fate());
        self.ready.push_back(TransportEvent::LinkUp(Link {
            id,
            peer,
            path: carrier.path,
            remote: carrier.remote.clone(),
            dial,
            relay: carrier.relay,
            allowance: allowance::of(carrier.limit),
            stream: Box::new(stream),
        }));
        self.offer(peer);
    }

    /// The path kind of a remote address. An address of this machine counts as loopback, whichever network it belongs
    /// to.
    fn path_to(&self, remote: &Multiaddr) -> PathKind {
        let host = remote.iter().next();
        let own = self
            .swarm
            .listeners()
            .any(|address| !is_relayed(address) && address.iter().next() == host);
        if own {
            PathKind::Loopback
        } else {
            path_kind(remote)
        }
    }
}
