//! Sends questions on existing connections. Does not dial, does not serve others, and does not confirm addresses.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use handover_core::dial_back::Answer;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::handler::{Handler, Question, Told};

/// The end of a question. Each question ends exactly once.
#[derive(Debug)]
pub(crate) struct Event {
    /// The node that was asked.
    pub(crate) node: PeerId,
    /// The address that it was asked to dial.
    pub(crate) address: Multiaddr,
    /// Its answer.
    pub(crate) answer: Answer,
}

/// The client of all nodes.
pub(crate) struct Behaviour {
    local: PeerId,
    /// Questions without an answer yet. The caller keeps them few.
    awaited: Vec<(ConnectionId, PeerId, Multiaddr)>,
    actions: VecDeque<ToSwarm<Event, Question>>,
}

impl Behaviour {
    /// Creates the behaviour for the peer with this id.
    pub(crate) fn new(local: PeerId) -> Self {
        Self {
            local,
            awaited: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// Asks the node at the other end of this connection to dial this peer at this address.
    pub(crate) fn ask(&mut self, node: PeerId, connection: ConnectionId, address: Multiaddr) {
        self.awaited.push((connection, node, address.clone()));
        self.actions.push_back(ToSwarm::NotifyHandler {
            peer_id: node,
            handler: NotifyHandler::One(connection),
            event: Question {
                local: self.local,
                address,
            },
        });
    }

    fn tell(&mut self, node: PeerId, address: Multiaddr, answer: Answer) {
        self.actions.push_back(ToSwarm::GenerateEvent(Event {
            node,
            address,
            answer,
        }));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) = event else {
            return;
        };
        let lost = self.awaited.extract_if(.., |it| it.0 == connection_id);
        for (_, node, address) in lost.collect::<Vec<_>>() {
            self.tell(node, address, Answer::Nothing);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        Told { address, answer }: THandlerOutEvent<Self>,
    ) {
        let is_it = |it: &(ConnectionId, PeerId, Multiaddr)| it.0 == connection && it.2 == address;
        if let Some(at) = self.awaited.iter().position(is_it) {
            self.awaited.swap_remove(at);
            self.tell(peer, address, answer);
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
