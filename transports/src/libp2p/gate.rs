//! Keeps Kademlia from dialling other peers of a share
//!
//! Kademlia takes providers for nodes and dials them, directly or through their relays. That is useless, takes circuits
//! from peers that need them, and reveals this peer to others too early. Providers are dialled by the code that looked
//! them up. A peer that hides its address connects to them only over circuits.

use std::collections::{BTreeSet, VecDeque};
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};

use handover_core::dial::is_relayed;

/// Maximum number of peers remembered. The oldest are forgotten first.
const PEERS: usize = 1024;

/// Denies unwanted connections to the peers in its list.
#[derive(Debug)]
pub(crate) struct Behaviour {
    /// This peer hides its address: connections to listed peers must be circuits, whichever code dials.
    hides: bool,
    shut: BTreeSet<PeerId>,
    order: VecDeque<PeerId>,
}

/// The connection is denied.
#[derive(Debug, thiserror::Error)]
#[error("this peer is not to be dialled like that")]
struct Shut;

impl Behaviour {
    pub(crate) fn new(hides: bool) -> Self {
        Self {
            hides,
            shut: BTreeSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Adds another peer of a share to the list.
    pub(crate) fn shut(&mut self, peer: PeerId) {
        if !self.shut.insert(peer) {
            return;
        }
        self.order.push_back(peer);
        if self.order.len() > PEERS
            && let Some(first) = self.order.pop_front()
        {
            self.shut.remove(&first);
        }
    }

    /// True if this peer is in the list.
    pub(crate) fn is_shut(&self, peer: PeerId) -> bool {
        self.shut.contains(&peer)
    }

    fn pass(&self, peer: PeerId, good: bool) -> Result<(), ConnectionDenied> {
        if good || !self.shut.contains(&peer) {
            Ok(())
        } else {
            Err(ConnectionDenied::new(Shut))
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        // A deliberate dial gives addresses. Kademlia gives none here and adds the ones it knows later.
        let chosen = !addresses.is_empty() && (!self.hides || addresses.iter().all(is_relayed));
        if let Some(peer) = peer {
            self.pass(peer, chosen)?;
        }
        Ok(Vec::new())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pass(peer, !self.hides || is_relayed(local))?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pass(peer, !self.hides || is_relayed(address))?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(gate: &mut Behaviour, peer: PeerId, addresses: &[Multiaddr]) -> bool {
        let id = ConnectionId::new_unchecked(1);
        gate.handle_pending_outbound_connection(id, Some(peer), addresses, Endpoint::Dialer)
            .is_ok()
    }

    #[test]
    fn a_provider_is_dialled_by_choice_only_and_by_who_hides_through_relays_only() {
        let (peer, node) = (PeerId::random(), PeerId::random());
        let direct: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let circuit: Multiaddr = format!("{direct}/p2p/{node}/p2p-circuit").parse().unwrap();
        for hides in [false, true] {
            let mut gate = Behaviour::new(hides);
            gate.shut(peer);
            assert!(!dial(&mut gate, peer, &[]));
            assert_eq!(dial(&mut gate, peer, std::slice::from_ref(&direct)), !hides);
            let both = [circuit.clone(), direct.clone()];
            assert_eq!(dial(&mut gate, peer, &both), !hides);
            assert!(dial(&mut gate, peer, std::slice::from_ref(&circuit)));
            assert!(dial(&mut gate, node, &[]));
            assert!(dial(&mut gate, node, std::slice::from_ref(&direct)));
        }
    }

    #[test]
    fn the_list_is_bounded() {
        let mut gate = Behaviour::new(false);
        for _ in 0..PEERS * 2 {
            gate.shut(PeerId::random());
        }
        assert_eq!((gate.shut.len(), gate.order.len()), (PEERS, PEERS));
    }
}
