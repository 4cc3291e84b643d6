//! Row 14. The limits on requests, names and frames are tested with the peers that violate them.

use handover_core::Multiaddr;
use handover_core::engine::{DownloadOutcome, FetchKey, FetchSource, LinkId, Segment};
use handover_core::limits::{LEAF, Limits};
use handover_core::message::{Message, Served};
use handover_harness::{Fetch, Say, Tree, World, content, small_limits};

use crate::{SECOND, blames};

/// Whether a host with these limits accepts a scripted peer's tree. The error is its reason for blaming that peer.
fn takes(limits: Limits, tree: Tree) -> Result<(), String> {
    let mut world = World::new(100);
    let mallory = world.add_puppet();
    let bob = world.add_host_with(limits);
    let sharing = world.puppet_shares(mallory, tree);
    let download = world.fetch(bob, &sharing.ticket);
    match world.run_to_end(bob, download) {
        DownloadOutcome::Completed(_) => Ok(()),
        _ => Err(blames(&world, bob).concat()),
    }
}

fn assert_ends_above(limits: &Limits, fits: Tree, over: Tree) {
    assert_eq!(takes(limits.clone(), fits), Ok(()));
    let refused = takes(limits.clone(), over).unwrap_err();
    assert!(refused.starts_with("its manifest is refused"), "{refused}");
}

fn files(many: usize) -> Tree {
    (0..many).fold(Tree::new(), |tree, n| tree.file(&format!("{n}"), "x"))
}

#[test]
fn entries_of_a_manifest() {
    let limits = Limits {
        manifest_entries: 20,
        ..small_limits()
    };
    assert_ends_above(&limits, files(20), files(21));
}

#[test]
fn bytes_and_depth_of_a_path() {
    let limits = Limits {
        path_bytes: 50,
        path_depth: 4,
        ..small_limits()
    };
    let long = |len: usize| Tree::one(&"p".repeat(len), "x");
    assert_ends_above(&limits, long(50), long(51));
    assert_ends_above(
        &limits,
        Tree::one("a/b/c/d", "x"),
        Tree::one("a/b/c/d/e", "x"),
    );
}

#[test]
fn bytes_of_a_manifest() {
    let mut world = World::new(101);
    let mallory = world.add_puppet();
    let len = world
        .puppet_shares(mallory, files(9))
        .manifest
        .encoded()
        .len() as u64;
    let limits = |manifest_bytes| Limits {
        manifest_bytes,
        ..small_limits()
    };
    assert_eq!(takes(limits(len), files(9)), Ok(()));
    let refused = takes(limits(len - 1), files(9));
    assert_eq!(refused, Err(format!("a manifest of {len} bytes")));
}

#[test]
fn bad_leaves() {
    for (bad, good) in [(4, true), (5, false)] {
        let limits = Limits {
            bad_leaves: 5,
            ..small_limits()
        };
        let mut world = World::with_limits(102, limits);
        let (mallory, bob) = (world.add_puppet(), world.add_host());
        let sharing = world.puppet_shares(mallory, Tree::one("f", content(1, 2_000_000)));
        let mut left = bad;
        world.twist(mallory, move |message, payload| match message {
            Message::Data {
                id,
                segments,
                roots,
            } if left > 0 => {
                left -= 1;
                let mut segments = segments.into_inner();
                if let Served::Bytes { proof, .. } = &mut segments[0] {
                    *proof = Some(vec![].into());
                }
                let segments = segments.into();
                vec![Say::Sealed(
                    Message::Data {
                        id,
                        segments,
                        roots,
                    },
                    payload,
                )]
            }
            other => vec![Say::Sealed(other, payload)],
        });
        let download = world.fetch(bob, &sharing.ticket);
        let outcome = world.run_to_end(bob, download);
        assert_eq!(
            matches!(outcome, DownloadOutcome::Completed(_)),
            good,
            "{outcome:?}"
        );
    }
}

#[test]
fn messages_without_progress() {
    let most = u64::from(small_limits().idle_messages);
    // The greeting is one of them; the last one exceeds the limit.
    for (pings, good) in [(most - 2, true), (most - 1, false)] {
        let mut world = World::new(103);
        let (alice, mallory) = (world.add_host(), world.add_puppet());
        let (_, ticket) = world.share(alice, Tree::one("f", "x"));
        let link = world.puppet_joins(mallory, alice, &ticket);
        for nonce in 0..pings {
            world.say(link, &Message::Ping { nonce });
        }
        world.run_for(SECOND / 50);
        assert_eq!(blames(&world, alice).is_empty(), good);
    }
}

#[test]
fn requests() {
    for (many, good) in [(16, true), (17, false)] {
        let mut world = World::new(109);
        let (alice, mallory) = (world.add_host(), world.add_puppet());
        let (_, ticket) = world.share(alice, Tree::one("f", content(1, 20_000)));
        world.run_for(SECOND);
        world.disk_mut(alice).profile.read = SECOND;
        let link = world.puppet_joins(mallory, alice, &ticket);
        for id in 0..many {
            let (entry, offset, len) = (0, 0, LEAF);
            let segments = vec![Segment { entry, offset, len }].into();
            world.say(link, &Message::Request { id, segments });
        }
        world.run_for(SECOND / 2);
        assert_eq!(blames(&world, alice).is_empty(), good);
    }
}

