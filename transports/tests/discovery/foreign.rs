//! Nodes that know nothing of handover: libp2p's own behaviours as they come.

use futures::StreamExt;
use handover_core::engine::PathKind;
use handover_core::{Multiaddr, PeerId};
use handover_transports::libp2p::Reachable;
use libp2p::kad::store::MemoryStore;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{SwarmBuilder, identify, kad, noise, relay, tcp, yamux};

use crate::peers::{Peer, connect, exchange, in_dht};
use crate::search::{announce, look_up};

#[derive(NetworkBehaviour)]
struct Foreign {
    kad: kad::Behaviour<MemoryStore>,
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

/// It runs from then on; its address with its name.
async fn foreign() -> Multiaddr {
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
                relay: relay::Behaviour::new(id, relay::Config::default()),
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
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    at.with(Protocol::P2p(id))
}

#[tokio::test]
async fn foreign_nodes_are_enough_to_be_found_and_reached() {
    let at = foreign().await;
    let mut sharing = in_dht(vec![at.clone()]);
    // The relay is the node that was met in the DHT.
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
