//! Reads back what a download has written: to serve it to others, from its staging file or its final path; and what an
//! earlier run has left, to check whether it is still right.
//!
//! Anyone else working in the folder may have changed it; so each group is hashed, and the engine decides whether the
//! hash is right.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};
use cap_std::fs::Dir;
use handover_core::engine::{DiskError, GroupHash, Located, Segment};
use handover_core::limits::{GROUP, LEAF};
use handover_core::merkle::{self, Hash, RangeHash};
use rustix::fs::{Mode, OFlags};

use super::beneath;
use super::error::disk_error;
use super::staging::{FolderSink, path_of};

/// One outcome per range.
type Outcomes = Vec<Result<Option<GroupHash>, DiskError>>;

impl FolderSink {
    /// Reads ranges into one payload, in order; failed ranges contribute no bytes.
    pub(super) fn read_back(&self, kept: &[Located]) -> (Bytes, Outcomes) {
        let mut payload = BytesMut::new();
        let outcomes = kept.iter().map(|kept| {
            let file = self.open_kept(kept)?;
            let (range, hash) = read(&file, &kept.segment)?;
            payload.extend_from_slice(&range);
            Ok(Some(hash))
        });
        let outcomes = outcomes.collect();
        (payload.freeze(), outcomes)
    }

    /// Hashes up to `count` groups of a staged file, fewer if the file is shorter.
    pub(super) fn hash_staged(
        &self,
        entry: u32,
        first: u64,
        count: u32,
    ) -> Result<Vec<Hash>, DiskError> {
        let (_, staging) = self.staged()?;
        let file = open(&staging.dir, &path_of(entry))?;
        let len = file.metadata().map_err(fault)?.len();
        let mut buffer = Vec::new();
        let mut hashes = Vec::new();
        for group in (first..).take(count as usize) {
            let start = group.saturating_mul(GROUP.into());
            let there = len.saturating_sub(start).min(GROUP.into());
            if there == 0 {
                break;
            }
            buffer.resize(usize::try_from(there).unwrap_or(0), 0);
            file.read_exact_at(&mut buffer, start).map_err(fault)?;
            hashes.push(merkle::hash_group(&buffer));
        }
        Ok(hashes)
    }

    fn open_kept(&self, kept: &Located) -> Result<File, DiskError> {
        if let Some(path) = &kept.path {
            let root = self.root().ok_or(DiskError::NotFound)?;
            open(&root, path.as_str())
        } else {
            let (_, staging) = self.staged()?;
            open(&staging.dir, &path_of(kept.segment.entry))
        }
    }
}

/// Opens a file. The path may lead to anything by now, even to a pipe that nobody writes to.
fn open(below: &Dir, path: &str) -> Result<File, DiskError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let opened = beneath::open(below, path, flags, Mode::empty());
    let file = File::from(opened.map_err(fault)?);
    let metadata = file.metadata().map_err(fault)?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(DiskError::Changed)
    }
}

/// Reads a range and returns its bytes, with the hash of its group.
fn read(file: &File, segment: &Segment) -> Result<(Vec<u8>, GroupHash), DiskError> {
    let len = file.metadata().map_err(fault)?.len();
    let within = segment.offset % u64::from(GROUP);
    let start = segment.offset - within;
    let there = len.saturating_sub(start).min(GROUP.into());
    if within + u64::from(segment.len) > there || !within.is_multiple_of(LEAF.into()) {
        return Err(DiskError::Changed);
    }
    let mut group = vec![0; usize::try_from(there).unwrap_or(0)];
    file.read_exact_at(&mut group, start).map_err(fault)?;
    let from = usize::try_from(within).unwrap_or(0);
    let leaves = RangeHash::of(&group);
    let hash = GroupHash {
        hash: leaves.node(),
        inner: leaves.proof(u32::try_from(within).unwrap_or(0), segment.len),
    };
    let mut range = group.split_off(from);
    range.truncate(segment.len as usize);
    Ok((range, hash))
}

fn fault(error: impl Into<std::io::Error>) -> DiskError {
    disk_error(error, "what is served")
}
