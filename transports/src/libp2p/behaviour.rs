//! Everything that runs on a connection: the link protocol, and what keeps a peer of the libp2p network in order.

use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::PublicKey;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, identify, mdns, memory_connection_limits, ping};

use super::link;

/// What identify names the protocol.
const PROTOCOL_VERSION: &str = "/handover/1.0.0";

/// What identify names the program.
const AGENT: &str = concat!("handover/", env!("CARGO_PKG_VERSION"));

/// How often the local network is asked again who is there, beside the quick first times.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// Bounds on what other peers can make this one hold.
#[derive(Debug, Clone)]
pub struct ConnectionBounds {
    /// Connections to one peer.
    pub per_peer: u32,
    /// Connections that came in and whose handshake is under way.
    pub pending_incoming: u32,
    /// Connections in all.
    pub total: u32,
    /// No connection is taken while the process holds more bytes than this.
    pub memory: usize,
}

impl Default for ConnectionBounds {
    fn default() -> Self {
        Self {
            per_peer: 8,
            pending_incoming: 64,
            total: 512,
            memory: 512 << 20,
        }
    }
}

/// The behaviour of a handover peer.
#[derive(NetworkBehaviour)]
pub(crate) struct Node {
    /// First, so that a refused connection costs nothing else.
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(crate) link: link::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

impl Node {
    pub(crate) fn new(key: PublicKey, bounds: &ConnectionBounds, nearby: bool) -> Self {
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(bounds.pending_incoming))
            .with_max_established_per_peer(Some(bounds.per_peer))
            .with_max_established(Some(bounds.total));
        let peer = key.to_peer_id();
        // Addresses of this machine are told through codes, to those who have one; not to everybody who connects.
        let identify = identify::Config::new(PROTOCOL_VERSION.into(), key)
            .with_agent_version(AGENT.into())
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        let ping = ping::Config::new()
            .with_interval(Duration::from_secs(15))
            .with_timeout(Duration::from_secs(20));
        Self {
            limits: connection_limits::Behaviour::new(limits),
            memory: memory_connection_limits::Behaviour::with_max_bytes(bounds.memory),
            link: link::Behaviour::default(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            mdns: nearby.then(|| neighbours(peer)).flatten().into(),
        }
    }
}

/// What finds and is found on the local network. Where that can't be had, all else goes on without.
fn neighbours(peer: PeerId) -> Option<mdns::tokio::Behaviour> {
    let config = mdns::Config {
        query_interval: ASK_AGAIN,
        ..mdns::Config::default()
    };
    match mdns::tokio::Behaviour::new(config, peer) {
        Ok(behaviour) => Some(behaviour),
        Err(error) => {
            tracing::warn!(%error, "peers on the local network can't be looked for");
            None
        }
    }
}
