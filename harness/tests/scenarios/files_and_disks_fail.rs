use std::time::Duration;

use handover_core::engine::{DiskError, DownloadError, DownloadOutcome, Event};
use handover_harness::{DiskProfile, Fetch, JobKind, Offering, Tree, World, content};

use crate::{SECOND, assert_same, complete, count, pair};

fn tree() -> Tree {
    Tree::new()
        .file("a", content(1, 100))
        .file("m", content(2, 3_000_000))
        .file("z", content(3, 100))
}

fn failures(world: &World, host: handover_harness::HostId) -> Vec<(String, String)> {
    let failed = world.events(host).iter().filter_map(|event| match event {
        Event::FileFailed { path, reason, .. } => Some((path.as_str().to_owned(), reason.clone())),
        _ => None,
    });
    failed.collect()
}

/// THREATS row 29.
#[test]
fn a_file_that_changes_while_it_is_sent_fails_alone() {
    let (mut world, alice, bob) = pair(31);
    let (share, ticket) = world.share(alice, tree());
    let download = world.fetch(bob, &ticket);
    assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
    world
        .disk_mut(alice)
        .change(share, "m", content(9, 3_000_000));
    let summary = complete(&mut world, bob, download);
    assert_eq!((summary.files, summary.failed), (2, 1));
    let reason = "it changed on the other side while it was being sent";
    assert_eq!(failures(&world, bob), [("m".to_owned(), reason.to_owned())]);
    let rest = Tree::new()
        .file("a", content(1, 100))
        .file("z", content(3, 100));
    assert_same(&world, bob, download, &rest);
    let told = |event: &Event| {
        matches!(
            event,
            Event::ShareFileFailed {
                error: DiskError::Changed,
                ..
            }
        )
    };
    assert_eq!(count(&world, alice, told), 1);
}

/// THREATS row 29.
#[test]
fn a_file_that_vanishes_or_is_denied_fails_alone() {
    for denied in [false, true] {
        let (mut world, alice, bob) = pair(32);
        let (share, ticket) = world.share(alice, tree());
        let download = world.fetch(bob, &ticket);
        assert!(world.run_until(|world| world.received(bob) > 500_000, 10 * SECOND));
        if denied {
            world.disk_mut(alice).denied.insert("m".into());
        } else {
            world.disk_mut(alice).remove(share, "m");
        }
        let summary = complete(&mut world, bob, download);
        assert_eq!((summary.files, summary.failed), (2, 1));
        let reason = if denied {
            "the other side can't read it"
        } else {
            "it is gone on the other side"
        };
        assert_eq!(failures(&world, bob), [("m".to_owned(), reason.to_owned())]);
    }
}

/// Regression: a read was in progress when another one found the file changed, and its answer had bytes that its header
/// did not list, which the receiver took for a broken frame. THREATS row 29.
#[test]
fn a_file_that_changes_under_several_reads_at_once_gets_nobody_blamed() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        let alice = world.add_host();
        world.disk_mut(alice).profile = DiskProfile {
            jitter: Duration::from_millis(20),
            ..DiskProfile::default()
        };
        let small = (0..60).fold(tree(), |tree, n| {
            tree.file(&format!("s{n}"), content(n, 5000))
        });
        let (share, ticket) = world.share(alice, small);
        let downloads = [0; 3].map(|_| {
            let host = world.add_host();
            (host, world.fetch(host, &ticket))
        });
        world.after(Duration::from_millis(30 + 3 * seed), move |world| {
            for n in 0..60 {
                world
                    .disk_mut(alice)
                    .change(share, &format!("s{n}"), content(99, 5000));
            }
            world
                .disk_mut(alice)
                .change(share, "m", content(99, 3_000_000));
        });
        for (host, download) in downloads {
            // The world checks that no peer is blamed and that nothing wrong is published.
            let summary = complete(&mut world, host, download);
            assert_eq!(summary.files + summary.failed, 63);
        }
    }
}

