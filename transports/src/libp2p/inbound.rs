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
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};

use super::dials::is_quic;
use super::outbound::carried;
use handover_core::dial::is_relayed;

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
enum Network {
    V4(Ipv4Addr),
    Neighbour(Ipv6Addr),
    /// The first 64 bits: what one computer may choose its addresses from.
    V6([u16; 4]),
    /// The first 48 bits: what a provider gives to one customer.
    Site([u16; 3]),
}

impl Network {
    /// Those that an address is in; none for one of this machine.
    fn of(remote: &Multiaddr) -> Vec<Self> {
        let ip = remote.iter().find_map(|part| match part {
            Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
            Protocol::Ip6(ip) => Some(IpAddr::V6(ip).to_canonical()),
            _ => None,
        });
        match ip {
            Some(ip) if ip.is_loopback() => Vec::new(),
            Some(IpAddr::V4(ip)) => vec![Self::V4(ip)],
            // Each neighbour on a cable has one, and none of them has the network.
            Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() => vec![Self::Neighbour(ip)],
            // One behind NAT64 is as good as one of IPv4.
            Some(IpAddr::V6(ip)) if !carried(ip).is_empty() => {
                carried(ip).into_iter().map(Self::V4).collect()
            }
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.segments();
                vec![Self::V6([a, b, c, d]), Self::Site([a, b, c])]
            }
            None => Vec::new(),
        }
    }

    /// How many places it has where one address has so many.
    fn share(self, of_one: usize) -> usize {
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

/// A connection that came in.
#[derive(Debug)]
struct Visitor {
    networks: Vec<Network>,
    is_quic: bool,
    /// Its handshake is over.
    stands: bool,
}

/// The places, and who has them.
#[derive(Debug)]
struct Places {
    bounds: Bounds,
    visitors: BTreeMap<ConnectionId, Visitor>,
    /// Handshakes and connections from each network.
    counts: HashMap<Network, Count>,
    /// Handshakes over TCP and over QUIC, and connections that stand.
    pending: [usize; 2],
    standing: usize,
}

#[derive(Debug, Default)]
struct Count {
    /// Over TCP and over QUIC.
    pending: [usize; 2],
    standing: usize,
}

impl Places {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            visitors: BTreeMap::new(),
            counts: HashMap::new(),
            pending: [0; 2],
            standing: 0,
        }
    }

    /// A handshake begins.
    fn begin(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), Full> {
        let visitor = Visitor {
            networks: Network::of(remote),
            is_quic: is_quic(remote),
            stands: false,
        };
        let Bounds {
            pending,
            pending_of_one: of_one,
            ..
        } = self.bounds;
        if self.pending[usize::from(visitor.is_quic)] >= pending {
            return Err(Full::Handshakes);
        }
        let over = usize::from(visitor.is_quic);
        self.check(&visitor, |network, count| {
            count.pending[over] >= network.share(of_one)
        })?;
        self.pending[over] += 1;
        for network in &visitor.networks {
            self.counts.entry(*network).or_default().pending[over] += 1;
        }
        self.visitors.insert(id, visitor);
        Ok(())
    }

    /// It is over, and well.
    fn stand(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), Full> {
        self.leave(id);
        let visitor = Visitor {
            networks: Network::of(remote),
            is_quic: is_quic(remote),
            stands: true,
        };
        if self.standing >= self.bounds.standing {
            return Err(Full::Connections);
        }
        let of_one = self.bounds.standing_of_one;
        self.check(&visitor, |network, count| {
            count.standing >= network.share(of_one)
        })?;
        self.standing += 1;
        for network in &visitor.networks {
            self.counts.entry(*network).or_default().standing += 1;
        }
        self.visitors.insert(id, visitor);
        Ok(())
    }

    fn check(
        &self,
        visitor: &Visitor,
        is_full: impl Fn(Network, &Count) -> bool,
    ) -> Result<(), Full> {
        let mut networks = visitor.networks.iter();
        let full = networks.any(|network| {
            let count = self.counts.get(network);
            count.is_some_and(|count| is_full(*network, count))
        });
        if full { Err(Full::Address) } else { Ok(()) }
    }

    /// A handshake has failed, or a connection is closed.
    fn leave(&mut self, id: ConnectionId) {
        let Some(visitor) = self.visitors.remove(&id) else {
            return;
        };
        if visitor.stands {
            self.standing -= 1;
        } else {
            self.pending[usize::from(visitor.is_quic)] -= 1;
        }
        for network in visitor.networks {
            let Some(count) = self.counts.get_mut(&network) else {
                continue;
            };
            if visitor.stands {
                count.standing -= 1;
            } else {
                count.pending[usize::from(visitor.is_quic)] -= 1;
            }
            if count.pending == [0; 2] && count.standing == 0 {
                self.counts.remove(&network);
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
        assert_eq!((places.pending, places.standing), ([0; 2], 0));
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
