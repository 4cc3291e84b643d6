use std::time::Duration;

use handover_core::Multiaddr;
use handover_core::engine::{AcceptTerms, Command, Event, OnConflict, PathKind};
use handover_core::limits::{GROUP, Limits};
use handover_harness::{
    Answer, Fetch, HostId, Offering, Relay, Route, Tree, World, content, relay_peer, small_limits,
};
use handover_transports::memory::LinkProfile;

use crate::{assert_same, complete, count, pair};

/// Adds an address of a host at a relay, with a bandwidth in bytes per second and a window in bytes.
fn relay(world: &mut World, host: HostId, bandwidth: u64, window: usize) {
    let profile = LinkProfile {
        delay: Duration::from_millis(80),
        bandwidth: Some(bandwidth),
        window,
        ..LinkProfile::WAN
    };
    let number = world.add_relay(Relay::default());
    let name = relay_peer(0);
    let address = format!("/ip4/1.2.3.4/tcp/1/p2p/{name}/p2p-circuit");
    let route = Route::new(PathKind::Relayed, profile).through(number);
    world.listen(host, address.parse().unwrap(), route);
}

/// Makes a host reachable over a relay immediately, and over the local network later.
fn two_ways(world: &mut World, host: HostId) {
    world.unlisten(host, &World::address(host));
    let address = |text: &str| text.parse::<Multiaddr>().unwrap();
    relay(world, host, 1_000_000, 1 << 20);
    let lan = Route::lan()
        .with_setup(Duration::from_secs(2))
        .with_bandwidth(1_000_000);
    world.listen(host, address("/ip4/10.9.9.9/udp/1/quic-v1"), lan);
}

#[test]
fn the_transfer_moves_from_the_relay_to_the_local_network_and_loses_nothing() {
    let (mut world, alice, bob) = pair(5);
    two_ways(&mut world, alice);
    // Bob has no address to be called back at.
    world.unlisten(bob, &World::address(bob));
    let tree = Tree::one("f", content(1, 3_000_000));
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    // The relayed link is up and busy when the other one comes up.
    assert!(world.run_until(
        |world| world.links_of(bob).len() == 2,
        Duration::from_secs(10)
    ));
    assert!(world.received(bob) > 0, "the relayed link carried nothing");
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_eq!(summary.path, Some(PathKind::Lan));
    let moved = |event: &Event| {
        matches!(
            event,
            Event::PathChanged {
                path: PathKind::Lan,
                ..
            }
        )
    };
    assert_eq!(count(&world, bob, moved), 1);
    assert_eq!(world.received(bob), tree.size(), "nothing came twice");
}

#[test]
fn the_relay_dies_as_the_local_network_takes_over() {
    let (mut world, alice, bob) = pair(6);
    two_ways(&mut world, alice);
    let tree = Tree::one("f", content(1, 3_000_000));
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    assert!(world.run_until(
        |world| world.links_of(bob).len() == 2,
        Duration::from_secs(10)
    ));
    let relayed = world.links_of(bob)[0];
    world.after(Duration::from_millis(20), move |world| {
        world.kill_link(relayed);
    });
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    let again = world.received(bob) - tree.size();
    assert!(again <= small_limits().window, "{again} bytes came twice");
}

#[test]
fn what_the_relay_has_carried_is_told() {
    let (mut world, alice, bob) = pair(6);
    two_ways(&mut world, alice);
    world.unlisten(bob, &World::address(bob));
    let tree = Tree::one("f", content(1, 3_000_000));
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    complete(&mut world, bob, download);
    let mut carried = world.events(bob).iter().filter_map(|event| match event {
        Event::Carried {
            relay, bytes, cuts, ..
        } => Some((*relay, *bytes, *cuts)),
        _ => None,
    });
    let (relay, bytes, cuts) = carried.next().unwrap();
    assert_eq!((relay, cuts), (relay_peer(0), 0));
    assert!(bytes > 0 && bytes < tree.size(), "{bytes}");
    assert_eq!(carried.next(), None);
}

