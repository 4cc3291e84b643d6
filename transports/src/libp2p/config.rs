//! Configuration of a transport: where it listens, which parts of the libp2p network it uses, and how it serves others

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

/// Bootstrap nodes of the public libp2p network. One of them is given by IP address, so that the DHT can be reached
/// without working name servers.
pub const PUBLIC_BOOTSTRAP: &[&str] = &[
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
    "/ip4/104.131.131.82/udp/4001/quic-v1/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
];

/// Returns [`PUBLIC_BOOTSTRAP`] in the form that a configuration takes.
pub fn public_bootstrap() -> Vec<Multiaddr> {
    let nodes = PUBLIC_BOOTSTRAP.iter();
    nodes.filter_map(|node| node.parse().ok()).collect()
}

/// Configuration of a [`Libp2pTransport`](super::Libp2pTransport).
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each turns one thing on")]
pub struct Libp2pConfig {
    /// This peer's identity.
    pub keypair: Keypair,
    /// The listen addresses.
    pub listen: Listen,
    /// Use TCP.
    pub tcp: bool,
    /// Use QUIC.
    pub quic: bool,
    /// Find peers on the local network by mDNS, and be found.
    pub nearby: bool,
    /// Limits on the resources that other peers can take.
    pub bounds: ConnectionBounds,
    /// Known peers. Some of the connections are kept for them, and for the configured bootstrap nodes and relays.
    pub known: Vec<PeerId>,
    /// Bootstrap nodes, each ending in `/p2p/ID`. Names (`/dnsaddr`, `/dns4`, …) are resolved.
    pub bootstrap: Vec<Multiaddr>,
    /// Announce and look up in the DHT.
    pub dht: bool,
    /// When to serve the DHT, and to relay and test addresses for others.
    pub serve: Serve,
    /// Quotas of this peer as a relay.
    pub quotas: RelayQuotas,
    /// Relays for reservations, preferred to those met on the network, each ending in `/p2p/ID`.
    pub relays: Vec<Multiaddr>,
    /// File that stores the relays with reservations for the next run, if any: that run renews its reservations there
    /// instead of taking places at other relays. Unused while this peer hides its address, because it would link one
    /// run to the other.
    pub relay_memory: Option<PathBuf>,
    /// Number of reservations while this peer is not publicly reachable: no address of it is confirmed, or only by
    /// nodes that it had dialled before (see [`Reachable::Ask`]). 0: none.
    pub reservations: usize,
    /// Connect directly to other peers of a share. If false, they only ever see a relay: this peer does not listen, and
    /// whatever would reveal its address (hole punching, port mapping, mDNS, serving) is off regardless of the other
    /// fields. It still connects to DHT nodes and relays.
    pub direct: bool,
    /// Make relayed connections direct by hole punching (`DCUtR`).
    pub punch: bool,
    /// Ask the gateway for a port mapping (PCP, NAT-PMP or `UPnP`).
    pub port_mapping: bool,
    /// Which addresses others can reach this peer at.
    pub reachable: Reachable,
}

impl Libp2pConfig {
    /// TCP and QUIC on every address, on a free port, and nothing that makes this peer known to others.
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

    /// Returns the configuration with everything turned off that `direct: false` forbids.
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

    /// Peers that are not treated as strangers.
    pub(super) fn known(&self) -> HashSet<PeerId> {
        let named = self.bootstrap.iter().chain(&self.relays);
        let named = named.filter_map(|address| split(address).1);
        named.chain(self.known.iter().copied()).collect()
    }

    /// True if names have to be resolved.
    pub(super) fn names(&self) -> bool {
        self.dht || !self.bootstrap.is_empty() || !self.relays.is_empty()
    }
}

/// When to serve others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serve {
    /// Never.
    Never,
    /// While an address of this peer is known to be reachable, and has been for this long. DHT nodes and relays that
    /// leave soon do more harm than good: others keep asking them and wait for answers.
    WhenReachable(Duration),
    /// From the start.
    Always,
}

/// Quotas of this peer as a relay.
///
/// The defaults suffice for the exchange before a direct connection and for small files, and allow at most 64 MiB at
/// once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayQuotas {
    /// Maximum number of reservations.
    pub reservations: usize,
    /// Maximum number of circuits at once.
    pub circuits: usize,
    /// Maximum number of circuits that one peer may open at once.
    pub circuits_per_peer: usize,
    /// Maximum number of bytes per circuit, both directions together. 0: no limit.
    pub bytes_per_circuit: u64,
    /// Maximum duration of a circuit.
    pub circuit_duration: Duration,
    /// Number of circuits that one peer may open in a row, followed by one per
    /// [`circuit_interval`](Self::circuit_interval). Four times as many from one IP address.
    pub circuits_in_a_row: NonZeroU32,
    /// Rate limit after [`circuits_in_a_row`](Self::circuits_in_a_row): one circuit per interval.
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
    /// Those that other nodes have tested (`AutoNAT` v2). NATs that only let in nodes that were dialled before pass
    /// that test too, so reservations are kept until a stranger has connected.
    Ask,
    /// All listen addresses: right in a private network, on one machine, and in tests.
    Listening,
    /// These addresses.
    At(Vec<Multiaddr>),
}

/// The reason why a [`Libp2pTransport`](super::Libp2pTransport) could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Libp2pError {
    /// The identity can't secure connections.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// No port to listen on.
    #[error("can't listen: {0}")]
    Listen(#[from] io::Error),
    /// A listen address that no transport supports.
    #[error("can't listen on {0}: not supported")]
    Address(Multiaddr),
    /// A bootstrap address without the node's peer id.
    #[error("the bootstrap address {0} does not end in /p2p/ and the node's identity")]
    Bootstrap(Multiaddr),
    /// A relay address without the relay's peer id.
    #[error("the relay address {0} does not end in /p2p/ and the relay's identity")]
    Relay(Multiaddr),
}

/// Groups addresses by peer id, in the order of the first mention. `wrong` makes the error for an address without a
/// peer id.
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

/// The relay's part of a circuit address, without the relay's peer id.
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
