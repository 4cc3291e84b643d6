use std::time::Duration;

use handover_core::engine::{
    AcceptTerms, Command, DownloadError, DownloadId, DownloadOutcome, Event, FetchOptions,
    OnConflict, ReceiverOutcome, ShareEnd,
};
use handover_harness::{Answer, Fetch, Offering, Tree, World, content, small_limits};

use crate::{SECOND, assert_same, complete, count, pair};

fn terms(select: Option<Vec<u32>>, on_conflict: OnConflict) -> AcceptTerms {
    AcceptTerms {
        select,
        on_conflict,
        executables: true,
    }
}

fn tree() -> Tree {
    Tree::new()
        .file("a", content(1, 10))
        .file("b", content(2, 400_000))
        .file("c/d", content(3, 20))
        .folder("c/e")
        .file("c/f", "")
}

/// A tree with several top-level names goes into a folder of its own, including its symlinks and what a crash leaves.
#[test]
fn what_has_several_names_lands_in_a_folder_of_its_own_also_after_a_crash() {
    let (mut world, alice, bob) = pair(31);
    let tree = Tree::new()
        .file("a", content(1, 300_000))
        .file("b/c", content(2, 300_000))
        .folder("empty")
        .symlink("link", "b/c");
    let (_, ticket) = world.share(alice, tree.clone());
    let own = Tree::new()
        .file("a share/a", content(1, 300_000))
        .file("a share/b/c", content(2, 300_000))
        .folder("a share/empty")
        .symlink("a share/link", "b/c");
    world.lands_as(&ticket, own.clone());
    let fetch = |world: &World, before: Option<DownloadId>| Fetch {
        existing: before.map_or_else(Tree::new, |of| world.disk(bob).folder(of).clone()),
        leftover: before.map_or_else(Default::default, |of| world.disk(bob).leftover(of)),
        options: FetchOptions {
            own_folder: true,
            ..FetchOptions::default()
        },
        ..Fetch::default()
    };
    let first = fetch(&world, None);
    let first = world.fetch_with(bob, &ticket, first);
    assert!(world.run_until(|world| world.received(bob) > 400_000, 10 * SECOND));
    world.crash(bob);
    let again = fetch(&world, Some(first));
    world.restart(bob);
    let second = world.fetch_with(bob, &ticket, again);
    complete(&mut world, bob, second);
    assert_same(&world, bob, second, &own);
    assert!(world.received(bob) < 800_000);

    // Another download finds everything in place.
    let before = world.received(bob);
    let again = fetch(&world, Some(second));
    let third = world.fetch_with(bob, &ticket, again);
    let summary = complete(&mut world, bob, third);
    assert_eq!((world.received(bob), summary.untouched), (before, 2));
}

#[test]
fn an_offer_that_is_declined_leaves_nothing() {
    let (mut world, alice, bob) = pair(20);
    let (_, ticket) = world.share(alice, tree());
    let download = world.fetch_with(bob, &ticket, Fetch::answered(Answer::Decline));
    assert_eq!(world.run_to_end(bob, download), DownloadOutcome::Declined);
    assert_same(&world, bob, download, &Tree::new());
    assert_eq!(world.received(bob), 0);
    world.run_for(SECOND);
    let declined = |event: &Event| {
        matches!(
            event,
            Event::ReceiverLeft {
                outcome: ReceiverOutcome::Declined,
                ..
            }
        )
    };
    assert_eq!(count(&world, alice, declined), 1);
}

#[test]
fn an_offer_waits_for_its_answer() {
    let (mut world, alice, bob) = pair(21);
    let (_, ticket) = world.share(alice, tree());
    let download = world.fetch_with(bob, &ticket, Fetch::answered(Answer::Wait));
    world.run_for(Duration::from_hours(1));
    assert_eq!(
        count(&world, bob, |event| matches!(event, Event::Offer { .. })),
        1
    );
    let terms = terms(None, OnConflict::Rename);
    world.command(bob, Command::Accept { download, terms });
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree());
}

#[test]
fn what_was_selected_arrives_and_nothing_else() {
    let (mut world, alice, bob) = pair(22);
    let (_, ticket) = world.share(alice, tree());
    // By path: a, b, c/d, c/e, c/f; an index past the end selects nothing.
    let answer = Answer::Accept(terms(Some(vec![1, 3, 4, 99]), OnConflict::Rename));
    let download = world.fetch_with(bob, &ticket, Fetch::answered(answer));
    let summary = complete(&mut world, bob, download);
    let expected = Tree::new()
        .file("b", content(2, 400_000))
        .folder("c/e")
        .file("c/f", "");
    assert_same(&world, bob, download, &expected);
    assert_eq!((summary.files, summary.bytes), (2, 400_000));
    assert_eq!(world.received(bob), 400_000);
}

