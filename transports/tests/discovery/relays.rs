//! Tests of links through relays.

use futures::AsyncWriteExt;
use handover_core::engine::PathKind;
use handover_transports::libp2p::{Libp2pConfig, Listen, Reachable, RelayQuotas};
use handover_transports::{Transport, TransportEvent};

use crate::peers::{Peer, config, connect, exchange, in_dht, node};
use crate::search::{POINT, announce};

/// Configures a hidden peer with a reservation at one of these relays.
pub(crate) async fn behind(relays: &[&Peer]) -> Libp2pConfig {
    let mut config = config();
    config.direct = false;
    config.reservations = 1;
    for relay in relays {
        config.relays.extend(relay.at().await);
    }
    config
}

#[tokio::test]
async fn a_peer_that_hides_is_reached_through_a_relay_and_only_there() {
    let relay = Peer::start(&node());
    let mut sharer = Peer::start(&behind(&[&relay]).await);
    let mut receiver = Peer::start(&config());
    let circuits = sharer.circuits().await;
    assert!(!circuits.is_empty());
    let told = sharer
        .event(|event| match event {
            Some(TransportEvent::Listening(addresses)) => {
                addresses.contains(&circuits[0]).then(|| addresses.clone())
            }
            _ => None,
        })
        .await;
    assert!(
        told.iter()
            .all(|address| address.to_string().contains("p2p-circuit"))
    );
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 1, circuits).await;
    assert_eq!(
        (here.path, there.path),
        (PathKind::Relayed, PathKind::Relayed)
    );
    assert_eq!((here.relay, there.relay), (Some(relay.id), Some(relay.id)));
    assert!(
        there.remote.to_string().contains("p2p-circuit"),
        "{}",
        there.remote
    );
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    exchange(&mut here, &mut there, &bytes).await;
    let state = sharer.network().await;
    assert!(state.listening.is_empty());
    assert_eq!(state.reservations[0].relay, relay.id);
    assert_eq!(state.connections.relayed, 1);
    let served = relay.network().await.served;
    assert_eq!(
        (served.reservations, served.circuits, served.circuits_total),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_circuit_that_is_cut_is_a_link_that_is_down_and_can_be_dialled_again() {
    let mut limited = node();
    // The usual limit of relays on the public network.
    limited.quotas = RelayQuotas {
        bytes_per_circuit: 128 << 10,
        ..RelayQuotas::default()
    };
    let relay = Peer::start(&limited);
    let mut sharer = Peer::start(&behind(&[&relay]).await);
    let mut receiver = Peer::start(&config());
    let circuits = sharer.circuits().await;
    let (mut here, there) = connect(&mut receiver, &mut sharer, 1, circuits.clone()).await;
    let id = here.id;
    let flood = async {
        let chunk = vec![7; 16 << 10];
        while here.stream.write_all(&chunk).await.is_ok() {
            here.stream.flush().await.ok();
        }
    };
    let drain = async {
        let mut stream = there.stream;
        futures::io::copy(&mut stream, &mut futures::io::sink())
            .await
            .ok();
    };
    let cut = tokio::time::timeout(std::time::Duration::from_secs(40), async {
        tokio::join!(flood, drain)
    });
    cut.await.expect("the relay cuts it");
    let down = receiver
        .event(|event| match event {
            Some(TransportEvent::LinkDown { link, .. }) => Some(*link),
            _ => None,
        })
        .await;
    assert_eq!(down, id);
    drop(here);
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 2, circuits).await;
    exchange(&mut here, &mut there, b"again").await;
}

#[tokio::test]
async fn another_relay_takes_over_from_one_that_is_gone() {
    let (one, other) = (Peer::start(&node()), Peer::start(&node()));
    let mut sharer = Peer::start(&behind(&[&one, &other]).await);
    sharer.circuits().await;
    let first = sharer.network().await.reservations[0].relay;
    let (gone, left) = if first == one.id {
        (one, other)
    } else {
        (other, one)
    };
    gone.kill();
    let left_id = left.id;
    sharer
        .until(|state| {
            let mut held = state.reservations.iter();
            held.any(|held| held.relay == left_id) && !state.external.is_empty()
        })
        .await;
    let mut receiver = Peer::start(&config());
    let circuits = sharer.circuits().await;
    assert!(circuits[0].to_string().contains(&left_id.to_string()));
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 1, circuits).await;
    exchange(&mut here, &mut there, b"still there").await;
}

#[tokio::test]
async fn no_more_is_reserved_than_is_given_and_the_next_relay_has_the_rest() {
    let mut small = node();
    small.quotas.reservations = 1;
    let (full, free) = (Peer::start(&small), Peer::start(&node()));
    let first = Peer::start(&behind(&[&full]).await);
    first.circuits().await;
    let second = Peer::start(&behind(&[&full, &free]).await);
    let at = second.circuits().await;
    assert!(at[0].to_string().contains(&free.id.to_string()), "{at:?}");
    assert_eq!(full.network().await.served.reservations, 1);
}

#[tokio::test]
async fn a_relayed_connection_goes_when_its_link_is_closed() {
    let relay = Peer::start(&node());
    let mut sharing = config();
    sharing.punch = true;
    sharing.reservations = 1;
    sharing.relays = relay.at().await;
    // Nothing to punch a hole to.
    sharing.listen = Listen::Nowhere;
    let mut sharer = Peer::start(&sharing);
    let mut receiver = Peer::start(&behind(&[]).await);
    let circuits = sharer.circuits().await;
    let (here, there) = connect(&mut receiver, &mut sharer, 1, circuits).await;
    drop(there);
    let id = here.id;
    drop(here);
    receiver.ask(move |transport| transport.close(id)).await;
    sharer.until(|state| state.connections.relayed == 0).await;
    receiver.until(|state| state.connections.relayed == 0).await;
    assert_eq!(
        sharer.network().await.reservations.len(),
        1,
        "the reservation stays"
    );
}

