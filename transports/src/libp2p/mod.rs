//! Links over real networks with libp2p: TCP with TLS 1.3 or Noise under Yamux, QUIC, and circuits through relays.
//! Peers are found in the Kademlia DHT and on the local network. Where nothing else works they are reachable through
//! relays, and from there move to a better path by hole punching or by being dialled from the other side.
//!
//! The swarm is polled together with the transport, and every connection runs as a task of the tokio runtime in which
//! the transport was created. Commands therefore need no queue, and a stream's bytes never wait for the transport to be
//! polled. A single-threaded runtime is the fastest for it.

mod allowance;
mod approach;
mod behaviour;
mod bootstrap;
pub mod candidates;
pub mod circuit;
mod config;
mod connections;
mod contacts;
#[doc(hidden)]
pub mod decoders;
pub mod delimited;
mod dht;
mod dial_back;
mod dials;
mod discovery;
mod gate;
mod greeting;
mod inbound;
pub mod interfaces;
mod lingering;
pub mod link;
mod links;
mod listen;
mod mdns;
mod muxer;
mod names;
mod neighbours;
mod outbound;
mod outset;
mod ports;
mod reason;
mod relay_server;
mod relaying;
mod remembered;
mod reservations;
mod segments;
mod stack;
mod state;
mod store;
mod strangers;
mod tester;
pub mod tls;
mod witness;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::{NonZeroU8, NonZeroUsize};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use handover_core::engine::{AnnounceReport, DialId, LinkId, LookUpId};
use handover_core::secret::MeetingPoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, ListenerId};
use libp2p::identity::Keypair;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{self, ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Sleep};

use self::approach::Approaches;
use self::behaviour::{Node, NodeEvent};
use self::bootstrap::Bootstrap;
use self::config::nodes;
use self::connections::Connections;
use self::contacts::Contacts;
use self::dht::{Asker, Dht, RunId};
use self::dial_back::Hints;
use self::dials::{Dials, Step};
use self::neighbours::Neighbours;
use self::outbound::Permits;
use self::outset::Outset;
use self::ports::Ports;
use self::remembered::Remembered;
use self::reservations::Reservations;
use self::state::Seen;
use self::strangers::Strangers;
use self::witness::Witness;
use crate::{MAX_DIAL_ADDRESSES, Transport, TransportEvent};
use handover_core::dial::is_relayed;

pub use self::behaviour::ConnectionBounds;
pub use self::circuit::CircuitLimit;
pub use self::config::{
    Libp2pConfig, Libp2pError, PUBLIC_BOOTSTRAP, Reachable, RelayQuotas, Serve, public_bootstrap,
};
pub use self::contacts::{BootstrapNode, Contact, Outcome, QuicNode};
pub use self::listen::Listen;
pub use self::reason::Reason;
pub use self::stack::SecurityError;
pub use self::state::{
    ConnectionCounts, HeldReservation, NetworkState, PortMapping, Served, Sighting, TestedAddress,
    Verdict,
};

/// How long a connection without a stream is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a QUIC connection is kept after its last link was closed, unless the other side closes it first. Closing it
/// at once would lose data that has not arrived yet, and libp2p does not report what has.
const LINGER: Duration = Duration::from_secs(1);

/// Timeout for closing connections on shutdown.
const SHUTDOWN_TIMEOUT: Duration = LINGER;

/// Maximum number of events queued from one connection to the swarm, and from the swarm to it, before the sender waits.
const EVENT_BUFFER: usize = 16;

/// Maximum number of addresses of one node that are dialled at once.
const AT_ONCE: NonZeroU8 = NonZeroU8::MIN.saturating_add(31);

/// Interval between sweeps for unneeded connections and reservations.
const SWEEP: Duration = Duration::from_secs(5);

/// Maximum number of concurrent attempts to [reach](Transport::reach) peers. Further attempts are not made.
const MAX_REACHES: usize = 64;