/// THREATS row 30.
#[test]
fn a_full_disk_ends_the_download_and_leaves_what_is_published() {
    let (mut world, alice, bob) = pair(33);
    let (_, ticket) = world.share(alice, tree());
    world.disk_mut(bob).room = Some(1_000_000);
    let download = world.fetch(bob, &ticket);
    let outcome = world.run_to_end(bob, download);
    let full = DownloadOutcome::Failed(DownloadError::Disk(DiskError::Full));
    assert_eq!(outcome, full);
    world.run_for(SECOND);
    assert!(!world.disk(bob).is_staged(download));
    // After space was freed, it is simply fetched again.
    world.disk_mut(bob).room = None;
    let download = world.fetch(bob, &ticket);
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree());
}

/// THREATS row 30.
#[test]
fn a_name_that_can_not_be_written_fails_alone() {
    let (mut world, alice, bob) = pair(34);
    let (_, ticket) = world.share(alice, tree());
    world.disk_mut(bob).denied.insert("a".into());
    let download = world.fetch(bob, &ticket);
    let summary = complete(&mut world, bob, download);
    assert_eq!((summary.files, summary.failed), (2, 1));
    assert_eq!(
        failures(&world, bob),
        [("a".to_owned(), "permission denied: a".to_owned())]
    );
}

/// THREATS row 30.
#[test]
fn each_kind_of_job_at_the_receiver_may_fail_and_the_download_ends() {
    let kinds = [
        JobKind::Inspect,
        JobKind::Stage,
        JobKind::Write,
        JobKind::Publish,
        JobKind::Finish,
    ];
    for kind in kinds {
        let (mut world, alice, bob) = pair(35);
        let (_, ticket) = world.share(alice, tree());
        let error = DiskError::Denied("read-only file system".into());
        world.disk_mut(bob).fail_next(kind, error.clone());
        let download = world.fetch(bob, &ticket);
        let outcome = world.run_to_end(bob, download);
        assert_eq!(
            outcome,
            DownloadOutcome::Failed(DownloadError::Disk(error)),
            "{kind:?}"
        );
        world.run_for(SECOND);
        assert!(!world.disk(bob).is_staged(download), "{kind:?}");
        assert_eq!(world.links_of(bob), []);
    }
}

#[test]
fn a_share_that_can_not_be_listed_ends() {
    let (mut world, alice, bob) = pair(36);
    world
        .disk_mut(alice)
        .fail_next(JobKind::Scan, DiskError::NotFound);
    let (_, ticket) = world.share(alice, tree());
    world.run_for(SECOND);
    assert_eq!(
        count(&world, alice, |event| matches!(
            event,
            Event::ShareEnded { .. }
        )),
        1
    );
    let download = world.fetch(bob, &ticket);
    assert!(matches!(
        world.run_to_end(bob, download),
        DownloadOutcome::Failed(_)
    ));
}

#[test]
fn a_failing_hash_of_a_file_that_nobody_asked_for_is_told() {
    let (mut world, alice, _) = pair(37);
    world
        .disk_mut(alice)
        .fail_next(JobKind::Hash, DiskError::Changed);
    world.share(alice, tree());
    world.run_for(SECOND);
    assert_eq!(
        count(&world, alice, |event| matches!(
            event,
            Event::ShareFileFailed { .. }
        )),
        1
    );
}

#[test]
fn a_pipe_that_closes_at_the_receiver_ends_the_download() {
    let (mut world, alice, bob) = pair(38);
    let (_, ticket) = world.share_with(alice, Offering::pipe(content(1, 3_000_000)));
    world.disk_mut(bob).pipe_closes_after = Some(1_000_000);
    let download = world.fetch_with(bob, &ticket, Fetch::to_pipe());
    let outcome = world.run_to_end(bob, download);
    assert_eq!(
        outcome,
        DownloadOutcome::Failed(DownloadError::Disk(DiskError::PipeClosed))
    );
}
