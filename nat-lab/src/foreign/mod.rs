//! Foreign nodes: bootstrap nodes and relays that run the software of other projects.
//!
//! On the public network everything that handover needs is other projects' software: kubo, go-libp2p, js-libp2p. This
//! module lists the nodes ([`Software`]) and the groups of them that form a small public network ([`Selection`]),
//! installs them once ([`Store`]), and knows how to start each of them and how to read its addresses ([`Launch`]). As
//! on the public network, some nodes are faulty: they are dead, hang, are full, or return false data.

mod launch;
mod rounds;
pub mod stand_in;
mod store;

pub use launch::{Launch, Ready};
pub use rounds::{Round, smoke, whole};
pub use store::{ForeignError, Store};

use serde::{Deserialize, Serialize};

use crate::results::Carrier;

/// A kind of foreign node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Software {
    /// kubo with an RSA identity, as the public bootstrap nodes have.
    Kubo,
    /// go-libp2p-daemon with an Ed25519 identity.
    P2pd,
    /// go-libp2p-daemon with an ECDSA identity.
    P2pdEcdsa,
    /// js-libp2p with an RSA identity.
    JsRsa,
    /// js-libp2p with a secp256k1 identity.
    JsSecp256k1,
    /// js-libp2p with an Ed25519 identity.
    JsEd25519,
    /// js-libp2p with a relay that accepts no reservations.
    JsFull,
    /// js-libp2p that listens for `WebSocket` connections only.
    #[serde(rename = "js-websocket")]
    JsWebSocket,
    /// js-libp2p with a DHT that returns nonexistent peers and stores nothing.
    Lying,
    /// An address that never answers.
    Dead,
    /// Accepts connections but sends nothing.
    Hanging,
    /// Accepts connections and sends random bytes.
    Rubbish,
    /// Its address has a DNS name, and no DNS server answers.
    Named,
}

impl Software {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Kubo,
        Self::P2pd,
        Self::P2pdEcdsa,
        Self::JsRsa,
        Self::JsSecp256k1,
        Self::JsEd25519,
        Self::JsFull,
        Self::JsWebSocket,
        Self::Lying,
        Self::Dead,
        Self::Hanging,
        Self::Rubbish,
        Self::Named,
    ];

    /// Returns the name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubo => "kubo",
            Self::P2pd => "p2pd",
            Self::P2pdEcdsa => "p2pd-ecdsa",
            Self::JsRsa => "js-rsa",
            Self::JsSecp256k1 => "js-secp256k1",
            Self::JsEd25519 => "js-ed25519",
            Self::JsFull => "js-full",
            Self::JsWebSocket => "js-websocket",
            Self::Lying => "lying",
            Self::Dead => "dead",
            Self::Hanging => "hanging",
            Self::Rubbish => "rubbish",
            Self::Named => "named",
        }
    }

    /// Returns a short description.
    pub fn about(self) -> &'static str {
        match self {
            Self::Kubo => "kubo, RSA",
            Self::P2pd => "go-libp2p-daemon, Ed25519",
            Self::P2pdEcdsa => "go-libp2p-daemon, ECDSA",
            Self::JsRsa => "js-libp2p, RSA, TCP alone",
            Self::JsSecp256k1 => "js-libp2p, secp256k1, TCP alone",
            Self::JsEd25519 => "js-libp2p, Ed25519, TCP alone",
            Self::JsFull => "js-libp2p, RSA, TCP alone; its relay takes no reservation",
            Self::JsWebSocket => "js-libp2p, RSA, WebSocket alone",
            Self::Lying => "js-libp2p, RSA, TCP alone; its DHT names peers that do not exist",
            Self::Dead => "nothing comes back from its address",
            Self::Hanging => "accepts connections and says nothing",
            Self::Rubbish => "accepts connections and talks rubbish",
            Self::Named => "told by a name, and no DNS server answers",
        }
    }

    /// True if it also listens on QUIC.
    pub fn speaks_quic(self) -> bool {
        matches!(self, Self::Kubo | Self::P2pd | Self::P2pdEcdsa)
    }

    /// True if it answers as a node of the DHT should.
    pub fn is_good(self) -> bool {
        !matches!(
            self,
            Self::JsWebSocket
                | Self::Lying
                | Self::Dead
                | Self::Hanging
                | Self::Rubbish
                | Self::Named
        )
    }
}

/// Nodes that form a small public network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// kubo alone.
    Kubo,
    /// go-libp2p-daemon alone.
    P2pd,
    /// js-libp2p alone.
    Js,
    /// All of them, a relay that is full and a node that can't be reached among them.
    Mixed,
    /// All of them, and every third node is dead, hangs or lies.
    MixedHurt,
    /// All of them, and the first is told by a name, which no DNS server resolves.
    MixedDeadDns,
}

