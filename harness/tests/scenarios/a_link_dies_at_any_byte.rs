use std::time::Duration;

use handover_core::limits::LEAF;
use handover_harness::{Tree, World, content, small_limits};

use crate::{assert_same, complete, pair};

fn tree() -> Tree {
    Tree::new()
        .file("a", content(1, 3 * LEAF as usize + 100))
        .file("b/one", content(2, 1000))
        .file("b/two", content(3, 1))
        .file("empty", "")
        .file("z", content(4, 300_000))
}

/// THREATS row 12: a relay that resets at any byte costs at most one window.
#[test]
fn the_transfer_goes_on_and_loses_a_window_at_the_most() {
    // The handshake and the manifest in small steps, then bulk data in large ones.
    let early = (1..3000).step_by(97);
    let late = (3000..360_000).step_by(9973);
    for bytes in early.chain(late) {
        let (mut world, alice, bob) = pair(bytes);
        let (_, ticket) = world.share(alice, tree());
        world.kill_links_after_bytes(bytes, 1);
        let download = world.fetch(bob, &ticket);
        let summary = complete(&mut world, bob, download);
        assert_eq!(
            (summary.files, summary.failed),
            (5, 0),
            "dead after {bytes} bytes"
        );
        assert_same(&world, bob, download, &tree());
        let again = world.received(bob) - tree().size();
        assert!(again <= small_limits().window, "{again} bytes came twice");
    }
}

/// A relay with a small byte limit: every circuit carries a little more.
#[test]
fn a_relay_that_ends_each_circuit_after_128_kib_is_outlived() {
    let mut world = World::new(10);
    let (alice, bob) = (world.add_host(), world.add_host());
    let tree = Tree::one("f", content(1, 2_000_000));
    let (_, ticket) = world.share(alice, tree.clone());
    world.kill_links_after_bytes(128 << 10, usize::MAX);
    let download = world.fetch(bob, &ticket);
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
}

#[test]
fn links_that_die_again_and_again_delay_it_and_no_more() {
    let (mut world, alice, bob) = pair(11);
    let tree = Tree::one("f", content(1, 6_000_000));
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    for n in 1..20 {
        world.after(Duration::from_millis(n * 37), move |world| {
            world.kill_links(bob);
        });
    }
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
}
