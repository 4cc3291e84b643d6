//! How many connections may come in: in all, and from one address, so that nobody alone can take the places of others.
//!
//! A connection takes its place when its handshake begins and keeps it until it is closed. Handshakes over TCP and over
//! QUIC have places of their own: a sender's address can be made up over UDP, and over TCP it can't. What comes through a
//! relay is bounded where the relay's offers are, and this machine's own programs are not strangers.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
use super::interfaces::ip_of;
use handover_core::dial::{carried_v4, is_relayed};

/// A site has as many places as so many of its networks.
const NETWORKS_OF_A_SITE: usize = 4;

/// How many may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Handshakes under way over one transport, and of those from one address.
    pub(crate) pending: usize,
    pub(crate) pending_of_one: usize,
    /// Connections that stand, and of those from one address.
    pub(crate) standing: usize,
    pub(crate) standing_of_one: usize,
}

/// A part of the internet that one party may have to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Network {
    V4(Ipv4Addr),
    Neighbour(Ipv6Addr),
    /// The first 64 bits: what one computer may choose its addresses from.
    V6([u16; 4]),
    /// The first 48 bits: what a provider gives to one customer.
    Site([u16; 3]),
}

impl Network {
    /// Those that an address is in; none for one of this machine.
    pub(super) fn of(remote: &Multiaddr) -> Vec<Self> {
        match ip_of(remote).map(|ip| ip.to_canonical()) {
            Some(ip) if ip.is_loopback() => Vec::new(),
            Some(IpAddr::V4(ip)) => vec![Self::V4(ip)],
            // Each neighbour on a cable has one, and none of them has the network.
            Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() => vec![Self::Neighbour(ip)],
            Some(IpAddr::V6(ip)) => {
                let carried = carried_v4(ip);
                if !carried.is_empty() {
                    // One behind NAT64 is as good as one of IPv4.
                    return carried.into_iter().map(Self::V4).collect();
                }
                let [a, b, c, d, ..] = ip.segments();
                vec![Self::V6([a, b, c, d]), Self::Site([a, b, c])]
            }
            None => Vec::new(),
        }
    }

    /// How many places it has where one address has so many.
    pub(super) fn share(self, of_one: usize) -> usize {
        match self {
            Self::V4(_) | Self::Neighbour(_) | Self::V6(_) => of_one,
            Self::Site(_) => of_one * NETWORKS_OF_A_SITE,
        }
    }
}

/// There is no place for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too many handshakes are under way")]
    Handshakes,
    #[error("too many connections have come in")]
    Connections,
    #[error("too many connections have come from this address")]
    Address,
}

/// A connection comes to a place of another kind when its handshake is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    OverTcp,
    OverQuic,
    Stands,
}

const STAGES: usize = 3;

impl Bounds {
    /// Places for connections of this stage, and of those for one address.
    fn of(self, stage: Stage) -> (usize, usize) {
        match stage {
            Stage::OverTcp | Stage::OverQuic => (self.pending, self.pending_of_one),
            Stage::Stands => (self.standing, self.standing_of_one),
        }
    }
}

/// A connection that came in.
#[derive(Debug)]
struct Visitor {
    networks: Vec<Network>,
    stage: Stage,
}

/// The places, and who has them.
#[derive(Debug)]
struct Places {
    bounds: Bounds,
    visitors: BTreeMap<ConnectionId, Visitor>,
    /// Connections of each stage, in all and from each network.
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

    /// It is over, and well.
    fn stand(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), Full> {
        self.leave(id);
        self.take(id, remote, Stage::Stands)
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
        self.taken[at] += 1;
        for network in &networks {
            self.counts.entry(*network).or_default()[at] += 1;
        }
        self.visitors.insert(id, Visitor { networks, stage });
        Ok(())
    }

    /// A handshake has failed, or a connection is closed.
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

/// Denies connections for which there is no place.
#[derive(Debug)]
pub(crate) struct Behaviour {
    places: Places,
}

impl Behaviour {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let places = Places::new(bounds);
        Self { places }
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
        _: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !is_relayed(local) {
            let stands = self.places.stand(id, remote);
            stands.map_err(ConnectionDenied::new)?;
        }
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
    };

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// Comes from each of these addresses; which of them got a place.
    fn begin(places: &mut Places, from: usize, addresses: &[Multiaddr]) -> Vec<Result<(), Full>> {
        let ids = (from..).map(ConnectionId::new_unchecked);
        let come = ids.zip(addresses);
        come.map(|(id, remote)| places.begin(id, remote)).collect()
    }

    /// 64 silent connections from one host kept everybody else out.
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
        // Addresses that are made up over UDP do not take the places of TCP, nor the other way round.
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
        assert_eq!(came.iter().filter(|came| came.is_ok()).count(), 6);
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

    #[test]
    fn programs_of_this_machine_are_bounded_together_with_all_and_not_by_address() {
        let mut places = Places::new(BOUNDS);
        let local = vec![at("/ip4/127.0.0.1/tcp/1"); 20];
        let came = begin(&mut places, 0, &local);
        assert_eq!(came.iter().filter(|came| came.is_ok()).count(), 16);
    }
}
