//! Links over real networks, by libp2p: TCP with TLS 1.3 or Noise under Yamux, and QUIC.
//!
//! The swarm is polled where the transport is, and every connection runs as a task of the tokio runtime that the
//! transport was made in; so commands need no queue, and a stream's bytes never wait for the transport to be polled. A
//! runtime of one thread is the fastest for it.

mod behaviour;
mod dials;
pub mod link;
mod listen;
mod muxer;
mod neighbours;
mod reason;
mod stack;
pub mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use handover_core::dial::path_kind;
use handover_core::engine::{DialId, LinkId, PathKind};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, ListenerId};
use libp2p::identity::Keypair;
use libp2p::swarm::{self, ConnectionId, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Sleep};

use self::behaviour::{Node, NodeEvent};
use self::dials::{Dials, Step};
use self::link::{Fate, LinkEvent, LinkStream};
use self::neighbours::Neighbours;
use crate::{Link, Transport, TransportEvent, next_link_id};

pub use self::behaviour::ConnectionBounds;
pub use self::listen::Listen;
pub use self::stack::SecurityError;

/// How long a connection without a stream is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a QUIC connection is kept for what was written before its last link was closed, unless the other side
/// closes it first: closing it at once would lose what has not arrived yet, and libp2p does not tell what has.
const LINGER: Duration = Duration::from_secs(1);

/// How long connections may take to close on shutdown.
const SHUTDOWN_TIMEOUT: Duration = LINGER;

/// Events that one connection may have for the swarm, and the swarm for it, before the sender waits.
const EVENT_BUFFER: usize = 16;

/// How a [`Libp2pTransport`] is set up.
#[derive(Debug, Clone)]
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
}

impl Libp2pConfig {
    /// TCP and QUIC on every address, on a port that is free; nobody on the local network hears of it.
    pub fn new(keypair: Keypair) -> Self {
        Self {
            keypair,
            listen: Listen::Port(0),
            tcp: true,
            quic: true,
            nearby: false,
            bounds: ConnectionBounds::default(),
        }
    }
}

/// A [`Libp2pTransport`] could not be set up.
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
}

/// Links by libp2p.
pub struct Libp2pTransport {
    swarm: Swarm<Node>,
    listeners: Vec<ListenerId>,
    dials: Dials,
    neighbours: Neighbours,
    /// Every connection, with the links on it.
    connections: BTreeMap<ConnectionId, Carrier>,
    /// Answers that were ready at once; each is owed to a call of the owner, or to one event of the swarm.
    ready: VecDeque<TransportEvent>,
    /// The list of addresses has changed since it was told.
    listening_changed: bool,
    timer: Pin<Box<Sleep>>,
    /// Set on shutdown: when it ends at the latest.
    ending: Option<Instant>,
    waker: Option<Waker>,
}

/// A connection.
struct Carrier {
    /// Closing it loses what has not arrived.
    quic: bool,
    links: Vec<Carried>,
    /// It has no link any more and is closed then.
    lingers_until: Option<Instant>,
}

/// A link on a connection.
struct Carried {
    link: LinkId,
    fate: Arc<Fate>,
}

impl Carrier {
    /// Forgets links that nobody holds; whether any is left.
    fn is_used(&mut self) -> bool {
        self.links.retain(|carried| !carried.fate.is_dropped());
        !self.links.is_empty()
    }

    /// Something that was written may still be on its way.
    fn may_lose(&self) -> bool {
        let closed = |carried: &Carried| carried.fate.is_closed();
        self.lingers_until.is_some() || (self.quic && self.links.iter().any(closed))
    }
}

impl Libp2pTransport {
    /// Binds the sockets. To be called in the tokio runtime (with time and I/O) that is to run the connections.
    pub fn new(config: &Libp2pConfig) -> Result<Self, Libp2pError> {
        let transport = stack::build(&config.keypair, config.tcp, config.quic)?;
        Self::over(transport, config)
    }

