//! Folders to transfer, and comparison of the result.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::noise;

/// What exists at a path, as far as tests compare it.
#[derive(Debug, PartialEq, Eq)]
pub enum Thing {
    Folder {
        mode: u32,
        modified: (i64, i64),
    },
    File {
        mode: u32,
        modified: (i64, i64),
        bytes: Bytes,
    },
    Symlink(String),
}

/// A file's content, abbreviated in the output of a failed test.
#[derive(PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = self
            .0
            .iter()
            .fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
        write!(f, "{} bytes, {sum:016x}", self.0.len())
    }
}

/// Everything below a folder, by path.
pub fn read(root: &Path) -> BTreeMap<String, Thing> {
    let mut things = BTreeMap::new();
    walk(root, "", &mut things);
    things
}

/// All paths below a folder; empty if the folder does not exist.
pub fn names(root: &Path) -> Vec<String> {
    if root.exists() {
        read(root).into_keys().collect()
    } else {
        Vec::new()
    }
}

fn walk(root: &Path, below: &str, things: &mut BTreeMap<String, Thing>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        let full = root.join(&path);
        let metadata = full.symlink_metadata().unwrap();
        let mode = metadata.mode() & 0o7777;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let thing = if metadata.is_dir() {
            walk(root, &path, things);
            Thing::Folder { mode, modified }
        } else if metadata.is_symlink() {
            Thing::Symlink(
                fs::read_link(&full)
                    .unwrap()
                    .into_os_string()
                    .into_string()
                    .unwrap(),
            )
        } else {
            let bytes = Bytes(fs::read(&full).unwrap());
            Thing::File {
                mode,
                modified,
                bytes,
            }
        };
        things.insert(path, thing);
    }
}

/// Sets the mode and modification time of a file or folder.
pub fn touch(path: &Path, mode: u32, seconds: u64) {
    let age = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    File::open(path).unwrap().set_modified(age).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Creates a folder with all kinds of content that a file system usually has.
pub fn motley(root: &Path) {
    let file = |name: &str, bytes: &[u8], mode| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        touch(&path, mode, 1_000_000_000 + bytes.len() as u64);
    };
    for (name, mode) in [
        ("english.txt", 0o644),
        ("ελληνικά.txt", 0o600),
        ("日本語", 0o640),
        ("עברית.md", 0o444),
    ] {
        file(&format!("scripts/{name}"), name.as_bytes(), mode);
    }
    file("scripts/😀 ❤\u{fe0f} e\u{301}.txt", b"emoji", 0o644);
    // Around the sizes of a leaf (16 KiB) and of a group (256 KiB).
    for len in [
        0, 1, 16_383, 16_384, 16_385, 262_143, 262_144, 262_145, 1_000_003,
    ] {
        file(&format!("sizes/{len}.bin"), &noise(len, 1), 0o644);
    }
    file(
        &format!("{}.txt", "a".repeat(251)),
        b"a name of 255 bytes",
        0o644,
    );
    file(&format!("{}x", "é".repeat(127)), b"another one", 0o644);
    file("deep/a/b/c/d/e/f/g/h/i/j/file", b"deep", 0o640);
    file(".hidden", b"hidden", 0o600);
    file("with spaces and 'quotes' & $signs", b"shell", 0o644);
    file("run.sh", b"#!/bin/sh\n", 0o755);
    fs::create_dir_all(root.join("empty/nested empty")).unwrap();
    symlink("run.sh", root.join("link")).unwrap();
    symlink("../run.sh", root.join("scripts/link up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    touch(&root.join("empty/nested empty"), 0o700, 1_100_000_000);
    touch(&root.join("scripts"), 0o750, 1_200_000_000);
    touch(root, 0o755, 1_300_000_000);
}
