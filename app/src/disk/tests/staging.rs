//! Before publishing: what exists, what is written where, and what is cleaned up.

use std::os::unix::fs::symlink;

use handover_core::limits::LEAF;

use super::super::staging::PARTIAL;
use super::*;

#[test]
fn an_inspection_sees_what_is_taken_and_makes_nothing() {
    let receiver = Receiver::new();
    fs::create_dir(receiver.root.join("folder")).unwrap();
    fs::write(receiver.root.join("folder/file"), "").unwrap();
    symlink("nowhere", receiver.root.join("dangling")).unwrap();
    symlink(receiver.canary(), receiver.root.join("out")).unwrap();
    let before = tree(&receiver.root);
    let (taken, free) = receiver.inspect(&[
        "folder",
        "folder/file",
        "folder/other",
        "dangling",
        "out/new",
        "folder/file/below",
        "none/of/this",
    ]);
    assert_eq!(taken, [0, 1, 3, 4, 5]);
    assert!(free.unwrap() > 0);
    assert_eq!(tree(&receiver.root), before);
}

#[test]
fn a_folder_that_is_not_there_is_made_only_when_staged_and_goes_again() {
    let receiver = Receiver::new();
    let target = receiver.root.join("new/deep");
    receiver
        .disk
        .register_download(DOWNLOAD, DownloadTarget::Folder(target.clone()));
    let (taken, free) = receiver.inspect(&["a"]);
    assert!(taken.is_empty() && free.unwrap() > 0);
    assert!(!receiver.root.join("new").exists());
    receiver.ok(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin(),
    });
    assert!(target.is_dir());
    receiver.ok(DiskWork::Discard { download: DOWNLOAD });
    assert!(!receiver.root.join("new").exists());
    assert!(receiver.root.exists());
}

#[test]
fn a_target_that_is_a_file_is_refused() {
    let receiver = Receiver::new();
    let target = receiver.root.join("file");
    fs::write(&target, "x").unwrap();
    receiver
        .disk
        .register_download(DOWNLOAD, DownloadTarget::Folder(target));
    let done = receiver.disk.perform(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin(),
    });
    assert!(
        matches!(done, DiskDone::Failed(DiskError::Other(_))),
        "{done:?}"
    );
}

#[test]
fn nothing_is_written_before_there_is_a_staging_folder() {
    let receiver = Receiver::new();
    let done = receiver.write(0, 0, b"x");
    assert!(matches!(done, DiskDone::Failed(DiskError::Other(_))));
    assert!(receiver.tree().is_empty());
}

#[test]
fn pieces_come_in_any_order_from_several_threads_and_twice() {
    let receiver = Receiver::staged();
    let leaf = LEAF as usize;
    let content = bytes(40 * leaf + 7);
    std::thread::scope(|threads| {
        for worker in 0..4 {
            let (receiver, content) = (&receiver, &content);
            threads.spawn(move || {
                for (at, piece) in content.chunks(leaf).enumerate().rev() {
                    if at % 4 == worker || at % 5 == worker {
                        let done = receiver.write(1234, (at * leaf) as u64, piece);
                        assert!(matches!(done, DiskDone::Ok), "{done:?}");
                    }
                }
            });
        }
    });
    // An incomplete file never appears under its final name.
    assert!(receiver.tree().is_empty());
    assert_eq!(receiver.publish(file(1234, "a/big")), at("a/big"));
    assert_eq!(fs::read(receiver.root.join("a/big")).unwrap(), content);
}

#[test]
fn more_files_than_may_be_open_are_written_piecewise() {
    let receiver = Receiver::staged();
    let leaf = LEAF as usize;
    let content = bytes(2 * leaf);
    for half in 0..2 {
        for entry in 0..150 {
            let from = half * leaf;
            let done = receiver.write(entry * 17, from as u64, &content[from..from + leaf]);
            assert!(matches!(done, DiskDone::Ok));
        }
    }
    let files = (0..150)
        .map(|entry| file(entry * 17, &format!("{entry}")))
        .collect();
    assert!(receiver.publish_all(files).iter().all(Result::is_ok));
    for entry in 0..150 {
        assert_eq!(
            fs::read(receiver.root.join(entry.to_string())).unwrap(),
            content
        );
    }
}

