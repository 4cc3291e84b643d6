//! Threat: a full disk, a read-only one, a target on another disk. Verified data is kept.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bytes::Bytes;
use handover::disk::{Disk, DownloadTarget};
use handover_core::Keypair;
use handover_core::engine::{
    DiskDone, DiskError, DiskWork, DownloadId, Groups, OnConflict, Origin, Piece, PublishFile,
    Published, Record,
};
use handover_core::limits::{GROUP, Limits};
use handover_core::manifest::{ManifestParts, SignedManifest};
use handover_core::merkle::hash_group;
use handover_core::path::SafePath;
use handover_core::time::Timestamp;
use handover_test_needs::{Need, Tests, tests};
use support::{Scene, eventually};

const DOWNLOAD: DownloadId = DownloadId(1);

fn main() -> ExitCode {
    let tests = tests![
        a_full_disk_is_named_and_after_room_is_made_it_goes_on,
        a_read_only_disk_is_named,
        a_folder_on_another_disk_is_an_error_that_says_so,
        a_data_folder_that_can_not_be_written_is_done_without,
    ];
    let with_users = tests![what_somebody_else_has_staged_is_not_used];
    Tests::default()
        .needing(&[Need::Namespaces], tests)
        .needing(&[Need::Namespaces, Need::Root], with_users)
        .run()
}

/// A download to a disk of its own, which is unmounted with the namespace.
struct Receiver {
    disk: Disk,
    folder: tempfile::TempDir,
}

impl Receiver {
    fn new(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount(folder.path(), options);
        let disk = Disk::default();
        let root = folder.path().to_owned();
        disk.register_download(DOWNLOAD, DownloadTarget::Folder(root));
        Self { disk, folder }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn stage(&self) -> DiskDone {
        self.disk.perform(DiskWork::Stage {
            download: DOWNLOAD,
            origin: origin(),
        })
    }

    fn free(&self) -> u64 {
        let done = self.disk.perform(DiskWork::Inspect {
            download: DOWNLOAD,
            paths: vec![path("a")],
            origin: origin(),
        });
        let DiskDone::Inspected { free, .. } = done else {
            panic!("{done:?}");
        };
        free.unwrap()
    }

    fn write(&self, entry: u32, offset: u64, data: &[u8]) -> DiskDone {
        self.disk.perform(DiskWork::Write {
            download: DOWNLOAD,
            pieces: vec![Piece {
                entry,
                offset,
                data: Bytes::copy_from_slice(data),
            }],
        })
    }

    fn publish(&self, entry: u32, name: &str) -> Result<Published, DiskError> {
        let file = PublishFile {
            entry,
            path: path(name),
            mode: 0o644,
            modified: Timestamp::default(),
            on_conflict: OnConflict::Skip,
            root: None,
        };
        let done = self.disk.perform(DiskWork::Publish {
            download: DOWNLOAD,
            files: vec![file],
            synced: false,
        });
        let DiskDone::Published(mut outcomes) = done else {
            panic!("{done:?}");
        };
        outcomes.remove(0)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Otherwise the folder below it cannot be removed.
        let _ = Command::new("umount")
            .args(["--lazy", "--recursive"])
            .arg(self.root())
            .status();
    }
}

fn mount(folder: &Path, options: &str) {
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "none"])
        .arg(folder)
        .status();
    assert!(status.unwrap().success());
}

fn origin() -> Origin {
    let parts = ManifestParts {
        name: "a share".to_owned(),
        description: String::new(),
        author: String::new(),
        created: Timestamp::default(),
        entries: Vec::new(),
    };
    let key = Keypair::ed25519_from_bytes([1; 32]).unwrap();
    let signed = SignedManifest::sign(parts, &key, &Limits::default()).unwrap();
    Origin {
        manifest: signed.id(),
        signer: signed.signer(),
    }
}

fn path(path: &str) -> SafePath {
    SafePath::parse(path).unwrap()
}

fn content(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at + at / 251) % 256).unwrap())
        .collect()
}

fn a_full_disk_is_named_and_after_room_is_made_it_goes_on() {
    let receiver = Receiver::new("size=1m");
    let ballast = receiver.root().join("ballast");
    fs::write(&ballast, vec![1; 600_000]).unwrap();
    assert!(receiver.free() < 1_000_000);
    assert!(matches!(receiver.stage(), DiskDone::Ok));
    let content = content(400 * 1024);
    let (first, second) = content.split_at(262_144);
    assert!(matches!(receiver.write(0, 0, first), DiskDone::Ok));
    let done = receiver.write(0, 262_144, second);
    let more = receiver.write(1, 0, first);
    assert!(
        matches!((&done, &more), (_, DiskDone::Failed(DiskError::Full))),
        "{done:?} {more:?}"
    );
    fs::remove_file(&ballast).unwrap();
    assert!(matches!(receiver.write(0, 262_144, second), DiskDone::Ok));
    assert!(matches!(receiver.write(1, 0, first), DiskDone::Ok));
    for (entry, name) in [(0, "a"), (1, "b")] {
        let published = receiver.publish(entry, name);
        assert_eq!(published, Ok(Published::At(path(name))));
    }
    assert_eq!(fs::read(receiver.root().join("a")).unwrap(), content);
}

