//! Reuses bytes that are on this device already: finds candidates for a file and copies them to staging if they match.
//!
//! Everything is copied, since a file with another name may be changed under that name; and everything is hashed, since
//! nothing recorded is trusted. Whatever fails here, the file is fetched.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use cap_std::fs::Dir;
use handover_core::chunk::Chunk;
use handover_core::engine::{Adopt, Adopted, Candidate, DiskError, Sought};
use handover_core::limits::{GROUP, LEAF};
use handover_core::merkle::{self, Hash, RangeHash};
use handover_core::path::SafePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::beneath::{self, Walker};
use super::error::disk_error;
use super::noted::Noted;
use super::staging::{FolderSink, Staging, split};
use super::{attributes, chunks};
use crate::store::KnownFile;

/// Flags for opening a file that somebody else may have put there: a named pipe must not block the worker.
pub(super) const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

impl FolderSink {
    /// Returns which of these files could be on this device already, judged by size.
    pub(super) fn candidates(
        &self,
        files: &[Sought],
        noted: &Noted,
    ) -> Result<Vec<Candidate>, DiskError> {
        let (root, staging) = self.staged()?;
        let sizes: BTreeSet<u64> = files.iter().map(|file| file.size).collect();
        let known = noted.sizes(&sizes);
        let mut walker = Walker::new(&root);
        let found = files.iter().map(|file| Candidate {
            entry: file.entry,
            stands: here(&staging, &mut walker, file),
            elsewhere: known.contains(&file.size),
        });
        let found = found.filter(|found| found.stands.is_some() || found.elsewhere);
        Ok(found.collect())
    }

    /// Copies files to staging that are on this device and match their roots.
    pub(super) fn adopt(&self, files: &[Adopt], noted: &Noted) -> Result<Vec<Adopted>, DiskError> {
        let (root, staging) = self.staged()?;
        let elsewhere = files.iter().filter(|adopt| adopt.duplicate.is_none());
        let roots: Vec<_> = elsewhere.map(|adopt| adopt.root.0).collect();
        let known = noted.find(&roots);
        let mut walker = Walker::new(&root);
        let mut adopt_one = |adopt: &Adopt| {
            let file = &adopt.file;
            let (from, adopted) = if let Some(duplicate) = &adopt.duplicate {
                (open_below(&mut walker, &duplicate.path), Adopted::Staged)
            } else {
                let own = open_below(&mut walker, &file.path);
                if own.is_some_and(|own| root_of(&own, file.size) == Some(adopt.root)) {
                    return Adopted::Stands;
                }
                if adopt_older(&staging, adopt) {
                    return Adopted::Staged;
                }
                let elsewhere = known.get(&adopt.root.0).and_then(open_known);
                (elsewhere, Adopted::StagedFromElsewhere)
            };
            let Some(from) = from else {
                return Adopted::No;
            };
            let copied = self.copy(&staging, &from, file, adopt.root);
            let copied = copied.and_then(|right| {
                if right {
                    let original = from.metadata()?;
                    // A duplicate's mode belongs to another file, so only what was withheld from it since counts.
                    let bits = match &adopt.duplicate {
                        Some(duplicate) => attributes::withheld_since(&original, duplicate.mode),
                        None => attributes::kept_from_others(original.mode()),
                    };
                    staging.withhold(file.entry, bits)?;
                }
                Ok(right)
            });
            if copied.is_ok_and(|right| right) {
                adopted
            } else {
                staging.forget(file.entry, true);
                Adopted::No
            }
        };
        Ok(files.iter().map(&mut adopt_one).collect())
    }

    /// Copies a file to staging. Returns true if the copy has this root.
    fn copy(&self, staging: &Staging, from: &File, file: &Sought, root: Hash) -> io::Result<bool> {
        let metadata = from.metadata()?;
        if !metadata.is_file() || metadata.len() != file.size {
            return Ok(false);
        }
        let to = staging.begin(file.entry)?;
        #[cfg(target_os = "linux")]
        if rustix::fs::ioctl_ficlone(&to, from).is_ok() {
            staging.wrote_up_to(file.entry, file.size);
            return Ok(root_of(&to, file.size) == Some(root));
        }
        let mut tree = merkle::PartialTree::new(file.size);
        let mut buffer = vec![0; merkle::group_len(file.size, 0) as usize];
        for group in 0..merkle::group_count(file.size) {
            if !self.is_staged() {
                return Ok(false);
            }
            let start = group * u64::from(GROUP);
            let bytes = &mut buffer[..merkle::group_len(file.size, group) as usize];
            from.read_exact_at(bytes, start)?;
            tree.insert(group, merkle::hash_group(bytes));
            to.write_all_at(bytes, start)?;
        }
        staging.wrote_up_to(file.entry, file.size);
        Ok(tree.root() == Some(root))
    }

    /// Copies to staging what the file under the final name, or an earlier staged one, has in common with the new
    /// version. Returns the leaves that are complete after that.
    pub(super) fn reuse(
        &self,
        file: &Sought,
        chunks: &[Chunk],
    ) -> Result<Vec<(u64, RangeHash)>, DiskError> {
        let (root, staging) = self.staged()?;
        let before = staging.older(file.entry);
        let stands = open_below(&mut Walker::new(&root), &file.path);
        let mode = stands.as_ref().and_then(|stands| stands.metadata().ok());
        let bits = mode.map_or(0, |mode| attributes::kept_from_others(mode.mode()));
        let old: Vec<File> = before.into_iter().chain(stands).collect();
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let fault = |error: io::Error| disk_error(error, "the staging folder");
        let begun = staging.begin(file.entry);
        let to = begun.map_err(|error| fault(error.into()))?;
        let mut places = places(chunks);
        let mut copied: Vec<(u64, u64)> = Vec::new();
        for old in old {
            let matched = chunks::cut(old, |chunk, _, bytes| {
                if !self.is_staged() {
                    return Err(io::Error::other("the download is over"));
                }
                for place in places.remove(&(chunk.len, chunk.hash)).unwrap_or_default() {
                    to.write_all_at(bytes, place)?;
                    copied.push((place, place + u64::from(chunk.len)));
                }
                Ok(())
            });
            matched.map_err(fault)?;
        }
        let end = copied.iter().map(|(_, end)| *end).max();
        staging.wrote_up_to(file.entry, end.unwrap_or(0));
        if !copied.is_empty() {
            staging.withhold(file.entry, bits).map_err(fault)?;
        }
        let leaves = leaves(copied, file.size);
        hash_leaves(&to, leaves).map_err(fault)
    }

