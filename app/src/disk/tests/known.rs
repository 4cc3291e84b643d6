use std::os::unix::fs::symlink;

use handover_core::chunk::Chunk;
use handover_core::engine::{Adopt, Adopted, Candidate, Duplicate, Sought};
use handover_core::limits::GROUP;
use handover_core::merkle::{Hash, RangeHash, file_root};

use super::super::chunks;
use super::*;

fn sought(entry: u32, name: &str, size: usize) -> Sought {
    Sought {
        entry,
        size: size as u64,
        path: path(name),
    }
}

fn adopt(entry: u32, name: &str, bytes: &[u8], duplicate: Option<&str>) -> Adopt {
    Adopt {
        file: sought(entry, name, bytes.len()),
        root: file_root(bytes),
        duplicate: duplicate.map(|duplicate| Duplicate {
            path: path(duplicate),
            mode: 0o600,
        }),
    }
}

impl Receiver {
    fn candidates(&self, files: Vec<Sought>) -> Vec<Candidate> {
        let download = DOWNLOAD;
        match self.disk.perform(DiskWork::Candidates { download, files }) {
            DiskDone::Candidates(found) => found,
            other => panic!("{other:?}"),
        }
    }

    fn adopt(&self, files: Vec<Adopt>) -> Vec<Adopted> {
        let download = DOWNLOAD;
        match self.disk.perform(DiskWork::Adopt { download, files }) {
            DiskDone::Adopted(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    fn reuse(&self, file: Sought, chunks: Vec<Chunk>) -> Vec<(u64, RangeHash)> {
        let download = DOWNLOAD;
        match self.disk.perform(DiskWork::Reuse {
            download,
            file,
            chunks,
        }) {
            DiskDone::Reused(parts) => parts,
            other => panic!("{other:?}"),
        }
    }

    /// The permission bits of the first staged file after publishing it with `mode`.
    fn published_mode(&self, name: &str, mode: u32) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        let sent = PublishFile {
            mode,
            ..file(1, name)
        };
        self.publish(sent).unwrap();
        let published = fs::metadata(self.root.join(name)).unwrap();
        published.permissions().mode() & 0o777
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.root.join(name), bytes).unwrap();
    }
}

/// A path that leads out of the folder, is not a file, or would block cannot be adopted.
#[test]
fn only_files_in_the_folder_are_looked_at() {
    let receiver = Receiver::staged();
    receiver.put("file", b"mine");
    symlink(receiver.canary().join("secret"), receiver.root.join("link")).unwrap();
    symlink(receiver.canary(), receiver.root.join("out")).unwrap();
    // Not created with a child process: between fork and exec, that would hold the locks of other tests.
    let (pipe, fifo) = (receiver.root.join("pipe"), rustix::fs::FileType::Fifo);
    rustix::fs::mknodat(rustix::fs::CWD, pipe, fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let names = ["file", "link", "out/secret", "out", "pipe", "gone"];
    let files = (0..).zip(names).map(|(at, name)| sought(at, name, 4));
    let found = receiver.candidates(files.collect());
    let standing = Candidate {
        entry: 0,
        stands: Some(4),
        elsewhere: false,
    };
    assert_eq!(found, [standing]);
    let files = (0..)
        .zip(names)
        .map(|(at, name)| adopt(at, name, b"mine", None));
    let outcomes = receiver.adopt(files.collect());
    assert_eq!(outcomes[0], Adopted::Stands);
    assert_eq!(outcomes[1..], [Adopted::No; 5]);
    receiver.assert_canary();
}

#[test]
fn a_duplicate_is_copied_and_a_wrong_one_leaves_nothing() {
    let receiver = Receiver::staged();
    let content = bytes(3 * GROUP as usize + 5);
    receiver.put("first", &content);
    let mut other = content.clone();
    other[GROUP as usize] ^= 1;
    receiver.put("changed", &other);
    let outcomes = receiver.adopt(vec![
        adopt(1, "second", &content, Some("first")),
        adopt(2, "third", &content, Some("changed")),
        adopt(3, "fourth", &content, Some("gone")),
    ]);
    assert_eq!(outcomes, [Adopted::Staged, Adopted::No, Adopted::No]);
    let staged = receiver.staging_folders().remove(0);
    assert!(staged.join("0/1").exists());
    assert!(!staged.join("0/2").exists() && !staged.join("0/3").exists());
    let published = receiver.publish(file(1, "second")).unwrap();
    assert_eq!(published, Published::At(path("second")));
    assert!(fs::read(receiver.root.join("second")).unwrap() == content);
    // It is a copy, not a second name of the same file.
    receiver.put("first", b"edited in its place");
    assert!(fs::read(receiver.root.join("second")).unwrap() == content);
}

#[test]
fn what_is_noted_is_found_in_another_folder_unless_it_has_changed() {
    let memory = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::staged();
    let known = crate::store::KnownFiles::in_folder(memory.path());
    let (same, changed) = (bytes(100), bytes(5000));
    for (name, content) in [("same", &same), ("changed", &changed)] {
        let file = receiver.canary().join(name);
        fs::write(&file, content).unwrap();
        let noted = Noted::new(Some(known.clone()));
        noted.note(file, file_root(content));
        // Dropping it writes what is queued.
        drop(noted);
    }
    fs::write(receiver.canary().join("changed"), bytes(4999)).unwrap();
    receiver.canary = tree(&receiver.canary());
    receiver.disk.noted = Noted::new(Some(known));
    let found = receiver.candidates(vec![
        sought(1, "a", same.len()),
        sought(2, "b", changed.len()),
        sought(3, "c", 7),
    ]);
    let entries: Vec<u32> = found.iter().map(|found| found.entry).collect();
    assert_eq!(entries, [1, 2], "nothing is read for it");
    let outcomes = receiver.adopt(vec![
        adopt(1, "a", &same, None),
        adopt(2, "b", &changed, None),
        adopt(3, "c", b"unknown", None),
    ]);
    let copied = Adopted::StagedFromElsewhere;
    assert_eq!(outcomes, [copied, Adopted::No, Adopted::No]);
    receiver.publish(file(1, "a")).unwrap();
    assert!(fs::read(receiver.root.join("a")).unwrap() == same);
    receiver.assert_canary();
}

/// Of two equal files of a share the second may be a program: it gets the mode that it was sent with.
#[test]
fn a_duplicate_has_the_mode_that_it_was_sent_with() {
    use std::os::unix::fs::PermissionsExt;
    let receiver = Receiver::staged();
    let content = bytes(5000);
    receiver.put("first", &content);
    let first = receiver.root.join("first");
    fs::set_permissions(first, fs::Permissions::from_mode(0o600)).unwrap();
    let outcomes = receiver.adopt(vec![adopt(1, "second", &content, Some("first"))]);
    assert_eq!(outcomes, [Adopted::Staged]);
    let program = PublishFile {
        mode: 0o755,
        ..file(1, "second")
    };
    receiver.publish(program).unwrap();
    let published = fs::metadata(receiver.root.join("second")).unwrap();
    assert_eq!(published.permissions().mode() & 0o777, 0o755);
}

/// If the first of two equal files is a copy of a private one elsewhere, the second must not be readable by everybody.
#[test]
fn a_duplicate_of_a_private_copy_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let receiver = Receiver::staged();
    let content = bytes(5000);
    receiver.put("first", &content);
    let first = receiver.root.join("first");
    fs::set_permissions(first, fs::Permissions::from_mode(0o600)).unwrap();
    let mut adopt = adopt(1, "second", &content, Some("first"));
    adopt.duplicate = Some(Duplicate {
        path: path("first"),
        mode: 0o644,
    });
    assert_eq!(receiver.adopt(vec![adopt]), [Adopted::Staged]);
    assert_eq!(receiver.published_mode("second", 0o755), 0o700);
}

/// Chunks of a private older version must not end up in a version that everybody can read.
#[test]
fn a_new_version_of_a_private_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let receiver = Receiver::staged();
    let content = bytes(3 * GROUP as usize);
    receiver.put("a", &content);
    let old = receiver.root.join("a");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o600)).unwrap();
    let chunks = chunks::list(content.as_slice()).unwrap();
    let parts = receiver.reuse(sought(1, "a", content.len()), chunks);
    assert!(!parts.is_empty());
    fs::rename(&old, receiver.root.join("old")).unwrap();
    assert_eq!(receiver.published_mode("a", 0o644), 0o600);
}