fn a_read_only_disk_is_named() {
    let receiver = Receiver::new("size=1m,ro");
    let done = receiver.stage();
    let DiskDone::Failed(DiskError::Denied(why)) = done else {
        panic!("{done:?}");
    };
    assert!(why.contains("read-only"));
    let discard = DiskWork::Discard { download: DOWNLOAD };
    assert!(matches!(receiver.disk.perform(discard), DiskDone::Ok));
}

fn a_folder_on_another_disk_is_an_error_that_says_so() {
    let receiver = Receiver::new("size=1m");
    let other = receiver.root().join("other");
    fs::create_dir(&other).unwrap();
    mount(&other, "size=1m");
    assert!(matches!(receiver.stage(), DiskDone::Ok));
    assert!(matches!(receiver.write(0, 0, b"x"), DiskDone::Ok));
    let published = receiver.publish(0, "other/file");
    assert!(matches!(published, Err(DiskError::Other(why)) if why.contains("another disk")));
    let inside: Vec<PathBuf> = fs::read_dir(&other)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(inside.is_empty(), "{inside:?}");
}

/// This once ended as an internal error, although the documents said that it continues.
fn a_data_folder_that_can_not_be_written_is_done_without() {
    let scene = Scene::new();
    let sender = scene.send(&[&scene.file("sent", b"bytes")], &[]);
    let disk = tempfile::tempdir().unwrap();
    mount(disk.path(), "ro");
    for data in [disk.path().to_owned(), disk.path().join("new")] {
        let mut get = scene.bare(&["get", "--yes", "--loopback", "--no-dht", "--no-mdns"]);
        get.arg("--on-conflict=overwrite")
            .arg("--to")
            .arg(scene.path("in"));
        get.arg("--data-dir")
            .arg(&data)
            .env("HANDOVER_CODE", &sender.code);
        support::run(get).expect(0);
        let mut node = scene.bare(&["node", "--private", "--data-dir"]);
        let node = support::run({
            node.arg(&data);
            node
        });
        let node = node.expect(6);
        assert!(node.stderr.contains("data folder"), "{}", node.stderr);
    }
}

/// Somebody else had once staged a part of a download in a folder that both could write to, changed it, and made it
/// accessible to all: the next user's download resumed it, and published the changed bytes.
fn what_somebody_else_has_staged_is_not_used() {
    const NOBODY: u32 = 65534;
    let mut receiver = Receiver::new("size=4m,mode=1777");
    let content = content(GROUP as usize);
    assert!(matches!(receiver.stage(), DiskDone::Ok));
    assert!(matches!(receiver.write(0, 0, &content), DiskDone::Ok));
    let record = Record {
        groups: vec![Groups {
            entry: 0,
            size: 2 * u64::from(GROUP),
            first: 0,
            nodes: vec![hash_group(&content)],
        }],
        ..Record::default()
    };
    let download = DOWNLOAD;
    for work in [
        DiskWork::Sync {
            download,
            entries: vec![0],
        },
        DiskWork::Journal { download, record },
        DiskWork::Close { download },
    ] {
        assert!(matches!(receiver.disk.perform(work), DiskDone::Ok));
    }
    let staged = fs::read_dir(receiver.root()).unwrap().next();
    let staged = staged.unwrap().unwrap().path();
    let mut kept = || {
        receiver.disk = Disk::default();
        let root = receiver.folder.path().to_owned();
        receiver
            .disk
            .register_download(DOWNLOAD, DownloadTarget::Folder(root));
        let done = receiver.disk.perform(DiskWork::Inspect {
            download,
            paths: Vec::new(),
            origin: origin(),
        });
        let DiskDone::Inspected { kept, .. } = done else {
            panic!("{done:?}");
        };
        kept.groups.len()
    };
    // A program started by another test also holds the lock of the staging folder, between its fork and its exec.
    eventually("what is this user's", || kept() == 1);
    let chown = |path: &Path, owner| std::os::unix::fs::chown(path, Some(owner), None).unwrap();
    let file = staged.join("0/0");
    chown(&file, NOBODY);
    assert_eq!(kept(), 0, "the file is somebody else's");
    chown(&file, 0);
    fs::hard_link(&file, receiver.folder.path().join("another name")).unwrap();
    assert_eq!(kept(), 0, "the file has another name");
    fs::remove_file(receiver.folder.path().join("another name")).unwrap();
    eventually("what is this user's again", || kept() == 1);
    chown(&staged, NOBODY);
    assert_eq!(kept(), 0, "the folder is somebody else's");
    assert!(file.exists(), "it is left alone");
}