#[test]
fn an_empty_selection_completes_at_once() {
    let (mut world, alice, bob) = pair(23);
    let (_, ticket) = world.share(alice, tree());
    let answer = Answer::Accept(terms(Some(vec![]), OnConflict::Rename));
    let download = world.fetch_with(bob, &ticket, Fetch::answered(answer));
    assert_eq!(complete(&mut world, bob, download).files, 0);
    assert_same(&world, bob, download, &Tree::new());
}

#[test]
fn executable_bits_are_kept_only_where_the_user_agrees() {
    use handover_harness::Node;
    for executables in [false, true] {
        let (mut world, alice, bob) = pair(24);
        let tree = Tree::new()
            .file_with_mode("run", "x", 0o755)
            .file("text", "y");
        let (_, ticket) = world.share(alice, tree);
        let terms = AcceptTerms {
            executables,
            ..terms(None, OnConflict::Rename)
        };
        let download = world.fetch_with(bob, &ticket, Fetch::answered(Answer::Accept(terms)));
        let summary = complete(&mut world, bob, download);
        assert_eq!(summary.executables_stripped, u64::from(!executables));
        let Some(Node::File { mode, .. }) = world.disk(bob).folder(download).get("run") else {
            panic!("no file");
        };
        assert_eq!(*mode, if executables { 0o755 } else { 0o644 });
    }
}

/// Regression: files skipped from the start were subtracted from the files received.
#[test]
fn files_that_were_skipped_from_the_start_are_not_counted_twice() {
    let (mut world, alice, bob) = pair(25);
    let (_, ticket) = world.share(alice, tree());
    let fetch = Fetch {
        existing: Tree::one("a", "mine"),
        answer: Answer::Accept(terms(None, OnConflict::Skip)),
        ..Fetch::default()
    };
    let download = world.fetch_with(bob, &ticket, fetch);
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree().file("a", "mine"));
    assert_eq!((summary.files, summary.skipped, summary.failed), (3, 1, 0));
    assert_eq!(
        count(&world, bob, |event| matches!(
            event,
            Event::FileSkipped { .. }
        )),
        1
    );
}

/// A name can also be taken while the file is being transferred.
#[test]
fn files_whose_name_is_taken_meanwhile_are_skipped_and_counted_once() {
    let (mut world, alice, bob) = pair(25);
    let (_, ticket) = world.share(alice, tree());
    let answer = Answer::Accept(terms(None, OnConflict::Skip));
    let download = world.fetch_with(bob, &ticket, Fetch::answered(answer));
    let offered = |event: &Event| matches!(event, Event::Offer { .. });
    assert!(world.run_until(|world| count(world, bob, offered) == 1, SECOND));
    world.disk_mut(bob).put(download, "b", "mine");
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree().file("b", "mine"));
    assert_eq!((summary.files, summary.skipped, summary.failed), (3, 1, 0));
}

#[test]
fn a_name_that_is_taken_is_kept_beside_or_replaced() {
    let run = |on_conflict| {
        let (mut world, alice, bob) = pair(26);
        let (_, ticket) = world.share(alice, tree());
        let fetch = Fetch {
            existing: Tree::one("a", "mine"),
            answer: Answer::Accept(terms(None, on_conflict)),
            ..Fetch::default()
        };
        let download = world.fetch_with(bob, &ticket, fetch);
        let summary = complete(&mut world, bob, download);
        assert_eq!((summary.files, summary.skipped), (4, 0));
        (world, bob, download)
    };
    let (world, bob, download) = run(OnConflict::Rename);
    assert_same(
        &world,
        bob,
        download,
        &tree().file("a", "mine").file("a (1)", content(1, 10)),
    );
    let (world, bob, download) = run(OnConflict::Overwrite);
    assert_same(&world, bob, download, &tree());
}

#[test]
fn a_pause_stops_what_is_asked_for_and_a_resume_goes_on() {
    let (mut world, alice, bob) = pair(27);
    let tree = Tree::one("f", content(1, 5_000_000));
    let (_, ticket) = world.share(alice, tree.clone());
    let download = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
    world.command(bob, Command::Pause { download });
    world.run_for(SECOND);
    let here = world.received(bob);
    assert!(here < 500_000 + 2 * small_limits().window);
    world.run_for(Duration::from_mins(10));
    assert_eq!(world.received(bob), here, "a paused download goes on");
    world.command(bob, Command::Resume { download });
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_eq!(world.received(bob), tree.size());
}

