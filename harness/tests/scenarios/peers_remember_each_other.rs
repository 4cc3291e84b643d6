use handover_core::PeerId;
use handover_core::engine::{
    DownloadError, DownloadOutcome, Event, FetchKey, FetchOptions, FetchSource,
};
use handover_core::pair::PairSecret;
use handover_harness::{Answer, Fetch, HostId, Offering, Tree, World, content};

use crate::{SECOND, assert_same, complete, pair};

fn tree() -> Tree {
    Tree::one("f", content(1, 300_000))
}

fn offering(remember: bool) -> Offering {
    let mut offering = Offering::tree(tree());
    offering.options.remember = remember;
    offering
}

fn fetching(remember: bool) -> Fetch {
    Fetch {
        options: FetchOptions {
            name: "bob's".to_owned(),
            remember,
            ..FetchOptions::default()
        },
        ..Fetch::default()
    }
}

/// The pairings reported to a host: the peer, its name and the secret.
fn paired(world: &World, host: HostId) -> Vec<(PeerId, String, PairSecret)> {
    let events = world.events(host).iter();
    let paired = events.filter_map(|event| match event {
        Event::Paired { peer, name, secret } => Some((*peer, name.clone(), secret.clone())),
        _ => None,
    });
    paired.collect()
}

/// A transfer between two hosts, each of which may want a pairing.
fn transfer(seed: u64, sharer: bool, receiver: bool) -> (World, HostId, HostId) {
    let (mut world, alice, bob) = pair(seed);
    let (_, ticket) = world.share_with(alice, offering(sharer));
    let download = world.fetch_with(bob, &ticket, fetching(receiver));
    complete(&mut world, bob, download);
    world.run_for(SECOND);
    (world, alice, bob)
}

/// The source for what a paired host shares, with the key derived from the pairing.
fn source(world: &World, from: HostId, secret: &PairSecret) -> FetchSource {
    let peer = world.peer(from);
    FetchSource {
        peer: Some(peer),
        addresses: vec![World::address(from)],
        key: FetchKey::Secret(secret.shared_by(&peer)),
    }
}

#[test]
fn where_both_want_to_both_have_the_same_secret_and_the_name_of_the_other() {
    let (world, alice, bob) = transfer(600, true, true);
    let ([at_alice], [at_bob]) = (&paired(&world, alice)[..], &paired(&world, bob)[..]) else {
        panic!("each is told once");
    };
    assert_eq!(at_alice.2, at_bob.2);
    assert_eq!(
        (at_alice.0, at_alice.1.as_str()),
        (world.peer(bob), "bob's")
    );
    assert_eq!(at_bob.0, world.peer(alice));
}

#[test]
fn where_one_does_not_want_to_nothing_is_kept_and_the_transfer_is_as_any() {
    for (sharer, receiver) in [(true, false), (false, true), (false, false)] {
        let (world, alice, bob) = transfer(601, sharer, receiver);
        assert!(paired(&world, alice).is_empty());
        assert!(paired(&world, bob).is_empty());
    }
}

#[test]
fn an_offer_that_is_declined_pairs_nobody() {
    let (mut world, alice, bob) = pair(602);
    let (_, ticket) = world.share_with(alice, offering(true));
    let fetch = Fetch {
        answer: Answer::Decline,
        ..fetching(true)
    };
    let download = world.fetch_with(bob, &ticket, fetch);
    assert_eq!(world.run_to_end(bob, download), DownloadOutcome::Declined);
    world.run_for(SECOND);
    assert!(paired(&world, alice).is_empty());
    assert!(paired(&world, bob).is_empty());
}

/// The link is lost again and again, but both ends still derive the same secret.
#[test]
fn the_secret_is_the_same_whatever_becomes_of_links() {
    for bytes in (0..40).map(|step| step * 9_000 + 300) {
        let (mut world, alice, bob) = pair(603 + bytes);
        let (_, ticket) = world.share_with(alice, offering(true));
        world.kill_links_after_bytes(bytes, 3);
        let download = world.fetch_with(bob, &ticket, fetching(true));
        complete(&mut world, bob, download);
        world.run_for(SECOND);
        let (at_alice, at_bob) = (paired(&world, alice), paired(&world, bob));
        assert_eq!(at_bob.len(), 1, "{bytes}");
        // The final message may be lost, in which case the sharer does not learn that the download is complete.
        for (_, _, secret) in &at_alice {
            assert_eq!(*secret, at_bob[0].2, "{bytes}");
        }
    }
}

#[test]
fn the_next_transfer_needs_no_code_and_is_for_nobody_else() {
    let (mut world, alice, bob) = transfer(604, true, true);
    let eve = world.add_host();
    let (_, _, secret) = paired(&world, bob).remove(0);
    let peer = world.peer(alice);
    let mut known = Offering::tree(tree()).with_secret(secret.shared_by(&peer));
    known.options.only = Some(world.peer(bob));
    world.share_with(alice, known);
    // The secret may have leaked: it gives access to no other peer.
    let from = source(&world, alice, &secret);
    let download = world.fetch_from(eve, from.clone(), Fetch::default());
    let outcome = world.run_to_end(eve, download);
    let refused = DownloadOutcome::Failed(DownloadError::NoSuchShare);
    assert_eq!(outcome, refused);
    let download = world.fetch_from(bob, from, Fetch::default());
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree());
}

/// On a local network, not even an address is needed.
#[test]
fn a_known_peer_that_is_near_is_found_without_anything_else() {
    let (mut world, alice, bob) = transfer(607, true, true);
    world.make_neighbourly();
    let (_, _, secret) = paired(&world, bob).remove(0);
    let peer = world.peer(alice);
    world.share_with(
        alice,
        Offering::tree(tree()).with_secret(secret.shared_by(&peer)),
    );
    let mut from = source(&world, alice, &secret);
    from.addresses.clear();
    let download = world.fetch_from(bob, from, Fetch::default());
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree());
}

#[test]
fn what_one_shares_is_not_opened_by_the_secret_of_the_other_direction() {
    let (mut world, alice, bob) = transfer(605, true, true);
    let (_, _, secret) = paired(&world, bob).remove(0);
    let peer = world.peer(bob);
    let mut known = Offering::tree(tree()).with_secret(secret.shared_by(&peer));
    known.options.only = Some(world.peer(alice));
    world.share_with(alice, known);
    let from = source(&world, alice, &secret);
    let download = world.fetch_from(bob, from, Fetch::default());
    let outcome = world.run_to_end(bob, download);
    let refused = DownloadOutcome::Failed(DownloadError::NoSuchShare);
    assert_eq!(outcome, refused);
}

#[test]
fn the_end_of_a_download_tells_who_brought_what() {
    let (world, alice, bob) = transfer(606, false, false);
    let told: Vec<_> = world
        .events(bob)
        .iter()
        .filter_map(|event| match event {
            Event::Delivered {
                peer, bytes, bad, ..
            } => Some((*peer, *bytes, *bad)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(world.peer(alice), 300_000, 0)]);
    let last = world.events(bob).last();
    assert!(
        matches!(last, Some(Event::DownloadEnded { .. })),
        "{last:?}"
    );
}
