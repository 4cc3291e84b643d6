//! External address candidates, exactly as other nodes observed them
//!
//! identify replaces an observed port that is not listened on by the listening port. Behind a NAT that changes ports,
//! this turns a correct address into a wrong one, and hole punching fails where it would have succeeded. The address
//! observed on a connection that was dialled from the listening port *is* the NAT's mapping.

use std::collections::{BTreeSet, VecDeque};
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::behaviour::{ConnectionClosed, DialFailure};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};

use super::dials::split;
use handover_core::dial::is_relayed;

/// Maximum number of addresses waiting to be emitted. Each connection adds at most one.
const WAITING: usize = 64;

/// Emits the observed addresses of connections dialled from the listening port.
#[derive(Debug, Default)]
pub struct Behaviour {
    /// Connections dialled from the listening port that have brought no observation yet.
    telling: BTreeSet<ConnectionId>,
    queue: VecDeque<Multiaddr>,
}

impl Behaviour {
    /// Takes the address at which the other end of this connection sees this peer. Returns true if others can use it.
    /// Observations on incoming connections and on connections from ephemeral ports are ignored: nobody else can use
    /// them.
    pub fn observed(&mut self, connection: ConnectionId, address: &Multiaddr) -> bool {
        if !self.telling.remove(&connection) || self.queue.len() >= WAITING {
            return false;
        }
        let (address, _) = split(address);
        let heard = !is_relayed(&address) && !address.is_empty();
        if heard {
            self.queue.push_back(address);
        }
        heard
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if port_use == PortUse::Reuse && !is_relayed(address) {
            self.telling.insert(connection);
        }
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
        | FromSwarm::DialFailure(DialFailure { connection_id, .. }) = event
        {
            self.telling.remove(&connection_id);
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

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, |address| {
            Poll::Ready(ToSwarm::NewExternalAddrCandidate(address))
        })
    }
}
