//! The end of a download: creates empty folders and symlinks, sets the folders' attributes, removes the staging folder.

use std::cmp::Reverse;

use handover_core::engine::{DiskError, PublishFolder, PublishSymlink, Published};
use handover_core::path::{SafePath, symlink_stays_inside};
use rustix::fs::AtFlags;

use super::attributes;
use super::beneath::Walker;
use super::error::disk_error;
use super::lock;
use super::publish::place;
use super::staging::{FolderSink, Staging, split};

/// Temporary name, in the staging folder, of a symlink that replaces something.
const NEW_SYMLINK: &str = "symlink";

impl FolderSink {
    /// Creates folders and symlinks, sets the folders' attributes, and removes the staging folder. Returns what failed,
    /// by path; everything else is done.
    pub(super) fn finish(
        &self,
        folders: &[PublishFolder],
        symlinks: &[PublishSymlink],
    ) -> Result<Vec<(SafePath, DiskError)>, DiskError> {
        let (root, staging) = self.staged()?;
        let mut failed = Vec::new();
        let mut walker = Walker::new(&root);
        for folder in folders {
            if let Err(obstacle) = walker.make(folder.path.as_str(), &self.made) {
                failed.push((folder.path.clone(), obstacle.into()));
            }
        }
        for symlink in symlinks {
            if let Err(error) = self.make_symlink(&mut walker, &staging, symlink) {
                failed.push((symlink.path.clone(), error));
            }
        }
        for (folder, error) in self.set_attributes(&mut walker, folders) {
            failed.push((folder.path.clone(), error));
        }
        drop(staging);
        // From here on everything belongs to the user, empty folders too.
        self.keep_folders();
        // If it cannot be removed now, the next download into this folder removes it as stale.
        if let Err(error) = self.unstage() {
            tracing::warn!(%error, "the staging folder could not be removed");
        }
        Ok(failed)
    }

    fn make_symlink(
        &self,
        walker: &mut Walker<'_>,
        staging: &Staging,
        symlink: &PublishSymlink,
    ) -> Result<Published, DiskError> {
        let target = &symlink.target;
        if let Err(why) = symlink_stays_inside(&symlink.path, target) {
            return Err(DiskError::Escape(format!("it points to {target}: {why}")));
        }
        let (parent, name) = split(&symlink.path);
        let parent = walker.make(parent, &self.made)?;
        // An earlier run may have created it already.
        if rustix::fs::readlinkat(parent, name, Vec::new())
            .is_ok_and(|there| there.as_bytes() == target.as_bytes())
        {
            return Ok(Published::At(symlink.path.clone()));
        }
        place(&symlink.path, symlink.on_conflict, |name, replace| {
            if replace {
                rustix::fs::symlinkat(target, &staging.dir, NEW_SYMLINK)?;
                rustix::fs::renameat(&staging.dir, NEW_SYMLINK, parent, name).inspect_err(|_| {
                    let _ = rustix::fs::unlinkat(&staging.dir, NEW_SYMLINK, AtFlags::empty());
                })
            } else {
                rustix::fs::symlinkat(target, parent, name)
            }
        })
    }

    /// Only folders that this download created get attributes: the user's own folders keep theirs.
    fn set_attributes<'a>(
        &self,
        walker: &mut Walker<'_>,
        folders: &'a [PublishFolder],
    ) -> Vec<(&'a PublishFolder, DiskError)> {
        let made = lock(&self.made);
        let mut ours: Vec<_> = folders
            .iter()
            .filter(|folder| made.contains(folder.path.as_str()))
            .collect();
        // Deepest first: changes inside a folder update its modification time, and may no longer be permitted
        // afterwards.
        ours.sort_by_key(|folder| Reverse(folder.path.components().count()));
        let mut failed = Vec::new();
        for folder in ours {
            let path = folder.path.as_str();
            let set = walker.enter(path).map_err(DiskError::from).and_then(|dir| {
                attributes::set(dir, folder.mode, folder.modified)
                    .map_err(|error| disk_error(error, path))
            });
            if let Err(error) = set {
                failed.push((folder, error));
            }
        }
        failed
    }
}
