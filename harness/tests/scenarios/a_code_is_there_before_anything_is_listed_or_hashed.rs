use std::time::Duration;

use handover_core::engine::Event;
use handover_harness::{DiskProfile, Tree, content};

use crate::{SECOND, assert_same, complete, count, pair};

#[test]
fn a_receiver_waits_for_the_list_and_fetches_files_that_nobody_has_hashed() {
    let (mut world, alice, bob) = pair(44);
    world.disk_mut(alice).profile = DiskProfile {
        scan: 20 * SECOND,
        hash: 3600 * SECOND,
        read: Duration::from_millis(1),
        ..DiskProfile::INSTANT
    };
    let tree = Tree::one("f", content(1, 3_000_000)).file("g", content(2, 10));
    // There is a ticket before any time has passed; otherwise `share` would panic.
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    world.run_for(SECOND);
    assert_eq!(
        count(&world, bob, |event| matches!(
            event,
            Event::SharerPreparing { .. }
        )),
        1
    );
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    let took = world.now().since(handover_core::time::Time::ZERO);
    assert!(took > 20 * SECOND && took < 25 * SECOND, "{took:?}");
}

/// If the last group is lost in transit, the root is requested separately.
#[test]
fn a_file_that_is_not_hashed_survives_a_lost_link() {
    for dies in (100_000..1_100_000).step_by(99_991) {
        let (mut world, alice, bob) = pair(dies);
        world.disk_mut(alice).profile = DiskProfile {
            hash: 3600 * SECOND,
            jitter: Duration::from_millis(5),
            ..DiskProfile::INSTANT
        };
        let tree = Tree::one("f", content(1, 1_000_000));
        let (_, ticket) = world.share(alice, tree.clone());
        world.kill_links_after_bytes(dies, 2);
        let download = world.fetch(bob, &ticket);
        complete(&mut world, bob, download);
        assert_same(&world, bob, download, &tree);
    }
}
