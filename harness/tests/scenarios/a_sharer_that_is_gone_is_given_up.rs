use std::time::Duration;

use handover_core::engine::{DownloadError, DownloadOutcome, Event, FetchOptions, ReceiverOutcome};
use handover_harness::{Fetch, Tree, content, small_limits};

use crate::{SECOND, complete, count, pair};

fn unreachable(outcome: &DownloadOutcome) -> &str {
    match outcome {
        DownloadOutcome::Failed(DownloadError::Unreachable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sharer_that_never_was_there_is_looked_for_as_long_as_asked() {
    for patience in [None, Some(5 * SECOND)] {
        let (mut world, alice, bob) = pair(12);
        let (_, ticket) = world.share(alice, Tree::one("f", "x"));
        world.open_routes(alice, false);
        let began = world.now();
        let options = FetchOptions {
            search: patience,
            ..FetchOptions::default()
        };
        let fetch = Fetch {
            options,
            ..Fetch::default()
        };
        let download = world.fetch_with(bob, &ticket, fetch);
        let outcome = world.run_to_end(bob, download);
        assert_eq!(unreachable(&outcome), "nobody answers");
        let took = world.now().since(began);
        let patience = patience.unwrap_or(small_limits().search);
        assert!(took >= patience && took < patience + SECOND, "{took:?}");
        let tried = count(&world, bob, |event| {
            matches!(event, Event::Connecting { .. })
        });
        assert!(tried > 2, "{tried} attempts");
    }
}

#[test]
fn a_sharer_that_goes_for_good_is_given_up_within_the_search_time() {
    let (mut world, alice, bob) = pair(13);
    let (_, ticket) = world.share(alice, Tree::one("f", content(1, 40_000_000)));
    let download = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
    world.crash(alice);
    let began = world.now();
    let outcome = world.run_to_end(bob, download);
    assert!(!unreachable(&outcome).is_empty());
    assert!(world.now().since(began) < small_limits().search + 2 * SECOND);
    assert_eq!(
        count(&world, bob, |event| matches!(
            event,
            Event::ConnectionLost { .. }
        )),
        1
    );
    assert!(
        !world.disk(bob).is_staged(download),
        "staging is left behind"
    );
}

#[test]
fn a_receiver_that_goes_for_good_is_told_as_lost() {
    let (mut world, alice, bob) = pair(14);
    let (_, ticket) = world.share(alice, Tree::one("f", content(1, 40_000_000)));
    world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
    world.crash(bob);
    world.run_for(small_limits().search + SECOND);
    let lost = |event: &Event| {
        matches!(
            event,
            Event::ReceiverLeft {
                outcome: ReceiverOutcome::Lost,
                ..
            }
        )
    };
    assert_eq!(count(&world, alice, lost), 1);
}

/// Nothing arrives, and the loss is not reported: only a timeout can detect it.
#[test]
fn a_link_that_goes_silent_is_left_for_a_new_one() {
    let (mut world, alice, bob) = pair(15);
    let tree = Tree::one("f", content(1, 4_000_000));
    let (_, ticket) = world.share(alice, tree);
    let download = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
    let link = world.links_of(bob)[0];
    world.silence(link);
    let began = world.now();
    complete(&mut world, bob, download);
    let took = world.now().since(began);
    assert!(took >= small_limits().dead_after, "{took:?}");
    assert!(took < small_limits().dead_after + 5 * SECOND, "{took:?}");
}

#[test]
fn a_sharer_that_goes_silent_for_good_is_given_up() {
    let (mut world, alice, bob) = pair(16);
    let (_, ticket) = world.share(alice, Tree::one("f", content(1, 4_000_000)));
    let download = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
    world.silence(world.links_of(bob)[0]);
    world.open_routes(alice, false);
    let began = world.now();
    unreachable(&world.run_to_end(bob, download));
    let most = small_limits().dead_after + small_limits().search + 2 * SECOND;
    assert!(world.now().since(began) < most);
}

#[test]
fn a_link_that_stalls_for_a_while_is_kept() {
    let (mut world, alice, bob) = pair(17);
    let tree = Tree::one("f", content(1, 4_000_000));
    let (_, ticket) = world.share(alice, tree);
    let download = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
    let link = world.links_of(bob)[0];
    world.stall(link, Duration::from_secs(12));
    complete(&mut world, bob, download);
    assert_eq!(
        count(&world, bob, |event| matches!(
            event,
            Event::ConnectionLost { .. }
        )),
        0
    );
}