/// SIMULATION invariants 13 and 14: one end, and no write after it.
#[test]
fn a_cancel_at_any_moment_leaves_no_staging() {
    for millis in (0..120).step_by(4) {
        let (mut world, alice, bob) = pair(millis);
        let (_, ticket) = world.share(alice, Tree::one("f", content(1, 4_000_000)).file("g", "g"));
        let download = world.fetch(bob, &ticket);
        world.run_for(Duration::from_millis(millis));
        world.command(bob, Command::Cancel { download });
        let outcome = world.run_to_end(bob, download);
        let ended = matches!(
            outcome,
            DownloadOutcome::Cancelled | DownloadOutcome::Completed(_)
        );
        assert!(ended, "{outcome:?}");
        world.run_for(Duration::from_mins(1));
        assert!(!world.disk(bob).is_staged(download), "after {millis} ms");
        assert_eq!(world.links_of(bob), [], "a link is left");
    }
}

#[test]
fn a_share_that_is_withdrawn_ends_its_downloads() {
    let (mut world, alice, bob) = pair(28);
    let (share, ticket) = world.share(alice, Tree::one("f", content(1, 9_000_000)));
    let download = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
    world.command(alice, Command::Unshare { share });
    let outcome = world.run_to_end(bob, download);
    assert_eq!(outcome, DownloadOutcome::Failed(DownloadError::Withdrawn));
    assert_eq!(
        count(&world, alice, |event| matches!(
            event,
            Event::ShareEnded { .. }
        )),
        1
    );
    let late = world.fetch(bob, &ticket);
    let outcome = world.run_to_end(bob, late);
    assert!(matches!(outcome, DownloadOutcome::Failed(_)), "{outcome:?}");
}

#[test]
fn a_share_for_one_receiver_ends_with_it() {
    let mut world = World::new(29);
    let (alice, bob, carol) = (world.add_host(), world.add_host(), world.add_host());
    let (_, ticket) = world.share_with(alice, Offering::tree(tree()).with_uses(1));
    let (_, other) = world.share(alice, Tree::one("other", "other"));
    // Merely looking at the offer does not count as a use.
    let looked = world.fetch_with(carol, &ticket, Fetch::answered(Answer::Decline));
    world.run_to_end(carol, looked);
    let download = world.fetch(bob, &ticket);
    complete(&mut world, bob, download);
    world.run_for(SECOND);
    let used = |event: &Event| {
        matches!(
            event,
            Event::ShareEnded {
                reason: ShareEnd::UsedUp,
                ..
            }
        )
    };
    assert_eq!(count(&world, alice, used), 1);
    let late = world.fetch(carol, &ticket);
    let outcome = world.run_to_end(carol, late);
    assert_eq!(outcome, DownloadOutcome::Failed(DownloadError::NoSuchShare));
    let download = world.fetch(carol, &other);
    complete(&mut world, carol, download);
}

#[test]
fn a_shutdown_ends_everything_and_says_so_once() {
    let (mut world, alice, bob) = pair(30);
    let (_, ticket) = world.share(alice, Tree::one("f", content(1, 9_000_000)));
    let (_, back) = world.share(bob, Tree::one("g", content(2, 9_000_000)));
    let download = world.fetch(bob, &ticket);
    let other = world.fetch(alice, &back);
    assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
    world.command(bob, Command::Shutdown);
    assert_eq!(world.run_to_end(bob, download), DownloadOutcome::Suspended);
    let outcome = world.run_to_end(alice, other);
    assert_eq!(outcome, DownloadOutcome::Failed(DownloadError::Withdrawn));
    world.run_for(SECOND);
    assert_eq!(
        count(&world, bob, |event| matches!(event, Event::ShutDown)),
        1
    );
    assert_eq!(world.links_of(bob), []);
}

#[test]
fn a_share_that_expires_is_withdrawn_and_its_receivers_are_told() {
    let (mut world, alice, bob) = pair(77);
    let mut offering = Offering::tree(Tree::one("f", content(1, 50_000)));
    offering.options.expires = Some(Duration::from_mins(10));
    let (_, ticket) = world.share_with(alice, offering);
    world.run_for(Duration::from_secs(599));
    let in_time = world.fetch(bob, &ticket);
    complete(&mut world, bob, in_time);
    let waiting = world.fetch_with(bob, &ticket, Fetch::answered(Answer::Wait));
    let ended = |event: &Event| {
        matches!(
            event,
            Event::ShareEnded {
                reason: ShareEnd::Expired,
                ..
            }
        )
    };
    assert_eq!(count(&world, alice, ended), 0);
    let outcome = world.run_to_end(bob, waiting);
    assert!(
        matches!(outcome, DownloadOutcome::Failed(DownloadError::Withdrawn)),
        "{outcome:?}"
    );
    assert_eq!(count(&world, alice, ended), 1);
}
