//! Upgrades from a relay to a better path.

use std::time::Duration;

use handover_core::engine::{DialId, PathKind};
use handover_transports::libp2p::{Libp2pConfig, Listen, Reachable, Serve, Verdict};
use handover_transports::{Transport, TransportEvent};

use crate::peers::{Peer, config, connect, exchange, in_dht, node};

/// Configures a peer that listens on loopback but knows only a relay as its reachable address.
async fn at_relay(relay: &Peer) -> Libp2pConfig {
    let mut config = config();
    config.reachable = Reachable::At(Vec::new());
    config.reservations = 1;
    config.relays = relay.at().await;
    config
}

#[tokio::test]
async fn hole_punching_gives_a_better_path_that_a_link_can_be_opened_on() {
    let relay = Peer::start(&node());
    let mut sharing = at_relay(&relay).await;
    sharing.punch = true;
    let mut receiving = config();
    receiving.punch = true;
    let (mut sharer, mut receiver) = (Peer::start(&sharing), Peer::start(&receiving));
    let circuits = sharer.circuits().await;
    // The observed addresses over TCP and QUIC are known before a peer connects.
    let observed = sharer.network().await.observed;
    let by_quic = observed
        .iter()
        .filter(|address| address.to_string().contains("quic"));
    assert_eq!((by_quic.count(), observed.len()), (1, 2), "{observed:?}");
    let (mut relayed, mut relayed_there) = connect(&mut receiver, &mut sharer, 1, circuits).await;
    assert_eq!(relayed.path, PathKind::Relayed);
    assert_eq!(receiver.path_to(sharer.id).await, PathKind::Loopback);
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 2, Vec::new()).await;
    assert_eq!(
        (here.path, there.path),
        (PathKind::Loopback, PathKind::Loopback)
    );
    exchange(&mut here, &mut there, b"straight").await;
    exchange(&mut relayed, &mut relayed_there, b"as long as it is kept").await;
}

#[tokio::test]
async fn who_is_reached_from_the_other_side_has_a_better_path() {
    let relay = Peer::start(&node());
    let mut sharer = Peer::start(&at_relay(&relay).await);
    let mut receiver = Peer::start(&config());
    let at = receiver.at().await;
    let circuits = sharer.circuits().await;
    let (_here, _there) = connect(&mut receiver, &mut sharer, 1, circuits).await;
    let id = receiver.id;
    sharer.ask(move |transport| transport.reach(id, at)).await;
    assert_eq!(receiver.path_to(sharer.id).await, PathKind::Loopback);
    assert_eq!(sharer.path_to(receiver.id).await, PathKind::Loopback);
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 2, Vec::new()).await;
    assert_eq!(here.path, PathKind::Loopback);
    exchange(&mut here, &mut there, b"reversed").await;
    let told = |event: &TransportEvent| matches!(event, TransportEvent::Path { .. });
    assert!(!receiver.has_seen(told), "it is told once");
}

#[tokio::test]
async fn without_a_connection_there_is_nothing_to_open_a_link_on() {
    let (mut one, other) = (Peer::start(&config()), Peer::start(&config()));
    one.dial(5, other.id, Vec::new()).await;
    let failed = one
        .event(|event| match event {
            Some(TransportEvent::DialFailed { dial, .. }) => Some(*dial),
            _ => None,
        })
        .await;
    assert_eq!(failed, DialId(5));
}

#[tokio::test]
async fn a_second_link_can_be_had_on_a_connection_that_has_one() {
    let (mut one, mut other) = (Peer::start(&config()), Peer::start(&config()));
    let at = other.at().await;
    let (mut first, mut first_there) = connect(&mut one, &mut other, 1, at).await;
    let (mut second, mut second_there) = connect(&mut one, &mut other, 2, Vec::new()).await;
    exchange(&mut first, &mut first_there, b"one").await;
    exchange(&mut second, &mut second_there, b"two").await;
    assert_eq!(one.network().await.connections.loopback, 1);
}

#[tokio::test]
async fn an_address_that_others_get_through_to_is_confirmed_and_served_from() {
    let tester = Peer::start(&node());
    let mut asking = in_dht(tester.at().await);
    asking.serve = Serve::WhenReachable(Duration::from_millis(200));
    let peer = Peer::start(&asking);
    let state = peer
        .until(|state| !state.external.is_empty() && state.served.serving)
        .await;
    let reachable = |tested: &handover_transports::libp2p::TestedAddress| {
        tested.verdict == Verdict::Reachable && state.external.contains(&tested.address)
    };
    assert!(state.tested.iter().any(reachable), "{state:#?}");
}

/// Regression: `AutoNAT`'s server dialled any address that a remote peer named, including services of this machine.
#[tokio::test]
async fn addresses_inside_are_not_dialled_for_strangers() {
    let mut public = node();
    public.listen = Listen::Port(0);
    public.reachable = Reachable::At(vec!["/ip4/8.8.8.8/tcp/4001".parse().unwrap()]);
    let tester = Peer::start(&public);
    let mut at = tester.at().await;
    at.retain(|address| address.to_string().contains("/127.0.0.1/"));
    let peer = Peer::start(&in_dht(at));
    let refused = |tested: &handover_transports::libp2p::TestedAddress| {
        tested.verdict == Verdict::Unreachable
    };
    let state = peer.until(|state| state.tested.iter().any(refused)).await;
    assert!(state.external.is_empty(), "{state:#?}");
}

/// Other peers keep asking a node that has left, and wait: whole DHTs of peers that stayed for one file only answered
/// after minutes.
#[tokio::test]
async fn who_may_be_gone_soon_does_not_serve() {
    let tester = Peer::start(&node());
    let mut asking = in_dht(tester.at().await);
    asking.serve = Serve::WhenReachable(Duration::from_mins(10));
    let peer = Peer::start(&asking);
    let state = peer.until(|state| !state.external.is_empty()).await;
    assert!(!state.served.serving);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!peer.network().await.served.serving);
}

#[tokio::test]
async fn a_relay_is_kept_while_only_nodes_that_were_dialled_get_through() {
    let tester = Peer::start(&node());
    let mut asking = config();
    asking.bootstrap = tester.at().await;
    asking.relays = tester.at().await;
    asking.reservations = 1;
    let peer = Peer::start(&asking);
    let confirmed =
        |tested: &handover_transports::libp2p::TestedAddress| tested.verdict == Verdict::Reachable;
    let state = peer
        .until(|state| state.tested.iter().any(confirmed) && !state.reservations.is_empty())
        .await;
    assert!(!state.strangers);
}

#[tokio::test]
async fn attempts_to_reach_are_bounded() {
    let peer = Peer::start(&config());
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    peer.ask(move |transport| {
        for _ in 0..500 {
            let nobody = handover_core::PeerId::random();
            let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
            transport.reach(nobody, vec![address]);
        }
    })
    .await;
    let mut taken = 0;
    let wait = Duration::from_millis(500);
    while tokio::time::timeout(wait, silent.accept()).await.is_ok() {
        taken += 1;
    }
    assert!((1..=64).contains(&taken), "{taken}");
}