#[test]
fn staging_is_private() {
    let receiver = Receiver::staged();
    receiver.write(0, 0, b"secret");
    let staging = &receiver.staging_folders()[0];
    assert_eq!(staging.metadata().unwrap().mode() & 0o7777, 0o700);
    assert_eq!(
        staging.join("0/0").metadata().unwrap().mode() & 0o7777,
        0o600
    );
}

#[test]
fn what_a_dead_process_left_is_removed_and_what_a_living_one_uses_is_kept() {
    let receiver = Receiver::staged();
    assert!(matches!(receiver.write(0, 0, b"alive"), DiskDone::Ok));
    let living = receiver.staging_folders();
    let dead = receiver.root.join(format!("{PARTIAL}00000000deadbeef"));
    fs::create_dir_all(dead.join("0")).unwrap();
    fs::write(dead.join("lock"), "").unwrap();
    fs::write(dead.join("0/0"), "half").unwrap();
    symlink(receiver.canary(), dead.join("0/1")).unwrap();
    let planted = receiver.root.join(format!("{PARTIAL}0000000000000bad"));
    symlink(receiver.canary(), &planted).unwrap();

    let other = Disk::default();
    let download = DownloadId(7);
    other.register_download(download, DownloadTarget::Folder(receiver.root.clone()));
    assert!(matches!(
        other.perform(DiskWork::Stage {
            download,
            origin: origin()
        }),
        DiskDone::Ok
    ));
    assert!(!dead.exists());
    assert!(living[0].exists());
    assert_eq!(receiver.staging_folders().len(), 3);
    receiver.assert_canary();
    assert_eq!(receiver.publish(file(0, "file")), at("file"));
    assert_eq!(receiver.read("file"), "alive");
}

#[test]
fn many_downloads_start_in_one_folder_at_once() {
    let receiver = Receiver::new();
    std::thread::scope(|threads| {
        for id in 10..26 {
            let receiver = &receiver;
            threads.spawn(move || {
                let download = DownloadId(id);
                let target = DownloadTarget::Folder(receiver.root.clone());
                receiver.disk.register_download(download, target);
                for _ in 0..20 {
                    receiver.ok(DiskWork::Stage {
                        download,
                        origin: origin(),
                    });
                    let data = Bytes::from(format!("{id}"));
                    let pieces = vec![Piece {
                        entry: 0,
                        offset: 0,
                        data,
                    }];
                    receiver.ok(DiskWork::Write { download, pieces });
                    receiver.ok(DiskWork::Discard { download });
                    let target = DownloadTarget::Folder(receiver.root.clone());
                    receiver.disk.register_download(download, target);
                }
            });
        }
    });
    assert!(tree(&receiver.root).is_empty());
}

#[test]
fn a_cancelled_download_leaves_what_was_published_and_nothing_else() {
    let receiver = Receiver::staged();
    fs::create_dir(receiver.root.join("old")).unwrap();
    assert_eq!(receiver.receive(0, "kept/file", "x"), at("kept/file"));
    // The parents are created, then the file is removed: two empty folders of ours remain.
    fs::create_dir(receiver.root.join("kept/folder")).unwrap();
    assert_eq!(
        receiver.receive(1, "old/made/deep/file", "y"),
        at("old/made/deep/file")
    );
    fs::remove_file(receiver.root.join("old/made/deep/file")).unwrap();
    receiver.write(2, 0, b"half");
    receiver.ok(DiskWork::Discard { download: DOWNLOAD });
    let left: Vec<_> = tree(&receiver.root).into_keys().collect();
    let expected = ["kept", "kept/file", "kept/folder", "old"];
    assert_eq!(left, expected.map(PathBuf::from));
}

#[test]
fn a_staging_file_that_somebody_changed_is_not_published() {
    let receiver = Receiver::staged();
    for (entry, len) in [(0, 3), (1, u64::from(LEAF))] {
        receiver.write(entry, 0, &bytes(usize::try_from(len).unwrap()));
    }
    let staging = &receiver.staging_folders()[0];
    fs::remove_file(staging.join("0/0")).unwrap();
    fs::File::options()
        .write(true)
        .open(staging.join("0/1"))
        .unwrap()
        .set_len(5)
        .unwrap();
    for entry in [0, 1] {
        assert!(matches!(
            receiver.publish(file(entry, "file")),
            Err(DiskError::Other(_))
        ));
    }
    assert!(receiver.tree().is_empty());
}
