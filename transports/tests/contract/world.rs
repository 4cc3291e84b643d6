//! Peers on one kind of transport, each driven by its own task.

use std::time::Duration;

use handover_core::engine::{DialId, LinkId, PathKind};
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::libp2p::{Libp2pConfig, Libp2pTransport, Listen};
use handover_transports::memory::{LinkProfile, Route, Switchboard};
use handover_transports::{Link, Transport, TransportEvent, next_event};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Timeout for an event, longer than a dial may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Creates transports of one kind.
pub(crate) enum World {
    Memory(Switchboard),
    Libp2p { listen: &'static str },
}

impl World {
    pub(crate) fn memory() -> Self {
        Self::Memory(Switchboard::new(1, Route::default()))
    }

    pub(crate) fn memory_far() -> Self {
        let route = Route {
            profile: LinkProfile::WAN,
            path: PathKind::Direct,
        };
        Self::Memory(Switchboard::new(2, route))
    }

    pub(crate) fn tcp() -> Self {
        let listen = "/ip4/127.0.0.1/tcp/0";
        Self::Libp2p { listen }
    }

    pub(crate) fn quic() -> Self {
        let listen = "/ip4/127.0.0.1/udp/0/quic-v1";
        Self::Libp2p { listen }
    }

    fn transport(&self) -> Box<dyn Transport> {
        let keypair = Keypair::generate_ed25519();
        match self {
            Self::Memory(switchboard) => Box::new(switchboard.join(keypair.public().to_peer_id())),
            Self::Libp2p { listen } => {
                let mut config = Libp2pConfig::new(keypair);
                config.listen = Listen::At(vec![listen.parse().unwrap()]);
                Box::new(Libp2pTransport::new(&config).unwrap())
            }
        }
    }

    /// An address of the right kind where no peer listens.
    pub(crate) fn nowhere(&self) -> Multiaddr {
        let address = match self {
            Self::Memory(_) => "/memory/999999",
            Self::Libp2p { listen } if listen.contains("tcp") => "/ip4/127.0.0.1/tcp/1",
            Self::Libp2p { .. } => "/ip4/127.0.0.1/udp/1/quic-v1",
        };
        address.parse().unwrap()
    }

    /// Starts a peer and waits until it listens.
    pub(crate) async fn peer(&self) -> Peer {
        let mut transport = self.transport();
        let id = transport.local_peer();
        let Some(TransportEvent::Listening(addresses)) = next_event(&mut *transport).await else {
            panic!("listening comes first");
        };
        assert!(!addresses.is_empty());
        let (commands, orders) = mpsc::channel(16);
        let (tell, events) = mpsc::channel(64);
        let task = tokio::spawn(drive(transport, orders, tell));
        Peer {
            id,
            addresses,
            commands,
            events,
            task,
        }
    }
}

enum Command {
    Dial(DialId, Option<PeerId>, Vec<Multiaddr>),
    Close(LinkId),
    Shutdown,
}

async fn drive(
    mut transport: Box<dyn Transport>,
    mut orders: mpsc::Receiver<Command>,
    tell: mpsc::Sender<TransportEvent>,
) {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Command::Dial(dial, peer, addresses)) => transport.dial(dial, peer, addresses),
                Some(Command::Close(link)) => transport.close(link),
                Some(Command::Shutdown) => transport.shutdown(),
                // The peer was dropped.
                None => return,
            },
            event = next_event(&mut *transport) => match event {
                Some(event) => drop(tell.send(event).await),
                None => return,
            },
        }
    }
}

/// A transport driven by a task.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<TransportEvent>,
    task: JoinHandle<()>,
}

impl Peer {
    pub(crate) async fn dial(&self, dial: u64, peer: Option<PeerId>, addresses: &[Multiaddr]) {
        let command = Command::Dial(DialId(dial), peer, addresses.to_vec());
        self.commands.send(command).await.ok().unwrap();
    }

    pub(crate) async fn close(&self, link: LinkId) {
        self.commands.send(Command::Close(link)).await.ok().unwrap();
    }

    pub(crate) async fn shutdown(&self) {
        self.commands.send(Command::Shutdown).await.ok().unwrap();
    }

    /// The next event other than a change of listen addresses; `None` once the transport has ended.
    pub(crate) async fn event(&mut self) -> Option<TransportEvent> {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match event.expect("an event in time") {
                Some(TransportEvent::Listening(_)) => {}
                event => return event,
            }
        }
    }

    pub(crate) async fn link(&mut self) -> Link {
        match self.event().await {
            Some(TransportEvent::LinkUp(link)) => link,
            other => panic!("no link but {other:?}"),
        }
    }

    pub(crate) async fn failure(&mut self, dial: u64) -> String {
        match self.event().await {
            Some(TransportEvent::DialFailed { dial: id, reason }) => {
                assert_eq!(id, DialId(dial));
                reason
            }
            other => panic!("no failed dial but {other:?}"),
        }
    }

    /// Asserts that no event arrives for 300 ms.
    pub(crate) async fn is_quiet(&mut self) {
        let event = tokio::time::timeout(Duration::from_millis(300), self.events.recv()).await;
        assert!(event.is_err(), "unexpected {event:?}");
    }

    /// Stops driving the transport and drops it.
    pub(crate) async fn vanish(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Opens a link between two peers and returns the ends, the dialler's first.
pub(crate) async fn connect(a: &mut Peer, b: &mut Peer, dial: u64) -> (Link, Link) {
    a.dial(dial, Some(b.id), &b.addresses).await;
    tokio::join!(a.link(), b.link())
}
