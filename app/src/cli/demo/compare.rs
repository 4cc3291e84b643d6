//! Compares two folders: names, kinds, bytes, permissions, modification times, symlinks' targets.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Totals of two identical folders.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Same {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Compares everything below two folders. The inner `Err` names the first difference.
pub(super) fn trees(ours: &Path, theirs: &Path) -> io::Result<Result<Same, String>> {
    let [here, there] = [ours, theirs].map(|root| {
        let mut found = BTreeMap::new();
        walk(root, Path::new(""), &mut found).map(|()| found)
    });
    let (here, mut there) = (here?, there?);
    let mut same = Same::default();
    for (path, wanted) in here {
        let Some(found) = there.remove(&path) else {
            return Ok(Err(format!("{} is missing", path.display())));
        };
        if let Err(what) = entry(&ours.join(&path), &wanted, &theirs.join(&path), &found)? {
            return Ok(Err(format!("{what} of {}", path.display())));
        }
        if !wanted.is_dir() {
            same.files += 1;
        }
        if wanted.is_file() {
            same.bytes += wanted.len();
        }
    }
    Ok(match there.into_keys().next() {
        Some(path) => Err(format!("{} was not sent", path.display())),
        None => Ok(same),
    })
}

fn walk(root: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Metadata>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let path = below.join(entry?.file_name());
        let metadata = root.join(&path).symlink_metadata()?;
        if metadata.is_dir() {
            walk(root, &path, found)?;
        }
        found.insert(path, metadata);
    }
    Ok(())
}

fn entry(
    ours: &Path,
    wanted: &Metadata,
    theirs: &Path,
    found: &Metadata,
) -> io::Result<Result<(), &'static str>> {
    if wanted.file_type() != found.file_type() {
        return Ok(Err("the kind"));
    }
    if wanted.is_symlink() {
        let same = fs::read_link(ours)? == fs::read_link(theirs)?;
        return Ok(if same { Ok(()) } else { Err("the target") });
    }
    if wanted.mode() & 0o777 != found.mode() & 0o777 {
        return Ok(Err("the permissions"));
    }
    if (wanted.mtime(), wanted.mtime_nsec()) != (found.mtime(), found.mtime_nsec()) {
        return Ok(Err("the modification time"));
    }
    if wanted.is_file() && fs::read(ours)? != fs::read(theirs)? {
        return Ok(Err("the bytes"));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::sample;
    use super::*;

    #[test]
    fn every_difference_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        let remake = || {
            let _ = fs::remove_dir_all(&b);
            sample::make(&b).unwrap();
        };
        sample::make(&a).unwrap();
        remake();
        let difference = || trees(&a, &b).unwrap();
        // The modification time of the empty folder is the time of its creation.
        let now = fs::metadata(a.join("empty folder"))
            .unwrap()
            .modified()
            .unwrap();
        let remake = || {
            remake();
            File::open(b.join("empty folder"))
                .unwrap()
                .set_modified(now)
                .unwrap();
        };
        remake();
        assert_eq!(difference().unwrap().files, 10);

        let changes: [(&dyn Fn(), &str); 6] = [
            (
                &|| fs::remove_file(b.join("link")).unwrap(),
                "link is missing",
            ),
            (
                &|| fs::write(b.join("texts/new"), "").unwrap(),
                "the modification time of texts",
            ),
            (
                &|| fs::set_permissions(b.join("hello.sh"), Permissions::from_mode(0o644)).unwrap(),
                "the permissions of hello.sh",
            ),
            (
                &|| {
                    let old = fs::metadata(b.join("pattern.bin"))
                        .unwrap()
                        .modified()
                        .unwrap();
                    let mut bytes = fs::read(b.join("pattern.bin")).unwrap();
                    bytes[4_000_000] ^= 1;
                    fs::write(b.join("pattern.bin"), bytes).unwrap();
                    File::open(b.join("pattern.bin"))
                        .unwrap()
                        .set_modified(old)
                        .unwrap();
                },
                "the bytes of pattern.bin",
            ),
            (
                &|| {
                    fs::remove_file(b.join("link")).unwrap();
                    symlink("hello.sh", b.join("link")).unwrap();
                },
                "the target of link",
            ),
            (
                &|| {
                    fs::remove_file(b.join("link")).unwrap();
                    fs::create_dir(b.join("link")).unwrap();
                },
                "the kind of link",
            ),
        ];
        for (change, expected) in changes {
            remake();
            change();
            assert_eq!(difference(), Err(expected.to_string()));
        }
    }
}
