use std::time::Duration;

use handover_core::engine::{DownloadOutcome, Event};
use handover_core::limits::{GROUP, LEAF};
use handover_harness::{DiskProfile, Fetch, Offering, Tree, World, content};

use crate::{assert_same, complete, pair};

const SIZES: [usize; 9] = [
    0,
    1,
    LEAF as usize,
    GROUP as usize - 1,
    GROUP as usize,
    GROUP as usize + 1,
    4 * GROUP as usize,
    5 * GROUP as usize + 17,
    16 * GROUP as usize,
];

#[test]
fn every_size_arrives() {
    for size in SIZES {
        let (mut world, alice, bob) = pair(39);
        let bytes = content(1, size);
        let (_, ticket) = world.share_with(alice, Offering::pipe(bytes.clone()));
        let download = world.fetch_with(bob, &ticket, Fetch::to_pipe());
        let summary = complete(&mut world, bob, download);
        assert!(world.disk(bob).pipe(download) == bytes, "{size} bytes");
        assert_eq!(
            (summary.files, summary.bytes, summary.failed),
            (1, size as u64, 0)
        );
    }
}

#[test]
fn every_size_arrives_as_a_file() {
    for size in SIZES {
        let (mut world, alice, bob) = pair(40);
        let bytes = content(1, size);
        let (_, ticket) = world.share_with(alice, Offering::pipe(bytes.clone()));
        let download = world.fetch(bob, &ticket);
        complete(&mut world, bob, download);
        assert_same(&world, bob, download, &Tree::one("stdin", bytes));
    }
}

#[test]
fn one_file_of_a_tree_goes_into_a_pipe() {
    let (mut world, alice, bob) = pair(41);
    let bytes = content(1, 3_000_000);
    let (_, ticket) = world.share(alice, Tree::one("f", bytes.clone()));
    world.kill_links_after_bytes(1_000_000, 2);
    let download = world.fetch_with(bob, &ticket, Fetch::to_pipe());
    complete(&mut world, bob, download);
    assert!(world.disk(bob).pipe(download) == bytes);
}

#[test]
fn a_lost_link_in_the_middle_costs_no_byte() {
    let size = 6 * GROUP as usize + 99;
    for dies in (500..size as u64).step_by(61_001) {
        let (mut world, alice, bob) = pair(dies);
        let bytes = content(1, size);
        let (_, ticket) = world.share_with(alice, Offering::pipe(bytes.clone()));
        world.kill_links_after_bytes(dies, 2);
        let download = world.fetch_with(bob, &ticket, Fetch::to_pipe());
        let summary = complete(&mut world, bob, download);
        assert_eq!(
            summary.failed,
            0,
            "dead after {dies} bytes: {:?}",
            world.events(bob)
        );
        assert!(
            world.disk(bob).pipe(download) == bytes,
            "dead after {dies} bytes"
        );
    }
}

/// The link dies while bytes are being read for it a second time: that must not advance the pipe.
#[test]
fn a_lost_link_during_a_second_read_does_not_move_the_pipe() {
    for seed in 0..10 {
        let (mut world, alice, bob) = pair(seed);
        world.disk_mut(alice).profile = DiskProfile {
            read: Duration::from_millis(40),
            jitter: Duration::from_millis(20),
            ..DiskProfile::INSTANT
        };
        let bytes = content(1, 8 * GROUP as usize + 1);
        let (_, ticket) = world.share_with(alice, Offering::pipe(bytes.clone()));
        let download = world.fetch_with(bob, &ticket, Fetch::to_pipe());
        for n in 1..12 {
            world.after(Duration::from_millis(n * (61 + seed)), move |world| {
                world.kill_links(bob);
            });
        }
        complete(&mut world, bob, download);
        assert!(world.disk(bob).pipe(download) == bytes);
    }
}

#[test]
fn a_stream_goes_to_one_receiver() {
    let mut world = World::new(42);
    let (alice, bob, carol) = (world.add_host(), world.add_host(), world.add_host());
    let bytes = content(1, 2_000_000);
    let (_, ticket) = world.share_with(alice, Offering::pipe(bytes.clone()));
    let download = world.fetch_with(bob, &ticket, Fetch::to_pipe());
    assert!(world.run_until(|world| world.received(bob) > 0, Duration::from_secs(1)));
    let late = world.fetch_with(carol, &ticket, Fetch::to_pipe());
    let outcome = world.run_to_end(carol, late);
    let told = world.events(carol).iter().find_map(|event| match event {
        Event::FileFailed { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(
        told,
        Some("it is a stream, and goes to one receiver once"),
        "{outcome:?}"
    );
    assert!(matches!(outcome, DownloadOutcome::Completed(summary) if summary.failed == 1));
    complete(&mut world, bob, download);
    assert!(world.disk(bob).pipe(download) == bytes);
}
