//! Threat: a symlink planted at a component, or swapped in during a transfer. The canary outside never changes.

use std::os::unix::fs::symlink as plant;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::RenameFlags;

use super::*;

#[test]
fn a_planted_symlink_is_never_followed() {
    for policy in [OnConflict::Skip, OnConflict::Rename, OnConflict::Overwrite] {
        let receiver = Receiver::staged();
        plant(receiver.canary(), receiver.root.join("out")).unwrap();
        plant("../canary", receiver.root.join("relative")).unwrap();
        fs::create_dir(receiver.root.join("real")).unwrap();
        plant("real", receiver.root.join("inside")).unwrap();
        plant(receiver.canary().join("secret"), receiver.root.join("file")).unwrap();
        plant(
            receiver.canary().join("created"),
            receiver.root.join("dangling"),
        )
        .unwrap();
        let names = ["out/secret", "out/folder/new", "relative/new", "inside/new"];
        for (entry, name) in (0..).zip(names) {
            receiver.write(entry, 0, b"evil");
            let published = receiver.publish(PublishFile {
                on_conflict: policy,
                ..file(entry, name)
            });
            assert!(
                matches!(published, Err(DiskError::Escape(_))),
                "{name}: {published:?}"
            );
        }
        for (entry, name) in (10..).zip(["file", "dangling"]) {
            receiver.write(entry, 0, b"new");
            let published = receiver.publish(PublishFile {
                on_conflict: policy,
                ..file(entry, name)
            });
            let expected = match policy {
                OnConflict::Skip => Ok(Published::Skipped),
                OnConflict::Rename => at(&format!("{name} (1)")),
                // The symlink itself is replaced.
                OnConflict::Overwrite => at(name),
            };
            assert_eq!(published, expected);
        }
        let folders = vec![folder("out"), folder("out/x"), folder("relative/y")];
        let links = vec![symlink("out/link", "x"), symlink("inside/link", "x")];
        let failed = receiver.finish(folders, links);
        assert_eq!(failed.len(), 5, "{failed:?}");
        assert!(
            failed
                .iter()
                .all(|(_, error)| matches!(error, DiskError::Escape(_)))
        );
        receiver.assert_canary();
        assert!(
            fs::read_dir(receiver.root.join("real"))
                .unwrap()
                .next()
                .is_none()
        );
    }
}

#[test]
fn a_folder_swapped_for_a_symlink_again_and_again_leads_nowhere() {
    let receiver = Receiver::staged();
    let victim = receiver.root.join("victim");
    let link = receiver.outside.path().join("link");
    fs::create_dir(&victim).unwrap();
    plant(receiver.canary(), &link).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (cwd, exchange) = (rustix::fs::CWD, RenameFlags::EXCHANGE);
                rustix::fs::renameat_with(cwd, &victim, cwd, &link, exchange).unwrap();
            }
        });
        let mut through = 0;
        for entry in 0..2000 {
            receiver.write(entry, 0, b"evil");
            let published = receiver.publish(file(entry, &format!("victim/folder/f{entry}")));
            through += u32::from(published.is_ok());
            receiver.inspect(&["victim/secret"]);
        }
        done.store(true, Ordering::Relaxed);
        assert!(through > 0 && through < 2000, "{through} of 2000");
    });
    receiver.assert_canary();
}

#[test]
fn symlinks_planted_in_staging_are_not_written_through() {
    let receiver = Receiver::staged();
    let staging = receiver.staging_folders().remove(0);
    plant(receiver.canary(), staging.join("1")).unwrap();
    fs::create_dir(staging.join("0")).unwrap();
    plant(receiver.canary().join("secret"), staging.join("0/5")).unwrap();
    for (entry, offset) in [(5, 0), (5, 16384), (1000, 0), (1001, 16384)] {
        let done = receiver.write(entry, offset, b"evil");
        assert!(matches!(done, DiskDone::Failed(_)), "{done:?}");
    }
    for entry in [5, 1000] {
        assert!(receiver.publish(file(entry, "out")).is_err());
    }
    receiver.ok(DiskWork::Discard { download: DOWNLOAD });
    assert!(tree(&receiver.root).is_empty());
    receiver.assert_canary();
}

#[test]
fn staging_swapped_for_a_symlink_is_not_removed_through_it() {
    let receiver = Receiver::staged();
    let staging = receiver.staging_folders().remove(0);
    fs::rename(&staging, receiver.outside.path().join("moved")).unwrap();
    plant(receiver.canary(), &staging).unwrap();
    receiver.write(0, 0, b"x");
    let _ = receiver
        .disk
        .perform(DiskWork::Discard { download: DOWNLOAD });
    receiver.assert_canary();
}
