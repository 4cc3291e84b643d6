//! Peers that run in tasks, and how tests control them.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use handover_core::engine::{DialId, PathKind};
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::libp2p::{
    Libp2pConfig, Libp2pTransport, Listen, NetworkState, Reachable, Serve,
};
use handover_transports::{Link, Transport, TransportEvent, next_event};
use libp2p::core::transport::{MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::{noise, yamux};
use tokio::sync::{mpsc, oneshot};

use crate::internet::{Internet, Place};

/// Timeout for each step.
const PATIENCE: Duration = Duration::from_secs(40);

type Command = Box<dyn FnOnce(&mut Libp2pTransport) + Send>;

/// A transport in its own task.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<TransportEvent>,
    /// Events that the test has not requested yet.
    seen: Vec<TransportEvent>,
    task: tokio::task::JoinHandle<()>,
}

/// TCP and QUIC on loopback only.
pub(crate) fn config() -> Libp2pConfig {
    let mut config = Libp2pConfig::new(Keypair::generate_ed25519());
    let addresses = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];
    config.listen = Listen::At(addresses.map(|address| address.parse().unwrap()).into());
    config
}

/// The same as a client of the DHT with these bootstrap nodes.
pub(crate) fn in_dht(at: Vec<Multiaddr>) -> Libp2pConfig {
    let mut config = config();
    config.dht = true;
    config.bootstrap = at;
    config
}

/// A node that serves all peers.
pub(crate) fn node() -> Libp2pConfig {
    let mut config = config();
    config.dht = true;
    config.serve = Serve::Always;
    config.reachable = Reachable::Listening;
    config
}

impl Peer {
    pub(crate) fn start(config: &Libp2pConfig) -> Self {
        Self::run(Libp2pTransport::new(config).unwrap())
    }

    /// Starts a peer with connections in memory.
    pub(crate) fn in_memory(config: &Libp2pConfig) -> Self {
        let connections = |keypair: &Keypair| {
            let transport = MemoryTransport::default()
                .upgrade(Version::V1)
                .authenticate(noise::Config::new(keypair).unwrap())
                .multiplex(yamux::Config::default());
            Ok(transport.boxed())
        };
        Self::run(Libp2pTransport::over(connections, config).unwrap())
    }

    /// Starts a peer as a host of this internet.
    pub(crate) fn on(internet: &Internet, place: &Place, config: &Libp2pConfig) -> Self {
        let connections = |keypair: &Keypair| Ok(internet.of(place, keypair));
        Self::run(Libp2pTransport::over(connections, config).unwrap())
    }