    /// The same over connections of another kind, which the configuration's `tcp` and `quic` then say nothing of.
    pub fn over(
        transport: Boxed<(PeerId, StreamMuxerBox)>,
        config: &Libp2pConfig,
    ) -> Result<Self, Libp2pError> {
        let local = config.keypair.public();
        let peer = local.to_peer_id();
        let node = Node::new(local, &config.bounds, config.nearby);
        let buffer = NonZeroUsize::new(EVENT_BUFFER).unwrap_or(NonZeroUsize::MIN);
        let swarm_config = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_notify_handler_buffer_size(buffer)
            .with_per_connection_event_buffer_size(EVENT_BUFFER)
            .with_max_negotiating_inbound_streams(16);
        let mut this = Self {
            swarm: Swarm::new(transport, node, peer, swarm_config),
            listeners: Vec::new(),
            dials: Dials::default(),
            neighbours: Neighbours::default(),
            connections: BTreeMap::new(),
            ready: VecDeque::new(),
            listening_changed: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            ending: None,
            waker: None,
        };
        this.listen(config)?;
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
                    if let Err(error) = self.swarm.dial(*opts) {
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

    /// Closes a connection unless a link or a dial needs it.
    fn close_unused(&mut self, connection: ConnectionId) {
        let Some(carrier) = self.connections.get_mut(&connection) else {
            return;
        };
        if !carrier.is_used() && !self.dials.holds(connection) {
            self.swarm.close_connection(connection);
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<NodeEvent>) {
        match event {
            SwarmEvent::Behaviour(NodeEvent::Link(event)) => self.on_link_event(event),
            SwarmEvent::Behaviour(NodeEvent::Mdns(event)) => {
                self.ready.extend(self.neighbours.heard(event));
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let quic = dials::is_quic(endpoint.get_remote_address());
                self.on_established(connection_id, peer_id, quic);
            }
            SwarmEvent::ConnectionClosed {
                connection_id,
                cause,
                ..
            } => self.on_closed(connection_id, &reason::of_close(cause.as_ref())),
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                let steps = self.dials.failed(connection_id, &error);
                self.perform(steps);
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => {
                self.listening_changed = true;
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                ..
            } => {
                self.listeners.retain(|listener| *listener != listener_id);
                self.listening_changed = true;
                if let Err(error) = reason {
                    tracing::warn!(%error, "a listener failed");
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::debug!(%error, "a listener reported an error");
            }
            _ => {}
        }
    }

    fn on_established(&mut self, connection: ConnectionId, peer: PeerId, quic: bool) {
        let carrier = Carrier {
            quic,
            links: Vec::new(),
            lingers_until: None,
        };
        self.connections.insert(connection, carrier);
        if self.ending.is_some() {
            self.swarm.close_connection(connection);
        }
        if let Some(steps) = self.dials.established(connection, peer) {
            self.perform(steps);
        }
    }

    fn on_closed(&mut self, connection: ConnectionId, reason: &str) {
        let carrier = self.connections.remove(&connection);
        for carried in carrier.into_iter().flat_map(|carrier| carrier.links) {
            if !carried.fate.is_dropped() {
                self.ready.push_back(TransportEvent::LinkDown {
                    link: carried.link,
                    reason: reason.into(),
                });
            }
        }
        let steps = self.dials.closed(connection, reason);
        self.perform(steps);
    }

    fn on_link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up {
                peer,
                connection,
                remote,
                ours,
                stream,
            } => {
                let dial = if ours {
                    let (dial, steps) = self.dials.up(connection);
                    self.perform(steps);
                    if dial.is_none() {
                        // Its dial was over before; nobody waits for this stream.
                        drop(stream);
                        return self.close_unused(connection);
                    }
                    dial
                } else {
                    None
                };
                self.on_up(peer, connection, &remote, dial, stream);
            }
            LinkEvent::OpenFailed {
                connection, error, ..
            } => {
                let steps = self.dials.open_failed(connection, &error);
                self.perform(steps);
            }
        }
    }

    fn on_up(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        remote: &Multiaddr,
        dial: Option<DialId>,
        stream: LinkStream,
    ) {
        let Some(carrier) = self.connections.get_mut(&connection) else {
            // It is gone again, and its stream with it.
            let reason = "the connection was lost".into();
            let failed = dial.map(|dial| TransportEvent::DialFailed { dial, reason });
            return self.ready.extend(failed);
        };
        let id = next_link_id();
        carrier.is_used();
        carrier.lingers_until = None;
        carrier.links.push(Carried {
            link: id,
            fate: stream.fate(),
        });
        let (remote, _) = dials::split(remote);
        self.ready.push_back(TransportEvent::LinkUp(Link {
            id,
            peer,
            path: self.path_to(&remote),
            remote,
            dial,
            stream: Box::new(stream),
        }));
    }

    /// What an address means from here. One of this machine's own is on this machine, whichever network it belongs to.
    fn path_to(&self, remote: &Multiaddr) -> PathKind {
        let host = remote.iter().next();
        let own = self
            .swarm
            .listeners()
            .any(|address| address.iter().next() == host);
        if own {
            PathKind::Loopback
        } else {
            path_kind(remote)
        }
    }

    /// Whether a deadline has passed; asks to be woken at the next one.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let lingering = self.connections.values();
        let next_closed = lingering.filter_map(|carrier| carrier.lingers_until).min();
        let deadlines = [self.dials.next_wake(), next_closed, self.ending];
        let Some(next) = deadlines.into_iter().flatten().min() else {
            return false;
        };
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
        self.timer.poll_unpin(cx).is_ready()
    }

    /// Does what is due.
    fn on_time(&mut self, now: Instant) {
        for (connection, carrier) in &mut self.connections {
            if carrier.lingers_until.is_some_and(|until| until <= now) {
                carrier.lingers_until = None;
                self.swarm.close_connection(*connection);
            }
        }
        let steps = self.dials.wake(now);
        self.perform(steps);
    }

    fn has_ended(&self) -> bool {
        self.ending
            .is_some_and(|at| self.connections.is_empty() || at <= Instant::now())
    }
}

impl Transport for Libp2pTransport {
    fn local_peer(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    fn dial(&mut self, dial: DialId, peer: Option<PeerId>, addresses: Vec<Multiaddr>) {
        if self.ending.is_some() {
            let reason = "this side is closing".into();
            self.ready
                .push_back(TransportEvent::DialFailed { dial, reason });
        } else {
            let steps = self.dials.begin(dial, peer, addresses, Instant::now());
            self.perform(steps);
        }
        self.wake();
    }

    fn close(&mut self, link: LinkId) {
        let holds = |carrier: &Carrier| carrier.links.iter().any(|carried| carried.link == link);
        let mut connections = self.connections.iter_mut();
        let Some((connection, carrier)) = connections.find(|(_, carrier)| holds(carrier)) else {
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
                continue;
            }
            if let Poll::Ready(Some(event)) = self.swarm.poll_next_unpin(cx) {
                self.on_swarm_event(event);
                continue;
            }
            if std::mem::take(&mut self.listening_changed) {
                let addresses = self.swarm.listeners().cloned().collect();
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
        for listener in std::mem::take(&mut self.listeners) {
            self.swarm.remove_listener(listener);
        }
        let steps = self.dials.give_all_up("this side is closing");
        self.perform(steps);
        for (connection, carrier) in &self.connections {
            if !carrier.may_lose() {
                self.swarm.close_connection(*connection);
            }
        }
        self.wake();
    }
}