impl Selection {
    /// All selections, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Kubo,
        Self::P2pd,
        Self::Js,
        Self::Mixed,
        Self::MixedHurt,
        Self::MixedDeadDns,
    ];

    /// Returns the name used in options, folders and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubo => "kubo",
            Self::P2pd => "p2pd",
            Self::Js => "js",
            Self::Mixed => "mixed",
            Self::MixedHurt => "mixed-hurt",
            Self::MixedDeadDns => "mixed-dead-dns",
        }
    }

    /// Returns a one-line description.
    pub fn about(self) -> &'static str {
        match self {
            Self::Kubo => "kubo alone",
            Self::P2pd => "go-libp2p-daemon alone",
            Self::Js => "js-libp2p alone",
            Self::Mixed => "all mixed, one relay full, one node out of reach",
            Self::MixedHurt => "all mixed, a third of the nodes dead, hanging or lying",
            Self::MixedDeadDns => "all mixed, the first told by a name, and no DNS server answers",
        }
    }

    /// Returns the nodes, in the order in which they are started and given to peers.
    pub fn nodes(self) -> Vec<Software> {
        use Software::{
            Dead, Hanging, JsEd25519, JsFull, JsRsa, JsSecp256k1, JsWebSocket, Kubo, Lying, Named,
            P2pd, P2pdEcdsa,
        };
        match self {
            Self::Kubo => vec![Kubo; 3],
            Self::P2pd => vec![P2pd, P2pdEcdsa, P2pd],
            Self::Js => vec![JsRsa, JsSecp256k1, JsEd25519],
            Self::Mixed => vec![
                Kubo,
                P2pd,
                JsRsa,
                JsFull,
                Kubo,
                P2pdEcdsa,
                JsSecp256k1,
                JsWebSocket,
            ],
            Self::MixedHurt => vec![
                Dead,
                Kubo,
                P2pd,
                Hanging,
                JsRsa,
                Kubo,
                Lying,
                P2pdEcdsa,
                JsSecp256k1,
            ],
            Self::MixedDeadDns => {
                let mixed = Self::Mixed.nodes();
                std::iter::once(Named).chain(mixed).collect()
            }
        }
    }

    /// True if a DNS server answers the peers.
    pub fn has_dns(self) -> bool {
        !self.nodes().contains(&Software::Named)
    }

    /// True if peers that use only `carrier` can reach one of the nodes.
    pub fn speaks(self, carrier: Carrier) -> bool {
        let nodes = self.nodes();
        carrier != Carrier::Quic || nodes.iter().any(|node| node.speaks_quic())
    }

    /// Returns how many runs are possible before the nodes must be restarted.
    pub fn wear(self) -> Wear {
        let nodes = self.nodes();
        let has_go = nodes.iter().any(|node| node.speaks_quic());
        Wear {
            of_a_host: if has_go { 4 } else { usize::MAX },
            in_all: if has_go { usize::MAX } else { 7 },
        }
    }
}

/// How many runs are possible with the same nodes. Each run takes up to two reservations at a relay, and relays still
/// count the reservations of peers that have left. go-libp2p before 0.33 grants 8 to an IP address in half an hour,
/// js-libp2p 15 in all in two hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wear {
    /// Maximum number of runs that one host takes part in.
    pub of_a_host: usize,
    /// Maximum number of runs in all.
    pub in_all: usize,
}

impl Wear {
    /// The limits of handover's own nodes: none, as their reservations are returned.
    pub const NONE: Self = Self {
        of_a_host: usize::MAX,
        in_all: usize::MAX,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_hurt_world_is_no_good() {
        let nodes = Selection::MixedHurt.nodes();
        let bad = nodes.iter().filter(|node| !node.is_good()).count();
        assert_eq!(bad * 3, nodes.len());
    }

    #[test]
    fn every_selection_has_three_relays_that_take_reservations() {
        for selection in Selection::ALL {
            let nodes = selection.nodes();
            let good = nodes
                .iter()
                .filter(|node| node.is_good() && **node != Software::JsFull);
            assert!(good.count() >= 3, "{selection:?}");
        }
    }

    #[test]
    fn names_are_what_files_say() {
        for software in Software::ALL {
            let read: Software = serde_json::from_value(software.name().into()).unwrap();
            assert_eq!(read, software);
        }
        for selection in Selection::ALL {
            let read: Selection = serde_json::from_value(selection.name().into()).unwrap();
            assert_eq!(read, selection);
        }
    }
}
