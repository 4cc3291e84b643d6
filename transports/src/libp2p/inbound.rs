//! Limits on incoming connections, in total and per address, so that no single host can take the places of others
//!
//! A connection takes its place when its handshake begins and keeps it until it closes. Handshakes over TCP and over
//! QUIC are counted separately, because the sender's address can be forged over UDP and not over TCP. Handshakes over a
//! circuit are limited together with the relay's offers; once established, a circuit counts for the relay's address.
//! Connections from this machine count only towards the total.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};

use super::dials::is_quic;
use handover_core::dial::is_relayed;
use handover_core::network::Network;

/// Limits on incoming connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Maximum number of handshakes under way over one transport, in total and from one address.
    pub(crate) pending: usize,
    pub(crate) pending_of_one: usize,
    /// Maximum number of established connections, in total and from one address.
    pub(crate) standing: usize,
    pub(crate) standing_of_one: usize,
    /// Number of established connections kept for known peers. These are not limited by address, because the handshake
    /// has proved their identity.
    pub(crate) standing_of_known: usize,
}

/// The address that a connection comes from, as far as it is visible: for a peer behind a relay, that of the relay.
pub(super) fn origin<'a>(local: &'a Multiaddr, remote: &'a Multiaddr) -> &'a Multiaddr {
    if is_relayed(local) { local } else { remote }
}

/// There is no place for another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too many handshakes are under way")]
    Handshakes,
    #[error("too many connections have come in")]
    Connections,
    #[error("too many connections have come from this address")]
    Address,
}

/// The stage of a connection. Each stage has its own places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    OverTcp,
    OverQuic,
    Stands,
}

const STAGES: usize = 3;

impl Bounds {
    /// Maximum number of strangers' connections at this stage, in total and from one address.
    fn of(self, stage: Stage) -> (usize, usize) {
        match stage {
            Stage::OverTcp | Stage::OverQuic => (self.pending, self.pending_of_one),
            Stage::Stands => {
                let strangers = self.standing.saturating_sub(self.standing_of_known);
                (strangers, self.standing_of_one)
            }
        }
    }
}

/// An incoming connection.
#[derive(Debug)]
struct Visitor {
    networks: Vec<Network>,
    stage: Stage,
}

/// The connections that hold a place.
#[derive(Debug)]
struct Places {
    bounds: Bounds,
    visitors: BTreeMap<ConnectionId, Visitor>,
    /// Number of connections in each stage, in total and from each network.
    taken: [usize; STAGES],
    counts: HashMap<Network, [usize; STAGES]>,
}

impl Places {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            visitors: BTreeMap::new(),
            taken: [0; STAGES],
            counts: HashMap::new(),
        }
    }

    /// A handshake begins.
    fn begin(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), Full> {
        let stage = if is_quic(remote) {
            Stage::OverQuic
        } else {
            Stage::OverTcp
        };
        self.take(id, remote, stage)
    }

    /// The handshake has succeeded.
    fn stand(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), Full> {
        self.leave(id);
        self.take(id, remote, Stage::Stands)
    }

    /// The handshake has succeeded and proved that this is a known peer.
    fn stand_known(&mut self, id: ConnectionId) -> Result<(), Full> {
        self.leave(id);
        let stage = Stage::Stands;
        if self.taken[stage as usize] >= self.bounds.standing {
            return Err(Full::Connections);
        }
        self.seat(id, Vec::new(), stage);
        Ok(())
    }

    fn take(&mut self, id: ConnectionId, remote: &Multiaddr, stage: Stage) -> Result<(), Full> {
        let (most, of_one) = self.bounds.of(stage);
        let at = stage as usize;
        if self.taken[at] >= most {
            return Err(match stage {
                Stage::OverTcp | Stage::OverQuic => Full::Handshakes,
                Stage::Stands => Full::Connections,
            });
        }
        let networks = Network::of(remote);
        let taken_by = |network| self.counts.get(network).map_or(0, |taken| taken[at]);
        let mut all = networks.iter();
        if all.any(|network| taken_by(network) >= network.share(of_one)) {
            return Err(Full::Address);
        }
        self.seat(id, networks, stage);
        Ok(())
    }

    fn seat(&mut self, id: ConnectionId, networks: Vec<Network>, stage: Stage) {
        let at = stage as usize;
        self.taken[at] += 1;
        for network in &networks {
            self.counts.entry(*network).or_default()[at] += 1;
        }
        self.visitors.insert(id, Visitor { networks, stage });
    }

    /// Frees the place of a connection that was closed or whose handshake failed.
    fn leave(&mut self, id: ConnectionId) {
        let Some(visitor) = self.visitors.remove(&id) else {
            return;
        };
        let at = visitor.stage as usize;
        self.taken[at] -= 1;
        for network in visitor.networks {
            if let Some(taken) = self.counts.get_mut(&network) {
                taken[at] -= 1;
                if *taken == [0; STAGES] {
                    self.counts.remove(&network);
                }
            }
        }
    }
}

/// Denies connections that exceed the limits.
#[derive(Debug)]
pub(crate) struct Behaviour {
    places: Places,
    known: HashSet<PeerId>,
}

