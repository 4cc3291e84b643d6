//! Nodes of the DHT that hang, reset, send garbage or lie, beside a good one. The tests run in memory and in virtual
//! time, so delays caused by a bad node show on the clock however busy the machine is.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::libp2p::{Libp2pConfig, Listen, Reachable};
use libp2p::core::transport::{MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, ProtocolSupport, ResponseChannel};
use libp2p::swarm::{self, NetworkBehaviour, StreamProtocol, Swarm, SwarmEvent};
use libp2p::{identify, noise, yamux};
use prost::Message as _;
use tokio::time::Instant;

use crate::peers::{Peer, config, node};
use crate::search::{announce, look_up};

/// Target for an announcement, and for a lookup.
const AIM: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Reads questions and never answers.
    Hangs,
    /// Resets each stream.
    Resets,
    /// Answers with garbage.
    TalksRubbish,
    /// Names closer nodes and providers that do not exist.
    Lies,
}

const FAULTS: [Fault; 4] = [
    Fault::Hangs,
    Fault::Resets,
    Fault::TalksRubbish,
    Fault::Lies,
];

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, repeated, tag = "8")]
    closer: Vec<Named>,
    #[prost(message, repeated, tag = "9")]
    providers: Vec<Named>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
}

/// Codec that reads only part of each question and writes raw bytes.
#[derive(Clone)]
struct Raw(Fault);

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        io.read_exact(&mut [0; 8]).await?;
        match self.0 {
            Fault::Resets => Err(io::ErrorKind::ConnectionReset.into()),
            Fault::Hangs | Fault::TalksRubbish | Fault::Lies => Ok(()),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }
}

#[derive(NetworkBehaviour)]
struct Bad {
    asked: request_response::Behaviour<Raw>,
    identify: identify::Behaviour,
}

/// Random peers at an address where no peer listens.
fn nobody(count: usize) -> Vec<Named> {
    let named = |_| {
        let address: Multiaddr = "/memory/77777".parse().unwrap();
        Named {
            id: PeerId::random().to_bytes(),
            addresses: vec![address.to_vec()],
        }
    };
    (0..count).map(named).collect()
}

fn answer(fault: Fault) -> Option<Vec<u8>> {
    match fault {
        Fault::Hangs | Fault::Resets => None,
        Fault::TalksRubbish => Some(vec![0x11; 18]),
        Fault::Lies => {
            let lie = Message {
                kind: 3,
                key: vec![1],
                closer: nobody(20),
                providers: nobody(20),
            };
            Some(lie.encode_length_delimited_to_vec())
        }
    }
}

/// Starts a node with this fault and returns its address.
fn bad(fault: Fault, place: u64) -> Multiaddr {
    let key = Keypair::generate_ed25519();
    let id = key.public().to_peer_id();
    let transport = MemoryTransport::default()
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&key).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let protocol = StreamProtocol::new("/ipfs/kad/1.0.0");
    let behaviour = Bad {
        asked: request_response::Behaviour::with_codec(
            Raw(fault),
            [(protocol, ProtocolSupport::Inbound)],
            request_response::Config::default().with_request_timeout(Duration::from_mins(10)),
        ),
        identify: identify::Behaviour::new(identify::Config::new("/bad/1".into(), key.public())),
    };
    let config =
        swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_mins(10));
    let mut swarm = Swarm::new(transport, behaviour, id, config);
    let at: Multiaddr = Protocol::Memory(place).into();
    swarm.listen_on(at.clone()).unwrap();
    tokio::spawn(async move {
        let mut hanging: Vec<ResponseChannel<Vec<u8>>> = Vec::new();
        loop {
            let SwarmEvent::Behaviour(BadEvent::Asked(request_response::Event::Message {
                message: request_response::Message::Request { channel, .. },
                ..
            })) = swarm.select_next_some().await
            else {
                continue;
            };
            match answer(fault) {
                Some(answer) => drop(swarm.behaviour_mut().asked.send_response(channel, answer)),
                None => hanging.push(channel),
            }
        }
    });
    at.with(Protocol::P2p(id))
}

