//! Tests of the complete libp2p transport between swarms in memory: without sockets or the machine's network.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use handover_core::engine::DialId;
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::libp2p::link::{self, LinkEvent, LinkStream};
use handover_transports::libp2p::{ConnectionBounds, Libp2pConfig, Libp2pTransport, Listen};
use handover_transports::{Link, Transport, TransportEvent, next_event};
use libp2p::core::transport::{MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{noise, yamux};
use libp2p_swarm_test::SwarmExt;

fn adapter_with(bounds: ConnectionBounds) -> Libp2pTransport {
    let keypair = Keypair::generate_ed25519();
    let connections = |keypair: &Keypair| {
        let transport = MemoryTransport::default()
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(keypair).unwrap())
            .multiplex(yamux::Config::default());
        Ok(transport.boxed())
    };
    let mut config = Libp2pConfig::new(keypair);
    config.listen = Listen::At(vec!["/memory/0".parse().unwrap()]);
    config.bounds = bounds;
    Libp2pTransport::over(connections, &config).unwrap()
}

fn adapter() -> Libp2pTransport {
    adapter_with(ConnectionBounds::default())
}

async fn event(transport: &mut Libp2pTransport) -> TransportEvent {
    let event = tokio::time::timeout(Duration::from_secs(20), next_event(transport));
    event.await.expect("an event in time").expect("an event")
}

