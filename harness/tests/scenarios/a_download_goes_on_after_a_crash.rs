use handover_core::engine::{
    Command, DiskError, DownloadError, DownloadId, DownloadOutcome, Event, KeptSummary,
};
use handover_core::limits::{GROUP, Limits};
use handover_harness::{
    DiskProfile, Fetch, HostId, JobKind, Offering, Tree, World, content, small_limits,
};

use crate::{SECOND, assert_same, complete, count, pair};

const SIZE: u64 = 600_000;

fn tree() -> Tree {
    Tree::new()
        .file("a", content(1, 100))
        .file("m", content(2, usize::try_from(SIZE).unwrap()))
        .file("z", content(3, 100))
}

/// Another download into the same folder.
fn again(world: &World, bob: HostId, download: DownloadId) -> Fetch {
    Fetch {
        existing: world.disk(bob).folder(download).clone(),
        leftover: world.disk(bob).leftover(download),
        ..Fetch::default()
    }
}

fn kept(world: &World, bob: HostId, of: DownloadId) -> KeptSummary {
    let mut offers = world.events(bob).iter().filter_map(|event| match event {
        Event::Offer { download, kept, .. } if *download == of => Some(*kept),
        _ => None,
    });
    offers.next_back().expect("an offer")
}

#[test]
fn a_receiver_that_crashes_again_and_again_fetches_a_window_again_each_time_at_the_most() {
    let (mut world, alice, bob) = pair(71);
    let (_, ticket) = world.share(alice, tree());
    let mut download = world.fetch(bob, &ticket);
    let mut crashes = 0;
    while !world.run_until(|world| world.outcome(bob, download).is_some(), SECOND / 100) {
        crashes += 1;
        world.crash(bob);
        let fetch = again(&world, bob, download);
        world.restart(bob);
        download = world.fetch_with(bob, &ticket, fetch);
    }
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree());
    assert!(crashes > 5, "only {crashes} crashes");
    let window = small_limits().window + u64::from(GROUP);
    let again = world.received(bob).saturating_sub(SIZE + 200);
    assert!(
        again <= crashes * window,
        "{again} bytes came again in {crashes} crashes"
    );
}

/// Regression: during a slow sync a download sent one more request again and again, for as long as the sync took.
#[test]
fn a_sync_that_takes_long_puts_a_window_and_a_request_at_risk_at_the_most() {
    let (mut world, alice, bob) = pair(79);
    let tree = Tree::new().file("large", content(1, 12 * GROUP as usize));
    let (_, ticket) = world.share(alice, tree);
    world.disk_mut(bob).profile = DiskProfile {
        sync: 3600 * SECOND,
        ..DiskProfile::INSTANT
    };
    world.fetch(bob, &ticket);
    world.run_for(60 * SECOND);
    let most = small_limits().window + u64::from(GROUP);
    let came = world.received(bob);
    assert!(
        (small_limits().window..=most).contains(&came),
        "{came} bytes came, none of which is safe"
    );
}

#[test]
fn a_download_that_is_suspended_goes_on_where_it_was() {
    let (mut world, alice, bob) = pair(72);
    let (_, ticket) = world.share(alice, tree());
    let first = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > SIZE / 2, 10 * SECOND));
    world.command(bob, Command::Suspend { download: first });
    assert_eq!(world.run_to_end(bob, first), DownloadOutcome::Suspended);
    let fetch = again(&world, bob, first);
    let second = world.fetch_with(bob, &ticket, fetch);
    complete(&mut world, bob, second);
    assert_same(&world, bob, second, &tree());
    let kept = kept(&world, bob, second);
    assert!(kept.bytes > SIZE / 4 && kept.files == 1, "{kept:?}");
    let resumable = |event: &Event| matches!(event, Event::Resumable { .. });
    assert_eq!(count(&world, bob, resumable), 2);
}

#[test]
fn a_cancelled_download_leaves_nothing_to_go_on_with() {
    let (mut world, alice, bob) = pair(73);
    let (_, ticket) = world.share(alice, tree());
    let first = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > SIZE / 2, 10 * SECOND));
    world.command(bob, Command::Cancel { download: first });
    assert_eq!(world.run_to_end(bob, first), DownloadOutcome::Cancelled);
    let fetch = again(&world, bob, first);
    let second = world.fetch_with(bob, &ticket, fetch);
    complete(&mut world, bob, second);
    assert_eq!(kept(&world, bob, second).bytes, 0);
}