/// Permission bits that the original withholds from others are withheld in the copy too.
#[test]
fn a_copy_of_a_private_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    for (mode, expected) in [
        (0o600, 0o600),
        (0o640, 0o640),
        (0o644, 0o644),
        (0o755, 0o644),
    ] {
        let memory = tempfile::tempdir().unwrap();
        let mut receiver = Receiver::staged();
        let known = crate::store::KnownFiles::in_folder(memory.path());
        let content = bytes(5000);
        let original = memory.path().join("original");
        fs::write(&original, &content).unwrap();
        fs::set_permissions(&original, fs::Permissions::from_mode(mode)).unwrap();
        let noted = Noted::new(Some(known.clone()));
        noted.note(original, file_root(&content));
        drop(noted);
        receiver.disk.noted = Noted::new(Some(known));
        let outcomes = receiver.adopt(vec![adopt(1, "a", &content, None)]);
        assert_eq!(outcomes, [Adopted::StagedFromElsewhere]);
        receiver
            .publish(PublishFile {
                mode: 0o644,
                ..file(1, "a")
            })
            .unwrap();
        let published = fs::metadata(receiver.root.join("a")).unwrap();
        assert_eq!(published.permissions().mode() & 0o777, expected, "{mode:o}");
    }
}

#[test]
fn of_an_older_version_what_is_in_the_new_one_is_staged_in_its_new_place() {
    let receiver = Receiver::staged();
    let old = chunks::tests::bytes(20 * GROUP as usize);
    let mut new = old.clone();
    let middle = 10 * GROUP as usize + 3;
    new.splice(middle..middle, [7; 5000]);
    receiver.put("file", &old);
    let list = chunks::list(new.as_slice()).unwrap();
    let parts = receiver.reuse(sought(4, "file", new.len()), list.clone());
    let staged = fs::read(receiver.staging_folders().remove(0).join("0/4")).unwrap();
    let mut bytes = 0;
    for (offset, range) in &parts {
        let start = usize::try_from(*offset).unwrap();
        let end = (start + range.leaves().len() * LEAF_BYTES).min(new.len());
        assert!(staged[start..end] == new[start..end]);
        assert_eq!(*range, RangeHash::of(&new[start..end]));
        bytes += end - start;
    }
    assert!(new.len() - bytes < GROUP as usize, "{bytes}");
    // If nothing exists under the name, nothing is reused; nor behind a symlink.
    symlink(receiver.root.join("file"), receiver.root.join("link")).unwrap();
    for name in ["gone", "link"] {
        assert_eq!(receiver.reuse(sought(5, name, new.len()), list.clone()), []);
    }
}

const LEAF_BYTES: usize = handover_core::limits::LEAF as usize;

/// A root that no file has is not an error.
#[test]
fn a_root_that_nothing_has_is_not_here() {
    let receiver = Receiver::staged();
    receiver.put("file", b"mine");
    let mut wrong = adopt(1, "file", b"mine", None);
    wrong.root = Hash([9; 32]);
    assert_eq!(receiver.adopt(vec![wrong]), [Adopted::No]);
    assert_eq!(receiver.read("file"), "mine");
}
