//! What a download can serve: parts verified against a root signed by the sharer and stored on disk, their proofs, and
//! the signed roots to pass on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::bits::Bits;
use super::super::serving::proof_of;
use super::super::{GroupHash, Segment};
use super::parts::Parts;
use crate::bounded::Bounded;
use crate::limits::GROUP;
use crate::manifest::SignedRoots;
use crate::merkle::{Hash, ProofTree, group_count, hash_root};
use crate::message::{MAX_PROOF, MAX_RANGES};
use crate::path::SafePath;

/// Marks an entry whose root is in no batch.
const NONE: u32 = u32::MAX;
/// Maximum number of parts that one call of [`Inventory::news`] covers, as it sorts them.
const PARTS_AT_ONCE: usize = 1 << 14;

/// What can be served.
pub(super) struct Inventory {
    parts: Arc<Parts>,
    /// Trees of files with several groups. Files with one group are numerous, and their signed root is enough to prove
    /// them.
    trees: BTreeMap<u32, ProofTree>,
    /// Parts that are verified and on disk.
    have: Bits,
    /// The same parts in the order of their arrival: each link is sent the new ones from time to time.
    log: Vec<u32>,
    /// Batches of signed roots, and the index of each entry's batch.
    batches: Vec<SignedRoots>,
    batch_of: Vec<u32>,
    /// Number of roots in all batches, and its maximum: twice the number of entries, plus one batch.
    kept: usize,
    most: usize,
    /// Files published under another name than in the manifest.
    renamed: BTreeMap<u32, SafePath>,
}

impl Inventory {
    /// Creates an empty inventory for a manifest with `entries` entries.
    pub(super) fn new(parts: Arc<Parts>, entries: usize) -> Self {
        Self {
            have: Bits::new(parts.total()),
            parts,
            trees: BTreeMap::new(),
            log: Vec::new(),
            batches: Vec::new(),
            batch_of: vec![NONE; entries],
            kept: 0,
            renamed: BTreeMap::new(),
            most: entries
                .saturating_mul(2)
                .saturating_add(crate::manifest::MAX_ROOTS),
        }
    }

    /// Stores a batch of roots signed by the sharer. If it exceeds the maximum, its entries are not served.
    pub(super) fn learnt(&mut self, batch: &SignedRoots, roots: &[(u32, Hash)]) {
        let new = |(entry, _): &(u32, Hash)| self.batch(*entry).is_none();
        let Ok(at) = u32::try_from(self.batches.len()) else {
            return;
        };
        if !roots.iter().any(new) || self.kept + roots.len() > self.most {
            return;
        }
        self.kept += roots.len();
        for (entry, _) in roots {
            if let Some(batch) = self.batch_of.get_mut(*entry as usize) {
                *batch = (*batch).min(at);
            }
        }
        self.batches.push(batch.clone());
    }

    /// Records a group that has arrived. With its root and its proof it can be proved at once, otherwise once the file
    /// is complete.
    pub(super) fn arrived(
        &mut self,
        (entry, group): (u32, u64),
        size: u64,
        node: Hash,
        proof: Option<(&Hash, &[Hash])>,
    ) {
        if group_count(size) == 1 {
            return; // It can be served as soon as the whole file is confirmed.
        }
        let tree = self.trees.entry(entry);
        let tree = tree.or_insert_with(|| ProofTree::new(size));
        match proof {
            Some((root, proof)) if tree.prove(root, group, node, proof) => {}
            _ => tree.insert(group, node),
        }
    }

    /// Makes the group at an offset available if it can be proved: its data is on disk.
    pub(super) fn landed(&mut self, entry: u32, offset: u64) {
        let group = offset / u64::from(GROUP);
        let tree = self.trees.get(&entry);
        if tree.is_some_and(|tree| tree.is_proved(group))
            && let Some(part) = self.parts.part(entry, group)
        {
            self.add(entry, part);
        }
    }

    /// Makes a file available: all of it is on disk, and its root is the signed one.
    pub(super) fn confirmed(&mut self, entry: u32) {
        let parts = self.parts.of_entry(entry);
        let tree = self.trees.get_mut(&entry);
        // Otherwise some of it was here before, and its proof is not known.
        if parts.len() == 1 || tree.is_some_and(ProofTree::confirm) {
            for part in parts {
                self.add(entry, part);
            }
        }
    }

    fn add(&mut self, entry: u32, part: usize) {
        if self.batch(entry).is_some()
            && self.have.insert(part)
            && let Ok(part) = u32::try_from(part)
        {
            self.log.push(part);
        }
    }

    /// Stops serving a file: it is not, or no longer, what it should be.
    pub(super) fn lost(&mut self, entry: u32) {
        self.trees.remove(&entry);
        for part in self.parts.of_entry(entry) {
            self.have.remove(part);
        }
    }

    /// Records that a file was given another name than in the manifest.
    pub(super) fn renamed(&mut self, entry: u32, path: SafePath) {
        self.renamed.insert(entry, path);
    }

    /// The name of a file here, if it differs from the manifest.
    pub(super) fn place_of(&self, entry: u32) -> Option<&SafePath> {
        self.renamed.get(&entry)
    }

    /// True if a segment can be served.
    pub(super) fn has(&self, segment: &Segment) -> bool {
        let part = self
            .parts
            .part(segment.entry, segment.offset / u64::from(GROUP));
        part.is_some_and(|part| self.have.contains(part))
    }

    /// Proof of a segment of a file of `size` bytes, given what was read back. `None` if that differs from what
    /// arrived.
    pub(super) fn proof(
        &self,
        segment: &Segment,
        size: u64,
        read: GroupHash,
    ) -> Option<Bounded<Hash, MAX_PROOF>> {
        let group = segment.offset / u64::from(GROUP);
        let above = if let Some(tree) = self.trees.get(&segment.entry) {
            tree.proof(group).filter(|_| tree.is(group, &read.hash))
        } else {
            let (_, batch) = self.batch(segment.entry)?;
            let root = hash_root(size, &read.hash);
            (batch.root(segment.entry) == Some(root)).then(Vec::new)
        };
        proof_of(Some(above?), read.inner, size, segment)
    }

    /// Index and content of the batch with an entry's root.
    pub(super) fn batch(&self, entry: u32) -> Option<(usize, &SignedRoots)> {
        let at = *self.batch_of.get(entry as usize)? as usize;
        Some((at, self.batches.get(at)?))
    }

    /// Number of parts that have become available so far, including those lost since.
    pub(super) fn count(&self) -> usize {
        self.log.len()
    }

    /// Parts added after the first `from`, as ascending ranges, and the position reached. Lost parts are left out.
    pub(super) fn news(&self, from: usize) -> (Vec<(u64, u64)>, usize) {
        let to = self.log.len().min(from.saturating_add(PARTS_AT_ONCE));
        let mut parts: Vec<u32> = self.log.get(from..to).unwrap_or_default().to_vec();
        parts.retain(|part| self.have.contains(*part as usize));
        parts.sort_unstable();
        parts.dedup();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for part in parts.into_iter().map(u64::from) {
            match ranges.last_mut() {
                Some((first, count)) if *first + *count == part => *count += 1,
                _ => ranges.push((part, 1)),
            }
        }
        (ranges, to)
    }

    /// Splits ranges to fit into messages.
    pub(super) fn messages(ranges: &[(u64, u64)]) -> Vec<Bounded<(u64, u64), MAX_RANGES>> {
        let chunks = ranges.chunks(MAX_RANGES);
        chunks.map(|chunk| chunk.to_vec().into()).collect()
    }
}
