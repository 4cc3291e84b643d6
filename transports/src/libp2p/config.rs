//! How a transport is set up: where it listens, which parts of the libp2p network it uses, and what it does for others.

use std::collections::HashSet;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use handover_core::dial::is_relayed;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::behaviour::ConnectionBounds;
use super::dials::split;
use super::listen::Listen;
use super::stack::SecurityError;

/// The nodes of the public libp2p network that every peer begins with. One of them is named by its address, so that a
/// network whose name servers are dead is not a network without a DHT.
pub const PUBLIC_BOOTSTRAP: &[&str] = &[
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
    "/ip4/104.131.131.82/udp/4001/quic-v1/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
];

/// Those nodes, as a configuration takes them.
pub fn public_bootstrap() -> Vec<Multiaddr> {
    let nodes = PUBLIC_BOOTSTRAP.iter();
    nodes.filter_map(|node| node.parse().ok()).collect()
}

/// How a [`Libp2pTransport`](super::Libp2pTransport) is set up.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each turns one thing on")]
pub struct Libp2pConfig {
    /// Who this peer is.
    pub keypair: Keypair,
    /// Where it listens.
    pub listen: Listen,
    /// Use TCP.
    pub tcp: bool,
    /// Use QUIC.
    pub quic: bool,
    /// Find peers on the local network by mDNS, and be found.
    pub nearby: bool,
    /// What other peers can make it hold.
    pub bounds: ConnectionBounds,
    /// Peers that are known: some of the connections are kept for them, and for the nodes and relays that are named.
    pub known: Vec<PeerId>,
    /// Nodes to begin with, each ending in `/p2p/ID`; names (`/dnsaddr`, `/dns4`, …) are resolved.
    pub bootstrap: Vec<Multiaddr>,
    /// Announce and look up in the DHT.
    pub dht: bool,
    /// When to serve the DHT, and to relay and test addresses for others.
    pub serve: Serve,
    /// What others get of this peer's relaying.
    pub quotas: RelayQuotas,
    /// Relays to be reachable through before any that are met, each ending in `/p2p/ID`.
    pub relays: Vec<Multiaddr>,
    /// Where the relays that this peer is reachable through are remembered for its next run, if they are: it takes up its
    /// places there instead of taking others. Not used while it hides, because it would tell one run by the other.
    pub relay_memory: Option<PathBuf>,
    /// How many relays to be reachable through at once while this peer is not publicly reachable: no address of it is
    /// confirmed, or only by nodes that it had dialled before (see [`Reachable::Ask`]). 0: none.
    pub reservations: usize,
    /// Talk to other peers of a share straight. If not, they only ever see a relay: nothing is listened on, and what
    /// would tell them this peer's address (hole punching, port mapping, mDNS, serving) is off whatever else is set.
    /// Nodes of the DHT and relays are connected to all the same.
    pub direct: bool,
    /// Make relayed connections direct by hole punching (`DCUtR`).
    pub punch: bool,
    /// Ask the router for a port (PCP, NAT-PMP or `UPnP`).
    pub port_mapping: bool,
    /// Which addresses others can reach this peer at.
    pub reachable: Reachable,
}

impl Libp2pConfig {
    /// TCP and QUIC on every address, on a port that is free; nobody on the local network or elsewhere hears of it.
    pub fn new(keypair: Keypair) -> Self {
        Self {
            keypair,
            listen: Listen::Port(0),
            tcp: true,
            quic: true,
            nearby: false,
            bounds: ConnectionBounds::default(),
            known: Vec::new(),
            bootstrap: Vec::new(),
            dht: false,
            serve: Serve::Never,
            quotas: RelayQuotas::default(),
            relays: Vec::new(),
            relay_memory: None,
            reservations: 0,
            direct: true,
            punch: false,
            port_mapping: false,
            reachable: Reachable::Ask,
        }
    }

    /// The same with what `direct` forbids turned off.
    pub(super) fn effective(&self) -> Self {
        let mut this = self.clone();
        if !this.direct {
            this.listen = Listen::Nowhere;
            this.nearby = false;
            this.punch = false;
            this.relay_memory = None;
            this.port_mapping = false;
            this.serve = Serve::Never;
            this.reachable = Reachable::At(Vec::new());
        }
        this
    }

    /// Peers that are not strangers here.
    pub(super) fn known(&self) -> HashSet<PeerId> {
        let named = self.bootstrap.iter().chain(&self.relays);
        let named = named.filter_map(|address| split(address).1);
        named.chain(self.known.iter().copied()).collect()
    }

    /// Whether names have to be resolved.
    pub(super) fn names(&self) -> bool {
        self.dht || !self.bootstrap.is_empty() || !self.relays.is_empty()
    }
}

/// When to do something for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serve {
    /// Not at all.
    Never,
    /// While an address of this peer is known to be reachable, and has been for so long. Nodes of the DHT and relays that
    /// leave soon do more harm than good: others go on asking them, and wait for answers.
    WhenReachable(Duration),
    /// From the start.
    Always,
}

