//! The disk as seen by the engine, on real files.

mod finish;
mod hostile;
mod known;
mod publish;
mod read_back;
mod resume;
mod room;
mod scan;
mod serve;
mod staging;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use handover_core::Keypair;
use handover_core::engine::{
    OnConflict, Origin, Piece, PublishFile, PublishFolder, PublishSymlink,
};
use handover_core::manifest::{ManifestParts, SignedManifest};
use handover_core::time::Timestamp;

use super::*;

const SHARE: ShareId = ShareId(1);
const DOWNLOAD: DownloadId = DownloadId(1);

/// The origin of a download of a share with this name.
pub(super) fn origin_of(name: &str) -> Origin {
    let parts = ManifestParts {
        name: name.to_owned(),
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

fn origin() -> Origin {
    origin_of("a share")
}

fn path(path: &str) -> SafePath {
    SafePath::parse(path).unwrap()
}

fn time(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// Bytes that differ from group to group.
fn bytes(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at + at / 251 + at / 65_521) % 256).unwrap())
        .collect()
}

/// Everything below a folder, without following symlinks: what each path is and what it contains.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, at: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                walk(root, &path, found);
                format!("folder {:o}", metadata.mode() & 0o7777)
            } else {
                let content = fs::read(&path).unwrap_or_default();
                format!(
                    "{:o} {}",
                    metadata.mode() & 0o7777,
                    String::from_utf8_lossy(&content)
                )
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), content);
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// A folder for a download, beside a canary folder that must never change.
struct Receiver {
    disk: Disk,
    outside: tempfile::TempDir,
    canary: BTreeMap<PathBuf, String>,
    root: PathBuf,
}

impl Receiver {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        let canary = outside.path().join("canary");
        fs::create_dir_all(canary.join("folder")).unwrap();
        fs::write(canary.join("secret"), "mine").unwrap();
        fs::write(canary.join("folder/file"), "mine too").unwrap();
        let root = outside.path().join("downloads");
        fs::create_dir(&root).unwrap();
        let disk = Disk::default();
        disk.register_download(DOWNLOAD, DownloadTarget::Folder(root.clone()));
        Self {
            canary: tree(&canary),
            disk,
            outside,
            root,
        }
    }

    fn staged() -> Self {
        let receiver = Self::new();
        receiver.ok(DiskWork::Stage {
            download: DOWNLOAD,
            origin: origin(),
        });
        receiver
    }

    fn canary(&self) -> PathBuf {
        self.outside.path().join("canary")
    }

    fn assert_canary(&self) {
        assert_eq!(tree(&self.canary()), self.canary);
    }

    fn ok(&self, work: DiskWork) {
        match self.disk.perform(work) {
            DiskDone::Ok => {}
            other => panic!("{other:?}"),
        }
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

    fn publish_all(&self, files: Vec<PublishFile>) -> Vec<Result<Published, DiskError>> {
        let download = DOWNLOAD;
        match self.disk.perform(DiskWork::Publish {
            download,
            files,
            synced: false,
        }) {
            DiskDone::Published(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&self, file: PublishFile) -> Result<Published, DiskError> {
        self.publish_all(vec![file]).remove(0)
    }

    /// Writes and publishes one small file.
    fn receive(&self, entry: u32, path: &str, data: &str) -> Result<Published, DiskError> {
        assert!(matches!(
            self.write(entry, 0, data.as_bytes()),
            DiskDone::Ok
        ));
        self.publish(file(entry, path))
    }

    fn finish(
        &self,
        folders: Vec<PublishFolder>,
        symlinks: Vec<PublishSymlink>,
    ) -> Vec<(SafePath, DiskError)> {
        match self.disk.perform(DiskWork::Finish {
            download: DOWNLOAD,
            folders,
            symlinks,
            keep: false,
        }) {
            DiskDone::Finished { failed } => failed,
            other => panic!("{other:?}"),
        }
    }

    fn inspect(&self, paths: &[&str]) -> (Vec<usize>, Option<u64>) {
        match self.disk.perform(DiskWork::Inspect {
            download: DOWNLOAD,
            paths: paths.iter().map(|name| path(name)).collect(),
            origin: origin(),
        }) {
            DiskDone::Inspected { taken, free, .. } => (taken, free),
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// The content of the download's folder, without staging folders.
    fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut tree = tree(&self.root);
        tree.retain(|path, _| !path.to_string_lossy().starts_with(super::staging::PARTIAL));
        tree
    }

    fn staging_folders(&self) -> Vec<PathBuf> {
        let found = fs::read_dir(&self.root)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        found
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with(".handover-")
            })
            .collect()
    }
}

fn file(entry: u32, name: &str) -> PublishFile {
    PublishFile {
        entry,
        path: path(name),
        mode: 0o644,
        modified: time(1_000_000_000),
        on_conflict: OnConflict::Skip,
        root: None,
    }
}

fn folder(name: &str) -> PublishFolder {
    PublishFolder {
        path: path(name),
        mode: 0o755,
        modified: time(1_000_000_000),
    }
}

fn symlink(name: &str, target: &str) -> PublishSymlink {
    PublishSymlink {
        entry: 9999,
        path: path(name),
        target: target.to_owned(),
        on_conflict: OnConflict::Skip,
    }
}

// The expected result of publishing.
#[allow(clippy::unnecessary_wraps)]
fn at(name: &str) -> Result<Published, DiskError> {
    Ok(Published::At(path(name)))
}

#[test]
fn the_disk_is_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Disk>();
}

