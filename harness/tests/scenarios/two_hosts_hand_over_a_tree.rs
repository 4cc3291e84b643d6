use handover_core::engine::Event;
use handover_core::limits::{GROUP, LEAF};
use handover_harness::{Tree, content};

use crate::{assert_same, complete, count, pair};

/// Files of all sizes at which something begins or ends.
fn tree() -> Tree {
    let (leaf, group) = (LEAF as usize, GROUP as usize);
    let sizes = [
        0,
        1,
        leaf - 1,
        leaf,
        leaf + 1,
        2 * leaf,
        group - 1,
        group,
        group + 1,
        group + leaf,
        3 * group - leaf,
        3 * group,
        3 << 20,
    ];
    let mut tree = Tree::new()
        .folder("an empty folder")
        .folder("sizes")
        .file_with_mode("run.sh", "#!/bin/sh\n", 0o755)
        .symlink("sizes/link", "1");
    for (mark, size) in (1..).zip(sizes) {
        tree = tree.file(&format!("sizes/{size}"), content(mark, size));
    }
    tree
}

#[test]
fn every_size_arrives() {
    let (mut world, alice, bob) = pair(1);
    let tree = tree();
    let (share, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_eq!((summary.files, summary.bytes), (15, tree.size()));
    assert_eq!((summary.failed, summary.skipped), (0, 0));
    assert_eq!(world.received(bob), tree.size(), "nothing came twice");
    world.run_for(crate::SECOND);
    let joined =
        |event: &Event| matches!(event, Event::ReceiverJoined { share: id, .. } if *id == share);
    assert_eq!(count(&world, alice, joined), 1);
    let left = |event: &Event| match event {
        Event::ReceiverLeft { sent, .. } => *sent == tree.size(),
        _ => false,
    };
    assert_eq!(count(&world, alice, left), 1);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (mut world, alice, bob) = pair(seed);
        let (_, ticket) = world.share(alice, tree());
        let download = world.fetch(bob, &ticket);
        complete(&mut world, bob, download);
        (world.trace(), world.engine_events())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}