/// Links over libp2p.
pub struct Libp2pTransport {
    /// Boxed because it is large and the transport is moved.
    swarm: Box<Swarm<Node>>,
    /// All listeners except those at relays.
    listeners: Vec<ListenerId>,
    permits: Permits,
    outset: Outset,
    dials: Dials,
    /// Attempts to reach a peer that have not ended.
    reaches: BTreeSet<ConnectionId>,
    neighbours: Neighbours,
    connections: Connections,
    contacts: Contacts,
    setting: Setting,
    dht: Option<Dht>,
    /// When the DHT has something to do next.
    search_due: Option<Instant>,
    /// Unanswered requests to nodes of the DHT.
    asked: HashMap<OutboundRequestId, (RunId, PeerId)>,
    witness: Option<Witness>,
    bootstrap: Bootstrap,
    reservations: Reservations,
    remembered: Remembered,
    /// Listeners at relays, and the relay of each.
    relayed: HashMap<ListenerId, PeerId>,
    /// Relays to reserve at, with their addresses, once they have been approached.
    reserving: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Relays to leave once no connection goes through them.
    letting_go: BTreeSet<PeerId>,
    approaches: Approaches,
    ports: Ports,
    seen: Seen,
    strangers: Strangers,
    /// Answers of nodes that were asked to dial back; a hint, not a proof.
    hints: Hints,
    /// Events that are ready. Each results from one call of the owner or one event of the swarm.
    ready: VecDeque<TransportEvent>,
    /// True if the list of addresses has changed since it was last reported.
    listening_changed: bool,
    timer: Pin<Box<Sleep>>,
    next_sweep: Instant,
    /// The shutdown deadline, once shutdown has begun.
    ending: Option<Instant>,
    waker: Option<Waker>,
}

/// Settings from the configuration, and state that follows from them.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "as in the configuration")]
struct Setting {
    direct: bool,
    punch: bool,
    serve: Serve,
    /// True if all listen addresses count as reachable.
    listening_is_reachable: bool,
    /// True if only addresses tested by other nodes count as reachable.
    asks: bool,
    /// True if the user has named relays: this peer is reachable through them from the start.
    relays_named: bool,
    /// True while this peer serves others.
    serves: bool,
    /// Since when this peer has known an address at which it is reachable.
    public_since: Option<Instant>,
}

impl Libp2pTransport {
    /// Binds the sockets. Must be called in the tokio runtime (with time and I/O) that is to run the connections.
    pub fn new(config: &Libp2pConfig) -> Result<Self, Libp2pError> {
        let permits = Permits::of(config);
        let gated = permits.clone();
        let (with, names) = ((config.tcp, config.quic), config.names());
        let connections = |keypair: &Keypair| Ok(stack::build(keypair, with, names, &gated)?);
        Self::permitting(connections, config, permits)
    }

