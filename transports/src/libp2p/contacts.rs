//! What came of dialling: which addresses answered, and why others did not.

use std::collections::VecDeque;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::{ConnectionError, DialError};
use libp2p::{Multiaddr, PeerId};

use super::bootstrap::Bootstrap;
use super::dials::split;
use super::reason::{self, Reason};

/// Addresses that are remembered; those of bootstrap nodes are dialled first, and again when nobody else is known.
const REMEMBERED: usize = 256;
/// Nodes that speak QUIC that are remembered.
const QUIC_NODES: usize = 16;
/// Addresses of one of them.
const QUIC_ADDRESSES: usize = 4;

/// An address that was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Who is said to be there.
    pub peer: Option<PeerId>,
    /// The address, without the peer.
    pub address: Multiaddr,
    /// What came of the last dial that ended.
    pub outcome: Outcome,
}

/// What came of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A connection.
    Connected,
    /// None.
    Failed(Reason),
    /// Another peer than the one that was dialled.
    OtherPeer(PeerId),
}

/// A node to begin with, and how it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapNode {
    /// The node.
    pub peer: PeerId,
    /// Its addresses as they were configured, and what came of dialling each; `None` if that has not ended.
    pub addresses: Vec<(Multiaddr, Option<Outcome>)>,
}

impl BootstrapNode {
    /// Whether a connection to it stood that did not fail at once.
    pub fn is_reached(&self) -> bool {
        let mut outcomes = self.addresses.iter();
        outcomes.any(|(_, outcome)| *outcome == Some(Outcome::Connected))
    }
}

/// A node that speaks QUIC by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicNode {
    /// The node.
    pub peer: PeerId,
    /// Where it speaks QUIC.
    pub addresses: Vec<Multiaddr>,
}

/// The addresses that were dialled lately.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    dialled: VecDeque<Contact>,
    quic: VecDeque<QuicNode>,
}

impl Contacts {
    /// A dial has ended with this.
    fn ended(&mut self, peer: Option<PeerId>, address: &Multiaddr, outcome: Outcome) {
        let address = split(address).0;
        self.dialled
            .retain(|known| (known.peer, &known.address) != (peer, &address));
        self.dialled.push_back(Contact {
            peer,
            address,
            outcome,
        });
        if self.dialled.len() > REMEMBERED {
            self.dialled.pop_front();
        }
    }

    /// These addresses of a peer did not answer.
    pub(super) fn failed(
        &mut self,
        peer: Option<PeerId>,
        addresses: &[(Multiaddr, TransportError<io::Error>)],
    ) {
        for (address, error) in addresses {
            let outcome = Outcome::Failed(reason::of_address(error));
            self.ended(peer, address, outcome);
        }
    }

    /// A dial has failed.
    pub(super) fn not_connected(&mut self, peer: Option<PeerId>, error: &DialError) {
        match error {
            DialError::Transport(failures) => self.failed(peer, failures),
            DialError::WrongPeerId { obtained, address } => {
                self.ended(peer, address, Outcome::OtherPeer(*obtained));
            }
            _ => {}
        }
    }

    /// A dial has led to a connection.
    pub(super) fn connected(&mut self, peer: PeerId, address: &Multiaddr) {
        self.ended(Some(peer), address, Outcome::Connected);
    }

    /// A connection was lost before the other side said anything of itself.
    pub(super) fn lost(
        &mut self,
        peer: PeerId,
        address: &Multiaddr,
        cause: Option<&ConnectionError>,
    ) {
        if let Some(reason) = reason::of_loss(cause) {
            self.ended(Some(peer), address, Outcome::Failed(reason));
        }
    }

    /// A node says that it speaks QUIC at these addresses.
    pub(super) fn speaks_quic(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        self.quic.retain(|node| node.peer != peer);
        addresses.truncate(QUIC_ADDRESSES);
        if addresses.is_empty() {
            return;
        }
        self.quic.push_back(QuicNode { peer, addresses });
        if self.quic.len() > QUIC_NODES {
            self.quic.pop_front();
        }
    }

    /// All that is remembered, the latest last.
    pub(super) fn dialled(&self) -> Vec<Contact> {
        self.dialled.iter().cloned().collect()
    }

    /// Nodes that speak QUIC.
    pub(super) fn quic(&self) -> Vec<QuicNode> {
        self.quic.iter().cloned().collect()
    }

    /// The configured nodes, and how each answered.
    pub(super) fn of_nodes(&self, bootstrap: &Bootstrap) -> Vec<BootstrapNode> {
        let outcome = |peer: PeerId, address: &Multiaddr| {
            let mut dialled = self.dialled.iter();
            let contact =
                dialled.find(|known| known.peer == Some(peer) && known.address == *address);
            (address.clone(), contact.map(|contact| contact.outcome))
        };
        let nodes = bootstrap.nodes();
        let node = |(peer, addresses): &(PeerId, Vec<Multiaddr>)| BootstrapNode {
            peer: *peer,
            addresses: addresses
                .iter()
                .map(|address| outcome(*peer, address))
                .collect(),
        };
        nodes.iter().map(node).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    fn refused() -> TransportError<io::Error> {
        TransportError::Other(io::ErrorKind::ConnectionRefused.into())
    }

    #[test]
    fn each_address_of_a_bootstrap_node_has_its_own_outcome() {
        let (node, other) = (PeerId::random(), PeerId::random());
        let bootstrap = Bootstrap::new(vec![(node, vec![at(1), at(2), at(3)])], Instant::now());
        let mut contacts = Contacts::default();
        let whole = at(1).with_p2p(node).unwrap();
        contacts.failed(Some(node), &[(whole, refused())]);
        contacts.not_connected(
            Some(node),
            &DialError::WrongPeerId {
                obtained: other,
                address: at(2),
            },
        );
        contacts.connected(other, &at(3));
        let told = contacts.of_nodes(&bootstrap);
        assert_eq!(told.len(), 1);
        let wanted = [
            (at(1), Some(Outcome::Failed(Reason::Refused))),
            (at(2), Some(Outcome::OtherPeer(other))),
            (at(3), None),
        ];
        assert_eq!(told[0].addresses, wanted);
        assert!(!told[0].is_reached());
        contacts.connected(node, &at(3));
        assert!(contacts.of_nodes(&bootstrap)[0].is_reached());
    }

    #[test]
    fn what_is_remembered_has_bounds() {
        let peer = PeerId::random();
        let mut contacts = Contacts::default();
        for port in 0..2 * REMEMBERED {
            contacts.connected(peer, &at(port));
        }
        assert_eq!(contacts.dialled().len(), REMEMBERED);
        for _ in 0..2 * QUIC_NODES {
            let addresses = (1..9).map(at).collect();
            contacts.speaks_quic(PeerId::random(), addresses);
        }
        let quic = contacts.quic();
        assert_eq!(quic.len(), QUIC_NODES);
        assert!(
            quic.iter()
                .all(|node| node.addresses.len() == QUIC_ADDRESSES)
        );
    }
}
