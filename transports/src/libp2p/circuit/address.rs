//! Addresses through a relay

use libp2p::core::transport::TransportError;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use handover_core::dial::is_relayed;

use super::Error;

/// The parts of `/…/p2p/RELAY/p2p-circuit/p2p/PEER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CircuitAddress {
    pub(super) relay: PeerId,
    /// The relay's address, without its peer id.
    pub(super) way: Multiaddr,
    /// The peer at the other end of the circuit.
    pub(super) peer: Option<PeerId>,
}

impl CircuitAddress {
    /// Leaves an address without a relay to other transports. An address with more than one relay, or without the
    /// relay's peer id, is an error: other transports would take the address of the relay for that of the peer.
    pub(super) fn parse(address: Multiaddr) -> Result<Self, TransportError<Error>> {
        if !is_relayed(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        Self::of(&address).ok_or(TransportError::Other(Error::Address(address)))
    }

    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let mut way: Multiaddr = parts
            .by_ref()
            .take_while(|part| *part != Protocol::P2pCircuit)
            .collect();
        let Some(Protocol::P2p(relay)) = way.pop() else {
            return None;
        };
        let names_another = way.iter().any(|part| matches!(part, Protocol::P2p(_)));
        let peer = match (parts.next(), parts.next()) {
            (None, _) => None,
            (Some(Protocol::P2p(peer)), None) => Some(peer),
            _ => return None,
        };
        let sound = !way.is_empty() && !names_another;
        sound.then_some(Self { relay, way, peer })
    }
}

/// Builds the circuit address through this relay, without the peer at the other end.
pub(super) fn circuit(way: Multiaddr, relay: PeerId) -> Multiaddr {
    way.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_that_is_named_wrongly_is_not_left_to_transports_that_dial_the_relay_instead() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let way: Multiaddr = "/ip4/192.0.2.1/udp/1/quic-v1".parse().unwrap();
        let listen = circuit(way.clone(), relay);
        let parsed = CircuitAddress::parse(listen.clone()).unwrap();
        assert_eq!(
            (parsed.relay, &parsed.way, parsed.peer),
            (relay, &way, None)
        );
        let dial = listen.clone().with(Protocol::P2p(peer));
        assert_eq!(CircuitAddress::parse(dial).unwrap().peer, Some(peer));
        for wrong in [
            format!("{way}/p2p-circuit/p2p/{peer}"),
            format!("/p2p/{relay}/p2p-circuit"),
            format!("{way}/p2p/{peer}/p2p/{relay}/p2p-circuit"),
            format!("{listen}/tcp/1"),
            format!("{listen}/p2p/{peer}/p2p-circuit"),
        ] {
            let refused = CircuitAddress::parse(wrong.parse().unwrap());
            assert!(
                matches!(refused, Err(TransportError::Other(Error::Address(_)))),
                "{wrong}"
            );
        }
        for other in [way.clone(), way.with(Protocol::P2p(relay))] {
            let left = CircuitAddress::parse(other.clone());
            assert!(matches!(left, Err(TransportError::MultiaddrNotSupported(it)) if it == other));
        }
    }
}