/// What other peers get of this one as a relay.
///
/// The defaults carry the talk that precedes a direct connection and small files, and no more than 64 MiB at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayQuotas {
    /// Peers that may be reachable through this one at once.
    pub reservations: usize,
    /// Circuits in all at once.
    pub circuits: usize,
    /// Circuits that one peer may open at once.
    pub circuits_per_peer: usize,
    /// Bytes that one circuit carries, both directions summed. 0: no limit.
    pub bytes_per_circuit: u64,
    /// How long one circuit lasts.
    pub circuit_duration: Duration,
    /// Circuits that one peer may open in a row; after those, one in each [`circuit_interval`](Self::circuit_interval).
    /// Four times as many from one IP address.
    pub circuits_in_a_row: NonZeroU32,
    /// See there.
    pub circuit_interval: Duration,
}

impl Default for RelayQuotas {
    fn default() -> Self {
        Self {
            reservations: 64,
            circuits: 16,
            circuits_per_peer: 4,
            bytes_per_circuit: 4 << 20,
            circuit_duration: Duration::from_mins(10),
            circuits_in_a_row: NonZeroU32::new(64).unwrap_or(NonZeroU32::MIN),
            circuit_interval: Duration::from_secs(2),
        }
    }
}

/// Which addresses others can reach this peer at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reachable {
    /// Those that other nodes have tested (`AutoNAT` v2). Routers that let in only who was dialled before pass that test
    /// too, so relays are kept until a stranger has come.
    Ask,
    /// All that it listens on: right in a private network, on one machine, and in tests.
    Listening,
    /// These.
    At(Vec<Multiaddr>),
}

/// A [`Libp2pTransport`](super::Libp2pTransport) could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Libp2pError {
    /// The identity can't secure connections.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// No port to listen on.
    #[error("can't listen: {0}")]
    Listen(#[from] io::Error),
    /// An address to listen on that no transport here has.
    #[error("can't listen on {0}: not supported")]
    Address(Multiaddr),
    /// An address of a bootstrap node that does not say who that is.
    #[error("the bootstrap address {0} does not end in /p2p/ and the node's identity")]
    Bootstrap(Multiaddr),
    /// An address of a relay that does not say who that is.
    #[error("the relay address {0} does not end in /p2p/ and the relay's identity")]
    Relay(Multiaddr),
}

/// Nodes by who they are, in the order in which they were named; `wrong` makes the error for an address without one.
pub(super) fn nodes(
    addresses: &[Multiaddr],
    wrong: impl Fn(Multiaddr) -> Libp2pError,
) -> Result<Vec<(PeerId, Vec<Multiaddr>)>, Libp2pError> {
    let mut nodes: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
    for address in addresses {
        let (plain, Some(peer)) = split(address) else {
            return Err(wrong(address.clone()));
        };
        if plain.is_empty() || is_relayed(&plain) {
            return Err(wrong(address.clone()));
        }
        match nodes.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, known)) => known.push(plain),
            None => nodes.push((peer, vec![plain])),
        }
    }
    Ok(nodes)
}

/// The part of a circuit address that leads to the relay, without its identity.
pub(super) fn way_to_relay(address: &Multiaddr) -> Multiaddr {
    let before = |part: &Protocol<'_>| !matches!(part, Protocol::P2p(_) | Protocol::P2pCircuit);
    address.iter().take_while(before).collect()
}

#[cfg(test)]
mod tests {
    use handover_core::dial::relay_of;

    use super::*;

    #[test]
    fn the_public_nodes_are_well_named() {
        assert_eq!(public_bootstrap().len(), PUBLIC_BOOTSTRAP.len());
        let nodes = nodes(&public_bootstrap(), Libp2pError::Bootstrap).unwrap();
        assert_eq!(nodes.len(), 5);
    }

    #[test]
    fn addresses_of_one_node_belong_together_and_one_without_a_name_is_refused() {
        let peer = PeerId::random();
        let tcp: Multiaddr = format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}").parse().unwrap();
        let quic: Multiaddr = format!("/ip4/192.0.2.1/udp/1/quic-v1/p2p/{peer}")
            .parse()
            .unwrap();
        let both = nodes(&[tcp.clone(), quic], Libp2pError::Relay).unwrap();
        assert_eq!(both.len(), 1);
        assert_eq!(both[0].1.len(), 2);
        for wrong in ["/ip4/192.0.2.1/tcp/1".to_owned(), format!("/p2p/{peer}")] {
            let error = nodes(&[tcp.clone(), wrong.parse().unwrap()], Libp2pError::Relay);
            let told = error.unwrap_err().to_string();
            assert!(told.contains(&wrong) && told.contains("identity"), "{told}");
        }
    }

    #[test]
    fn a_circuit_names_its_relay() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let way: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let circuit: Multiaddr = format!("{way}/p2p/{relay}/p2p-circuit/p2p/{peer}")
            .parse()
            .unwrap();
        assert!(is_relayed(&circuit));
        assert_eq!(relay_of(&circuit), Some(relay));
        assert_eq!(way_to_relay(&circuit), way);
        let direct = way.clone().with(Protocol::P2p(relay));
        assert!(!is_relayed(&direct));
        assert_eq!(relay_of(&direct), None);
    }
}