    /// Creates a transport over other kinds of connections, for which the configuration's `tcp` and `quic` are ignored.
    /// `connections` creates connections secured with the given key: this peer's, or a throw-away one.
    pub fn over(
        connections: impl Fn(&Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Libp2pError>,
        config: &Libp2pConfig,
    ) -> Result<Self, Libp2pError> {
        Self::permitting(connections, config, Permits::of(config))
    }

    fn permitting(
        connections: impl Fn(&Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Libp2pError>,
        config: &Libp2pConfig,
        permits: Permits,
    ) -> Result<Self, Libp2pError> {
        let config = &config.effective();
        let now = Instant::now();
        let bootstrap = nodes(&config.bootstrap, Libp2pError::Bootstrap)?;
        let relays = nodes(&config.relays, Libp2pError::Relay)?;
        let peer = config.keypair.public().to_peer_id();
        let (relayed, client) = circuit::new(peer);
        let transport = connections(&config.keypair)?;
        let transport = stack::with_relays(&config.keypair, relayed, transport)?;
        let witness = if config.dht {
            let nobody = Keypair::generate_ed25519();
            Some(Witness::new(&nobody, connections(&nobody)?))
        } else {
            None
        };
        let buffer = NonZeroUsize::new(EVENT_BUFFER).unwrap_or(NonZeroUsize::MIN);
        let swarm_config = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            // Dials all addresses of a node at once: otherwise eight that never answer would delay the ninth.
            .with_dial_concurrency_factor(AT_ONCE)
            .with_notify_handler_buffer_size(buffer)
            .with_per_connection_event_buffer_size(EVENT_BUFFER)
            .with_max_negotiating_inbound_streams(16);
        let mut this = Self {
            swarm: Box::new(Swarm::new(
                transport,
                Node::new(config, client),
                peer,
                swarm_config,
            )),
            listeners: Vec::new(),
            permits,
            outset: Outset::new(config.listen != Listen::Nowhere, now),
            dials: Dials::default(),
            reaches: BTreeSet::new(),
            neighbours: Neighbours::default(),
            connections: Connections::default(),
            contacts: Contacts::default(),
            setting: Setting::of(config),
            dht: config.dht.then(|| Dht::new(peer, config.direct)),
            search_due: None,
            asked: HashMap::new(),
            witness,
            bootstrap: Bootstrap::new(bootstrap, now),
            reservations: Reservations::new(config.reservations, relays, now),
            remembered: Remembered::new(config.relay_memory.clone()),
            relayed: HashMap::new(),
            reserving: BTreeMap::new(),
            letting_go: BTreeSet::new(),
            approaches: Approaches::default(),
            ports: Ports::new(config.port_mapping),
            seen: Seen::new(),
            strangers: Strangers::default(),
            hints: Hints::new(now),
            ready: VecDeque::new(),
            listening_changed: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            next_sweep: now,
            ending: None,
            waker: None,
        };
        this.listen(config)?;
        for (relay, addresses) in this.remembered.relays() {
            this.reservations.remembered(relay, addresses, now);
        }
        if let Reachable::At(addresses) = &config.reachable {
            for address in addresses {
                this.swarm.add_external_address(dials::split(address).0);
            }
            this.listening_changed = !addresses.is_empty();
        }
        Ok(this)
    }

    fn listen(&mut self, config: &Libp2pConfig) -> Result<(), Libp2pError> {
        for wanted in listen::wanted(&config.listen, config.tcp, config.quic)? {
            match self.swarm.listen_on(wanted.address.clone()) {
                Ok(listener) => self.listeners.push(listener),
                Err(error) if wanted.optional => {
                    tracing::debug!(%error, "an optional address is not listened on");
                }
                Err(libp2p::TransportError::MultiaddrNotSupported(address)) => {
                    return Err(Libp2pError::Address(address));
                }
                Err(libp2p::TransportError::Other(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn perform(&mut self, steps: Vec<Step>) {
        let mut steps = VecDeque::from(steps);
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Start(opts) => {
                    let connection = opts.connection_id();
                    if let Err(error) = self.begin(*opts) {
                        steps.extend(self.dials.failed(connection, &error));
                    }
                }
                Step::Open { peer, connection } => {
                    self.swarm.behaviour_mut().link.open(peer, connection);
                }
                Step::Discard(connection) => self.close_unused(connection),
                Step::Fail { dial, reason } => self
                    .ready
                    .push_back(TransportEvent::DialFailed { dial, reason }),
            }
        }
    }

    /// Dials through the swarm, now or once the listen addresses are known.
    fn begin(&mut self, dial: DialOpts) -> Result<(), DialError> {
        match self.outset.hold(dial) {
            Some(dial) => self.swarm.dial(dial),
            None => Ok(()),
        }
    }

    fn on_not_established(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
    ) {
        if let Some(peer) = peer {
            self.bootstrap.failed(peer);
            if let Some(dht) = &mut self.dht {
                dht.nodes_have_changed();
            }
        }
        self.reaches.remove(&connection);
        self.contacts.not_connected(peer, error);
        if let DialError::Transport(tried) = error {
            for (address, _) in tried {
                self.strangers.dialled(address);
            }
        }
        let steps = self.dials.failed(connection, error);
        self.perform(steps);
        self.settled(connection, false);
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<NodeEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                concurrent_dial_errors,
                ..
            } => {
                let failed = concurrent_dial_errors.unwrap_or_default();
                self.contacts.failed(Some(peer_id), &failed);
                self.on_established(connection_id, peer_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                if num_established == 0 {
                    self.bootstrap.set_connected(peer_id, false);
                }
                self.note_loss(connection_id, cause.as_ref());
                self.on_closed(connection_id, &reason::of_close(cause.as_ref()));
                self.settled(connection_id, false);
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                self.on_not_established(connection_id, peer_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_address(address, true),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_address(address, false),
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                ..
            } => {
                self.listeners.retain(|listener| *listener != listener_id);
                self.listening_changed = true;
                let of_relay = self.on_relay_gone(listener_id);
                if let Err(error) = reason
                    && !of_relay
                {
                    tracing::warn!(%error, "a listener failed");
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::debug!(%error, "a listener reported an error");
            }
            SwarmEvent::NewExternalAddrCandidate { address } => self.seen.observed(&address),
            SwarmEvent::ExternalAddrConfirmed { address } => self.on_confirmed(&address),
            SwarmEvent::ExternalAddrExpired { .. } => self.listening_changed = true,
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Link(event) => self.on_link_event(event),
            NodeEvent::Mdns(heard) => self.ready.extend(self.neighbours.heard(heard, false)),
            NodeEvent::MdnsV6(heard) => self.ready.extend(self.neighbours.heard(heard, true)),
            NodeEvent::Identify(event) => self.on_identified(event),
            NodeEvent::Dht(event) => self.on_dht_event(event),
            NodeEvent::Asking(event) => self.on_answer(event),
            NodeEvent::Relays(event) => self.on_relays_event(&event),
            NodeEvent::Relay(event) => self.on_relay_event(&event),
            NodeEvent::Reachable(event) => {
                let reachable = event.result.is_ok();
                self.seen.tested(&event.tested_addr, reachable);
            }
            NodeEvent::DialBack(event) => self.on_dial_back(&event),
            NodeEvent::Punch(event) => {
                let punched = event.result.is_ok();
                tracing::debug!(peer = %event.remote_peer_id, punched, "hole punching has ended");
            }
            _ => {}
        }
    }

    /// Polls the witness. Returns true if it reported something.
    fn poll_witness(&mut self, cx: &mut Context<'_>) -> bool {
        let polled = self.witness.as_mut().map(|witness| witness.poll(cx));
        let Some(Poll::Ready((run, node, answer))) = polled else {
            return false;
        };
        self.told(run, (node, Asker::Witness), answer);
        true
    }

    /// Returns true if a deadline has passed; otherwise sets the timer to the next one.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let lingering = self.connections.0.values();
        let closing = lingering.filter_map(|carrier| carrier.lingers_until).min();
        let mut deadlines = vec![
            self.outset.next_wake(),
            self.dials.next_wake(),
            closing,
            self.ending,
        ];
        // During shutdown these are no longer maintained.
        if self.ending.is_none() {
            let sweeps = self.connections.any_relayed() || !self.letting_go.is_empty();
            deadlines.extend([
                self.bootstrap.next_wake(),
                self.reservations.next_wake(),
                self.setting.serves_at().filter(|_| !self.setting.serves),
                self.approaches.next_wake(),
                self.search_due,
                sweeps.then_some(self.next_sweep),
            ]);
        }
        let Some(next) = deadlines.into_iter().flatten().min() else {
            return false;
        };
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
        self.timer.poll_unpin(cx).is_ready()
    }

    /// Handles everything that is due.
    fn on_time(&mut self, now: Instant) {
        let mut through = Vec::new();
        for (connection, carrier) in &mut self.connections.0 {
            if carrier.lingers_until.is_some_and(|until| until <= now) {
                carrier.lingers_until = None;
                through.push(*connection);
            }
        }
        for connection in through {
            self.close_unused(connection);
        }
        for dial in self.outset.over(now) {
            let (connection, peer) = (dial.connection_id(), dial.get_peer_id());
            if let Err(error) = self.swarm.dial(dial) {
                self.on_not_established(connection, peer, &error);
            }
        }
        let steps = self.dials.wake(now);
        self.perform(steps);
        for relay in self.approaches.wake(now) {
            self.relay_known(relay, now);
        }
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP;
            self.sweep(now);
        }
    }

    /// Updates serving, reservations, bootstrapping and searching to the current state. Returns true if anything
    /// changed.
    fn keep_up(&mut self, now: Instant) -> bool {
        if self.ending.is_some() {
            return false;
        }
        let serving = self.keep_serving(now);
        let reserving = self.keep_reservations(now);
        let bootstrapping = self.keep_bootstrapped(now);
        let searching = self.keep_searching(now);
        serving || reserving || bootstrapping || searching
    }

    fn has_ended(&self) -> bool {
        let done = self.connections.0.is_empty() && self.ports.are_given_back();
        self.ending.is_some_and(|at| done || at <= Instant::now())
    }
}

impl Setting {
    fn of(config: &Libp2pConfig) -> Self {
        Self {
            direct: config.direct,
            punch: config.punch,
            serve: config.serve,
            listening_is_reachable: config.reachable == Reachable::Listening,
            asks: config.reachable == Reachable::Ask,
            relays_named: !config.relays.is_empty(),
            serves: false,
            public_since: None,
        }
    }

    /// When this peer starts serving others, if that is known.
    fn serves_at(&self) -> Option<Instant> {
        match self.serve {
            Serve::WhenReachable(after) => self.public_since.map(|since| since + after),
            Serve::Never | Serve::Always => None,
        }
    }
}

impl Transport for Libp2pTransport {
    fn local_peer(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    fn dial(&mut self, dial: DialId, peer: Option<PeerId>, addresses: Vec<Multiaddr>) {
        let fail = |reason: &str| TransportEvent::DialFailed {
            dial,
            reason: reason.into(),
        };
        if self.ending.is_some() {
            self.ready.push_back(fail("this side is closing"));
        } else if addresses.is_empty() {
            match peer.and_then(|peer| self.best_connection(peer)) {
                Some((peer, connection)) => {
                    let now = Instant::now();
                    let steps = self.dials.begin_on(dial, peer, connection, now);
                    self.perform(steps);
                }
                None => self.ready.push_back(fail("no address is known")),
            }
        } else {
            self.dial_addresses(dial, peer, addresses);
        }
        self.wake();
    }

    fn announce(&mut self, point: MeetingPoint) {
        let report = AnnounceReport::default();
        let refused = match self.dht_and_kad() {
            Some((dht, kad)) => dht.announce(point, kad),
            None => Some(TransportEvent::Announced { point, report }),
        };
        self.ready.extend(refused);
        self.wake();
    }

    fn withdraw(&mut self, point: MeetingPoint) {
        if let Some((dht, kad)) = self.dht_and_kad() {
            dht.withdraw(point, kad);
        }
        self.wake();
    }

    fn look_up(&mut self, lookup: LookUpId, point: MeetingPoint) {
        let now = Instant::now();
        let reached = false;
        let refused = match self.dht_and_kad() {
            Some((dht, kad)) => dht.look_up(lookup, point, kad, now),
            None => Some(TransportEvent::LookedUp { lookup, reached }),
        };
        self.ready.extend(refused);
        self.wake();
    }

    fn end_look_up(&mut self, lookup: LookUpId) {
        if let Some(dht) = &mut self.dht {
            dht.end_look_up(lookup);
        }
        self.wake();
    }

    fn reach(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.ending.is_some() {
            return;
        }
        self.permits.permit(&addresses);
        let straight = addresses
            .into_iter()
            .map(|address| dials::split(&address).0)
            .filter(|address| is_relayed(address) != self.setting.direct)
            .take(MAX_DIAL_ADDRESSES);
        let (quic, tcp): (Vec<_>, Vec<_>) = straight.partition(dials::is_quic);
        for addresses in [tcp, quic] {
            if addresses.is_empty() || self.reaches.len() >= MAX_REACHES {
                continue;
            }
            let Some(opts) = dials::options(Some(peer), &addresses) else {
                continue;
            };
            let attempt = opts.connection_id();
            if self.begin(opts).is_ok() {
                self.reaches.insert(attempt);
            }
        }
        self.wake();
    }

    fn use_relay(&mut self, address: Multiaddr) {
        self.permits.name(&address);
        let named = nodes(&[address], Libp2pError::Relay);
        for (relay, addresses) in named.into_iter().flatten() {
            self.reservations.add(relay, addresses, Instant::now());
            self.setting.relays_named = true;
        }
        self.wake();
    }

    fn close(&mut self, link: LinkId) {
        let mut connections = self.connections.0.iter_mut();
        let Some((connection, carrier)) = connections.find(|(_, carrier)| carrier.holds(link))
        else {
            return;
        };
        let may_lose = carrier.may_lose();
        carrier.links.retain(|carried| carried.link != link);
        if may_lose && !carrier.is_used() {
            carrier.lingers_until = Some(Instant::now() + LINGER);
        } else {
            let connection = *connection;
            self.close_unused(connection);
        }
        self.wake();
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<TransportEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(event));
            }
            if self.has_ended() {
                return Poll::Ready(None);
            }
            if self.poll_timer(cx) {
                self.on_time(Instant::now());
                self.keep_up(Instant::now());
                continue;
            }
            if let Poll::Ready(Some(event)) = self.swarm.poll_next_unpin(cx) {
                self.on_swarm_event(event);
                continue;
            }
            if self.poll_ports(cx) || self.poll_witness(cx) {
                continue;
            }
            if self.keep_up(Instant::now()) {
                continue;
            }
            if std::mem::take(&mut self.listening_changed) {
                let addresses = self.addresses();
                return Poll::Ready(Some(TransportEvent::Listening(addresses)));
            }
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
    }

    fn shutdown(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Instant::now() + SHUTDOWN_TIMEOUT);
        let at_relays = self.relayed.keys().copied();
        let listeners = std::mem::take(&mut self.listeners);
        for listener in at_relays.chain(listeners).collect::<Vec<_>>() {
            self.swarm.remove_listener(listener);
        }
        self.ports.end();
        let steps = self.dials.give_all_up("this side is closing");
        self.perform(steps);
        for (connection, carrier) in &self.connections.0 {
            if !carrier.may_lose() {
                self.swarm.close_connection(*connection);
            }
        }
        self.wake();
    }
}
