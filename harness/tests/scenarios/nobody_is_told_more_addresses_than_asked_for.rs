use std::cell::RefCell;
use std::rc::Rc;

use handover_core::PeerId;
use handover_core::engine::{Command, DownloadOutcome, Event, FetchOptions, PathKind};
use handover_harness::{Fetch, HostId, Offering, Route, Tree, World, content};

use crate::{SECOND, assert_same, complete, count, pair};

const RELAY: &str = "/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp/p2p-circuit";

/// Two hosts that can be reached over the local network, directly over the internet, and through a relay.
fn scene(seed: u64) -> (World, HostId, HostId) {
    let (mut world, alice, bob) = pair(seed);
    for (host, number) in [(alice, 1), (bob, 2)] {
        let direct = format!("/ip4/203.0.113.{number}/tcp/1");
        world.listen(host, direct.parse().unwrap(), Route::wan());
        let relayed = format!("/ip4/198.51.100.{number}/tcp/1{RELAY}");
        let route = Route::new(PathKind::Relayed, Route::wan().profile);
        world.listen(host, relayed.parse().unwrap(), route);
    }
    (world, alice, bob)
}

fn tree() -> Tree {
    Tree::one("f", content(1, 300_000))
}

/// Row 8.
#[test]
fn a_ticket_names_the_local_network_only_where_that_was_asked_for() {
    for lan in [false, true] {
        let (mut world, alice, _) = scene(400);
        // An address of a carrier's network (CGNAT), or of a VPN.
        world.listen(
            alice,
            "/ip4/100.64.0.1/tcp/1".parse().unwrap(),
            Route::wan(),
        );
        let mut offering = Offering::tree(tree());
        offering.options.lan = lan;
        let (_, ticket) = world.share_with(alice, offering);
        let is_lan =
            |address: &&handover_core::Multiaddr| address.to_string().starts_with("/ip4/10");
        let inside = if lan { 2 } else { 0 };
        assert_eq!(ticket.addresses.iter().filter(is_lan).count(), inside);
        assert_eq!(ticket.addresses.len(), 2 + inside);
    }
}

/// Regression: a relay that only the other side had named was used immediately, and sees the address of a hidden
/// receiver.
#[test]
fn who_hides_uses_no_relay_that_only_the_other_side_has_named_before_the_user_agrees() {
    let relay: PeerId = RELAY.split('/').nth(2).unwrap().parse().unwrap();
    for agrees in [false, true] {
        let (mut world, alice, bob) = scene(402);
        let mut offering = Offering::tree(tree());
        offering.options.relayed_only = true;
        let (_, ticket) = world.share_with(alice, offering);
        let fetch = Fetch {
            options: FetchOptions {
                relayed_only: true,
                only_relays: Some(Vec::new()),
                ..FetchOptions::default()
            },
            ..Fetch::default()
        };
        let download = world.fetch_with(bob, &ticket, fetch);
        // No matter how long the user takes.
        world.run_for(600 * SECOND);
        let asked = |event: &Event| match event {
            Event::RelaysInQuestion { relays, .. } => relays.iter().any(|(of, _)| *of == relay),
            _ => false,
        };
        assert_eq!(count(&world, bob, asked), 1);
        assert_eq!(world.links_of(bob), []);
        if agrees {
            let relays = vec![relay];
            world.command(bob, Command::UseRelays { download, relays });
            complete(&mut world, bob, download);
            assert_same(&world, bob, download, &tree());
        } else {
            world.command(bob, Command::Cancel { download });
            let outcome = world.run_to_end(bob, download);
            assert_eq!(outcome, DownloadOutcome::Cancelled);
        }
    }
}

/// Dials, call-backs and address messages during a transfer in which one side hides its addresses.
fn hidden(sharer_hides: bool) -> String {
    let (mut world, alice, bob) = scene(401);
    // A hidden sharer is not announced on the local network.
    if !sharer_hides {
        world.make_neighbourly();
    }
    let mut offering = Offering::tree(tree());
    offering.options.relayed_only = sharer_hides;
    let (_, ticket) = world.share_with(alice, offering);
    if sharer_hides {
        assert_eq!(ticket.addresses.len(), 1, "{:?}", ticket.addresses);
    }
    let seen = Rc::new(RefCell::new(String::new()));
    let told = Rc::clone(&seen);
    world.narrate_to(move |line| {
        if ["→ dial", "→ reach", "Addresses"]
            .iter()
            .any(|what| line.contains(what))
        {
            *told.borrow_mut() += line;
            *told.borrow_mut() += "\n";
        }
    });
    let fetch = Fetch {
        options: FetchOptions {
            relayed_only: !sharer_hides,
            ..FetchOptions::default()
        },
        ..Fetch::default()
    };
    let download = world.fetch_with(bob, &ticket, fetch);
    let summary = complete(&mut world, bob, download);
    world.run_for(SECOND);
    assert_same(&world, bob, download, &tree());
    assert_eq!(summary.path, Some(PathKind::Relayed));
    let joined = |event: &Event| {
        matches!(
            event,
            Event::ReceiverJoined {
                path: PathKind::Relayed,
                ..
            }
        )
    };
    assert_eq!(count(&world, alice, joined), 1);
    seen.take()
}

#[test]
fn a_receiver_that_hides_dials_relays_alone_and_tells_nothing() {
    let seen = hidden(false);
    let dials: Vec<_> = seen
        .lines()
        .filter(|line| line.contains("→ dial"))
        .collect();
    assert!(!dials.is_empty());
    assert!(
        dials
            .iter()
            .all(|line| line.matches("/ip4/").count() == line.matches("p2p-circuit").count()),
        "{seen}"
    );
    assert!(
        !seen
            .lines()
            .any(|line| line.contains("host 1: → link") && line.contains("Addresses")),
        "{seen}"
    );
    assert!(!seen.contains("→ reach"), "{seen}");
}

#[test]
fn a_sharer_that_hides_tells_nothing_and_calls_nobody_back() {
    let seen = hidden(true);
    assert!(
        !seen
            .lines()
            .any(|line| line.contains("host 0: → link") && line.contains("Addresses")),
        "{seen}"
    );
    assert!(!seen.contains("→ reach"), "{seen}");
}