#[test]
fn links() {
    let limits = Limits {
        links: 5,
        links_of_one: 5,
        ..small_limits()
    };
    let mut world = World::with_limits(104, limits);
    let (alice, mallory) = (world.add_host(), world.add_puppet());
    let (_, ticket) = world.share(alice, Tree::one("f", "x"));
    for _ in 0..5 {
        world.puppet_joins(mallory, alice, &ticket);
    }
    let one_more = world.puppet_dials(mallory, alice);
    world.run_for(SECOND);
    assert!(world.puppet_link(one_more).is_over);
    assert_eq!(world.links_of(alice).len(), 5);
}

/// Which of these links are closed.
fn closed(world: &mut World, links: &[LinkId]) -> Vec<bool> {
    world.run_for(SECOND);
    let links = links.iter();
    links.map(|link| world.puppet_link(*link).is_over).collect()
}

#[test]
fn links_of_one_address() {
    let limits = Limits {
        links_of_one: 2,
        ..small_limits()
    };
    let mut world = World::with_limits(104, limits);
    let (alice, mallory, eve) = (world.add_host(), world.add_puppet(), world.add_puppet());
    let (_, ticket) = world.share(alice, Tree::one("f", "x"));
    for _ in 0..2 {
        world.puppet_joins(mallory, alice, &ticket);
    }
    let links = [mallory, eve].map(|puppet| world.puppet_dials(puppet, alice));
    assert_eq!(closed(&mut world, &links), [true, false]);
}

#[test]
fn links_in_handshake() {
    let mut world = World::new(105);
    let alice = world.add_host();
    world.share(alice, Tree::one("f", "x"));
    let puppets = [(); 5].map(|()| world.add_puppet());
    let links = puppets.map(|puppet| world.puppet_dials(puppet, alice));
    assert_eq!(
        closed(&mut world, &links),
        [false, false, false, false, true]
    );
}

#[test]
fn links_in_handshake_of_one_address() {
    let mut world = World::new(105);
    let (alice, mallory, eve) = (world.add_host(), world.add_puppet(), world.add_puppet());
    world.share(alice, Tree::one("f", "x"));
    let puppets = [mallory, mallory, mallory, mallory, eve];
    let links = puppets.map(|puppet| world.puppet_dials(puppet, alice));
    assert_eq!(
        closed(&mut world, &links),
        [false, false, false, true, false]
    );
}

#[test]
fn time_of_a_handshake() {
    let mut world = World::new(106);
    let (alice, mallory) = (world.add_host(), world.add_puppet());
    world.share(alice, Tree::one("f", "x"));
    let link = world.puppet_dials(mallory, alice);
    let most = small_limits().handshake;
    world.run_for(most.mul_f64(0.99));
    assert!(!world.puppet_link(link).is_over);
    world.run_for(most.mul_f64(0.02));
    assert!(world.puppet_link(link).is_over);
}

#[test]
fn silence_of_a_link() {
    let limits = small_limits();
    let mut world = World::new(107);
    let (alice, mallory) = (world.add_host(), world.add_puppet());
    let (_, ticket) = world.share(alice, Tree::one("f", "x"));
    let link = world.puppet_joins(mallory, alice, &ticket);
    // The greeting took some milliseconds.
    world.run_for(limits.ping_after.mul_f64(1.1));
    let pinged = |world: &World| {
        let frames = &world.puppet_link(link).frames;
        frames
            .iter()
            .filter(|frame| matches!(frame.message, Message::Ping { .. }))
            .count()
    };
    assert!(pinged(&world) >= 1);
    let quiet = limits.dead_after.saturating_sub(limits.ping_after);
    world.run_for(quiet.mul_f64(0.9));
    assert!(!world.puppet_link(link).is_over);
    world.run_for(quiet.mul_f64(0.2));
    assert!(world.puppet_link(link).is_over, "it never said a thing");
}

#[test]
fn addresses_of_a_code() {
    let most = small_limits().addresses;
    for (wrong, found) in [(most - 1, true), (most, false)] {
        let mut world = World::new(108);
        let (alice, bob) = (world.add_host(), world.add_host());
        let (_, ticket) = world.share(alice, Tree::one("f", "x"));
        let nobody = (0..wrong).map(|n| {
            format!("/ip4/10.1.1.{n}/tcp/5")
                .parse::<Multiaddr>()
                .unwrap()
        });
        let source = FetchSource {
            peer: Some(ticket.peer),
            addresses: nobody.chain(ticket.addresses.clone()).collect(),
            key: FetchKey::Secret(ticket.secret.clone()),
        };
        let download = world.fetch_from(bob, source, Fetch::default());
        let outcome = world.run_to_end(bob, download);
        assert_eq!(
            matches!(outcome, DownloadOutcome::Completed(_)),
            found,
            "{outcome:?}"
        );
    }
}
