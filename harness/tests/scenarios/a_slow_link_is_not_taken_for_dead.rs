use handover_core::Multiaddr;
use handover_core::engine::Event;
use handover_harness::{Fetch, Offering, Route, Tree, content};

use crate::{SECOND, assert_same, complete, count, pair};

fn slow() -> (Multiaddr, Route) {
    let address = "/ip4/1.2.3.4/tcp/1".parse().unwrap();
    (address, Route::wan().with_bandwidth(8000))
}

fn assert_never_lost(world: &handover_harness::World, host: handover_harness::HostId) {
    let lost = |event: &Event| {
        matches!(
            event,
            Event::ConnectionLost { .. } | Event::PeerBlamed { .. }
        )
    };
    assert_eq!(count(world, host, lost), 0);
}

#[test]
fn eight_kilobytes_a_second_are_enough() {
    let (mut world, alice, bob) = pair(18);
    let own = handover_harness::World::address(alice);
    world.unlisten(alice, &own);
    let (address, route) = slow();
    world.listen(alice, address, route);
    let tree = Tree::one("f", content(1, 1_000_000)).file("g", content(2, 9));
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_never_lost(&world, bob);
    assert!(summary.took > 100 * SECOND, "{:?}", summary.took);
    // With small leaves, proofs are a large share of the data.
    assert!(summary.took < 200 * SECOND, "{:?}", summary.took);
}

/// A stream is transferred in whole groups: each takes half a second here.
#[test]
fn eight_kilobytes_a_second_are_enough_for_a_stream() {
    let (mut world, alice, bob) = pair(19);
    let own = handover_harness::World::address(alice);
    world.unlisten(alice, &own);
    let (address, route) = slow();
    world.listen(alice, address, route);
    let bytes = content(1, 600_000);
    let (_, ticket) = world.share_with(alice, Offering::pipe(bytes.clone()));
    let download = world.fetch_with(bob, &ticket, Fetch::to_pipe());
    complete(&mut world, bob, download);
    assert!(world.disk(bob).pipe(download) == bytes);
    assert_never_lost(&world, bob);
}