#[test]
fn a_disk_that_was_full_goes_on_when_there_is_room() {
    let (mut world, alice, bob) = pair(74);
    let (_, ticket) = world.share(alice, tree());
    world.disk_mut(bob).room = Some(SIZE / 2);
    let first = world.fetch(bob, &ticket);
    let outcome = world.run_to_end(bob, first);
    let full = DownloadError::Disk(DiskError::Full);
    assert_eq!(outcome, DownloadOutcome::Failed(full));
    world.disk_mut(bob).room = None;
    let fetch = again(&world, bob, first);
    let second = world.fetch_with(bob, &ticket, fetch);
    complete(&mut world, bob, second);
    assert_same(&world, bob, second, &tree());
    assert!(kept(&world, bob, second).bytes > SIZE / 4);
}

/// Flips one bit at the start, in the middle or at the end: of a file in progress, or of complete files.
#[test]
fn what_rots_between_two_runs_is_fetched_again_and_nobody_is_blamed() {
    let mut resumed = 0;
    for byte in (0..SIZE).step_by(usize::try_from(SIZE / 23).unwrap()) {
        let (mut world, alice, bob) = pair(77);
        let (_, ticket) = world.share(alice, tree());
        let first = world.fetch(bob, &ticket);
        assert!(world.run_until(|world| world.received(bob) > SIZE / 2, 10 * SECOND));
        world.crash(bob);
        let mut fetch = again(&world, bob, first);
        assert!(fetch.leftover.rot(usize::try_from(byte).unwrap()));
        world.restart(bob);
        let before = world.received(bob);
        let second = world.fetch_with(bob, &ticket, fetch);
        complete(&mut world, bob, second);
        assert_same(&world, bob, second, &tree());
        let blamed = |event: &Event| matches!(event, Event::PeerBlamed { .. });
        assert_eq!(count(&world, bob, blamed), 0);
        resumed += u32::from(world.received(bob) - before < SIZE * 3 / 4);
    }
    assert!(resumed > 20, "a bit cost a file: {resumed}");
}

/// The files have the same names, sizes and times, so the manifest is the same: only the roots differ.
#[test]
fn what_was_kept_of_other_bytes_is_fetched_again_and_nobody_is_blamed() {
    let (mut world, alice, bob) = pair(75);
    let (_, ticket) = world.share(alice, tree());
    let first = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > SIZE / 2, 10 * SECOND));
    world.crash(alice);
    world.crash(bob);
    world.restart(alice);
    let other = Tree::new()
        .file("a", content(1, 100))
        .file("m", content(9, usize::try_from(SIZE).unwrap()))
        .file("z", content(3, 100));
    let secret = ticket.secret.clone();
    let offering = Offering::tree(other.clone()).with_secret(secret);
    let (_, ticket) = world.share_with(alice, offering);
    let fetch = again(&world, bob, first);
    world.restart(bob);
    let second = world.fetch_with(bob, &ticket, fetch);
    complete(&mut world, bob, second);
    assert_same(&world, bob, second, &other);
    assert!(kept(&world, bob, second).bytes > SIZE / 4);
    let blamed = |event: &Event| matches!(event, Event::PeerBlamed { .. });
    assert_eq!(count(&world, bob, blamed), 0);
}

#[test]
fn a_journal_that_can_not_be_written_ends_no_download() {
    let (mut world, alice, bob) = pair(76);
    let (_, ticket) = world.share(alice, tree());
    let error = DiskError::Other("input/output error".into());
    world.disk_mut(bob).fail_next(JobKind::Journal, error);
    let download = world.fetch(bob, &ticket);
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree());
}

#[test]
fn what_is_over_at_once_is_not_noted() {
    let limits = Limits {
        window: SIZE * 2,
        ..small_limits()
    };
    let mut world = World::with_limits(77, limits);
    let (alice, bob) = (world.add_host(), world.add_host());
    let (_, ticket) = world.share(alice, tree());
    let error = DiskError::Other("nobody should have asked for that".into());
    world.disk_mut(bob).fail_next(JobKind::Sync, error);
    let download = world.fetch(bob, &ticket);
    complete(&mut world, bob, download);
}