#[test]
fn work_for_what_nobody_registered_fails() {
    let disk = Disk::default();
    let done = disk.perform(DiskWork::Scan { share: SHARE });
    assert!(matches!(done, DiskDone::Failed(DiskError::NotFound)));
    let done = disk.perform(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin(),
    });
    assert!(matches!(done, DiskDone::Failed(DiskError::NotFound)));
    assert!(matches!(
        disk.perform(DiskWork::Discard { download: DOWNLOAD }),
        DiskDone::Ok
    ));
}

#[test]
fn a_stream_goes_from_pipe_to_pipe() {
    let disk = Disk::default();
    let sent = bytes(300_000);
    let reader = Box::new(std::io::Cursor::new(sent.clone()));
    disk.register_share(
        SHARE,
        ShareInput::Pipe {
            reader,
            name: "log.txt".into(),
        },
    );
    let DiskDone::Scanned(scanned) = disk.perform(DiskWork::Scan { share: SHARE }) else {
        panic!();
    };
    assert_eq!(scanned.entries[0].path, path("log.txt"));
    assert_eq!(scanned.entries[0].kind, EntryKind::Stream);

    let (mut got, sink) = std::io::pipe().unwrap();
    disk.register_download(DOWNLOAD, DownloadTarget::Pipe(Box::new(sink)));
    let received = std::thread::spawn(move || {
        let mut all = Vec::new();
        got.read_to_end(&mut all).unwrap();
        all
    });
    let mut offset = 0;
    loop {
        let work = DiskWork::ReadPipe {
            share: SHARE,
            offset,
            len: 262_144,
            keep_from: offset,
        };
        let DiskDone::PipeRead { payload, hash, end } = disk.perform(work) else {
            panic!();
        };
        assert_eq!(hash, merkle::hash_group(&payload));
        let pieces = vec![Piece {
            entry: 0,
            offset,
            data: payload.clone(),
        }];
        let done = disk.perform(DiskWork::Write {
            download: DOWNLOAD,
            pieces,
        });
        assert!(matches!(done, DiskDone::Ok));
        offset += payload.len() as u64;
        if end {
            break;
        }
    }
    let finish = DiskWork::Finish {
        download: DOWNLOAD,
        folders: vec![],
        symlinks: vec![],
        keep: false,
    };
    assert!(matches!(disk.perform(finish), DiskDone::Finished { failed } if failed.is_empty()));
    assert_eq!(received.join().unwrap(), sent);
}
