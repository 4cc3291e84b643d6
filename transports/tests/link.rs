//! Tests of the link protocol between swarms in memory.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use handover_transports::libp2p::link::{Behaviour, LinkEvent, LinkStream, MAX_INBOUND, OpenError};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent, dummy};
use libp2p_swarm_test::{SwarmExt, drive};

fn swarm() -> Swarm<Behaviour> {
    Swarm::new_ephemeral_tokio(|_| Behaviour::default())
}

/// Opens another connection and returns its id at the dialler.
async fn connect(a: &mut Swarm<Behaviour>, b: &mut Swarm<Behaviour>) -> ConnectionId {
    let opts = DialOpts::peer_id(*b.local_peer_id())
        .condition(PeerCondition::Always)
        .addresses(b.external_addresses().cloned().collect())
        .build();
    let connection = opts.connection_id();
    a.dial(opts).unwrap();
    let (mut at_a, mut at_b) = (false, false);
    while !(at_a && at_b) {
        tokio::select! {
            event = a.next_swarm_event() => {
                at_a |= matches!(event, SwarmEvent::ConnectionEstablished { .. });
            }
            event = b.next_swarm_event() => {
                at_b |= matches!(event, SwarmEvent::ConnectionEstablished { .. });
            }
        }
    }
    connection
}

async fn pair() -> (Swarm<Behaviour>, Swarm<Behaviour>) {
    let (a, mut b) = (swarm(), swarm());
    b.listen().with_memory_addr_external().await;
    (a, b)
}

/// Opens a stream on this connection of `a` and returns both ends.
async fn open(
    a: &mut Swarm<Behaviour>,
    b: &mut Swarm<Behaviour>,
    wanted: ConnectionId,
) -> (LinkStream, LinkStream) {
    let (id_a, id_b) = (*a.local_peer_id(), *b.local_peer_id());
    a.behaviour_mut().open(id_b, wanted);
    let ([at_a], [at_b]) = drive(a, b).await;
    let LinkEvent::Up {
        peer,
        connection,
        ours: true,
        stream: at_a,
        remote,
    } = at_a
    else {
        panic!("{at_a:?}");
    };
    assert_eq!((peer, connection), (id_b, wanted));
    assert!(remote.to_string().starts_with("/memory/"), "{remote}");
    let LinkEvent::Up {
        peer,
        ours: false,
        stream: at_b,
        ..
    } = at_b
    else {
        panic!("{at_b:?}");
    };
    assert_eq!(peer, id_a);
    (at_a, at_b)
}

async fn pass(from: &mut LinkStream, to: &mut LinkStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
    from.flush().await.unwrap();
    let mut got = vec![0; bytes.len()];
    to.read_exact(&mut got).await.unwrap();
    assert_eq!(got, bytes);
}

async fn exchange(a: &mut LinkStream, b: &mut LinkStream, bytes: &[u8]) {
    pass(a, b, bytes).await;
    pass(b, a, bytes).await;
}

#[tokio::test]
async fn a_stream_opens_on_the_connection_that_was_named() {
    let (mut a, mut b) = pair().await;
    let first = connect(&mut a, &mut b).await;
    let second = connect(&mut a, &mut b).await;
    assert_ne!(first, second);
    let (mut second_a, mut second_b) = open(&mut a, &mut b, second).await;
    let (mut first_a, mut first_b) = open(&mut a, &mut b, first).await;
    exchange(&mut first_a, &mut first_b, b"one").await;
    exchange(&mut second_a, &mut second_b, b"two").await;
}

#[tokio::test]
async fn a_lost_connection_ends_its_streams_and_no_others() {
    let (mut a, mut b) = pair().await;
    let first = connect(&mut a, &mut b).await;
    let second = connect(&mut a, &mut b).await;
    let (_first_a, mut first_b) = open(&mut a, &mut b, first).await;
    let (mut second_a, mut second_b) = open(&mut a, &mut b, second).await;
    assert!(a.close_connection(first));
    let driver = tokio::spawn(async move {
        tokio::join!(a.loop_on_next(), b.loop_on_next());
    });
    let mut rest = Vec::new();
    let _ = first_b.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    exchange(&mut second_a, &mut second_b, b"still here").await;
    driver.abort();
}

#[tokio::test]
async fn a_connection_takes_so_many_streams_and_no_more() {
    let (mut a, mut b) = pair().await;
    let connection = connect(&mut a, &mut b).await;
    let mut held = Vec::new();
    for _ in 0..MAX_INBOUND {
        held.push(open(&mut a, &mut b, connection).await);
    }
    let peer = *b.local_peer_id();
    a.behaviour_mut().open(peer, connection);
    let event = tokio::select! {
        event = a.next_behaviour_event() => event,
        event = b.next_behaviour_event() => panic!("{event:?}"),
    };
    let LinkEvent::Up {
        stream: mut excess, ..
    } = event
    else {
        panic!("{event:?}");
    };
    let mut rest = Vec::new();
    let _ = excess.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "it was reset");
    // Dropping one stream makes room for another.
    drop(held.pop());
    drop(excess);
    let (mut at_a, mut at_b) = open(&mut a, &mut b, connection).await;
    exchange(&mut at_a, &mut at_b, b"room").await;
}

#[tokio::test]
async fn whoever_does_not_speak_it_is_told_apart() {
    let mut a = swarm();
    let mut b = Swarm::new_ephemeral_tokio(|_| dummy::Behaviour);
    b.listen().with_memory_addr_external().await;
    a.connect(&mut b).await;
    let peer = *b.local_peer_id();
    let opts = DialOpts::peer_id(peer)
        .condition(PeerCondition::Always)
        .addresses(b.external_addresses().cloned().collect())
        .build();
    let connection = opts.connection_id();
    a.dial(opts).unwrap();
    let driver = tokio::spawn(b.loop_on_next());
    loop {
        match a.next_swarm_event().await {
            SwarmEvent::ConnectionEstablished { .. } => {
                a.behaviour_mut().open(peer, connection);
            }
            SwarmEvent::Behaviour(LinkEvent::OpenFailed {
                connection: id,
                error,
                ..
            }) => {
                assert_eq!((id, error), (connection, OpenError::NotSpoken));
                break;
            }
            _ => {}
        }
    }
    driver.abort();
}

#[tokio::test]
async fn a_held_stream_keeps_its_connection() {
    let (mut a, mut b) = pair().await;
    let connection = connect(&mut a, &mut b).await;
    let (mut at_a, mut at_b) = open(&mut a, &mut b, connection).await;
    // The swarms of this test close idle connections after five seconds.
    let quiet = tokio::time::sleep(std::time::Duration::from_secs(7));
    tokio::pin!(quiet);
    loop {
        tokio::select! {
            () = &mut quiet => break,
            event = a.select_next_some() => no_close(&event),
            event = b.select_next_some() => no_close(&event),
        }
    }
    exchange(&mut at_a, &mut at_b, b"awake").await;
}

fn no_close(event: &SwarmEvent<LinkEvent>) {
    assert!(
        !matches!(event, SwarmEvent::ConnectionClosed { .. }),
        "{event:?}"
    );
}
