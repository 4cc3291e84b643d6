//! Threat: a full disk, one that can't be written to, names that don't fit. What is verified is kept.
//!
//! These need a disk of their own. A test that may mount one does so in its own mount namespace; one that may not says
//! that it was skipped.

use std::process::Command;

use super::*;

/// Set in the process that a test runs itself in, to the empty folder that a disk is to be mounted on.
const INSIDE: &str = "HANDOVER_TEST_MOUNT";

/// Runs the named test once more, in a mount namespace of its own. `true` in that process.
#[allow(clippy::print_stderr)]
fn in_own_namespace(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let possible = Command::new("unshare")
        .args(["--mount", "--map-root-user", "mount", "-t", "tmpfs", "none"])
        .arg(folder.path())
        .output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no disk can be mounted here");
        return None;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--map-root-user"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("disk::tests::room::{test}"),
            "--nocapture",
        ])
        .env(INSIDE, folder.path())
        .status();
    assert!(status.unwrap().success());
    None
}

fn mount(folder: &Path, options: &str) {
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "none"])
        .arg(folder)
        .status();
    assert!(status.unwrap().success());
}

fn receiver_at(root: &Path) -> Receiver {
    let mut receiver = Receiver::new();
    receiver.root = root.to_owned();
    let target = DownloadTarget::Folder(root.to_owned());
    receiver.disk.register_download(DOWNLOAD, target);
    receiver
}

#[test]
fn a_full_disk_is_named_and_after_room_is_made_it_goes_on() {
    let Some(root) = in_own_namespace("a_full_disk_is_named_and_after_room_is_made_it_goes_on")
    else {
        return;
    };
    mount(&root, "size=1m");
    let receiver = receiver_at(&root);
    let ballast = root.join("ballast");
    fs::write(&ballast, vec![1; 600_000]).unwrap();
    assert!(receiver.inspect(&["a"]).1.unwrap() < 1_000_000);
    receiver.ok(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin(),
    });
    let content = bytes(400 * 1024);
    assert!(matches!(
        receiver.write(0, 0, &content[..262_144]),
        DiskDone::Ok
    ));
    let done = receiver.write(0, 262_144, &content[262_144..]);
    let more = receiver.write(1, 0, &bytes(262_144));
    assert!(
        matches!((&done, &more), (_, DiskDone::Failed(DiskError::Full))),
        "{done:?} {more:?}"
    );
    fs::remove_file(&ballast).unwrap();
    assert!(matches!(
        receiver.write(0, 262_144, &content[262_144..]),
        DiskDone::Ok
    ));
    assert!(matches!(
        receiver.write(1, 0, &bytes(262_144)),
        DiskDone::Ok
    ));
    assert_eq!(receiver.publish(file(0, "a")), at("a"));
    assert_eq!(receiver.publish(file(1, "b")), at("b"));
    assert_eq!(fs::read(root.join("a")).unwrap(), content);
}

#[test]
fn a_read_only_disk_is_named() {
    let Some(root) = in_own_namespace("a_read_only_disk_is_named") else {
        return;
    };
    mount(&root, "size=1m,ro");
    let receiver = receiver_at(&root);
    let done = receiver.disk.perform(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin(),
    });
    let DiskDone::Failed(DiskError::Denied(why)) = done else {
        panic!("{done:?}");
    };
    assert!(why.contains("read-only"));
    receiver.ok(DiskWork::Discard { download: DOWNLOAD });
}

#[test]
fn a_folder_on_another_disk_is_an_error_that_says_so() {
    let Some(root) = in_own_namespace("a_folder_on_another_disk_is_an_error_that_says_so") else {
        return;
    };
    mount(&root, "size=1m");
    fs::create_dir(root.join("other")).unwrap();
    mount(&root.join("other"), "size=1m");
    let receiver = receiver_at(&root);
    receiver.ok(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin(),
    });
    let published = receiver.receive(0, "other/file", "x");
    assert!(matches!(published, Err(DiskError::Other(why)) if why.contains("another disk")));
    assert!(
        receiver
            .tree()
            .keys()
            .all(|path| path == Path::new("other"))
    );
}

/// The system takes 4096 bytes of a path at once; a download's own folder comes on top of what a peer may send.
#[test]
fn the_longest_and_the_deepest_path_that_a_share_may_hold_arrive() {
    let receiver = Receiver::staged();
    let long = format!(
        "{}/{}",
        vec!["l".repeat(255); 15].join("/"),
        "f".repeat(256 - 1)
    );
    assert_eq!(long.len(), 4095);
    let deep = vec!["d"; 128].join("/");
    for (entry, name) in [(0, &long), (1, &deep)] {
        assert_eq!(receiver.receive(entry, name, "x"), at(name));
        assert_eq!(receiver.inspect(&[name]).0, [0]);
    }
    let first = receiver.root.join("l".repeat(255));
    let disk = Disk::default();
    disk.register_share(
        SHARE,
        ShareInput::Paths(vec![first, receiver.root.join("d")]),
    );
    let DiskDone::Scanned(scanned) = disk.perform(DiskWork::Scan { share: SHARE }) else {
        panic!();
    };
    assert_eq!(scanned.entries.len(), 16 + 128);
    for entry in [15, 143] {
        let segments = vec![handover_core::engine::Segment {
            entry,
            offset: 0,
            len: 1,
        }];
        let done = disk.perform(DiskWork::Read {
            share: SHARE,
            segments,
            hash: true,
        });
        assert!(matches!(done, DiskDone::Read { payload, .. } if payload == "x"));
    }
    receiver.ok(DiskWork::Discard { download: DOWNLOAD });
}

#[test]
fn a_folder_without_permission_is_named() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let receiver = Receiver::staged();
    fs::create_dir(receiver.root.join("sealed")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o500);
    fs::set_permissions(receiver.root.join("sealed"), mode).unwrap();
    let published = receiver.receive(0, "sealed/file", "x");
    assert!(matches!(published, Err(DiskError::Denied(_))));
}
