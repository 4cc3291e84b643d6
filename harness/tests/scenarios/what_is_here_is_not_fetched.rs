use std::time::Duration;

use bytes::Bytes;
use handover_core::code::Ticket;
use handover_core::engine::{AcceptTerms, DownloadId, Event, OnConflict};
use handover_core::limits::{GROUP, LEAF};
use handover_harness::{Answer, DiskProfile, Fetch, HostId, Tree, World, content};

use crate::{assert_same, complete, count, pair};

/// Twenty files of different sizes, some of them large enough to be cut into chunks.
fn tree() -> Tree {
    (0..20).fold(Tree::new(), |tree, at| {
        let size = if at % 5 == 0 { 20 } else { 1 } * GROUP as usize + at * 7;
        tree.file(&format!("file-{at:02}"), content(at as u64, size))
    })
}

fn fetch_into(
    world: &mut World,
    host: HostId,
    ticket: &Ticket,
    existing: Tree,
    on_conflict: OnConflict,
) -> DownloadId {
    let terms = AcceptTerms {
        select: None,
        on_conflict,
        executables: true,
    };
    let fetch = Fetch {
        existing,
        answer: Answer::Accept(terms),
        ..Fetch::default()
    };
    world.fetch_with(host, ticket, fetch)
}

fn untouched(world: &World, host: HostId) -> usize {
    let done = |event: &Event| matches!(event, Event::FileDone { .. });
    count(world, host, done)
}

#[test]
fn what_stands_there_already_is_left_alone() {
    let (mut world, alice, bob) = pair(1);
    let tree = tree();
    let (_, ticket) = world.share(alice, tree.clone());
    let download = fetch_into(&mut world, bob, &ticket, tree.clone(), OnConflict::Rename);
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_eq!(world.received(bob), 0);
    assert_eq!((summary.untouched, summary.spared), (20, tree.size()));
    assert_eq!((summary.files, summary.skipped), (20, 0));
    assert_eq!(untouched(&world, bob), 20);
}

#[test]
fn what_is_known_is_copied_and_what_has_changed_since_is_fetched() {
    let (mut world, alice, bob) = pair(2);
    world.disk_mut(bob).remembers = true;
    let before = (0..18).fold(Tree::new(), |before, at| {
        let path = format!("file-{at:02}");
        before.file(&path, tree().bytes(&path).unwrap().clone())
    });
    let (_, ticket) = world.share(alice, before.clone());
    let download = world.fetch(bob, &ticket);
    complete(&mut world, bob, download);
    assert_eq!(world.received(bob), before.size());

    let (_, ticket) = world.share(alice, tree());
    let download = world.fetch(bob, &ticket);
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree());
    // Two files were fetched, and at most one group of each other file: the sharer had to prove that it has them.
    let fetched = world.received(bob) - before.size();
    let new = tree().size() - before.size();
    let shown = fetched - new;
    assert!((18..=18 * u64::from(GROUP)).contains(&shown), "{shown}");
    assert_eq!(summary.spared, tree().size() - fetched);
    assert_eq!(summary.untouched, 0);

    let before = world.received(bob);
    world.disk_mut(bob).change_known();
    let (_, ticket) = world.share(alice, tree());
    let download = world.fetch(bob, &ticket);
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree());
    assert_eq!(world.received(bob) - before, tree().size());
    assert_eq!(summary.spared, 0);
}

