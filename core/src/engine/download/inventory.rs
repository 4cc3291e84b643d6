//! What a download has that it may serve: parts that were checked against a root that the sharer has signed, and that are
//! on the disk; what proves them; and the signed roots, to pass on.

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

/// The batch of an entry whose root is in none.
const NONE: u32 = u32::MAX;
/// Parts of which one message tells at the most: they are sorted for it.
const PARTS_AT_ONCE: usize = 1 << 14;

/// What may be served.
pub(super) struct Inventory {
    parts: Arc<Parts>,
    /// Of files with several groups. Those with one are many, and their signed root proves all of them.
    trees: BTreeMap<u32, ProofTree>,
    /// Parts that are checked and on the disk.
    have: Bits,
    /// The same, in the order in which they came: each link is told the rest of it from time to time.
    log: Vec<u32>,
    /// Roots as they were signed, and which of these batches has an entry's.
    batches: Vec<SignedRoots>,
    batch_of: Vec<u32>,
    /// Roots in all batches: twice as many as there are entries, at the most.
    kept: usize,
    most: usize,
    /// Files that stand under another name than they have in the manifest.
    renamed: BTreeMap<u32, SafePath>,
}

impl Inventory {
    /// Nothing, of a manifest with so many entries.
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

    /// The sharer has signed these roots. Entries of a batch that there is no room for are not served.
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

    /// A group is here. With its root and what came as a proof it can be proved at once; else when the file is whole.
    pub(super) fn arrived(
        &mut self,
        (entry, group): (u32, u64),
        size: u64,
        node: Hash,
        proof: Option<(&Hash, &[Hash])>,
    ) {
        if group_count(size) == 1 {
            return; // It can be served as soon as all of it is confirmed.
        }
        let tree = self.trees.entry(entry);
        let tree = tree.or_insert_with(|| ProofTree::new(size));
        match proof {
            Some((root, proof)) if tree.prove(root, group, node, proof) => {}
            _ => tree.insert(group, node),
        }
    }

    /// The group at an offset is on the disk, as far as it is here.
    pub(super) fn landed(&mut self, entry: u32, offset: u64) {
        let group = offset / u64::from(GROUP);
        let tree = self.trees.get(&entry);
        if tree.is_some_and(|tree| tree.is_proved(group))
            && let Some(part) = self.parts.part(entry, group)
        {
            self.add(entry, part);
        }
    }

    /// All of a file is on the disk, and its root is the signed one.
    pub(super) fn confirmed(&mut self, entry: u32) {
        let parts = self.parts.of_entry(entry);
        let tree = self.trees.get_mut(&entry);
        // Else some of it was here before, and nothing is known that would prove it.
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

    /// A file is not what it should be (any more): it is served no longer.
    pub(super) fn lost(&mut self, entry: u32) {
        self.trees.remove(&entry);
        for part in self.parts.of_entry(entry) {
            self.have.remove(part);
        }
    }

    /// A file had to be given another name.
    pub(super) fn renamed(&mut self, entry: u32, path: SafePath) {
        self.renamed.insert(entry, path);
    }

    /// The name that a file has here, if it is another.
    pub(super) fn place_of(&self, entry: u32) -> Option<&SafePath> {
        self.renamed.get(&entry)
    }

    /// Whether a segment can be served.
    pub(super) fn has(&self, segment: &Segment) -> bool {
        let part = self
            .parts
            .part(segment.entry, segment.offset / u64::from(GROUP));
        part.is_some_and(|part| self.have.contains(part))
    }

    /// What proves a segment of a file of `size` bytes that was read back, if what was read is what came once.
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

    /// The batch with an entry's root, and its number.
    pub(super) fn batch(&self, entry: u32) -> Option<(usize, &SignedRoots)> {
        let at = *self.batch_of.get(entry as usize)? as usize;
        Some((at, self.batches.get(at)?))
    }

    /// How many parts have come so far.
    pub(super) fn count(&self) -> usize {
        self.log.len()
    }

    /// Parts that came behind the first `from`, as ranges that rise, and how far that goes. What was lost is left out.
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

    /// Ranges as they fit messages.
    pub(super) fn messages(ranges: &[(u64, u64)]) -> Vec<Bounded<(u64, u64), MAX_RANGES>> {
        let chunks = ranges.chunks(MAX_RANGES);
        chunks.map(|chunk| chunk.to_vec().into()).collect()
    }
}