    fn run(mut transport: Libp2pTransport) -> Self {
        let id = transport.local_peer();
        let (commands, mut to_do) = mpsc::unbounded_channel::<Command>();
        let (tell, events) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = next_event(&mut transport) => match event {
                        Some(event) => drop(tell.send(event)),
                        None => return,
                    },
                    command = to_do.recv() => match command {
                        Some(command) => command(&mut transport),
                        None => return,
                    },
                }
            }
        });
        let seen = Vec::new();
        Self {
            id,
            commands,
            events,
            seen,
            task,
        }
    }

    /// Stops the peer without shutting it down.
    pub(crate) fn kill(self) {
        self.task.abort();
    }

    /// Waits until the peer has shut down.
    pub(crate) async fn ended(self) {
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("in time").expect("no panic");
    }

    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Libp2pTransport) -> T + Send + 'static,
    ) -> T {
        let (tell, answer) = oneshot::channel();
        let command: Command = Box::new(move |transport| drop(tell.send(what(transport))));
        assert!(self.commands.send(command).is_ok(), "it runs");
        answer.await.expect("it runs")
    }

    pub(crate) async fn network(&self) -> NetworkState {
        self.ask(|transport| transport.network()).await
    }

    /// Waits until the state satisfies `wish`.
    pub(crate) async fn until(&self, wish: impl Fn(&NetworkState) -> bool) -> NetworkState {
        let met = async {
            loop {
                let state = self.network().await;
                if wish(&state) {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, met).await {
            Ok(state) => state,
            Err(late) => panic!("{late}: it stays {:#?}", self.network().await),
        }
    }

    /// Returns the first event that `pick` accepts, including earlier ones.
    pub(crate) async fn event<T>(
        &mut self,
        mut pick: impl FnMut(&mut Option<TransportEvent>) -> Option<T>,
    ) -> T {
        for at in 0..self.seen.len() {
            let mut event = Some(self.seen.remove(at));
            if let Some(found) = pick(&mut event) {
                return found;
            }
            self.seen
                .insert(at, event.expect("only what is wanted is taken"));
        }
        let found = async {
            loop {
                let mut event = Some(self.events.recv().await.expect("it runs"));
                if let Some(found) = pick(&mut event) {
                    return found;
                }
                self.seen.extend(event);
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(late) => panic!("{late}; there were {:#?}", self.seen),
        }
    }

    /// True if such an event has occurred.
    pub(crate) fn has_seen(&mut self, wanted: impl Fn(&TransportEvent) -> bool) -> bool {
        while let Ok(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        self.seen.iter().any(wanted)
    }

    pub(crate) async fn link_up(&mut self) -> Link {
        self.event(|event| match event.take() {
            Some(TransportEvent::LinkUp(link)) => Some(link),
            other => {
                *event = other;
                None
            }
        })
        .await
    }

    pub(crate) async fn path_to(&mut self, to: PeerId) -> PathKind {
        self.event(|event| match event {
            Some(TransportEvent::Path { peer, path }) if *peer == to => Some(*path),
            _ => None,
        })
        .await
    }

    pub(crate) async fn dial(&self, dial: u64, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.ask(move |transport| transport.dial(DialId(dial), Some(peer), addresses))
            .await;
    }

    /// Its listen addresses with its peer id.
    pub(crate) async fn at(&self) -> Vec<Multiaddr> {
        let state = self.until(|state| state.listening.len() >= 2).await;
        let id = self.id;
        let listening = state.listening.into_iter();
        listening
            .map(|address| address.with(Protocol::P2p(id)))
            .collect()
    }

    /// Waits for a reservation and returns the circuit addresses.
    pub(crate) async fn circuits(&self) -> Vec<Multiaddr> {
        let reserved = |state: &NetworkState| !state.reservations.is_empty();
        let state = self.until(reserved).await;
        let circuit = |address: &Multiaddr| address.iter().any(|part| part == Protocol::P2pCircuit);
        state.external.into_iter().filter(circuit).collect()
    }
}

/// Dials, and returns both ends of the link.
pub(crate) async fn connect(
    from: &mut Peer,
    to: &mut Peer,
    dial: u64,
    addresses: Vec<Multiaddr>,
) -> (Link, Link) {
    from.dial(dial, to.id, addresses).await;
    let here = from
        .event(|event| match event.take() {
            Some(TransportEvent::LinkUp(link)) => Some(Ok(link)),
            Some(TransportEvent::DialFailed { reason, .. }) => Some(Err(reason)),
            other => {
                *event = other;
                None
            }
        })
        .await;
    let here = here.unwrap_or_else(|reason| panic!("{reason}"));
    let there = to.link_up().await;
    assert_eq!((here.dial, here.peer), (Some(DialId(dial)), to.id));
    assert_eq!((there.dial, there.peer), (None, from.id));
    (here, there)
}

/// Sends bytes in both directions.
pub(crate) async fn exchange(here: &mut Link, there: &mut Link, bytes: &[u8]) {
    let talk = async {
        for _ in 0..2 {
            let mut got = vec![0; bytes.len()];
            let write = async {
                here.stream.write_all(bytes).await.unwrap();
                here.stream.flush().await.unwrap();
            };
            let (read, ()) = tokio::join!(there.stream.read_exact(&mut got), write);
            read.unwrap();
            assert_eq!(got, bytes);
            std::mem::swap(&mut here.stream, &mut there.stream);
        }
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("in time");
}
