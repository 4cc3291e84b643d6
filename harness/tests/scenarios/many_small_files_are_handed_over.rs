use std::time::Instant;

use handover_core::limits::Limits;
use handover_harness::{DiskProfile, Tree, World, content, pace};

use crate::{assert_same, complete};

/// The time is printed and not asserted: it is the machine's.
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

#[test]
#[expect(clippy::print_stderr, reason = "the time is for who runs this")]
fn the_pace_is_measured_over_the_same_run_each_time() {
    let began = Instant::now();
    let first = pace(0..50);
    eprintln!("{first:?} in {:?}", began.elapsed());
    assert_eq!(pace(0..50), first);
}
