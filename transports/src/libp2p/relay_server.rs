//! Relaying for others, within quotas, of which one address can use only a part.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use handover_core::network::{Network, has_room};
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::relay::{self, StatusCode};
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};

use super::config::RelayQuotas;

/// Maximum burst of reservations of one peer, and of one IP address. Reservations are renewed twice an hour.
const RESERVATIONS_OF_A_PEER: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
const RESERVATIONS_OF_AN_IP: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);

/// The circuit rate limit of one IP address is this many times that of one peer.
const FOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);

/// A circuit not established after this time is forgotten: libp2p waits one minute for the other side.
const OPENING: Duration = Duration::from_secs(90);

/// The relay server.
pub(crate) struct Behaviour {
    relay: relay::Behaviour,
    places: Arc<Mutex<Places>>,
}

impl Behaviour {
    /// Relays nothing until [`serve`](Self::serve) is called.
    pub(crate) fn new(peer: PeerId, quotas: &RelayQuotas) -> Self {
        let places = Arc::new(Mutex::new(Places::new(quotas)));
        let mut relay = relay::Behaviour::new(peer, config(quotas, &places));
        relay.set_status(Some(relay::Status::Disable));
        Self { relay, places }
    }

    /// Starts or stops relaying.
    pub(crate) fn serve(&mut self, serve: bool) {
        let status = if serve {
            relay::Status::Enable
        } else {
            relay::Status::Disable
        };
        self.relay.set_status(Some(status));
    }
}

