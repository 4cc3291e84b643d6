//! Tests of the transport in memory, and of a switchboard's control over links.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use handover_core::engine::{DialId, PathKind};
use handover_core::{Keypair, PeerId};
use handover_transports::memory::{LinkProfile, MemoryTransport, Route, Switchboard};
use handover_transports::{Link, Transport, TransportEvent, next_event};
use tokio::time::Instant;

fn peer() -> PeerId {
    Keypair::generate_ed25519().public().to_peer_id()
}

const WAN: Route = Route {
    profile: LinkProfile::WAN,
    path: PathKind::Relayed,
};

async fn joined(board: &Switchboard) -> MemoryTransport {
    let mut transport = board.join(peer());
    let first = next_event(&mut transport).await;
    assert!(matches!(first, Some(TransportEvent::Listening(_))));
    transport
}

async fn up(transport: &mut MemoryTransport) -> Link {
    match next_event(transport).await {
        Some(TransportEvent::LinkUp(link)) => link,
        other => panic!("{other:?}"),
    }
}

async fn linked(board: &Switchboard) -> [(MemoryTransport, Link); 2] {
    let (mut a, mut b) = (joined(board).await, joined(board).await);
    a.dial(DialId(0), Some(b.local_peer()), Vec::new());
    let (at_a, at_b) = tokio::join!(up(&mut a), up(&mut b));
    [(a, at_a), (b, at_b)]
}

async fn is_down(transport: &mut MemoryTransport, link: &Link) {
    match next_event(transport).await {
        Some(TransportEvent::LinkDown { link: id, reason }) => {
            assert_eq!(id, link.id);
            assert_eq!(reason, "the connection was lost");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_takes_its_round_trip_to_stand() {
    let began = Instant::now();
    let [(_, at_a), (_, at_b)] = linked(&Switchboard::new(1, WAN)).await;
    assert_eq!(
        (at_a.path, at_b.path),
        (PathKind::Relayed, PathKind::Relayed)
    );
    let took = began.elapsed();
    let expected = Duration::from_millis(100)..Duration::from_millis(105);
    assert!(expected.contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_takes_as_long_as_its_bandwidth_says() {
    let [(_a, mut at_a), (_b, mut at_b)] = linked(&Switchboard::new(1, WAN)).await;
    let began = Instant::now();
    let bytes = vec![5; 10_000_000];
    let mut got = Vec::new();
    let (sent, read) = tokio::join!(
        async {
            at_a.stream.write_all(&bytes).await?;
            at_a.stream.close().await
        },
        at_b.stream.read_to_end(&mut got)
    );
    sent.unwrap();
    read.unwrap();
    assert!(got == bytes);
    // 10 MB at 25 MB/s plus 50 ms of delay.
    let took = began.elapsed();
    let expected = Duration::from_millis(450)..Duration::from_millis(600);
    assert!(expected.contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_dies_on_the_way_delivers_a_prefix() {
    let board = Switchboard::new(3, WAN);
    let [(mut a, mut at_a), (mut b, mut at_b)] = linked(&board).await;
    board.kill_links_after(a.local_peer(), b.local_peer(), 77_777);
    let sent: Vec<u8> = (0..200_000_u32).map(|i| (i / 3).to_le_bytes()[0]).collect();
    at_a.stream.write_all(&sent).await.unwrap();
    let mut got = Vec::new();
    at_b.stream.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(got, &sent[..77_777]);
    is_down(&mut a, &at_a).await;
    is_down(&mut b, &at_b).await;
    at_a.stream.write_all(&sent).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_bytes_back_and_loses_none() {
    let board = Switchboard::new(3, WAN);
    let [(a, mut at_a), (b, mut at_b)] = linked(&board).await;
    board.stall_links(a.local_peer(), b.local_peer(), Duration::from_secs(20));
    let began = Instant::now();
    at_a.stream.write_all(b"late").await.unwrap();
    let mut got = [0; 4];
    at_b.stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"late");
    assert!(began.elapsed() >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_dial_whose_link_dies_before_it_stands_has_failed() {
    let board = Switchboard::new(3, WAN);
    let (mut a, b) = (joined(&board).await, joined(&board).await);
    a.dial(DialId(9), Some(b.local_peer()), Vec::new());
    board.kill_links(a.local_peer(), b.local_peer());
    match next_event(&mut a).await {
        Some(TransportEvent::DialFailed { dial, .. }) => assert_eq!(dial, DialId(9)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_writer_waits_for_its_reader() {
    let [(_a, mut at_a), (_b, mut at_b)] = linked(&Switchboard::new(1, Route::default())).await;
    let window = LinkProfile::INSTANT.window;
    at_a.stream.write_all(&vec![1; window]).await.unwrap();
    let write = at_a.stream.write_all(b"more");
    tokio::pin!(write);
    assert!(futures::poll!(&mut write).is_pending());
    let mut got = vec![0; window];
    at_b.stream.read_exact(&mut got).await.unwrap();
    write.await.unwrap();
}

#[tokio::test]
async fn a_swarm_of_forty_peers_meets() {
    let board = Switchboard::new(1, Route::default());
    let mut tasks = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..40 {
        peers.push(joined(&board).await);
    }
    let ids: Vec<PeerId> = peers.iter().map(Transport::local_peer).collect();
    for mut transport in peers {
        let ids = ids.clone();
        tasks.push(tokio::spawn(async move {
            for (dial, peer) in (0..).zip(&ids) {
                transport.dial(DialId(dial), Some(*peer), Vec::new());
            }
            let (mut links, mut failed) = (Vec::new(), 0);
            while links.len() < 78 || failed < 1 {
                match next_event(&mut transport).await {
                    Some(TransportEvent::LinkUp(link)) => links.push(link),
                    // The peer's dial of itself.
                    Some(TransportEvent::DialFailed { .. }) => failed += 1,
                    other => panic!("{other:?}"),
                }
            }
            links
        }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap().len(), 78);
    }
}