/// Limits the paused clock to 20 ms of virtual time per real millisecond. Otherwise it jumps ahead whenever all tasks
/// wait, even for libp2p's own timers, which run on a thread of their own in real time.
fn hold_the_clock() {
    tokio::spawn(async {
        loop {
            // The clock is stopped while this runs.
            let real = || std::thread::sleep(Duration::from_millis(1));
            tokio::task::spawn_blocking(real).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

fn in_memory(mut config: Libp2pConfig, place: u64) -> Libp2pConfig {
    config.listen = Listen::At(vec![Protocol::Memory(place).into()]);
    config
}

/// Starts a good node, and a sharer and a receiver that have it and the bad nodes in their routing tables.
async fn among(bad_nodes: Vec<Multiaddr>, place: u64) -> (Peer, Peer, Peer) {
    let good = Peer::in_memory(&in_memory(node(), place));
    let at = Multiaddr::from(Protocol::Memory(place)).with(Protocol::P2p(good.id));
    let known = bad_nodes.len() + 1;
    let peer = |place| {
        let mut config = in_memory(config(), place);
        config.dht = true;
        config.bootstrap.clone_from(&bad_nodes);
        config.bootstrap.push(at.clone());
        config.reachable = Reachable::Listening;
        Peer::in_memory(&config)
    };
    let (sharer, receiver) = (peer(place + 1), peer(place + 2));
    for peer in [&sharer, &receiver] {
        peer.until(|state| state.dht_nodes >= known).await;
    }
    (good, sharer, receiver)
}

/// Asserts that the sharer is announced, and found with its address, within the target times.
async fn is_found_in_time(sharer: &mut Peer, receiver: &mut Peer, what: &str) {
    let began = Instant::now();
    assert!(announce(sharer).await, "{what}");
    let took = began.elapsed();
    assert!(took <= AIM, "{what}: announced after {took:?}");
    let began = Instant::now();
    let (reached, found) = look_up(receiver, sharer).await;
    let took = began.elapsed();
    let is_found = reached && found.as_ref().is_some_and(|at| !at.is_empty());
    assert!(is_found, "{what}: after {took:?}: {reached}, {found:?}");
    assert!(took <= AIM, "{what}: looked up after {took:?}");
}

/// Regression: each of them cost ten seconds.
#[tokio::test(start_paused = true)]
async fn one_bad_node_holds_nobody_up() {
    hold_the_clock();
    for (number, fault) in (0..).zip(FAULTS) {
        let place = 89_000 + number * 10;
        let bad = bad(fault, place + 9);
        let (_good, mut sharer, mut receiver) = among(vec![bad], place).await;
        is_found_in_time(&mut sharer, &mut receiver, &format!("{fault:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn several_bad_nodes_beside_a_good_one_hold_nobody_up() {
    hold_the_clock();
    let places = (89_110..).zip(FAULTS.into_iter().cycle()).take(12);
    let bad = places.map(|(place, fault)| bad(fault, place)).collect();
    let (_good, mut sharer, mut receiver) = among(bad, 89_100).await;
    is_found_in_time(&mut sharer, &mut receiver, "twelve").await;
}

#[tokio::test(start_paused = true)]
async fn a_share_that_only_bad_nodes_were_told_of_is_not_announced() {
    hold_the_clock();
    for (number, fault) in (0..).zip(FAULTS) {
        let place = 89_200 + number * 10;
        let mut sharing = in_memory(config(), place);
        sharing.dht = true;
        sharing.bootstrap = vec![bad(fault, place + 1)];
        sharing.reachable = Reachable::Listening;
        let mut sharer = Peer::in_memory(&sharing);
        assert!(!announce(&mut sharer).await, "{fault:?}");
    }
}
