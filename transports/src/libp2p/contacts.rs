//! Results of dialling: which addresses answered, and why others did not

use std::collections::VecDeque;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::{ConnectionError, DialError};
use libp2p::{Multiaddr, PeerId};

use super::bootstrap::Bootstrap;
use super::dials::split;
use super::reason::{self, Reason};

/// Maximum number of addresses remembered. Those of bootstrap nodes are dialled first, and again when no other node is
/// known.
const REMEMBERED: usize = 256;
/// Maximum number of QUIC nodes remembered.
const QUIC_NODES: usize = 16;
/// Maximum number of addresses per QUIC node.
const QUIC_ADDRESSES: usize = 4;

/// An address that was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The peer that was expected there.
    pub peer: Option<PeerId>,
    /// The address without the peer id.
    pub address: Multiaddr,
    /// Outcome of the last dial that ended.
    pub outcome: Outcome,
}

/// Outcome of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Connected to the expected peer.
    Connected,
    /// No connection.
    Failed(Reason),
    /// Another peer than the expected one answered.
    OtherPeer(PeerId),
}

/// A bootstrap node and the outcome of its dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapNode {
    /// The node's peer id.
    pub peer: PeerId,
    /// Its configured addresses, each with the outcome of the last dial, or `None` if none has ended.
    pub addresses: Vec<(Multiaddr, Option<Outcome>)>,
}

impl BootstrapNode {
    /// True if it was connected and that connection did not fail at once.
    pub fn is_reached(&self) -> bool {
        let mut outcomes = self.addresses.iter();
        outcomes.any(|(_, outcome)| *outcome == Some(Outcome::Connected))
    }
}

/// A node that claims to speak QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicNode {
    /// The node's peer id.
    pub peer: PeerId,
    /// Its QUIC addresses.
    pub addresses: Vec<Multiaddr>,
}

/// The addresses dialled most recently.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    dialled: VecDeque<Contact>,
    quic: VecDeque<QuicNode>,
}

impl Contacts {
    /// Records the outcome of a dial.
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

    /// Records that these addresses of a peer did not answer.
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

    /// Records a failed dial.
    pub(super) fn not_connected(&mut self, peer: Option<PeerId>, error: &DialError) {
        match error {
            DialError::Transport(failures) => self.failed(peer, failures),
            DialError::WrongPeerId { obtained, address } => {
                self.ended(peer, address, Outcome::OtherPeer(*obtained));
            }
            _ => {}
        }
    }

    /// Records a dial that led to a connection.
    pub(super) fn connected(&mut self, peer: PeerId, address: &Multiaddr) {
        self.ended(Some(peer), address, Outcome::Connected);
    }

    /// Records a connection that was lost before the other side sent its identify message.
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

    /// Records the QUIC addresses that a node claims to have.
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

    /// All remembered dials, the most recent last.
    pub(super) fn dialled(&self) -> Vec<Contact> {
        self.dialled.iter().cloned().collect()
    }

    /// Nodes that claim to speak QUIC.
    pub(super) fn quic(&self) -> Vec<QuicNode> {
        self.quic.iter().cloned().collect()
    }

    /// The bootstrap nodes with the outcome for each address.
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
