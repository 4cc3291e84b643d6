//! All protocols on a connection: the link protocol and those of the libp2p network

use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, autonat, dcutr, identify, mdns, memory_connection_limits, ping};

use super::config::{Libp2pConfig, Reachable, Serve};
use super::mdns::Bounded;
use super::{candidates, circuit, dht, dial_back, gate, inbound, link, relay_server, tester};

/// Protocol version sent by identify.
const PROTOCOL_VERSION: &str = "/handover/1.0.0";

/// Agent version sent by identify.
const AGENT: &str = concat!("handover/", env!("CARGO_PKG_VERSION"));

/// Interval between mDNS queries, after the faster ones at the start.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// Limits on the resources that other peers can take from this one.
#[derive(Debug, Clone)]
pub struct ConnectionBounds {
    /// Maximum number of connections to one peer.
    pub per_peer: u32,
    /// Maximum number of incoming connections whose handshake is under way, separately for TCP and for QUIC. One
    /// address (for IPv6, one /64) may have an eighth of them.
    pub pending_incoming: u32,
    /// Maximum number of connections in total. A quarter is kept for outgoing connections and a sixteenth for known
    /// peers; one address may have an eighth, and at least 16.
    pub total: u32,
    /// Memory use of the process, in bytes, above which no connection is accepted.
    pub memory: usize,
}

impl ConnectionBounds {
    fn inbound(&self) -> inbound::Bounds {
        let places = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        inbound::Bounds {
            pending: places(self.pending_incoming),
            pending_of_one: places(self.pending_incoming.div_ceil(8)),
            standing: places(self.total - self.total / 4),
            standing_of_one: places((self.total / 8).max(16)),
            standing_of_known: places(self.total / 16),
        }
    }
}

impl Default for ConnectionBounds {
    fn default() -> Self {
        Self {
            // Twelve circuits (up to four of them closing) and the direct connections.
            per_peer: 20,
            pending_incoming: 64,
            total: 512,
            memory: 512 << 20,
        }
    }
}

/// The network behaviour of a handover peer.
#[derive(NetworkBehaviour)]
pub(crate) struct Node {
    /// First, so that a refused connection costs no work in the other behaviours.
    inbound: inbound::Behaviour,
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(crate) gate: Toggle<gate::Behaviour>,
    pub(crate) link: link::Behaviour,
    pub(crate) identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<Bounded<mdns::tokio::Behaviour>>,
    /// One mDNS behaviour handles one address family.
    mdns_v6: Toggle<Bounded<mdns::tokio::Behaviour>>,
    pub(crate) dht: Toggle<dht::Kad>,
    pub(crate) relays: circuit::Behaviour,
    pub(crate) asking: Toggle<dht::wire::Behaviour>,
    pub(crate) relay: Toggle<relay_server::Behaviour>,
    pub(crate) candidates: Toggle<candidates::Behaviour>,
    punch: Toggle<dcutr::Behaviour>,
    reachable: Toggle<autonat::v2::client::Behaviour>,
    pub(crate) dial_back: Toggle<dial_back::Behaviour>,
    pub(crate) tester: Toggle<tester::Behaviour>,
}

impl Node {
    pub(crate) fn new(config: &Libp2pConfig, relays: circuit::Behaviour) -> Self {
        let key = config.keypair.public();
        let peer = key.to_peer_id();
        let bounds = &config.bounds;
        let limits = ConnectionLimits::default()
            .with_max_established_per_peer(Some(bounds.per_peer))
            .with_max_established(Some(bounds.total));
        // Listen addresses are given only to peers that have a code, not to everyone who connects.
        let identify = identify::Config::new(PROTOCOL_VERSION.into(), key)
            .with_agent_version(AGENT.into())
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        let ping = ping::Config::new()
            .with_interval(Duration::from_secs(15))
            .with_timeout(Duration::from_secs(20));
        let asks = config.direct && config.reachable == Reachable::Ask;
        let looks = config.punch || (asks && config.names());
        let serves = config.serve != Serve::Never;
        let nearby = |ipv6| {
            let listen = move || neighbours(peer, ipv6);
            config.nearby.then(|| Bounded::new(listen))
        };
        Self {
            inbound: inbound::Behaviour::new(bounds.inbound(), config.known()),
            limits: connection_limits::Behaviour::new(limits),
            memory: memory_connection_limits::Behaviour::with_max_bytes(bounds.memory),
            gate: (config.dht || !config.direct)
                .then(|| gate::Behaviour::new(!config.direct))
                .into(),
            link: link::Behaviour::default(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            mdns: nearby(false).into(),
            mdns_v6: nearby(true).into(),
            dht: config.dht.then(|| dht::behaviour(peer)).into(),
            asking: config.dht.then(dht::wire::behaviour).into(),
            relays,
            relay: serves
                .then(|| relay_server::Behaviour::new(peer, &config.quotas))
                .into(),
            candidates: looks.then(candidates::Behaviour::default).into(),
            punch: config.punch.then(|| dcutr::Behaviour::new(peer)).into(),
            reachable: (asks && looks)
                .then(autonat::v2::client::Behaviour::default)
                .into(),
            dial_back: (asks && looks)
                .then(|| dial_back::Behaviour::new(peer))
                .into(),
            tester: None.into(),
        }
    }

    /// Starts or stops serving others: DHT server mode, relaying and address tests.
    pub(crate) fn serve(&mut self, serve: bool) {
        if let Some(dht) = self.dht.as_mut() {
            let mode = if serve {
                libp2p::kad::Mode::Server
            } else {
                libp2p::kad::Mode::Client
            };
            dht.set_mode(Some(mode));
        }
        if let Some(relay) = self.relay.as_mut() {
            relay.serve(serve);
        }
        self.tester = serve.then(tester::Behaviour::default).into();
    }
}

/// Creates the mDNS behaviour. If that fails, everything else runs without it.
fn neighbours(peer: PeerId, enable_ipv6: bool) -> Option<mdns::tokio::Behaviour> {
    let config = mdns::Config {
        query_interval: ASK_AGAIN,
        enable_ipv6,
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