impl Behaviour {
    /// `known`: peers that are accepted from any address, and for which places are kept.
    pub(crate) fn new(bounds: Bounds, known: HashSet<PeerId>) -> Self {
        let places = Places::new(bounds);
        Self { places, known }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if is_relayed(local) {
            return Ok(());
        }
        self.places.begin(id, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let stands = if self.known.contains(&peer) {
            self.places.stand_known(id)
        } else {
            self.places.stand(id, origin(local, remote))
        };
        stands.map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. })
            | FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.places.leave(connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        pending: 16,
        pending_of_one: 2,
        standing: 30,
        standing_of_one: 3,
        standing_of_known: 0,
    };

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// Begins a handshake from each address. Returns which of them got a place.
    fn begin(places: &mut Places, from: usize, addresses: &[Multiaddr]) -> Vec<Result<(), Full>> {
        let ids = (from..).map(ConnectionId::new_unchecked);
        let come = ids.zip(addresses);
        come.map(|(id, remote)| places.begin(id, remote)).collect()
    }

    /// Regression test: 64 silent connections from one host kept everyone else out.
    #[test]
    fn one_address_has_few_places_and_leaves_the_others() {
        let mut places = Places::new(BOUNDS);
        let greedy: Vec<_> = (1..100)
            .map(|port| at(&format!("/ip4/192.0.2.1/tcp/{port}")))
            .collect();
        let came = begin(&mut places, 0, &greedy);
        assert_eq!(came[..3], [Ok(()), Ok(()), Err(Full::Address)]);
        assert!(came[3..].iter().all(|came| *came == Err(Full::Address)));
        let others: Vec<_> = (2..20)
            .map(|host| at(&format!("/ip4/192.0.2.{host}/tcp/1")))
            .collect();
        let came = begin(&mut places, 1000, &others);
        assert_eq!(came.iter().filter(|came| came.is_ok()).count(), 14);
        assert_eq!(came.last(), Some(&Err(Full::Handshakes)));
        // Forged UDP addresses do not take the places of TCP, nor the other way round.
        let quic = [
            at("/ip4/192.0.2.77/udp/1/quic-v1"),
            at("/ip4/192.0.2.1/udp/1/quic-v1"),
        ];
        assert_eq!(begin(&mut places, 2000, &quic), [Ok(()), Ok(())]);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address_and_a_site_as_a_few() {
        let mut places = Places::new(BOUNDS);
        let one: Vec<_> = (1..4)
            .map(|host| at(&format!("/ip6/2001:db8::{host}/tcp/1")))
            .collect();
        let came = begin(&mut places, 0, &one);
        assert_eq!(came, [Ok(()), Ok(()), Err(Full::Address)]);
        let site: Vec<_> = (1..9)
            .map(|net| at(&format!("/ip6/2001:db8:0:{net}::1/tcp/1")))
            .collect();
        let came = begin(&mut places, 10, &site);
        assert_eq!(came.iter().filter(|came| came.is_ok()).count(), 2);
        let mapped = [
            "/ip6/::ffff:192.0.2.1/tcp/1",
            "/ip4/192.0.2.1/tcp/2",
            "/ip4/192.0.2.1/tcp/3",
        ]
        .map(at);
        let came = begin(&mut places, 20, &mapped);
        assert_eq!(came, [Ok(()), Ok(()), Err(Full::Address)]);
    }

    #[test]
    fn places_are_given_back_once_and_counted_anew_when_a_handshake_is_over() {
        let mut places = Places::new(BOUNDS);
        let remote = at("/ip4/192.0.2.1/tcp/1");
        for number in 0..3 {
            let id = ConnectionId::new_unchecked(number);
            assert_eq!(places.begin(id, &remote), Ok(()));
            assert_eq!(places.stand(id, &remote), Ok(()));
        }
        let fourth = ConnectionId::new_unchecked(3);
        assert_eq!(places.begin(fourth, &remote), Ok(()));
        assert_eq!(places.stand(fourth, &remote), Err(Full::Address));
        for number in [0, 0, 1, 2, 3, 4] {
            places.leave(ConnectionId::new_unchecked(number));
        }
        assert_eq!(places.taken, [0; STAGES]);
        assert!(places.counts.is_empty() && places.visitors.is_empty());
    }

    /// Regression test: a relay made up peers and took all connections.
    #[test]
    fn what_comes_through_a_relay_counts_as_from_its_address() {
        let mut places = Places::new(BOUNDS);
        let relay = PeerId::random();
        let through = at(&format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit"));
        let came: Vec<_> = (0..4)
            .map(|number| places.stand(ConnectionId::new_unchecked(number), &through))
            .collect();
        assert_eq!(came, [Ok(()), Ok(()), Ok(()), Err(Full::Address)]);
    }

    #[test]
    fn known_peers_come_in_where_strangers_have_taken_all() {
        let mut places = Places::new(Bounds {
            standing: 4,
            standing_of_known: 2,
            ..BOUNDS
        });
        let stranger = |places: &mut Places, host: usize| {
            let remote = at(&format!("/ip4/192.0.2.{host}/tcp/1"));
            places.stand(ConnectionId::new_unchecked(host), &remote)
        };
        let came: Vec<_> = (1..4).map(|host| stranger(&mut places, host)).collect();
        assert_eq!(came, [Ok(()), Ok(()), Err(Full::Connections)]);
        let known = [10, 11, 12].map(ConnectionId::new_unchecked);
        let came = known.map(|id| places.stand_known(id));
        assert_eq!(came, [Ok(()), Ok(()), Err(Full::Connections)]);
        places.leave(known[0]);
        assert_eq!(stranger(&mut places, 5), Err(Full::Connections));
    }

    #[test]
    fn programs_of_this_machine_are_bounded_together_with_all_and_not_by_address() {
        let mut places = Places::new(BOUNDS);
        let local = vec![at("/ip4/127.0.0.1/tcp/1"); 20];
        let came = begin(&mut places, 0, &local);
        assert_eq!(came.iter().filter(|came| came.is_ok()).count(), 16);
    }
}