#[test]
fn a_relay_that_cuts_links_is_told_of() {
    let (mut world, alice, bob) = pair(9);
    world.unlisten(alice, &World::address(alice));
    world.unlisten(bob, &World::address(bob));
    relay(&mut world, alice, 1_000_000, 1 << 20);
    let tree = Tree::one("f", content(1, 1_000_000));
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    for quarter in 1..4 {
        let some = |world: &World| world.received(bob) > quarter * 200_000;
        assert!(world.run_until(some, Duration::from_mins(1)));
        world.kill_links(bob);
    }
    complete(&mut world, bob, download);
    let told = world.events(bob).iter().find_map(|event| match event {
        Event::Carried { bytes, cuts, .. } => Some((*bytes, *cuts)),
        _ => None,
    });
    assert_eq!(told, Some((tree.size(), 3)));
}

#[test]
fn the_local_network_goes_and_the_relay_is_found_again() {
    let (mut world, alice, bob) = pair(7);
    two_ways(&mut world, alice);
    // Bob has no address to be called back at.
    world.unlisten(bob, &World::address(bob));
    let tree = Tree::one("f", content(1, 2_000_000));
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    let moved = |event: &Event| matches!(event, Event::PathChanged { .. });
    assert!(world.run_until(
        |world| count(world, bob, moved) == 1,
        Duration::from_secs(10)
    ));
    world.unlisten(alice, &"/ip4/10.9.9.9/udp/1/quic-v1".parse().unwrap());
    // Another dial to that address is in progress.
    for _ in 0..10 {
        world.kill_links(bob);
        world.run_for(Duration::from_millis(100));
    }
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_eq!(summary.path, Some(PathKind::Relayed));
}

/// Streams to a receiver that requests more than the sharer buffers, over a relay with a small window. The relayed link
/// dies this long after the local network came up, if at all.
fn move_a_stream(relay_dies: Option<Duration>) {
    let group = u64::from(GROUP);
    let limits = Limits {
        window: 6 * group,
        window_start: 4 * group,
        send_buffer: group,
        ..small_limits()
    };
    let mut world = World::with_limits(8, limits);
    let (alice, bob) = (world.add_host(), world.add_host());
    two_ways(&mut world, alice);
    relay(&mut world, alice, 600_000, 32 << 10);
    let bytes = content(3, 20 * GROUP as usize + 5);
    let (_, ticket) = world.share_with(alice, Offering::pipe(bytes.clone()));
    let download = world.fetch_with(bob, &ticket, Fetch::to_pipe());
    let both = |world: &World| world.links_of(bob).len() == 2;
    assert!(world.run_until(both, Duration::from_secs(10)));
    if let Some(after) = relay_dies {
        let relayed = world.links_of(bob)[0];
        world.after(after, move |world| world.kill_link(relayed));
    }
    let summary = complete(&mut world, bob, download);
    assert_eq!(summary.failed, 0, "{relay_dies:?}");
    assert!(world.disk(bob).pipe(download) == bytes, "{relay_dies:?}");
    assert_eq!(summary.path, Some(PathKind::Lan));
}

/// Regression: requests on the new link were ahead of those outstanding on the old one, and the stream was taken for
/// passed.
#[test]
fn a_stream_that_moves_to_a_better_path_is_not_taken_for_passed() {
    move_a_stream(None);
}

/// Regression: early data from the new link filled the window, while the data that the pipe needed was lost with the
/// old link.
#[test]
fn a_stream_does_not_hang_when_its_old_link_dies_after_a_better_path_took_over() {
    for millis in [0, 1, 2, 3, 5, 7, 10, 20, 60, 150, 400, 1000] {
        move_a_stream(Some(Duration::from_millis(millis)));
    }
}

/// The same with a sharer that buffers more than is requested.
#[test]
fn a_stream_does_not_hang_when_little_is_asked_for() {
    for millis in [0, 5, 20, 60, 150, 400, 1000] {
        let (mut world, alice, bob) = pair(9);
        two_ways(&mut world, alice);
        let bytes = content(3, 12 * GROUP as usize);
        let (_, ticket) = world.share_with(alice, Offering::pipe(bytes.clone()));
        let download = world.fetch_with(bob, &ticket, Fetch::to_pipe());
        let both = |world: &World| world.links_of(bob).len() == 2;
        assert!(world.run_until(both, Duration::from_secs(10)));
        let relayed = world.links_of(bob)[0];
        let after = Duration::from_millis(millis);
        world.after(after, move |world| world.kill_link(relayed));
        let summary = complete(&mut world, bob, download);
        assert_eq!(summary.failed, 0, "after {millis} ms");
        assert!(world.disk(bob).pipe(download) == bytes, "after {millis} ms");
    }
}

