//! Dial-backs by stock libp2p nodes that support only `AutoNAT` v1. The result is a hint, not a proof, and a reason to
//! stop announcing an address.

use std::time::Duration;

use futures::StreamExt;
use handover_core::{Keypair, Multiaddr};
use handover_transports::libp2p::{Libp2pConfig, Listen, NetworkState, Serve, Verdict};
use handover_transports::{Transport, TransportEvent};
use libp2p::autonat::{v1, v2};
use libp2p::kad::store::MemoryStore;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{identify, kad, relay};
use tokio::sync::watch;

use crate::internet::{Internet, Place};
use crate::peers::{Peer, in_dht};
use crate::search::{POINT, announce, look_up};

#[derive(NetworkBehaviour)]
struct Foreign {
    kad: kad::Behaviour<MemoryStore>,
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    asked: v1::Behaviour,
    tester: Toggle<v2::server::Behaviour>,
}

/// A node that dials back, with a count of the requests it received.
struct Node {
    at: Multiaddr,
    asked: watch::Receiver<usize>,
}

fn at(network: u8) -> Multiaddr {
    format!("/ip4/11.1.{network}.1/tcp/4001").parse().unwrap()
}

fn swarm(internet: &Internet, at: &Multiaddr, with_v2: bool) -> Swarm<Foreign> {
    let keys = Keypair::generate_ed25519();
    let id = keys.public().to_peer_id();
    let place = Place {
        at: at.clone(),
        open: true,
    };
    let protocol = kad::Config::new(libp2p::StreamProtocol::new("/ipfs/kad/1.0.0"));
    let identify = identify::Config::new("/other/1".into(), keys.public());
    let asked = v1::Config {
        // Its client is not used.
        boot_delay: Duration::from_hours(1),
        ..v1::Config::default()
    };
    let behaviour = Foreign {
        kad: kad::Behaviour::with_config(id, MemoryStore::new(id), protocol),
        relay: relay::Behaviour::new(id, relay::Config::default()),
        identify: identify::Behaviour::new(identify),
        asked: v1::Behaviour::new(id, asked),
        tester: with_v2.then(v2::server::Behaviour::default).into(),
    };
    let config = swarm::Config::with_tokio_executor();
    let config = config.with_idle_connection_timeout(Duration::from_mins(1));
    Swarm::new(internet.of(&place, &keys), behaviour, id, config)
}

async fn node(internet: &Internet, network: u8, with_v2: bool) -> Node {
    let at = at(network);
    let mut swarm = swarm(internet, &at, with_v2);
    swarm.listen_on(at.clone()).unwrap();
    while !matches!(
        swarm.select_next_some().await,
        SwarmEvent::NewListenAddr { .. }
    ) {}
    swarm.add_external_address(at.clone());
    let at = at.with(Protocol::P2p(*swarm.local_peer_id()));
    let (tell, asked) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            let event = swarm.select_next_some().await;
            let v1::Event::InboundProbe(probe) = (match event {
                SwarmEvent::Behaviour(ForeignEvent::Asked(event)) => event,
                _ => continue,
            }) else {
                continue;
            };
            if matches!(probe, v1::InboundProbeEvent::Request { .. }) {
                tell.send_modify(|asked| *asked += 1);
            }
        }
    });
    Node { at, asked }
}

async fn nodes(internet: &Internet, networks: u8) -> Vec<Node> {
    let mut nodes = Vec::new();
    for network in 1..=networks {
        nodes.push(node(internet, network, false).await);
    }
    nodes
}

fn own() -> Multiaddr {
    "/ip4/11.0.0.1/tcp/4001".parse().unwrap()
}

/// Configures a sharer with a public address and these bootstrap nodes.
fn sharing(nodes: &[Node]) -> Libp2pConfig {
    let mut config = in_dht(nodes.iter().map(|node| node.at.clone()).collect());
    config.listen = Listen::At(vec![own()]);
    config.reservations = 1;
    config.serve = Serve::WhenReachable(Duration::ZERO);
    config
}

fn start(internet: &Internet, config: &Libp2pConfig, open: bool) -> Peer {
    let place = Place { at: own(), open };
    Peer::on(internet, &place, config)
}

fn receiver(internet: &Internet, nodes: &[Node]) -> Peer {
    let mut config = in_dht(nodes.iter().map(|node| node.at.clone()).collect());
    let at: Multiaddr = "/ip4/11.0.9.1/tcp/4001".parse().unwrap();
    config.listen = Listen::At(vec![at.clone()]);
    Peer::on(internet, &Place { at, open: false }, &config)
}

