//! Publishing: a staged file is made durable, then moved to its final name in one step, without replacing anything
//! unless that was asked for.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use handover_core::engine::{DiskError, OnConflict, PublishFile, Published};
use handover_core::merkle::Hash;
use handover_core::path::SafePath;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::attributes;
use super::beneath::Walker;
use super::error::disk_error;
use super::staging::{FolderSink, Staging, path_of, split};

/// From this number of files on, one sync of the whole file system is cheaper than one per file.
pub(super) const TOGETHER: usize = 16;
/// Maximum number of alternative names tried for one file.
const NUMBERS: u32 = 10_000;

impl FolderSink {
    /// Publishes staged files. One that fails stays staged and can be tried again.
    pub(super) fn publish(
        &self,
        files: &[PublishFile],
        synced: bool,
    ) -> Result<Vec<Result<Published, DiskError>>, DiskError> {
        let (root, staging) = self.staged()?;
        let together = cfg!(target_os = "linux") && files.len() >= TOGETHER && !synced;
        let ready: Vec<_> = files
            .iter()
            .map(|file| prepare(&staging, file, !(together || synced)))
            .collect();
        #[cfg(target_os = "linux")]
        if together {
            rustix::fs::syncfs(&*root).map_err(|error| disk_error(error, "the disk"))?;
        }
        let mut walker = Walker::new(&root);
        let outcomes = files.iter().zip(ready).map(|(file, ready)| {
            ready?;
            let published = self.place(&mut walker, &staging, file)?;
            staging.forget(file.entry, published == Published::Skipped);
            Ok(published)
        });
        Ok(outcomes.collect())
    }

    /// The final paths and roots of the published files whose roots are known.
    pub(super) fn places(
        &self,
        files: &[PublishFile],
        published: &[Result<Published, DiskError>],
    ) -> Vec<(PathBuf, Hash)> {
        let place =
            |(file, published): (&PublishFile, &Result<Published, DiskError>)| match published {
                Ok(Published::At(path)) => Some((self.path.join(path.as_str()), file.root?)),
                _ => None,
            };
        files.iter().zip(published).filter_map(place).collect()
    }

    fn place(
        &self,
        walker: &mut Walker<'_>,
        staging: &Arc<Staging>,
        file: &PublishFile,
    ) -> Result<Published, DiskError> {
        let from = path_of(file.entry);
        let (parent, _) = split(&file.path);
        let parent = walker.make(parent, &self.made)?;
        place(&file.path, file.on_conflict, |name, replace| {
            if replace {
                rustix::fs::renameat(&staging.dir, &from, parent, name)
            } else {
                move_to_free_name(&staging.dir, &from, parent, name)
            }
        })
    }
}

/// Moves something to its final name or, depending on `on_conflict`, to another one. `put` gets a name in the path's
/// folder and whether it may replace what exists there; if it may not and something exists, it fails with `EEXIST`.
pub(super) fn place(
    path: &SafePath,
    on_conflict: OnConflict,
    put: impl Fn(&str, bool) -> Result<(), Errno>,
) -> Result<Published, DiskError> {
    let at = |path: &SafePath| put(split(path).1, false);
    match at(path) {
        Ok(()) => return Ok(Published::At(path.clone())),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(disk_error(error, path.as_str())),
    }
    match on_conflict {
        OnConflict::Skip => Ok(Published::Skipped),
        OnConflict::Overwrite => match put(split(path).1, true) {
            Ok(()) => Ok(Published::At(path.clone())),
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => Err(DiskError::Other(format!(
                "{path} is a folder here, and is not replaced by a file"
            ))),
            Err(error) => Err(disk_error(error, path.as_str())),
        },
        OnConflict::Rename => {
            for number in 1..=NUMBERS {
                let path = path.numbered(number);
                match at(&path) {
                    Ok(()) => return Ok(Published::At(path)),
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(disk_error(error, path.as_str())),
                }
            }
            Err(DiskError::Other(format!(
                "no free name was found for {path}"
            )))
        }
    }
}

/// Sets a staged file's attributes and, if `sync`, makes it durable.
fn prepare(staging: &Staging, file: &PublishFile, sync: bool) -> Result<(), DiskError> {
    let fault = |error: std::io::Error| disk_error(error, file.path.as_str());
    let staged = staging.finished(file.entry)?;
    let mode = attributes::withheld(&staged.metadata().map_err(fault)?, file.mode);
    attributes::set(&*staged, mode, file.modified).map_err(fault)?;
    if sync {
        staged.sync_data().map_err(fault)?;
    }
    Ok(())
}

/// Renames unless the new name is taken (`EEXIST`), in one step, so that nothing can come in between.
fn move_to_free_name(
    from_dir: impl AsFd,
    from: &str,
    to_dir: impl AsFd,
    to: &str,
) -> Result<(), Errno> {
    let flags = RenameFlags::NOREPLACE;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    match rustix::fs::renameat_with(&from_dir, from, &to_dir, to, flags) {
        // Not supported by this file system or kernel.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        other => return other,
    }
    link_to_free_name(from_dir, from, to_dir, to)
}

fn link_to_free_name(
    from_dir: impl AsFd,
    from: &str,
    to_dir: impl AsFd,
    to: &str,
) -> Result<(), Errno> {
    match rustix::fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty()) {
        Ok(()) => {
            // The second name in the staging folder is harmless; it is removed with the folder.
            let _ = rustix::fs::unlinkat(from_dir, from, AtFlags::empty());
            Ok(())
        }
        // The file system has no hard links.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
            claim_free_name(from_dir, from, to_dir, to)
        }
        Err(error) => Err(error),
    }
}

/// Last resort: takes the name with an empty file of our own, which is then replaced.
fn claim_free_name(
    from_dir: impl AsFd,
    from: &str,
    to_dir: impl AsFd,
    to: &str,
) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(rustix::fs::openat(&to_dir, to, flags, Mode::RUSR)?);
    rustix::fs::renameat(from_dir, from, &to_dir, to).inspect_err(|_| {
        let _ = rustix::fs::unlinkat(&to_dir, to, AtFlags::empty());
    })
}
