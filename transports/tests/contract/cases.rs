//! One function per guarantee of a transport.

use std::collections::BTreeSet;
use std::io;

use futures::{AsyncReadExt, AsyncWriteExt};
use handover_core::engine::DialId;
use handover_transports::{Link, TransportEvent};

use crate::world::{World, connect};

async fn write(link: &mut Link, bytes: &[u8]) {
    link.stream.write_all(bytes).await.unwrap();
    link.stream.flush().await.unwrap();
}

async fn read(link: &mut Link, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    link.stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// Reads to the end of the stream. Returns the bytes and whether the stream ended with an error.
async fn read_all(link: &mut Link) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = link.stream.read_to_end(&mut bytes).await;
    (bytes, end.map(drop))
}

fn content(len: usize, salt: u32) -> Vec<u8> {
    let mut state = salt;
    let step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(step).take(len).collect()
}

pub(crate) async fn both_ends_learn_of_a_link(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (at_a, at_b) = connect(&mut a, &mut b, 5).await;
    assert_eq!((at_a.peer, at_a.dial), (b.id, Some(DialId(5))));
    assert_eq!((at_b.peer, at_b.dial), (a.id, None));
    assert_ne!(at_a.id, at_b.id);
    assert_eq!(at_a.remote, b.addresses[0]);
    assert_eq!(at_a.path, at_b.path);
}

pub(crate) async fn bytes_go_both_ways(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (mut at_a, mut at_b) = connect(&mut a, &mut b, 0).await;
    write(&mut at_b, b"the listener may speak first").await;
    assert_eq!(read(&mut at_a, 28).await, b"the listener may speak first");
    for round in 0..20_u8 {
        write(&mut at_a, &[round; 3]).await;
        assert_eq!(read(&mut at_b, 3).await, [round; 3]);
        write(&mut at_b, &[round; 5]).await;
        assert_eq!(read(&mut at_a, 5).await, [round; 5]);
    }
}

pub(crate) async fn eight_mebibytes_arrive_whole_each_way_at_once(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (at_a, at_b) = connect(&mut a, &mut b, 0).await;
    let (there, back) = (content(8 << 20, 1), content(8 << 20, 2));
    let send_and_receive = async |link: Link, bytes: &[u8]| {
        let (mut reader, mut writer) = link.stream.split();
        let mut got = Vec::new();
        let send = async {
            writer.write_all(bytes).await?;
            writer.close().await
        };
        let (written, read) = tokio::join!(send, reader.read_to_end(&mut got));
        written.unwrap();
        read.unwrap();
        got
    };
    let (got_a, got_b) = tokio::join!(
        send_and_receive(at_a, &there),
        send_and_receive(at_b, &back)
    );
    assert!(got_a == back, "what came to the dialler differs");
    assert!(got_b == there, "what came to the listener differs");
}

pub(crate) async fn a_closed_direction_leaves_the_other_open(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (mut at_a, mut at_b) = connect(&mut a, &mut b, 0).await;
    write(&mut at_a, b"question").await;
    at_a.stream.close().await.unwrap();
    let (question, end) = read_all(&mut at_b).await;
    end.unwrap();
    assert_eq!(question, b"question");
    let answer = content(300_000, 3);
    let (got, ()) = tokio::join!(read_all(&mut at_a), async {
        write(&mut at_b, &answer).await;
        at_b.stream.close().await.unwrap();
    });
    got.1.unwrap();
    assert!(got.0 == answer);
}

pub(crate) async fn bytes_before_a_close_and_drop_arrive(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (mut at_a, mut at_b) = connect(&mut a, &mut b, 0).await;
    let bytes = content(100_000, 4);
    write(&mut at_a, &bytes).await;
    at_a.stream.close().await.unwrap();
    drop(at_a.stream);
    a.close(at_a.id).await;
    let (got, end) = read_all(&mut at_b).await;
    end.unwrap();
    assert!(got == bytes);
}

pub(crate) async fn a_dropped_stream_is_noticed(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (at_a, mut at_b) = connect(&mut a, &mut b, 0).await;
    drop(at_a);
    // The read ends with an error or an end of file, but does not hang.
    let (got, _) = read_all(&mut at_b).await;
    assert!(got.is_empty());
}

