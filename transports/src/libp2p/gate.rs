//! Keeps Kademlia from dialling other peers of a share.
//!
//! Kademlia takes providers for nodes that it may ask, and dials them, directly or through their relays. That is of no
//! use, takes circuits from those who need them, and shows this peer to others before it wants to. Providers are dialled
//! by who looked for them. A peer that hides its address lets nothing but circuits through to them.

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

/// Peers that are remembered; the ones named first are forgotten first.
const PEERS: usize = 1024;

/// Denies connections to the peers that were named.
#[derive(Debug)]
pub(crate) struct Behaviour {
    /// This peer hides: only circuits pass, whoever asks for them.
    hides: bool,
    shut: BTreeSet<PeerId>,
    order: VecDeque<PeerId>,
}

/// Not this way.
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

    /// This is another peer of a share.
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

    /// Whether this peer is dialled by choice only.
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
        // Who dials by choice names addresses; Kademlia names none here, and adds what it knows afterwards.
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
