//! Content known to be on a disk: files that are already present, and older versions of others.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use handover_core::chunk::Chunk;
use handover_core::engine::{
    Adopt, Adopted, Candidate, DiskDone, DiskError, Piece, ShareId, Sought,
};
use handover_core::limits::{GROUP, LEAF};
use handover_core::merkle::{Hash, RangeHash, file_root};

use super::Disk;
use super::chunks::cut;
use super::landing::Landing;
use crate::ledger::{Fault, happened};

impl Disk {
    /// Remembers a share's files by their roots.
    pub(super) fn note_shared(&mut self, share: ShareId, roots: &[(u32, Hash)]) {
        let Some(source) = self.sources.get(&share).filter(|_| self.remembers) else {
            return;
        };
        let known = roots
            .iter()
            .filter_map(|(entry, root)| Some((*root, source.bytes(*entry)?)));
        self.known.extend(known);
    }

    /// Changes all remembered files without notice.
    pub fn change_known(&mut self) {
        for bytes in self.known.values_mut().filter(|bytes| !bytes.is_empty()) {
            let mut changed = bytes.to_vec();
            if let Some(first) = changed.first_mut() {
                *first ^= 1;
            }
            *bytes = changed.into();
            happened(Fault::KnownChanged);
        }
    }
}

impl Landing {
    pub(super) fn candidates(&self, files: &[Sought], disk: &Disk) -> DiskDone {
        let sizes: BTreeSet<u64> = disk
            .known
            .values()
            .map(|bytes| bytes.len() as u64)
            .collect();
        let found = files.iter().map(|file| Candidate {
            entry: file.entry,
            stands: self.stands(file).map(|bytes| bytes.len() as u64),
            elsewhere: sizes.contains(&file.size),
        });
        let found = found.filter(|found| found.stands.is_some() || found.elsewhere);
        DiskDone::Candidates(found.collect())
    }

    fn stands(&self, file: &Sought) -> Option<&Bytes> {
        self.folder.bytes(file.path.as_str())
    }

    pub(super) fn adopt(
        &mut self,
        files: &[Adopt],
        disk: &mut Disk,
    ) -> Result<DiskDone, DiskError> {
        let adopted: Result<_, _> = files
            .iter()
            .map(|file| self.adopt_one(file, disk))
            .collect();
        Ok(DiskDone::Adopted(adopted?))
    }

    fn adopt_one(&mut self, adopt: &Adopt, disk: &mut Disk) -> Result<Adopted, DiskError> {
        let is_right = |bytes: &&Bytes| file_root(bytes) == adopt.root;
        if adopt.duplicate.is_none()
            && self
                .stands(&adopt.file)
                .is_some_and(|bytes| is_right(&bytes))
        {
            happened(Fault::Stood);
            return Ok(Adopted::Stands);
        }
        let found = match &adopt.duplicate {
            Some(duplicate) => self.folder.bytes(duplicate.path.as_str()),
            None => disk.known.get(&adopt.root),
        };
        let Some(bytes) = found.filter(is_right).cloned() else {
            return Ok(Adopted::No);
        };
        disk.take_room(bytes.len() as u64)?;
        let staging = self.staging.as_mut().ok_or(DiskError::NotFound)?;
        happened(if adopt.duplicate.is_some() {
            Fault::Duplicate
        } else {
            Fault::Adopted
        });
        staging.take(adopt.file.entry);
        staging.write(&Piece {
            entry: adopt.file.entry,
            offset: 0,
            data: bytes,
        });
        Ok(if adopt.duplicate.is_some() {
            Adopted::Staged
        } else {
            Adopted::StagedFromElsewhere
        })
    }

    pub(super) fn reuse(
        &mut self,
        file: &Sought,
        chunks: &[Chunk],
        disk: &mut Disk,
    ) -> Result<DiskDone, DiskError> {
        let old = self.stands(file).cloned().unwrap_or_default();
        let mut have: BTreeMap<[u8; 16], Bytes> = BTreeMap::new();
        let mut at = 0;
        for chunk in cut(&old) {
            let end = at + chunk.len as usize;
            have.insert(chunk.hash, old.slice(at..end));
            at = end;
        }
        let staging = self.staging.as_mut().ok_or(DiskError::NotFound)?;
        let mut covered = vec![false; usize::try_from(file.size).expect("a file in memory")];
        let mut offset = 0;
        for chunk in chunks {
            let len = u64::from(chunk.len);
            if let Some(found) = have.get(&chunk.hash).filter(|old| old.len() as u64 == len) {
                let mut data = found.to_vec();
                if disk.clashes > 0 {
                    disk.clashes -= 1;
                    data[0] ^= 1;
                    happened(Fault::Clash);
                }
                disk.take_room(len)?;
                let data = data.into();
                let entry = file.entry;
                staging.write(&Piece {
                    entry,
                    offset,
                    data,
                });
                let start = usize::try_from(offset).expect("an offset in memory");
                covered[start..start + chunk.len as usize].fill(true);
            }
            offset += len;
        }
        Ok(DiskDone::Reused(leaves_of(
            staging.bytes(file.entry),
            &covered,
        )))
    }
}

/// The completely covered leaves, as ranges within one group each.
fn leaves_of(staged: &[u8], covered: &[bool]) -> Vec<(u64, RangeHash)> {
    let mut ranges = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (at, leaf) in covered.chunks(LEAF as usize).enumerate() {
        let start = at * LEAF as usize;
        let end = start + leaf.len();
        let ends = !leaf.iter().all(|byte| *byte) || start.is_multiple_of(GROUP as usize);
        if ends {
            ranges.extend(open.take());
        }
        if leaf.iter().all(|byte| *byte) {
            open = Some((open.map_or(start, |(from, _)| from), end));
        }
    }
    ranges.extend(open);
    let hashed = ranges
        .into_iter()
        .map(|(start, end)| (start as u64, RangeHash::of(&staged[start..end])));
    let found: Vec<_> = hashed.collect();
    if !found.is_empty() {
        happened(Fault::Reused);
    }
    found
}