pub(crate) async fn a_closed_link_is_noticed(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (at_a, mut at_b) = connect(&mut a, &mut b, 0).await;
    a.close(at_a.id).await;
    let (got, _) = read_all(&mut at_b).await;
    assert!(got.is_empty());
    match b.event().await {
        Some(TransportEvent::LinkDown { link, reason }) => {
            assert_eq!(link, at_b.id);
            assert!(!reason.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_vanished_peer_is_noticed(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (at_a, at_b) = connect(&mut a, &mut b, 0).await;
    drop(at_a);
    a.vanish().await;
    match b.event().await {
        Some(TransportEvent::LinkDown { link, .. }) => assert_eq!(link, at_b.id),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn nobody_there_is_a_failed_dial(world: World) {
    let (mut a, b) = (world.peer().await, world.peer().await);
    a.dial(1, Some(b.id), &[world.nowhere()]).await;
    let reason = a.failure(1).await;
    // A silent UDP port can't be distinguished from a silent host.
    let known = ["connection refused", "timed out"];
    assert!(known.contains(&reason.as_str()), "{reason}");
    a.is_quiet().await;
}

pub(crate) async fn nowhere_to_dial_is_a_failed_dial(world: World) {
    let (mut a, b) = (world.peer().await, world.peer().await);
    let unknown = b.id;
    b.vanish().await;
    a.dial(1, Some(unknown), &[]).await;
    assert_eq!(a.failure(1).await, "no address is known");
}

pub(crate) async fn a_strange_address_is_a_failed_dial(world: World) {
    let (mut a, b) = (world.peer().await, world.peer().await);
    let strange = ["/unix/nowhere".parse().unwrap()];
    a.dial(1, Some(b.id), &strange).await;
    assert_eq!(a.failure(1).await, "the address is not supported");
    a.dial(2, None, &strange).await;
    assert_eq!(a.failure(2).await, "the address is not supported");
}

pub(crate) async fn another_peer_is_refused(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let expected = world.peer().await;
    a.dial(1, Some(expected.id), &b.addresses).await;
    assert_eq!(a.failure(1).await, "another peer answered");
    b.is_quiet().await;
}

pub(crate) async fn a_wrong_address_does_not_spoil_a_right_one(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let other = world.peer().await;
    let addresses = [&other.addresses[..], &[world.nowhere()], &b.addresses].concat();
    a.dial(1, Some(b.id), &addresses).await;
    let (at_a, at_b) = tokio::join!(a.link(), b.link());
    assert_eq!((at_a.peer, at_b.peer), (b.id, a.id));
    assert_eq!(at_a.dial, Some(DialId(1)));
}

pub(crate) async fn an_unknown_peer_can_be_dialled(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let addresses = [&[world.nowhere()], &b.addresses[..]].concat();
    a.dial(1, None, &addresses).await;
    let (mut at_a, mut at_b) = tokio::join!(a.link(), b.link());
    assert_eq!((at_a.peer, at_a.dial), (b.id, Some(DialId(1))));
    write(&mut at_a, b"hello").await;
    assert_eq!(read(&mut at_b, 5).await, b"hello");
}

pub(crate) async fn oneself_is_not_dialled(world: World) {
    let mut a = world.peer().await;
    let addresses = a.addresses.clone();
    a.dial(1, Some(a.id), &addresses).await;
    a.failure(1).await;
    a.dial(2, None, &addresses).await;
    a.failure(2).await;
    a.is_quiet().await;
}

pub(crate) async fn two_links_to_one_peer_are_apart(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (mut first_a, mut first_b) = connect(&mut a, &mut b, 1).await;
    let (mut second_a, mut second_b) = connect(&mut a, &mut b, 2).await;
    let ids = BTreeSet::from([first_a.id, first_b.id, second_a.id, second_b.id]);
    assert_eq!(ids.len(), 4);
    write(&mut second_a, b"second").await;
    write(&mut first_a, b"first").await;
    assert_eq!(read(&mut first_b, 5).await, b"first");
    assert_eq!(read(&mut second_b, 6).await, b"second");
    // Closing one link does not affect the other.
    a.close(first_a.id).await;
    read_all(&mut first_b).await.1.ok();
    write(&mut second_b, b"still here").await;
    assert_eq!(read(&mut second_a, 10).await, b"still here");
}

pub(crate) async fn both_may_dial_at_once(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    a.dial(1, Some(b.id), &b.addresses).await;
    b.dial(2, Some(a.id), &a.addresses).await;
    let mut dials = Vec::new();
    let mut links = Vec::new();
    for _ in 0..2 {
        for peer in [&mut a, &mut b] {
            let link = peer.link().await;
            dials.push(link.dial);
            links.push(link);
        }
    }
    dials.sort();
    assert_eq!(dials, [None, None, Some(DialId(1)), Some(DialId(2))]);
}

pub(crate) async fn many_dials_at_once_are_each_answered_once(world: World) {
    let mut a = world.peer().await;
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(world.peer().await);
    }
    for (dial, other) in (0..).zip(&others) {
        a.dial(dial, Some(other.id), &other.addresses).await;
    }
    let refused = world.nowhere();
    for dial in 10..14 {
        a.dial(dial, None, std::slice::from_ref(&refused)).await;
    }
    let mut answered = BTreeSet::new();
    let mut links = Vec::new();
    while answered.len() < 14 {
        let dial = match a.event().await {
            Some(TransportEvent::LinkUp(link)) => {
                let dial = link.dial.unwrap();
                assert_eq!(link.peer, others[usize::try_from(dial.0).unwrap()].id);
                links.push(link);
                dial
            }
            Some(TransportEvent::DialFailed { dial, .. }) => {
                assert!(dial.0 >= 10);
                dial
            }
            other => panic!("{other:?}"),
        };
        assert!(answered.insert(dial), "{dial} was answered twice");
    }
    a.is_quiet().await;
}

pub(crate) async fn a_shutdown_ends_everything(world: World) {
    let (mut a, mut b) = (world.peer().await, world.peer().await);
    let (at_a, mut at_b) = connect(&mut a, &mut b, 0).await;
    a.dial(7, None, &[world.nowhere()]).await;
    a.shutdown().await;
    let (mut down, mut failed) = (0, 0);
    while let Some(event) = a.event().await {
        match event {
            TransportEvent::LinkDown { link, .. } => {
                assert_eq!(link, at_a.id);
                down += 1;
            }
            TransportEvent::DialFailed { dial, .. } => {
                assert_eq!(dial, DialId(7));
                failed += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((down, failed), (1, 1));
    let (got, _) = read_all(&mut at_b).await;
    assert!(got.is_empty());
    b.dial(8, Some(a.id), &a.addresses).await;
    loop {
        match b.event().await {
            Some(TransportEvent::LinkDown { .. }) => {}
            Some(TransportEvent::DialFailed { dial, .. }) => break assert_eq!(dial, DialId(8)),
            other => panic!("{other:?}"),
        }
    }
}