#[tokio::test]
async fn a_link_with_the_relay_itself_can_be_closed_without_losing_the_reservation() {
    let mut relay = Peer::start(&node());
    let mut sharing = behind(&[&relay]).await;
    sharing.direct = true;
    let mut sharer = Peer::start(&sharing);
    let circuits = sharer.circuits().await;
    let (here, there) = connect(&mut sharer, &mut relay, 1, Vec::new()).await;
    let (id, id_there) = (here.id, there.id);
    drop((here, there));
    sharer.ask(move |transport| transport.close(id)).await;
    relay.ask(move |transport| transport.close(id_there)).await;
    // If either side had closed the connection, the relay would have lost the reservation.
    let mut receiver = Peer::start(&config());
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 2, circuits).await;
    exchange(&mut here, &mut there, b"still reachable").await;
    let state = sharer.network().await;
    assert_eq!(
        (state.reservations.len(), state.connections.loopback),
        (1, 1)
    );
}

#[tokio::test]
async fn a_peer_gets_so_many_circuits_and_no_more() {
    let mut small = node();
    small.quotas.circuits_per_peer = 2;
    let relay = Peer::start(&small);
    let mut sharer = Peer::start(&behind(&[&relay]).await);
    let mut receiver = Peer::start(&config());
    let circuits = sharer.circuits().await;
    let mut held = Vec::new();
    for dial in 0..2 {
        held.push(connect(&mut receiver, &mut sharer, dial, circuits.clone()).await);
    }
    receiver.dial(9, sharer.id, circuits).await;
    let failed = receiver
        .event(|event| match event {
            Some(TransportEvent::DialFailed { reason, .. }) => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert_eq!(failed, "the relay has no room");
    let (here, there) = &mut held[0];
    exchange(here, there, b"those that stand go on").await;
}

#[tokio::test]
async fn a_relay_that_is_not_there_and_one_that_does_not_know_the_peer_are_failed_dials() {
    let relay = Peer::start(&node());
    let mut receiver = Peer::start(&config());
    let nobody = Peer::start(&config());
    let at = relay.at().await[0].to_string();
    let lost = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", nobody.id);
    for (dial, (relay, reason)) in [
        (at, "the other side is not reachable through the relay"),
        (lost, "the relay could not be reached"),
    ]
    .into_iter()
    .enumerate()
    {
        let circuit = format!("{relay}/p2p-circuit").parse().unwrap();
        let stranger = handover_core::PeerId::random();
        receiver
            .dial(u64::try_from(dial).unwrap(), stranger, vec![circuit])
            .await;
        let failed = receiver
            .event(|event| match event.take() {
                Some(TransportEvent::DialFailed { reason, .. }) => Some(reason),
                other => {
                    *event = other;
                    None
                }
            })
            .await;
        assert_eq!(failed, reason);
    }
}

#[tokio::test]
async fn shutting_down_ends_in_time_whatever_is_kept_up() {
    let relay = Peer::start(&node());
    let mut sharing = behind(&[&relay]).await;
    sharing.dht = true;
    // A bootstrap node that is never reached.
    sharing.bootstrap = vec![
        format!(
            "/ip4/127.0.0.1/tcp/1/p2p/{}",
            handover_core::PeerId::random()
        )
        .parse()
        .unwrap(),
    ];
    let sharer = Peer::start(&sharing);
    sharer.circuits().await;
    sharer.ask(Transport::shutdown).await;
    sharer.ended().await;
}

#[tokio::test]
async fn connections_of_another_kind_can_lead_to_relays_too() {
    let in_memory = |mut config: Libp2pConfig, place: &str| {
        config.listen = Listen::At(vec![place.parse().unwrap()]);
        config
    };
    let relay = Peer::in_memory(&in_memory(node(), "/memory/88001"));
    relay.until(|state| state.listening.len() == 1).await;
    let mut sharing = config();
    sharing.direct = false;
    sharing.reservations = 1;
    sharing.relays = vec![format!("/memory/88001/p2p/{}", relay.id).parse().unwrap()];
    let mut sharer = Peer::in_memory(&sharing);
    let circuits = sharer.circuits().await;
    let mut receiver = Peer::in_memory(&in_memory(config(), "/memory/88002"));
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 1, circuits).await;
    assert_eq!(here.path, PathKind::Relayed);
    exchange(&mut here, &mut there, b"in memory").await;
}

#[tokio::test]
async fn a_relay_is_let_go_when_nothing_is_shared_any_more_but_not_under_a_link() {
    let relay = Peer::start(&node());
    let mut sharing = in_dht(relay.at().await);
    sharing.reservations = 1;
    sharing.reachable = Reachable::At(Vec::new());
    let mut sharer = Peer::start(&sharing);
    let mut receiver = Peer::start(&config());
    sharer.until(|state| state.dht_nodes > 0).await;
    assert!(
        sharer.network().await.reservations.is_empty(),
        "nothing is shared"
    );
    assert!(announce(&mut sharer).await);
    let circuits = sharer.circuits().await;
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 1, circuits).await;
    sharer.ask(|transport| transport.withdraw(POINT)).await;
    sharer.until(|state| state.reservations.is_empty()).await;
    exchange(&mut here, &mut there, b"what was begun goes on").await;
    let (id, id_there) = (here.id, there.id);
    drop((here, there));
    receiver.ask(move |transport| transport.close(id)).await;
    sharer.ask(move |transport| transport.close(id_there)).await;
    relay.until(|state| state.served.reservations == 0).await;
    sharer.until(|state| state.external.is_empty()).await;
}
