//! A hundred nodes of a DHT in memory, a third of which leaves.

use std::time::{Duration, Instant};

use handover_core::engine::LookUpId;
use handover_core::secret::MeetingPoint;
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::libp2p::{Libp2pConfig, Libp2pTransport, Listen, Reachable, Serve};
use handover_transports::{Transport, TransportEvent, next_event};
use libp2p::core::transport::{MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::yamux;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const NODES: usize = 100;
/// Timeout for each step, sized for a hundred nodes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);
/// Number of announcing peers, each at its own rendezvous point.
const SHARERS: usize = 8;

struct Node {
    id: PeerId,
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<TransportEvent>,
    task: JoinHandle<()>,
}

type Command = Box<dyn FnOnce(&mut Libp2pTransport) + Send>;

fn start(at: &Multiaddr, bootstrap: Vec<Multiaddr>) -> Node {
    let keypair = Keypair::generate_ed25519();
    // No encryption: it is not tested here, and a hundred nodes do thousands of handshakes.
    let connections = |keypair: &Keypair| {
        let transport = MemoryTransport::default()
            .upgrade(Version::V1)
            .authenticate(libp2p_plaintext::Config::new(keypair))
            .multiplex(yamux::Config::default());
        Ok(transport.boxed())
    };
    let mut config = Libp2pConfig::new(keypair);
    config.listen = Listen::At(vec![at.clone()]);
    config.dht = true;
    config.serve = Serve::Always;
    config.reachable = Reachable::Listening;
    config.bootstrap = bootstrap;
    // All nodes share one process, and each counts the memory of the whole process as its own.
    config.bounds.memory *= 100;
    let mut transport = Libp2pTransport::over(connections, &config).unwrap();
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
    Node {
        id,
        commands,
        events,
        task,
    }
}

impl Node {
    fn tell(&self, command: impl FnOnce(&mut Libp2pTransport) + Send + 'static) {
        let sent = self.commands.send(Box::new(command));
        assert!(sent.is_ok(), "it runs");
    }

    /// Waits until the node knows at least this number of nodes of the DHT.
    async fn knows(&self, nodes: usize) {
        let known = async {
            loop {
                let (tell, answer) = oneshot::channel();
                self.tell(move |transport| {
                    tell.send(transport.network().dht_nodes).ok();
                });
                if answer.await.expect("it runs") >= nodes {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let known = tokio::time::timeout(PATIENCE, known);
        known.await.expect("in time");
    }

    async fn event<T>(&mut self, mut pick: impl FnMut(TransportEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = pick(self.events.recv().await.expect("it runs")) {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, found);
        found.await.expect("in time")
    }
}

fn point(of: usize) -> MeetingPoint {
    MeetingPoint([u8::try_from(of).unwrap() + 1; 32])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_announced_before_a_third_of_all_nodes_left_is_found() {
    let place =
        |number: usize| -> Multiaddr { format!("/memory/{}", number + 77_000).parse().unwrap() };
    let first = start(&place(0), Vec::new());
    let bootstrap = vec![place(0).with(Protocol::P2p(first.id))];
    let mut nodes = vec![first];
    nodes.extend((1..NODES).map(|number| start(&place(number), bootstrap.clone())));
    // More nodes than keep a record, so that lookups do not ask the right ones merely because they know no others.
    for node in &nodes {
        node.knows(30).await;
    }
    let first = nodes.remove(0);
    let (sharers, others) = nodes.split_at_mut(SHARERS);
    for (number, sharer) in sharers.iter().enumerate() {
        sharer.tell(move |transport| transport.announce(point(number)));
    }
    for (number, sharer) in sharers.iter_mut().enumerate() {
        let since = Instant::now();
        // Repeats as shares do: on a busy machine nodes may be asked for the record before they have it.
        loop {
            let report = sharer.event(|event| match event {
                TransportEvent::Announced { report, .. } => Some(report.found_at > 0),
                _ => None,
            });
            if report.await {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "sharer {number}");
            sharer.tell(move |transport| transport.announce(point(number)));
        }
    }
    // The first bootstrap node and every third other node vanish without closing connections.
    first.task.abort();
    for leaver in others.iter().skip(1).step_by(3) {
        leaver.task.abort();
    }
    for (number, seeker) in others.iter_mut().step_by(3).take(SHARERS).enumerate() {
        let (sought, at) = (sharers[number].id, place(number + 1));
        let mut found = false;
        let since = Instant::now();
        // Repeats as downloads do: on a busy machine the remaining nodes may answer after a lookup has timed out. A
        // record lost with its nodes stays lost, however often it is looked up.
        for round in 0.. {
            seeker.tell(move |transport| transport.look_up(LookUpId(round), point(number)));
            let reached = seeker.event(|event| match event {
                TransportEvent::Found {
                    peer, addresses, ..
                } => {
                    found |= peer == sought && addresses.contains(&at);
                    None
                }
                TransportEvent::LookedUp { reached, .. } => Some(reached),
                _ => None,
            });
            assert!(reached.await, "nobody answered");
            if found {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "sharer {number} is not found");
        }
    }
}
