//! A peer that hides its address.

use futures::AsyncReadExt;
use handover_core::engine::PathKind;
use handover_transports::libp2p::{Listen, Reachable};
use handover_transports::{Transport, TransportEvent};

use crate::peers::{Peer, config, connect, exchange, in_dht, node};
use crate::relays::behind;
use crate::search::{announce, look_up};

#[tokio::test]
async fn who_hides_finds_and_reaches_others_through_relays_only() {
    let node = Peer::start(&node());
    let mut sharing = in_dht(node.at().await);
    sharing.reservations = 1;
    sharing.reachable = Reachable::At(Vec::new());
    let mut hiding = in_dht(node.at().await);
    hiding.direct = false;
    let mut sharer = Peer::start(&sharing);
    let mut receiver = Peer::start(&hiding);
    sharer.until(|state| state.dht_nodes > 0).await;
    assert!(announce(&mut sharer).await);
    let (reached, found) = look_up(&mut receiver, &sharer).await;
    assert!(reached);
    let found = found.unwrap();
    let mut all = found.clone();
    all.extend(sharer.at().await);
    assert!(
        !found.is_empty(),
        "the reservation stood before the announcement"
    );
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 1, all).await;
    assert_eq!(here.path, PathKind::Relayed);
    exchange(&mut here, &mut there, b"who are you?").await;
    // Kademlia did not use a circuit, and only the node is connected directly.
    assert_eq!(node.network().await.served.circuits_total, 1);
    for peer in [&receiver, &sharer] {
        let connections = peer.network().await.connections;
        assert_eq!((connections.lan, connections.direct), (0, 0));
        assert_eq!(connections.loopback, 1, "{connections:?}");
    }
    let id = sharer.id;
    let straight = sharer.at().await;
    receiver.dial(2, id, straight.clone()).await;
    let failed = receiver
        .event(|event| match event {
            Some(TransportEvent::DialFailed { reason, .. }) => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(failed.contains("hides"), "{failed}");
    receiver
        .ask(move |transport| transport.reach(id, straight))
        .await;
    let told = |event: &TransportEvent| matches!(event, TransportEvent::Path { .. });
    assert!(!receiver.has_seen(told) && !sharer.has_seen(told));
}

#[tokio::test]
async fn looking_for_somebody_does_not_show_who_hides_to_them() {
    let node = Peer::start(&node());
    let mut sharing = in_dht(node.at().await);
    sharing.reachable = Reachable::Listening;
    let mut hiding = in_dht(node.at().await);
    hiding.direct = false;
    let mut sharer = Peer::start(&sharing);
    let mut receiver = Peer::start(&hiding);
    sharer.at().await;
    assert!(announce(&mut sharer).await);
    let (_, found) = look_up(&mut receiver, &sharer).await;
    assert!(!found.unwrap().is_empty());
    let straight = sharer.network().await.connections.loopback;
    let nodes = sharer.network().await.bootstrap_connected;
    assert_eq!((straight, nodes), (1, 1), "only the node");
}

#[tokio::test]
async fn nobody_gets_a_link_on_a_connection_that_shows_who_hides() {
    let mut relay = Peer::start(&node());
    let mut hiding = Peer::start(&behind(&[&relay]).await);
    hiding.circuits().await;
    relay.dial(1, hiding.id, Vec::new()).await;
    let mut link = relay.link_up().await;
    let mut got = Vec::new();
    let ended = link.stream.read_to_end(&mut got);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(40), ended);
    ended.await.expect("it is refused").ok();
    assert!(got.is_empty());
    let told = |event: &TransportEvent| matches!(event, TransportEvent::LinkUp(_));
    assert!(!hiding.has_seen(told));
}

#[tokio::test]
async fn who_hides_listens_nowhere_whatever_is_asked() {
    let mut hiding = config();
    hiding.direct = false;
    hiding.listen = Listen::Port(0);
    hiding.port_mapping = true;
    hiding.punch = true;
    let peer = Peer::start(&hiding);
    let state = peer.network().await;
    assert!(state.listening.is_empty() && state.external.is_empty());
    assert_eq!(
        state.port_mapping,
        handover_transports::libp2p::PortMapping::Off
    );
}