/// Regression: after the loss of a link without requests, the receiver requested the manifest twice, and then blamed
/// the sharer for answering twice.
#[test]
fn another_link_that_dies_during_the_offer_does_not_get_the_sharer_blamed() {
    for millis in (600..1500).step_by(100) {
        let (mut world, alice, bob) = pair(millis);
        two_ways(&mut world, alice);
        relay(&mut world, alice, 20_000, 1 << 20);
        let tree = (0..400).fold(Tree::new(), |tree, n| tree.file(&format!("{n:060}"), "x"));
        let (_, ticket) = world.share(alice, tree.clone());
        let fetch = Fetch::answered(Answer::Wait);
        let download = world.fetch_with(bob, &ticket, fetch);
        world.after(Duration::from_millis(millis), move |world| {
            let links = world.links_of(bob);
            world.kill_link(links[links.len() - 1]);
        });
        // The user takes time to read. A second answer would arrive meanwhile.
        world.run_for(Duration::from_secs(30));
        let terms = AcceptTerms {
            select: None,
            on_conflict: OnConflict::Rename,
            executables: false,
        };
        world.command(bob, Command::Accept { download, terms });
        complete(&mut world, bob, download);
        assert_same(&world, bob, download, &tree);
    }
}

/// Result of a transfer that moved from a relay to the local network.
struct Move {
    /// Number of bytes received twice.
    again: u64,
    /// Longest time without a byte before the move. `after` is the same from the move on.
    before: Duration,
    after: Duration,
}

/// Starts a transfer over a relay. After `moment` one host is on the other's local network too, and says so over the
/// relay.
fn move_after(moment: Duration, called_back: bool) -> Move {
    let (mut world, alice, bob) = pair(9);
    let tree = Tree::one("f", content(1, 3_000_000));
    for host in [alice, bob] {
        world.unlisten(host, &World::address(host));
    }
    relay(&mut world, alice, 1_000_000, 1 << 20);
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    let near = if called_back { bob } else { alice };
    world.after(moment, move |world| {
        world.listen(near, World::address(near), Route::lan());
    });
    let (mut came, mut since) = (0, world.now());
    let mut moved = Move {
        again: 0,
        before: Duration::ZERO,
        after: Duration::ZERO,
    };
    let over = |world: &World| {
        let bytes = world.received(bob);
        let flows = came > 0 && came < tree.size();
        let changed = |event: &Event| matches!(event, Event::PathChanged { .. });
        let longest = match count(world, bob, changed) {
            0 => &mut moved.before,
            _ => &mut moved.after,
        };
        if flows {
            *longest = (*longest).max(world.now().since(since));
        }
        if bytes > came {
            (came, since) = (bytes, world.now());
        }
        world.outcome(bob, download).is_some()
    };
    let ended = world.run_until(over, Duration::from_mins(1));
    assert!(ended, "{moment:?}");
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_eq!(summary.path, Some(PathKind::Lan), "{moment:?}");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.links_of(alice).len(), 0, "the relay is let go");
    moved.again = world.received(bob) - tree.size();
    moved
}

#[test]
fn at_any_moment_the_transfer_moves_to_a_path_that_comes_up() {
    for called_back in [false, true] {
        for moment in (0..50).map(|step| Duration::from_millis(400 + 47 * step)) {
            let moved = move_after(moment, called_back);
            // The path is requested, the link is keyed, and what was requested over the relay arrives meanwhile.
            assert!(
                moved.after <= moved.before.max(Duration::from_millis(170)),
                "after {moment:?} nothing came for {:?}; before, for {:?} at the most",
                moved.after,
                moved.before
            );
            assert_eq!(moved.again, 0, "after {moment:?}");
        }
    }
}
