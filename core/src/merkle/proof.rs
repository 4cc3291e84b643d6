//! Proofs that a range of leaves belongs to a root.

use std::ops::Range;

use super::{Hash, fold, group_count, hash_leaf, hash_node, hash_root, leaves_in_group, split};
use crate::limits::{GROUP, LEAF};

/// The hashes of a range of leaves in one group, computed from their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeHash {
    /// From one to [`LEAVES_PER_GROUP`](crate::limits::LEAVES_PER_GROUP) hashes.
    leaves: Vec<Hash>,
}

impl RangeHash {
    /// Hashes `bytes`, which start at a leaf boundary and are at most [`GROUP`] long. An empty slice is hashed as one
    /// empty leaf, like an empty file.
    ///
    /// # Panics
    /// If `bytes` is longer than [`GROUP`].
    pub fn of(bytes: &[u8]) -> Self {
        assert!(
            bytes.len() <= GROUP as usize,
            "{} bytes in a group",
            bytes.len()
        );
        if bytes.is_empty() {
            return Self {
                leaves: vec![hash_leaf(bytes)],
            };
        }
        Self {
            leaves: bytes.chunks(LEAF as usize).map(hash_leaf).collect(),
        }
    }

    /// Returns the leaves' hashes, in order.
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// Returns the group's node, if the range is the whole group.
    pub fn node(&self) -> Hash {
        fold(&self.leaves)
    }

    /// Returns the siblings that rebuild the group's node from only the leaves in `[offset, offset + len)`. Requires that
    /// `self` is a whole group.
    ///
    /// `offset` is in bytes from the group's start and a multiple of [`LEAF`]. The range ends at such a multiple or at
    /// the group's end. The order is that of a walk from the top, left before right: each subtree without a leaf of the
    /// range contributes its node. A range that is the whole group needs no siblings.
    ///
    /// # Panics
    /// If the range does not start at a leaf boundary or does not end within the group.
    pub fn proof(&self, offset: u32, len: u32) -> Vec<Hash> {
        let first = (offset / LEAF) as usize;
        let count = (len.div_ceil(LEAF) as usize).max(1);
        let range = first..first + count;
        assert!(
            offset.is_multiple_of(LEAF) && range.end <= self.leaves.len(),
            "{len} bytes at {offset} in a group of {} leaves",
            self.leaves.len()
        );
        let mut siblings = Vec::new();
        collect_siblings(&self.leaves, 0, &range, &mut siblings);
        siblings
    }
}

/// Returns the siblings that rebuild a group's node from only the leaves in `[offset, offset + len)`:
/// [`RangeHash::proof`] of the whole group's bytes.
///
/// # Panics
/// As [`RangeHash::proof`].
pub fn group_proof(group: &[u8], offset: u32, len: u32) -> Vec<Hash> {
    RangeHash::of(group).proof(offset, len)
}

/// Verifies that leaves belong to the file with this `root` and `size`, and returns their group's node.
///
/// `offset` is the start of the range in the file. `proof` is the result of [`group_proof`] followed by that of
/// [`GroupTree::proof`](super::GroupTree::proof). A range that does not start at a leaf boundary or is not within one
/// group of the file is refused like a wrong one, and so is a proof with one hash too few or too many. So `Some` means
/// that the bytes of `range` are those of the file, and that the number of leaves is right.
pub fn verify_range(
    root: &Hash,
    size: u64,
    offset: u64,
    range: &RangeHash,
    proof: &[Hash],
) -> Option<Hash> {
    let group = offset / u64::from(GROUP);
    let start = offset % u64::from(GROUP);
    if group >= group_count(size) || !start.is_multiple_of(u64::from(LEAF)) {
        return None;
    }
    let first = usize::try_from(start / u64::from(LEAF)).ok()?;
    let total = leaves_in_group(size, group);
    let wanted = first..first.checked_add(range.leaves.len())?;
    if wanted.is_empty() || wanted.end > total {
        return None;
    }
    let mut proof = proof.iter();
    let mut leaves = range.leaves.iter();
    let node = rebuild(0..total, &wanted, &mut leaves, &mut proof)?;
    let top = climb(node, group, group_count(size), &mut proof)?;
    (proof.as_slice().is_empty() && hash_root(size, &top) == *root).then_some(node)
}

/// Returns the sibling of a node on its path to the top. `index` counts the nodes of one `level`, where a node spans
/// `2^level` of the tree's `count` groups. `None` if the node has no right sibling: it then moves up unchanged.
pub(super) fn sibling(level: u32, index: u64, count: u64) -> Option<u64> {
    let sibling = index ^ 1;
    (sibling << level < count).then_some(sibling)
}

fn collect_siblings(leaves: &[Hash], first: usize, range: &Range<usize>, out: &mut Vec<Hash>) {
    let end = first + leaves.len();
    if range.end <= first || end <= range.start {
        out.push(fold(leaves));
    } else if leaves.len() > 1 && !(range.start <= first && end <= range.end) {
        let (left, right) = leaves.split_at(split(leaves.len()));
        collect_siblings(left, first, range, out);
        collect_siblings(right, first + left.len(), range, out);
    }
}

/// Rebuilds the node over `span` from the leaves in `wanted` and, for everything else, from the proof.
fn rebuild<'a>(
    span: Range<usize>,
    wanted: &Range<usize>,
    leaves: &mut impl Iterator<Item = &'a Hash>,
    proof: &mut impl Iterator<Item = &'a Hash>,
) -> Option<Hash> {
    if wanted.end <= span.start || span.end <= wanted.start {
        return proof.next().copied();
    }
    if span.len() == 1 {
        return leaves.next().copied();
    }
    let middle = span.start + split(span.len());
    let left = rebuild(span.start..middle, wanted, leaves, proof)?;
    let right = rebuild(middle..span.end, wanted, leaves, proof)?;
    Some(hash_node(&left, &right))
}

/// Computes the top node from a group's node and the siblings in `proof`. `None` if `proof` is too short.
pub(super) fn climb<'a>(
    mut node: Hash,
    group: u64,
    count: u64,
    proof: &mut impl Iterator<Item = &'a Hash>,
) -> Option<Hash> {
    for level in levels(count) {
        let index = group >> level;
        if sibling(level, index, count).is_some() {
            let other = proof.next()?;
            node = if index.is_multiple_of(2) {
                hash_node(&node, other)
            } else {
                hash_node(other, &node)
            };
        }
    }
    Some(node)
}

/// Returns the levels below the top of a tree over `count` groups; level 0 is that of the groups.
pub(super) fn levels(count: u64) -> Range<u32> {
    0..u64::BITS - (count - 1).leading_zeros()
}
