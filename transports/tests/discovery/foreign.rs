//! Nodes that do not know handover: libp2p's own behaviours.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::StreamExt;
use handover_core::engine::PathKind;
use handover_core::{Multiaddr, PeerId};
use handover_transports::Transport;
use handover_transports::libp2p::circuit::Status;
use handover_transports::libp2p::{NetworkState, Reachable};
use libp2p::kad::store::MemoryStore;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{SwarmBuilder, identify, kad, noise, relay, tcp, yamux};
use tokio::sync::mpsc;

use crate::peers::{Peer, connect, exchange, in_dht};
use crate::search::{POINT, announce, look_up};

#[derive(NetworkBehaviour)]
struct Foreign {
    kad: kad::Behaviour<MemoryStore>,
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

/// Starts a node and returns its address with its peer id.
async fn foreign() -> Multiaddr {
    foreign_that_tells(relay::Config::default()).await.0
}

/// The same with these relay limits. Also returns the addresses that peers have sent it by identify.
async fn foreign_that_tells(
    limits: relay::Config,
) -> (Multiaddr, mpsc::UnboundedReceiver<Vec<Multiaddr>>) {
    let mut swarm: Swarm<Foreign> = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let protocol = kad::Config::new(libp2p::StreamProtocol::new("/ipfs/kad/1.0.0"));
            let identify = identify::Config::new("/other/1".into(), key.public());
            Foreign {
                kad: kad::Behaviour::with_config(id, MemoryStore::new(id), protocol),
                relay: relay::Behaviour::new(id, limits),
                identify: identify::Behaviour::new(identify),
            }
        })
        .unwrap()
        .build();
    let id: PeerId = *swarm.local_peer_id();
    swarm
        .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
        .unwrap();
    let at = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    swarm.add_external_address(at.clone());
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let event = swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(ForeignEvent::Identify(identify::Event::Received {
                info,
                ..
            })) = event
            {
                tell.send(info.listen_addrs).ok();
            }
        }
    });
    (at.with(Protocol::P2p(id)), told)
}

#[tokio::test]
async fn foreign_nodes_are_enough_to_be_found_and_reached() {
    let at = foreign().await;
    let mut sharing = in_dht(vec![at.clone()]);
    // The relay is the node found in the DHT.
    sharing.reservations = 1;
    sharing.reachable = Reachable::At(Vec::new());
    let mut sharer = Peer::start(&sharing);
    let receiving = in_dht(vec![at]);
    let mut receiver = Peer::start(&receiving);
    sharer.until(|state| state.dht_nodes > 0).await;
    assert!(announce(&mut sharer).await);
    let (reached, found) = look_up(&mut receiver, &sharer).await;
    assert!(reached);
    let found = found.expect("the sharer");
    assert!(!found.is_empty());
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 1, found).await;
    assert_eq!(here.path, PathKind::Relayed);
    exchange(&mut here, &mut there, b"through strangers").await;
}

/// Regression: for a peer they are connected to, go-libp2p nodes return the addresses from identify instead of its
/// record. A circuit that was added after the first identify was never sent to them, so a sharer was not found through
/// kubo alone.
#[tokio::test]
async fn a_circuit_that_came_after_identify_was_not_told_to_nodes() {
    let (at, mut told) = foreign_that_tells(relay::Config::default()).await;
    let mut sharing = in_dht(vec![at]);
    sharing.reservations = 1;
    sharing.reachable = Reachable::At(Vec::new());
    let mut sharer = Peer::start(&sharing);
    assert!(announce(&mut sharer).await);
    let is_circuit = |address: &Multiaddr| address.iter().any(|part| part == Protocol::P2pCircuit);
    let heard = async {
        loop {
            let addresses = told.recv().await.expect("the node runs");
            if addresses.iter().any(is_circuit) {
                return;
            }
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(20), heard).await;
    heard.expect("the node hears of the circuit");
}

/// A relay that allows a peer four reservations per half hour, including expired ones.
#[tokio::test]
async fn a_device_that_starts_for_the_fifth_time_is_refused_by_its_relay_and_takes_another() {
    let four = NonZeroU32::new(4).unwrap();
    let limits = relay::Config::default().reservation_rate_per_peer(four, Duration::from_mins(30));
    let (strict, _told) = foreign_that_tells(limits).await;
    let other = foreign().await;
    let id_of = |at: &Multiaddr| match at.iter().last() {
        Some(Protocol::P2p(id)) => id,
        _ => panic!("it is named"),
    };
    let folder = tempfile::tempdir().unwrap();
    let mut sharing = in_dht(vec![strict.clone()]);
    sharing.reservations = 1;
    sharing.reachable = Reachable::At(Vec::new());
    sharing.relay_memory = Some(folder.path().join("relays"));
    let reserved = |state: &NetworkState| !state.reservations.is_empty();
    for _ in 0..4 {
        let sharer = Peer::start(&sharing);
        sharer.ask(|transport| transport.announce(POINT)).await;
        let state = sharer.until(reserved).await;
        assert_eq!(state.reservations[0].relay, id_of(&strict));
        sharer.ask(Transport::shutdown).await;
        sharer.ended().await;
    }
    sharing.bootstrap.push(other.clone());
    let sharer = Peer::start(&sharing);
    sharer.ask(|transport| transport.announce(POINT)).await;
    let state = sharer.until(reserved).await;
    assert_eq!(state.reservations[0].relay, id_of(&other));
    let refusal = (id_of(&strict), Status::ResourceLimitExceeded);
    assert_eq!(state.refusals, [refusal]);
}
