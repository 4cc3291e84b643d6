use std::time::Instant;

use handover_core::engine::PathKind;
use handover_core::limits::{Limits, RELAYED_PIECE};
use handover_harness::{DiskProfile, Route, Tree, World, content, pace, small_limits};

use crate::{assert_same, complete, pair};

/// The time is printed but not asserted, because it depends on the machine.
#[test]
#[expect(clippy::print_stderr, reason = "the time is for who runs this")]
fn a_hundred_thousand() {
    let many = 100_000;
    let mut world = World::with_limits(45, Limits::default());
    let (alice, bob) = (world.add_host(), world.add_host());
    for host in [alice, bob] {
        world.disk_mut(host).profile = DiskProfile::INSTANT;
    }
    let tree = (0..many).fold(Tree::new(), |tree, n| {
        tree.file(&format!("d{}/{n}", n % 100), content(n, 40))
    });
    let began = Instant::now();
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    let summary = complete(&mut world, bob, download);
    eprintln!(
        "{many} files took {:?}, and {:?} on the simulated clock",
        began.elapsed(),
        summary.took
    );
    assert_eq!(summary.files, many);
    assert_same(&world, bob, download, &tree);
}

/// Over a relay a manifest arrives in short parts: here, more of them than the limit on messages without progress.
#[test]
fn a_long_manifest_over_a_relay_is_no_flood() {
    let (mut world, alice, bob) = pair(46);
    world.unlisten(alice, &World::address(alice));
    world.unlisten(bob, &World::address(bob));
    let relayed =
        "/ip4/1.2.3.4/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp/p2p-circuit";
    let route = Route::new(PathKind::Relayed, Route::lan().profile);
    world.listen(alice, relayed.parse().unwrap(), route);
    let tree = (0..900).fold(Tree::new(), |tree, n| {
        tree.file(&format!("a name of some length {n}"), content(n, 10))
    });
    let parts = 900 * "a name of some length".len() / RELAYED_PIECE as usize;
    assert!(parts > small_limits().idle_messages as usize);
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
}

#[test]
#[expect(clippy::print_stderr, reason = "the time is for who runs this")]
fn the_pace_is_measured_over_the_same_run_each_time() {
    let began = Instant::now();
    let first = pace(0..50);
    eprintln!("{first:?} in {:?}", began.elapsed());
    assert_eq!(pace(0..50), first);
}