/// The quotas, and rate limits per peer and per address.
fn config(quotas: &RelayQuotas, places: &Arc<Mutex<Places>>) -> relay::Config {
    let circuits = if quotas.circuits_per_peer == 0 {
        0
    } else {
        quotas.circuits
    };
    let config = relay::Config {
        max_reservations: quotas.reservations,
        max_circuits: circuits,
        // libp2p allows one circuit more than this.
        max_circuits_per_peer: quotas.circuits_per_peer.saturating_sub(1),
        max_circuit_bytes: quotas.bytes_per_circuit,
        // The protocol encodes the seconds in 32 bits.
        max_circuit_duration: quotas
            .circuit_duration
            .min(Duration::from_secs(u32::MAX.into())),
        // The default limiters allow one circuit per two minutes after the first thirty: too few for a peer that has to
        // reconnect.
        circuit_src_rate_limiters: Vec::new(),
        // The default limiters allow an IP address one reservation per minute after the first sixty: a carrier's NAT
        // has thousands of peers behind it.
        reservation_rate_limiters: Vec::new(),
        ..relay::Config::default()
    };
    let config = config
        .reservation_rate_per_peer(RESERVATIONS_OF_A_PEER, Duration::from_secs(10))
        .reservation_rate_per_ip(RESERVATIONS_OF_AN_IP, Duration::from_secs(1));
    let (in_a_row, interval) = (quotas.circuits_in_a_row, quotas.circuit_interval);
    let mut config = config
        .circuit_src_per_peer(in_a_row, interval)
        .circuit_src_per_ip(in_a_row.saturating_mul(FOUR), interval / 4);
    // Added last: limiters are called in order until one refuses, and these record what they allow.
    let noted = Arc::clone(places);
    config.reservation_rate_limiters.push(Box::new(
        move |peer: PeerId, remote: &Multiaddr, _: Instant| lock(&noted).reserve(peer, remote),
    ));
    let noted = Arc::clone(places);
    config.circuit_src_rate_limiters.push(Box::new(
        move |peer: PeerId, remote: &Multiaddr, now: Instant| lock(&noted).open(peer, remote, now),
    ));
    config
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections with a reservation here, and circuits.
#[derive(Debug)]
struct Places {
    /// Maximum number of reservations of one address: a quarter of all.
    reservations_of_one: usize,
    /// Maximum number of circuits opened by one address: three eighths of all, but at least the quota of one peer.
    circuits_of_one: usize,
    reserved: HashSet<(PeerId, Multiaddr)>,
    circuits: Vec<Circuit>,
}

/// A circuit, identified by the connection of the peer that requested it.
#[derive(Debug)]
struct Circuit {
    source: PeerId,
    remote: Multiaddr,
    asked: Instant,
    stands: bool,
}

impl Places {
    fn new(quotas: &RelayQuotas) -> Self {
        Self {
            reservations_of_one: quotas.reservations.div_ceil(4),
            circuits_of_one: (quotas.circuits * 3)
                .div_ceil(8)
                .max(quotas.circuits_per_peer),
            reserved: HashSet::new(),
            circuits: Vec::new(),
        }
    }

    /// Records a reservation; an existing one of this connection is kept. Returns false if the address has too many.
    fn reserve(&mut self, peer: PeerId, remote: &Multiaddr) -> bool {
        let place = (peer, remote.clone());
        let reserved = self.reserved.iter().map(|(_, remote)| remote);
        if !self.reserved.contains(&place)
            && !has_room_for(remote, reserved, self.reservations_of_one)
        {
            tracing::debug!(%peer, "an address has enough reservations here");
            return false;
        }
        self.reserved.insert(place);
        true
    }

    /// Records a circuit. Returns false if the address has too many.
    fn open(&mut self, source: PeerId, remote: &Multiaddr, now: Instant) -> bool {
        self.circuits
            .retain(|circuit| circuit.stands || circuit.asked + OPENING > now);
        let from = self.circuits.iter().map(|circuit| &circuit.remote);
        if !has_room_for(remote, from, self.circuits_of_one) {
            tracing::debug!(%source, "an address has enough circuits here");
            return false;
        }
        self.circuits.push(Circuit {
            source,
            remote: remote.clone(),
            asked: now,
            stands: false,
        });
        true
    }

    fn on_event(&mut self, event: &relay::Event) {
        match event {
            relay::Event::ReservationTimedOut { src_peer_id } => {
                self.reserved.retain(|(peer, _)| peer != src_peer_id);
            }
            relay::Event::CircuitReqAccepted { src_peer_id, .. } => {
                let mut opening = self.circuits.iter_mut().filter(|it| !it.stands);
                if let Some(circuit) = opening.find(|it| it.source == *src_peer_id) {
                    circuit.stands = true;
                }
            }
            // A circuit refused by a limit was not recorded.
            relay::Event::CircuitReqDenied {
                status: StatusCode::ResourceLimitExceeded,
                ..
            } => {}
            relay::Event::CircuitReqDenied { src_peer_id, .. } => self.ended(src_peer_id, false),
            relay::Event::CircuitClosed { src_peer_id, .. } => self.ended(src_peer_id, true),
            _ => {}
        }
    }

    /// Removes one circuit of this peer; `stood` selects an established or a pending one.
    fn ended(&mut self, source: &PeerId, stood: bool) {
        let mut circuits = self.circuits.iter();
        let of = |it: &Circuit| it.source == *source && it.stands == stood;
        if let Some(at) = circuits.position(of) {
            self.circuits.swap_remove(at);
        }
    }

    /// Removes the reservation and the pending circuits of a closed connection. Each established circuit gets a closing
    /// event of its own.
    fn closed(&mut self, peer: &PeerId, remote: &Multiaddr) {
        self.reserved.remove(&(*peer, remote.clone()));
        self.circuits
            .retain(|it| it.stands || it.source != *peer || it.remote != *remote);
    }
}

/// True if one more entry of this address is allowed in addition to `taken`.
fn has_room_for<'a>(
    remote: &Multiaddr,
    taken: impl Iterator<Item = &'a Multiaddr>,
    of_one: usize,
) -> bool {
    has_room(&Network::of(remote), taken.map(Network::of), of_one)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <relay::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = relay::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.relay
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.relay
            .handle_established_outbound_connection(id, peer, remote, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id, endpoint, ..
        }) = event
        {
            lock(&self.places).closed(&peer_id, endpoint.get_remote_address());
        }
        self.relay.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.relay
            .on_connection_handler_event(peer, connection, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let step = self.relay.poll(cx);
        if let Poll::Ready(ToSwarm::GenerateEvent(event)) = &step {
            lock(&self.places).on_event(event);
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u8, port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.{host}/tcp/{port}").parse().unwrap()
    }

    fn places() -> Places {
        Places::new(&RelayQuotas {
            reservations: 8,
            circuits: 10,
            circuits_per_peer: 2,
            ..RelayQuotas::default()
        })
    }

    #[test]
    fn one_address_has_a_quarter_of_the_reservations_and_renews_them() {
        let mut places = places();
        let peers: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
        let from = |port: usize| at(1, u16::try_from(port).unwrap());
        let asked = |places: &mut Places| -> Vec<bool> {
            let peers = peers.iter().enumerate();
            let asked = peers.map(|(port, peer)| places.reserve(*peer, &from(port)));
            asked.collect()
        };
        assert_eq!(asked(&mut places), [true, true, false]);
        assert_eq!(asked(&mut places), [true, true, false], "renewed");
        assert!(places.reserve(peers[2], &at(2, 1)), "from elsewhere");
        places.closed(&peers[0], &from(0));
        assert!(places.reserve(peers[2], &from(2)));
        let src_peer_id = peers[1];
        places.on_event(&relay::Event::ReservationTimedOut { src_peer_id });
        assert!(places.reserve(peers[0], &from(9)));
    }

    #[test]
    fn one_address_has_a_part_of_the_circuits_until_they_end() {
        let mut places = places();
        let now = Instant::now();
        let (one, other) = (PeerId::random(), PeerId::random());
        let opened: Vec<_> = [one, one, other, other, other]
            .map(|peer| places.open(peer, &at(1, 1), now))
            .into();
        assert_eq!(opened, [true, true, true, true, false]);
        assert!(places.open(other, &at(2, 1), now), "from elsewhere");
        let accepted = relay::Event::CircuitReqAccepted {
            src_peer_id: one,
            dst_peer_id: other,
        };
        places.on_event(&accepted);
        // A circuit refused by a limit was not recorded, so nothing is removed.
        places.on_event(&relay::Event::CircuitReqDenied {
            src_peer_id: one,
            dst_peer_id: other,
            status: StatusCode::ResourceLimitExceeded,
        });
        assert!(!places.open(one, &at(1, 1), now));
        places.on_event(&relay::Event::CircuitReqDenied {
            src_peer_id: one,
            dst_peer_id: other,
            status: StatusCode::NoReservation,
        });
        assert!(places.open(one, &at(1, 1), now));
        // Established circuits stay; those never established are forgotten.
        let later = now + OPENING;
        let opened: Vec<_> = (0..4).map(|_| places.open(one, &at(1, 1), later)).collect();
        assert_eq!(opened, [true, true, true, false]);
        places.on_event(&relay::Event::CircuitClosed {
            src_peer_id: one,
            dst_peer_id: other,
            error: None,
        });
        assert!(places.open(one, &at(1, 1), later));
        places.closed(&one, &at(1, 1));
        assert!(places.circuits.is_empty());
    }
}
