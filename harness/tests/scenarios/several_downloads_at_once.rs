use handover_harness::{Tree, World, content};

use crate::{assert_same, complete, pair};

fn tree(mark: u64) -> Tree {
    Tree::new()
        .file("large", content(mark, 1_500_000))
        .file("small", content(mark + 1, 77))
}

#[test]
fn two_receivers_get_the_same_share() {
    let mut world = World::new(2);
    let alice = world.add_host();
    let (bob, carol) = (world.add_host(), world.add_host());
    let (_, ticket) = world.share(alice, tree(1));
    let downloads = [bob, carol].map(|host| (host, world.fetch(host, &ticket)));
    for (host, download) in downloads {
        complete(&mut world, host, download);
        assert_same(&world, host, download, &tree(1));
        assert_eq!(world.received(host), tree(1).size());
    }
}

#[test]
fn one_host_makes_two_downloads_from_two_sharers() {
    let mut world = World::new(3);
    let (alice, bob, carol) = (world.add_host(), world.add_host(), world.add_host());
    let (_, from_alice) = world.share(alice, tree(1));
    let (_, from_carol) = world.share(carol, tree(5));
    let first = world.fetch(bob, &from_alice);
    let second = world.fetch(bob, &from_carol);
    complete(&mut world, bob, first);
    complete(&mut world, bob, second);
    assert_same(&world, bob, first, &tree(1));
    assert_same(&world, bob, second, &tree(5));
}

#[test]
fn one_host_makes_two_downloads_of_two_shares_of_one_peer_while_it_shares_itself() {
    let (mut world, alice, bob) = pair(4);
    let tickets = [1, 9].map(|mark| (mark, world.share(alice, tree(mark)).1));
    let (_, back) = world.share(bob, tree(20));
    let there = world.fetch(alice, &back);
    for (mark, ticket) in tickets {
        let download = world.fetch(bob, &ticket);
        complete(&mut world, bob, download);
        assert_same(&world, bob, download, &tree(mark));
    }
    complete(&mut world, alice, there);
    assert_same(&world, alice, there, &tree(20));
}
