//! Threat: names that don't fit, and folders that can't be written to. Full disks are tested in `app/tests/disks.rs`.

use handover_test_needs::obeying_permissions;

use super::*;

/// The system accepts 4096 bytes of a path in one call; a download's own folder comes on top of what a peer may send.
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
    let receiver = Receiver::staged();
    fs::create_dir(receiver.root.join("sealed")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o500);
    fs::set_permissions(receiver.root.join("sealed"), mode).unwrap();
    let published = obeying_permissions(|| receiver.receive(0, "sealed/file", "x"));
    assert!(matches!(published, Err(DiskError::Denied(_))));
}
