//! Everything that runs on a connection: the link protocol, and what keeps a peer of the libp2p network in order.

use std::num::NonZeroU32;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, autonat, dcutr, identify, mdns, memory_connection_limits, ping, relay};

use super::config::{Libp2pConfig, Reachable, RelayQuotas, Serve};
use super::mdns::Bounded;
use super::{candidates, circuit, dht, dial_back, gate, inbound, link};

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
    /// Connections that came in and whose handshake is under way, over TCP and as many over QUIC. One address (of IPv6: one
    /// /64) has an eighth of them.
    pub pending_incoming: u32,
    /// Connections in all. A quarter of them is kept for those that this side dials; one address has an eighth, and 16 at
    /// the least.
    pub total: u32,
    /// No connection is taken while the process holds more bytes than this.
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
        }
    }
}

impl Default for ConnectionBounds {
    fn default() -> Self {
        Self {
            // Twelve circuits, as many as four of them being closed, and what is straight.
            per_peer: 20,
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
    inbound: inbound::Behaviour,
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(crate) gate: Toggle<gate::Behaviour>,
    pub(crate) link: link::Behaviour,
    pub(crate) identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<Bounded<mdns::tokio::Behaviour>>,
    /// One behaviour speaks one family.
    mdns_v6: Toggle<Bounded<mdns::tokio::Behaviour>>,
    pub(crate) dht: Toggle<dht::Kad>,
    pub(crate) relays: circuit::Behaviour,
    pub(crate) asking: Toggle<dht::wire::Behaviour>,
    pub(crate) relay: Toggle<relay::Behaviour>,
    pub(crate) candidates: Toggle<candidates::Behaviour>,
    punch: Toggle<dcutr::Behaviour>,
    reachable: Toggle<autonat::v2::client::Behaviour>,
    pub(crate) dial_back: Toggle<dial_back::Behaviour>,
    pub(crate) tester: Toggle<autonat::v2::server::Behaviour>,
}

impl Node {
    pub(crate) fn new(config: &Libp2pConfig, relays: circuit::Behaviour) -> Self {
        let key = config.keypair.public();
        let peer = key.to_peer_id();
        let bounds = &config.bounds;
        let limits = ConnectionLimits::default()
            .with_max_established_per_peer(Some(bounds.per_peer))
            .with_max_established(Some(bounds.total));
        // Addresses of this machine are told through codes, to those who have one; not to everybody who connects.
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
            inbound: inbound::Behaviour::new(bounds.inbound()),
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
            relay: serves.then(|| relaying(peer, &config.quotas)).into(),
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

    /// Begins or ends to do things for others.
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
            let status = if serve {
                relay::Status::Enable
            } else {
                relay::Status::Disable
            };
            relay.set_status(Some(status));
        }
        self.tester = serve.then(autonat::v2::server::Behaviour::default).into();
    }
}

/// Relaying within quotas, and limits on how often one peer or address may ask.
fn relaying(peer: PeerId, quotas: &RelayQuotas) -> relay::Behaviour {
    let circuits = if quotas.circuits_per_peer == 0 {
        0
    } else {
        quotas.circuits
    };
    let config = relay::Config {
        max_reservations: quotas.reservations,
        max_circuits: circuits,
        // libp2p refuses only what exceeds this by more than one.
        max_circuits_per_peer: quotas.circuits_per_peer.saturating_sub(1),
        max_circuit_bytes: quotas.bytes_per_circuit,
        // The protocol has 32 bits for the seconds.
        max_circuit_duration: quotas
            .circuit_duration
            .min(Duration::from_secs(u32::MAX.into())),
        // The stock ones let one circuit through in two minutes after the first thirty: too few for who has to go on.
        circuit_src_rate_limiters: Vec::new(),
        // And one reservation a minute after the first sixty of an IP address: a carrier's NAT has thousands behind it.
        reservation_rate_limiters: Vec::new(),
        ..relay::Config::default()
    };
    let config = config
        .reservation_rate_per_peer(RESERVATIONS_OF_A_PEER, Duration::from_secs(10))
        .reservation_rate_per_ip(RESERVATIONS_OF_AN_IP, Duration::from_secs(1));
    let (in_a_row, interval) = (quotas.circuits_in_a_row, quotas.circuit_interval);
    let config = config
        .circuit_src_per_peer(in_a_row, interval)
        .circuit_src_per_ip(in_a_row.saturating_mul(FOUR), interval / 4);
    let mut relay = relay::Behaviour::new(peer, config);
    relay.set_status(Some(relay::Status::Disable));
    relay
}

/// Reservations that one peer may make in a row, and all of one IP address together; they are renewed twice an hour.
const RESERVATIONS_OF_A_PEER: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
const RESERVATIONS_OF_AN_IP: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);

/// So many peers of one IP address count as one in what they may open.
const FOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);

/// What finds and is found on the local network. Where that can't be had, all else goes on without.
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