async fn address(transport: &mut Libp2pTransport) -> Multiaddr {
    match event(transport).await {
        TransportEvent::Listening(addresses) => addresses[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// Two transports, and the address of the second.
async fn pair() -> (Libp2pTransport, Libp2pTransport, Multiaddr) {
    let (mut a, mut b) = (adapter(), adapter());
    address(&mut a).await;
    let at = address(&mut b).await;
    (a, b, at)
}

fn up(event: TransportEvent) -> Link {
    match event {
        TransportEvent::LinkUp(link) => link,
        other => panic!("{other:?}"),
    }
}

/// Opens another link and returns its two ends.
async fn connect(
    a: &mut Libp2pTransport,
    b: &mut Libp2pTransport,
    at: &Multiaddr,
    dial: u64,
) -> (Link, Link) {
    a.dial(DialId(dial), Some(b.local_peer()), vec![at.clone()]);
    let (here, there) = tokio::join!(event(a), event(b));
    let (here, there) = (up(here), up(there));
    assert_eq!((here.dial, here.peer), (Some(DialId(dial)), b.local_peer()));
    assert_eq!((there.dial, there.peer), (None, a.local_peer()));
    (here, there)
}

/// Sends bytes over a link in both directions while polling both sides.
async fn exchange(
    (a, here): (&mut Libp2pTransport, &mut Link),
    (b, there): (&mut Libp2pTransport, &mut Link),
    bytes: &[u8],
) {
    let talk = async {
        for (from, to) in [(0, 1), (1, 0)] {
            let mut got = vec![0; bytes.len()];
            let (from, to) = match (from, to) {
                (0, _) => (&mut here.stream, &mut there.stream),
                _ => (&mut there.stream, &mut here.stream),
            };
            let write = async {
                from.write_all(bytes).await.unwrap();
                from.flush().await.unwrap();
            };
            let (read, ()) = tokio::join!(to.read_exact(&mut got), write);
            read.unwrap();
            assert_eq!(got, bytes);
        }
    };
    tokio::select! {
        () = talk => {}
        event = next_event(a) => panic!("{event:?}"),
        event = next_event(b) => panic!("{event:?}"),
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it takes too long"),
    }
}

#[tokio::test]
async fn a_dial_becomes_a_link_that_carries_bytes_both_ways() {
    let (mut a, mut b, at) = pair().await;
    let (mut here, mut there) = connect(&mut a, &mut b, &at, 1).await;
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    exchange((&mut a, &mut here), (&mut b, &mut there), &bytes).await;
}

#[tokio::test]
async fn two_links_to_one_peer_live_and_die_apart() {
    let (mut a, mut b, at) = pair().await;
    let (first, first_there) = connect(&mut a, &mut b, &at, 1).await;
    let (mut second, mut second_there) = connect(&mut a, &mut b, &at, 2).await;
    assert_ne!(first.id, second.id);
    let lost = first_there.id;
    let id = first.id;
    drop(first);
    a.close(id);
    let told = tokio::select! {
        event = event(&mut b) => event,
        event = next_event(&mut a) => panic!("{event:?}"),
    };
    assert!(
        matches!(told, TransportEvent::LinkDown { link, .. } if link == lost),
        "{told:?}"
    );
    drop(first_there);
    exchange((&mut a, &mut second), (&mut b, &mut second_there), b"still").await;
}

#[tokio::test]
async fn dials_to_nobody_and_to_somebody_else_fail_once() {
    let (mut a, mut b, at) = pair().await;
    let nobody: Multiaddr = "/memory/4711".parse().unwrap();
    a.dial(DialId(1), Some(b.local_peer()), vec![nobody]);
    let failed = event(&mut a).await;
    assert!(
        matches!(
            failed,
            TransportEvent::DialFailed {
                dial: DialId(1),
                ..
            }
        ),
        "{failed:?}"
    );

    a.dial(DialId(2), Some(PeerId::random()), vec![at.clone()]);
    let failed = tokio::select! {
        event = event(&mut a) => event,
        event = next_event(&mut b) => panic!("{event:?}"),
    };
    assert!(
        matches!(
            failed,
            TransportEvent::DialFailed {
                dial: DialId(2),
                ..
            }
        ),
        "{failed:?}"
    );
    // Neither failure affects later dials.
    connect(&mut a, &mut b, &at, 3).await;
}

#[tokio::test]
async fn a_peer_has_so_many_connections_and_no_more() {
    let per_peer = 3;
    let mut a = adapter();
    let mut b = adapter_with(ConnectionBounds {
        per_peer,
        ..ConnectionBounds::default()
    });
    address(&mut a).await;
    let at = address(&mut b).await;
    let mut held = Vec::new();
    for dial in 0..per_peer {
        held.push(connect(&mut a, &mut b, &at, dial.into()).await);
    }
    a.dial(DialId(99), Some(b.local_peer()), vec![at.clone()]);
    let told = tokio::select! {
        event = event(&mut a) => event,
        event = next_event(&mut b) => panic!("{event:?}"),
    };
    assert!(
        matches!(
            told,
            TransportEvent::DialFailed {
                dial: DialId(99),
                ..
            }
        ),
        "{told:?}"
    );
    let (here, there) = &mut held[0];
    exchange((&mut a, here), (&mut b, there), b"those that stand go on").await;
}

/// A plain libp2p swarm that speaks the link protocol, driven by libp2p-swarm-test.
async fn stranger() -> (Swarm<link::Behaviour>, Multiaddr) {
    let mut swarm = Swarm::new_ephemeral_tokio(|_| link::Behaviour::default());
    let (at, _) = swarm.listen().with_memory_addr_external().await;
    (swarm, at)
}

#[tokio::test]
async fn a_connection_that_another_program_drops_is_a_link_that_is_down() {
    let mut a = adapter_over_plaintext();
    address(&mut a).await;
    let (mut other, at) = stranger().await;
    a.dial(DialId(1), Some(*other.local_peer_id()), vec![at]);
    let mut here = None;
    let mut theirs = None;
    while here.is_none() || theirs.is_none() {
        tokio::select! {
            event = event(&mut a) => here = Some(up(event)),
            event = other.next_swarm_event() => {
                if let SwarmEvent::Behaviour(LinkEvent::Up { connection, stream, .. }) = event {
                    theirs = Some((connection, stream));
                }
            }
        }
    }
    let (connection, stream) = theirs.unwrap();
    assert!(other.close_connection(connection));
    let driver = tokio::spawn(async move {
        let _stream = stream;
        other.loop_on_next().await;
    });
    let mut here = here.unwrap();
    let told = event(&mut a).await;
    assert!(
        matches!(told, TransportEvent::LinkDown { link, .. } if link == here.id),
        "{told:?}"
    );
    let mut rest = Vec::new();
    let _ = here.stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    driver.abort();
}

/// The next link that the other program opens on its connection.
async fn next_link(
    ours: &mut Libp2pTransport,
    other: &mut Swarm<link::Behaviour>,
    connection: ConnectionId,
) -> (Link, LinkStream) {
    let id = ours.local_peer();
    other.behaviour_mut().open(id, connection);
    let (mut here, mut there) = (None, None);
    while here.is_none() || there.is_none() {
        tokio::select! {
            event = event(ours) => here = Some(up(event)),
            event = other.next_swarm_event() => match event {
                SwarmEvent::Behaviour(LinkEvent::Up { stream, .. }) => there = Some(stream),
                SwarmEvent::Behaviour(failed) => panic!("{failed:?}"),
                SwarmEvent::ConnectionClosed { cause, .. } => panic!("closed: {cause:?}"),
                _ => {}
            }
        }
    }
    (here.unwrap(), there.unwrap())
}

/// Regression: if a refused peer sent another handshake request at once, the connection was closed under it.
#[tokio::test]
async fn a_connection_is_left_to_who_has_dialled_it() {
    let mut ours = adapter_over_plaintext();
    let at = address(&mut ours).await;
    let (mut other, _) = stranger().await;
    let dial = DialOpts::peer_id(ours.local_peer()).addresses(vec![at]);
    let dial = dial.build();
    let connection = dial.connection_id();
    other.dial(dial).unwrap();
    loop {
        tokio::select! {
            event = next_event(&mut ours) => panic!("{event:?}"),
            event = other.next_swarm_event() => {
                if matches!(event, SwarmEvent::ConnectionEstablished { .. }) {
                    break;
                }
            }
        }
    }
    for _ in 0..3 {
        let (here, there) = next_link(&mut ours, &mut other, connection).await;
        drop((here.stream, there));
        ours.close(here.id);
    }
}

/// Uses the same connections as libp2p-swarm-test's own swarms.
fn adapter_over_plaintext() -> Libp2pTransport {
    let keypair = Keypair::generate_ed25519();
    let connections = |keypair: &Keypair| {
        let transport = MemoryTransport::default()
            .upgrade(Version::V1)
            .authenticate(libp2p_plaintext::Config::new(keypair))
            .multiplex(yamux::Config::default())
            .timeout(Duration::from_secs(20));
        Ok(transport.boxed())
    };
    let mut config = Libp2pConfig::new(keypair);
    config.listen = Listen::At(vec!["/memory/0".parse().unwrap()]);
    Libp2pTransport::over(connections, &config).unwrap()
}
