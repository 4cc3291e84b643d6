//! Tests the reachability of others (`AutoNAT` v2) within bounds. libp2p's server dials every address it is asked to
//! test, up to ten at once per connection. Here the number of dials is limited, in total and per address.

use std::collections::{BTreeMap, HashMap};
use std::task::{Context, Poll};

use handover_core::network::{Network, has_room};
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, autonat};

use super::inbound::origin;

/// Maximum number of concurrent dials requested by others: in total, and from one address.
const DIALS: usize = 32;
const DIALS_OF_ONE: usize = 4;

type Server = autonat::v2::server::Behaviour;

/// Dials back the peers that ask for it.
#[derive(Default)]
pub(crate) struct Behaviour {
    server: Server,
    dials: Dials,
}

/// The dials that others have requested.
#[derive(Debug, Default)]
struct Dials {
    /// Connected peers that may request dials, by connection, and their networks.
    askers: HashMap<ConnectionId, (PeerId, Vec<Network>)>,
    under_way: BTreeMap<ConnectionId, Vec<Network>>,
}

impl Dials {
    fn connected(&mut self, id: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) {
        if let ConnectedPoint::Listener {
            local_addr,
            send_back_addr,
        } = endpoint
        {
            let from = origin(local_addr, send_back_addr);
            self.askers.insert(id, (peer, Network::of(from)));
        }
    }

    /// Records a dial requested by this peer. Returns false if a limit is reached.
    fn begin(&mut self, id: ConnectionId, peer: Option<PeerId>) -> bool {
        let askers = self.askers.values();
        let of_peer = askers.filter(|(asker, _)| Some(*asker) == peer);
        let networks: Vec<Network> = of_peer
            .flat_map(|(_, networks)| networks)
            .copied()
            .collect();
        let under_way = self.under_way.values();
        if under_way.len() >= DIALS || !has_room(&networks, under_way, DIALS_OF_ONE) {
            return false;
        }
        self.under_way.insert(id, networks);
        true
    }

    fn on_swarm_event(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                self.under_way.remove(connection_id);
                self.connected(*connection_id, *peer_id, endpoint);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.askers.remove(connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.under_way.remove(connection_id);
            }
            _ => {}
        }
    }
}

impl Behaviour {
    /// Reports to the server that a dial it requested has failed.
    fn refuse(&mut self, dial: &DialOpts) {
        tracing::debug!("too many addresses are being tested for others");
        self.server
            .on_swarm_event(FromSwarm::DialFailure(DialFailure {
                peer_id: dial.get_peer_id(),
                error: &DialError::Aborted,
                connection_id: dial.connection_id(),
            }));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Server as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = <Server as NetworkBehaviour>::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.server
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
        self.server
            .handle_established_outbound_connection(id, peer, remote, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.dials.on_swarm_event(&event);
        self.server.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.server
            .on_connection_handler_event(peer, connection, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match self.server.poll(cx) {
                Poll::Ready(ToSwarm::Dial { opts })
                    if !self.dials.begin(opts.connection_id(), opts.get_peer_id()) =>
                {
                    self.refuse(&opts);
                }
                step => return step,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    /// A peer connects from this address.
    fn asker(dials: &mut Dials, number: usize, from: &str) -> PeerId {
        let peer = PeerId::random();
        let endpoint = ConnectedPoint::Listener {
            local_addr: "/ip4/192.0.2.100/tcp/1".parse().unwrap(),
            send_back_addr: from.parse().unwrap(),
        };
        dials.connected(id(number), peer, &endpoint);
        peer
    }

    #[test]
    fn one_address_has_few_dials_at_once_however_many_peers_it_is() {
        let mut dials = Dials::default();
        let greedy: Vec<_> = (0..10)
            .map(|number| asker(&mut dials, number, "/ip4/192.0.2.1/tcp/1"))
            .collect();
        let began = |dials: &mut Dials, from: usize| {
            let peers = greedy.iter().enumerate();
            let began = peers.filter(|(at, peer)| dials.begin(id(from + at), Some(**peer)));
            began.count()
        };
        assert_eq!(began(&mut dials, 100), DIALS_OF_ONE);
        let honest = asker(&mut dials, 50, "/ip4/192.0.2.2/tcp/1");
        assert!(dials.begin(id(200), Some(honest)));
        // Once one dial is over, another may start.
        dials.on_swarm_event(&FromSwarm::DialFailure(DialFailure {
            peer_id: None,
            error: &DialError::Aborted,
            connection_id: id(100),
        }));
        assert_eq!(began(&mut dials, 300), 1);
    }

    #[test]
    fn all_together_have_so_many_dials() {
        let mut dials = Dials::default();
        let peers: Vec<_> = (0..=DIALS)
            .map(|number| asker(&mut dials, number, &format!("/ip4/192.0.2.{number}/tcp/1")))
            .collect();
        let began: Vec<_> = peers
            .iter()
            .enumerate()
            .map(|(at, peer)| dials.begin(id(100 + at), Some(*peer)))
            .collect();
        assert_eq!(began.iter().filter(|began| **began).count(), DIALS);
        assert_eq!(began.last(), Some(&false));
    }
}