    fn is_staged(&self) -> bool {
        self.staged().is_ok()
    }
}

/// The offsets of each chunk.
fn places(chunks: &[Chunk]) -> HashMap<(u32, [u8; 16]), Vec<u64>> {
    let mut places: HashMap<_, Vec<u64>> = HashMap::new();
    let mut at = 0;
    for chunk in chunks {
        places.entry((chunk.len, chunk.hash)).or_default().push(at);
        at += u64::from(chunk.len);
    }
    places
}

/// The leaves that these ranges cover completely, as ranges that do not cross group borders.
fn leaves(mut copied: Vec<(u64, u64)>, size: u64) -> Vec<(u64, u64)> {
    let (leaf, group) = (u64::from(LEAF), u64::from(GROUP));
    copied.sort_unstable();
    copied.dedup_by(|next, before| {
        let touch = next.0 <= before.1;
        if touch {
            before.1 = before.1.max(next.1);
        }
        touch
    });
    let mut ranges = Vec::new();
    for (start, end) in copied {
        let mut from = start.next_multiple_of(leaf);
        let end = if end == size { end } else { end - end % leaf };
        while from < end {
            let to = end.min((from / group + 1) * group);
            ranges.push((from, to));
            from = to;
        }
    }
    ranges
}

fn hash_leaves(file: &File, ranges: Vec<(u64, u64)>) -> io::Result<Vec<(u64, RangeHash)>> {
    let mut buffer = vec![0; GROUP as usize];
    let mut hash = |(start, end): (u64, u64)| {
        let len = usize::try_from(end - start).unwrap_or(GROUP as usize);
        let bytes = &mut buffer[..len];
        file.read_exact_at(bytes, start)?;
        Ok((start, RangeHash::of(bytes)))
    };
    ranges.into_iter().map(&mut hash).collect()
}

/// The size of what may be the file or an older version of it: an earlier staged file if it has the right size, else
/// the file under the final name, else any earlier staged file.
fn here(staging: &Staging, walker: &mut Walker<'_>, file: &Sought) -> Option<u64> {
    let before = staging.older(file.entry);
    let before = before.and_then(|before| Some(before.metadata().ok()?.len()));
    let whole = before.filter(|len| *len == file.size);
    whole.or_else(|| stands(walker, &file.path)).or(before)
}

/// Uses an earlier staged file again if it is complete. Returns true if it is.
fn adopt_older(staging: &Staging, adopt: &Adopt) -> bool {
    let file = &adopt.file;
    let before = staging.older(file.entry);
    let right = before.and_then(|before| root_of(&before, file.size)) == Some(adopt.root);
    right && staging.take_older(file.entry, file.size).is_ok()
}

/// The size of the file at `path`, if it is a regular file.
fn stands(walker: &mut Walker<'_>, path: &SafePath) -> Option<u64> {
    let (parent, name) = split(path);
    let parent = walker.enter(parent).ok()?;
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    regular.then(|| u64::try_from(stat.st_size).unwrap_or_default())
}

fn open_below(walker: &mut Walker<'_>, path: &SafePath) -> Option<File> {
    let (parent, name) = split(path);
    let parent: &Dir = walker.enter(parent).ok()?;
    let file = File::from(beneath::open(parent, name, READ, Mode::empty()).ok()?);
    file.metadata().is_ok_and(|of| of.is_file()).then_some(file)
}

/// Opens a known file if its size and modification time are unchanged.
fn open_known(known: &KnownFile) -> Option<File> {
    let flags = READ | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::open(Path::new(&known.path), flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    let nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    let same = metadata.len() == known.size && (metadata.mtime(), nanos) == known.modified;
    (metadata.is_file() && same).then_some(file)
}

/// The root of the file's content, if it is a regular file of this size.
pub(super) fn root_of(file: &File, size: u64) -> Option<Hash> {
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() != size {
        return None;
    }
    let mut tree = merkle::PartialTree::new(size);
    let mut buffer = vec![0; merkle::group_len(size, 0) as usize];
    for group in 0..merkle::group_count(size) {
        let len = merkle::group_len(size, group) as usize;
        let bytes = buffer.get_mut(..len)?;
        file.read_exact_at(bytes, group * u64::from(GROUP)).ok()?;
        tree.insert(group, merkle::hash_group(bytes));
    }
    tree.root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leaves_that_are_covered_count() {
        let (leaf, group) = (u64::from(LEAF), u64::from(GROUP));
        let size = 2 * group + 5;
        assert_eq!(leaves(vec![(1, leaf + 1)], size), []);
        let touching = vec![(leaf + 9, 2 * leaf), (1, leaf + 9)];
        assert_eq!(leaves(touching, size), [(leaf, 2 * leaf)]);
        assert_eq!(
            leaves(vec![(group - leaf, size)], size),
            [(group - leaf, group), (group, 2 * group), (2 * group, size)]
        );
    }
}