/// A root is not a file: a sharer that knows the hash of another's file can neither get it published nor learn that it
/// exists here.
#[test]
fn a_file_that_the_sharer_does_not_have_is_not_made_of_one_that_is_here() {
    let secret = content(8, 9 * GROUP as usize + 5);
    let mut counts = Vec::new();
    for known in [true, false] {
        let (mut world, alice, bob) = pair(6);
        world.disk_mut(bob).remembers = known;
        let (_, ticket) = world.share(alice, Tree::one("mine", secret.clone()));
        let download = world.fetch(bob, &ticket);
        complete(&mut world, bob, download);

        let (share, ticket) = world.share(alice, Tree::one("pics/cat.jpg", secret.clone()));
        // It is hashed, and then removed.
        world.run_for(Duration::from_secs(5));
        world.disk_mut(alice).remove(share, "pics/cat.jpg");
        let download = world.fetch(bob, &ticket);
        let summary = complete(&mut world, bob, download);
        assert_eq!((summary.failed, summary.files, summary.spared), (1, 0, 0));
        assert!(
            world
                .disk(bob)
                .folder(download)
                .bytes("pics/cat.jpg")
                .is_none()
        );
        counts.push(world.received(bob));
    }
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn equal_files_travel_once() {
    let (mut world, alice, bob) = pair(3);
    let same = content(1, 3 * GROUP as usize);
    let other = content(2, 3 * GROUP as usize);
    let tree = (0..30)
        .fold(Tree::new(), |tree, at| {
            tree.file(&format!("same-{at}"), same.clone())
        })
        .file("z-other", other.clone());
    let (_, ticket) = world.share(alice, tree.clone());
    // Gives the sharer time to hash it.
    world.run_for(Duration::from_secs(1));
    let download = world.fetch(bob, &ticket);
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree);
    assert_eq!(world.received(bob), 2 * same.len() as u64);
    assert_eq!(summary.spared, 29 * same.len() as u64);
}

/// A file and its next version: some leaves differ, and some bytes are inserted.
fn versions() -> (Vec<u8>, Vec<u8>) {
    let old = content(5, 100 * GROUP as usize).to_vec();
    let mut new = old.clone();
    let at = 30 * GROUP as usize + 77;
    new[at..at + 100].fill(9);
    let put_in = 60 * GROUP as usize + 5;
    new.splice(put_in..put_in, content(6, 3 * LEAF as usize + 1));
    (old, new)
}

#[test]
fn of_a_new_version_only_what_has_changed_is_fetched() {
    for conflict in [OnConflict::Rename, OnConflict::Overwrite] {
        let (mut world, alice, bob) = pair(4);
        let (old, new) = versions();
        let (_, ticket) = world.share(alice, Tree::one("file", new.clone()));
        let folder = Tree::one("file", old.clone());
        let download = fetch_into(&mut world, bob, &ticket, folder.clone(), conflict);
        let summary = complete(&mut world, bob, download);
        let expected = match conflict {
            OnConflict::Rename => folder.file("file (1)", new.clone()),
            _ => Tree::one("file", new.clone()),
        };
        assert_same(&world, bob, download, &expected);
        let fetched = world.received(bob);
        assert!(
            fetched < 30 * u64::from(LEAF),
            "{fetched} bytes were fetched"
        );
        assert_eq!(summary.spared, new.len() as u64 - fetched);
    }
}

/// A chunk's hash is short, so it may collide: the root reveals it, and no peer is to blame.
#[test]
fn what_was_reused_wrongly_is_fetched_and_nobody_is_blamed() {
    let (mut world, alice, bob) = pair(5);
    let (old, new) = versions();
    world.disk_mut(bob).clashes = 1;
    let (_, ticket) = world.share(alice, Tree::one("file", new.clone()));
    let folder = Tree::one("file", old);
    let download = fetch_into(&mut world, bob, &ticket, folder, OnConflict::Overwrite);
    let summary = complete(&mut world, bob, download);
    assert_same(&world, bob, download, &Tree::one("file", new));
    assert_eq!((summary.spared, summary.failed), (0, 0));
    let blamed = |event: &Event| matches!(event, Event::PeerBlamed { .. });
    assert_eq!(count(&world, bob, blamed), 0);
}

/// The sharer is asked for one list at a time, and for no more after the first one that is late.
#[test]
fn a_sharer_that_takes_long_over_a_list_is_fetched_from_and_not_asked_again() {
    let (mut world, alice, bob) = pair(6);
    world.disk_mut(alice).profile = DiskProfile {
        hash: Duration::from_secs(20),
        ..DiskProfile::default()
    };
    let (old, new) = versions();
    let names = ["a", "b", "c"];
    let all = |bytes: &[u8]| {
        names.iter().fold(Tree::new(), |tree, name| {
            tree.file(name, Bytes::copy_from_slice(bytes))
        })
    };
    let (_, ticket) = world.share(alice, all(&new));
    let download = fetch_into(&mut world, bob, &ticket, all(&old), OnConflict::Overwrite);
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &all(&new));
    let blamed = |event: &Event| matches!(event, Event::PeerBlamed { .. });
    assert_eq!(count(&world, alice, blamed), 0);
}
