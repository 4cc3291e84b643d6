use std::time::Duration;

use handover_core::engine::{Command, Event, Limited, ShareId};
use handover_harness::{HostId, Offering, Tree, World, content};

use crate::{SECOND, assert_same, complete, count, pair};

/// Leaves are 64 times smaller here than in production: this corresponds to 2 kB/s there, which is 8 s per leaf.
const TWO_KILOBYTES: u64 = 2048 / 64;

fn limit_up(world: &mut World, host: HostId, rate: u64) {
    let limited = Limited::Up;
    let rate = Some(rate);
    world.command(host, Command::Limit { limited, rate });
}

fn pause(world: &mut World, host: HostId, share: ShareId, paused: bool) {
    let command = if paused {
        Command::PauseShare { share }
    } else {
        Command::ResumeShare { share }
    };
    world.command(host, command);
}

fn assert_never_lost(world: &World, host: HostId) {
    let lost = |event: &Event| {
        matches!(
            event,
            Event::ConnectionLost { .. } | Event::PeerBlamed { .. }
        )
    };
    assert_eq!(count(world, host, lost), 0);
}

fn paused(world: &World, host: HostId) -> Vec<bool> {
    let events = world.events(host).iter();
    let told = events.filter_map(|event| match event {
        Event::SharerPaused { paused, .. } => Some(*paused),
        _ => None,
    });
    told.collect()
}

#[test]
fn two_kilobytes_a_second_up_are_enough() {
    let (mut world, alice, bob) = pair(320);
    let tree = Tree::one("f", content(1, 10_000)).file("g", content(2, 9));
    let (_, ticket) = world.share(alice, tree.clone());
    limit_up(&mut world, alice, TWO_KILOBYTES);
    let download = world.fetch(bob, &ticket);
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_never_lost(&world, bob);
    assert_eq!(world.received(bob), tree.size());
    assert!(summary.took > 300 * SECOND, "{:?}", summary.took);
    assert!(summary.took < 330 * SECOND, "{:?}", summary.took);
}

/// Each receiver gets a leaf every 32 s, longer than the timeout for a sharer that does not answer.
#[test]
fn two_kilobytes_a_second_up_are_enough_for_four() {
    let (mut world, alice, bob) = pair(321);
    let tree = Tree::one("f", content(1, 3000));
    let (_, ticket) = world.share(alice, tree.clone());
    limit_up(&mut world, alice, TWO_KILOBYTES);
    let others = [0; 3].map(|_| world.add_host());
    let downloads: Vec<_> = [bob]
        .into_iter()
        .chain(others)
        .map(|host| (host, world.fetch(host, &ticket)))
        .collect();
    for (host, download) in downloads {
        complete(&mut world, host, download);
        assert_same(&world, host, download, &tree);
        assert_never_lost(&world, host);
        assert_eq!(world.received(host), tree.size());
    }
}

/// The receiver had requested whole groups, each of which takes two minutes now.
#[test]
fn a_limit_that_comes_over_a_fast_transfer_is_borne() {
    let (mut world, alice, bob) = pair(322);
    let tree = Tree::one("f", content(1, 3_000_000));
    let (share, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    world.run_until(|world| world.received(bob) > 1_000_000, 10 * SECOND);
    limit_up(&mut world, alice, TWO_KILOBYTES);
    world.run_for(Duration::from_mins(20));
    assert_never_lost(&world, bob);
    let before = world.received(bob);
    world.run_for(Duration::from_mins(5));
    let bytes = world.received(bob) - before;
    assert!(bytes.abs_diff(300 * TWO_KILOBYTES) <= 512, "{bytes} bytes");
    let (limited, rate) = (Limited::Up, None);
    world.command(alice, Command::Limit { limited, rate });
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_never_lost(&world, bob);
    pause(&mut world, alice, share, true);
}

#[test]
fn two_kilobytes_a_second_up_are_enough_for_a_stream() {
    let (mut world, alice, bob) = pair(323);
    let bytes = content(1, 10_000);
    let (_, ticket) = world.share_with(alice, Offering::pipe(bytes.clone()));
    limit_up(&mut world, alice, TWO_KILOBYTES);
    let download = world.fetch_with(bob, &ticket, handover_harness::Fetch::to_pipe());
    complete(&mut world, bob, download);
    assert!(world.disk(bob).pipe(download) == bytes);
    assert_never_lost(&world, bob);
}

#[test]
fn a_share_that_is_paused_is_waited_for_and_goes_on() {
    let (mut world, alice, bob) = pair(324);
    let tree = Tree::one("f", content(1, 3_000_000));
    let (share, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    world.run_until(|world| world.received(bob) > 100_000, 10 * SECOND);
    pause(&mut world, alice, share, true);
    world.run_for(SECOND);
    let before = world.received(bob);
    world.run_for(Duration::from_mins(10));
    assert_eq!(world.received(bob), before);
    assert_eq!(paused(&world, bob), [true]);
    pause(&mut world, alice, share, false);
    complete(&mut world, bob, download);
    assert_eq!(paused(&world, bob), [true, false]);
    assert_same(&world, bob, download, &tree);
    assert_eq!(world.received(bob), tree.size());
    assert_never_lost(&world, bob);
}

#[test]
fn who_comes_while_a_share_is_paused_sees_the_offer_and_waits() {
    let (mut world, alice, bob) = pair(325);
    let tree = Tree::one("f", content(1, 300_000));
    let (share, ticket) = world.share(alice, tree.clone());
    pause(&mut world, alice, share, true);
    let download = world.fetch(bob, &ticket);
    world.run_for(Duration::from_mins(3));
    let offered = |event: &Event| matches!(event, Event::Offer { .. });
    assert_eq!(count(&world, bob, offered), 1);
    assert_eq!(world.received(bob), 0);
    assert_eq!(paused(&world, bob), [true]);
    pause(&mut world, alice, share, false);
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_never_lost(&world, bob);
}

/// Regression: the pause ended with the link, but the user was never told.
#[test]
fn a_sharer_that_comes_back_from_a_pause_by_another_link_has_gone_on() {
    let (mut world, alice, bob) = pair(326);
    let tree = Tree::one("f", content(1, 3_000_000));
    let (share, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    world.run_until(|world| world.received(bob) > 100_000, 10 * SECOND);
    pause(&mut world, alice, share, true);
    world.run_for(SECOND);
    world.crash(alice);
    world.run_for(SECOND);
    world.restart(alice);
    let offering = Offering::tree(tree.clone()).with_secret(ticket.secret.clone());
    world.share_with(alice, offering);
    complete(&mut world, bob, download);
    assert_eq!(paused(&world, bob), [true, false]);
    assert_same(&world, bob, download, &tree);
}