fn said(state: &NetworkState) -> (usize, usize) {
    let count =
        |hint: &handover_core::dial_back::Hint| (hint.reached.len(), hint.not_reached.len());
    state.hints.first().map_or((0, 0), count)
}

#[tokio::test]
async fn dialling_back_that_works_is_a_hint_and_proves_nothing() {
    let internet = Internet::default();
    let nodes = nodes(&internet, 3).await;
    let mut sharer = start(&internet, &sharing(&nodes), true);
    assert!(announce(&mut sharer).await);
    let state = sharer
        .until(|state| said(state) == (3, 0) && !state.reservations.is_empty())
        .await;
    assert_eq!(state.hints[0].address, own());
    let is_circuit = |address: &Multiaddr| address.iter().any(|part| part == Protocol::P2pCircuit);
    assert!(state.external.iter().all(is_circuit), "{state:#?}");
    let proved =
        |tested: &handover_transports::libp2p::TestedAddress| tested.verdict == Verdict::Reachable;
    assert!(!state.tested.iter().any(proved), "{state:#?}");
    assert!(!state.served.serving && !state.strangers, "{state:#?}");
}

/// The share is still announced, and lookups lead to a relay instead.
#[tokio::test]
async fn an_address_that_three_networks_deny_is_announced_no_more_and_two_are_not_enough() {
    for (networks, is_denied) in [(2, false), (3, true)] {
        let internet = Internet::default();
        let nodes = nodes(&internet, networks).await;
        let mut sharer = start(&internet, &sharing(&nodes), false);
        let count = usize::from(networks);
        assert!(announce(&mut sharer).await);
        let state = sharer
            .until(|state| said(state) == (0, count) && !state.reservations.is_empty())
            .await;
        assert_eq!(state.hints[0].is_denied, is_denied, "{state:#?}");
        assert!(announce(&mut sharer).await);
        let mut receiver = receiver(&internet, &nodes);
        let (_, found) = look_up(&mut receiver, &sharer).await;
        let found = found.expect("the sharer");
        assert_eq!(found.contains(&own()), !is_denied, "{found:?}");
        assert!(found.len() > usize::from(!is_denied), "{found:?}");
    }
}

#[tokio::test]
async fn an_address_that_is_denied_is_told_last() {
    let internet = Internet::default();
    let nodes = nodes(&internet, 3).await;
    let mut sharer = start(&internet, &sharing(&nodes), false);
    assert!(announce(&mut sharer).await);
    let told = sharer
        .event(|event| match event {
            Some(TransportEvent::Listening(addresses)) => {
                (addresses.len() > 1 && addresses.last() == Some(&own())).then(|| addresses.clone())
            }
            _ => None,
        })
        .await;
    assert!(told[0].iter().any(|part| part == Protocol::P2pCircuit));
}

#[tokio::test]
async fn a_node_that_speaks_v2_is_not_asked_by_v1() {
    let internet = Internet::default();
    let node = node(&internet, 1, true).await;
    let sharer = start(&internet, &sharing(std::slice::from_ref(&node)), true);
    let proved = |state: &NetworkState| state.external.contains(&own());
    let state = sharer.until(proved).await;
    assert_eq!((said(&state), *node.asked.borrow()), ((0, 0), 0));
}

#[tokio::test]
async fn a_peer_that_hides_asks_nobody() {
    let internet = Internet::default();
    let nodes = nodes(&internet, 1).await;
    let mut config = sharing(&nodes);
    config.direct = false;
    let sharer = start(&internet, &config, true);
    sharer.ask(|transport| transport.announce(POINT)).await;
    // Finding the relay required identify, after which the node would have been asked.
    sharer.circuits().await;
    assert_eq!(*nodes[0].asked.borrow(), 0);
    assert!(sharer.network().await.hints.is_empty());
}

#[tokio::test]
async fn a_node_is_asked_once_however_often_it_is_connected() {
    let internet = Internet::default();
    let mut nodes = nodes(&internet, 1).await;
    let mut config = sharing(&nodes);
    config.reservations = 0;
    let mut sharer = start(&internet, &config, false);
    sharer.until(|state| said(state) == (0, 1)).await;
    let Some(Protocol::P2p(id)) = nodes[0].at.iter().last() else {
        panic!("it is named");
    };
    for _ in 0..3 {
        let to = nodes[0].at.clone();
        // The node does not speak handover, so the dial fails once identify has completed.
        sharer.dial(1, id, vec![to]).await;
        sharer
            .event(|event| match event.take() {
                Some(TransportEvent::DialFailed { .. }) => Some(()),
                other => {
                    *event = other;
                    None
                }
            })
            .await;
    }
    assert_eq!(*nodes[0].asked.borrow_and_update(), 1);
}
