use handover_harness::{Offering, Tree, content};

use crate::{SECOND, assert_same, complete, pair};

/// The same secret, the same files, another engine: receivers simply continue.
#[test]
fn receivers_go_on_where_they_were() {
    let (mut world, alice, bob) = pair(43);
    let tree = Tree::one("f", content(1, 5_000_000)).file("g", content(2, 10));
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > 1_000_000, 10 * SECOND));
    world.crash(alice);
    world.run_for(5 * SECOND);
    world.restart(alice);
    let again = Offering::tree(tree.clone()).with_secret(ticket.secret.clone());
    let (_, same) = world.share_with(alice, again);
    assert_eq!(same, ticket, "a share that comes back has the same ticket");
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert!(
        world.received(bob) < 7_000_000,
        "{} bytes came",
        world.received(bob)
    );
}
