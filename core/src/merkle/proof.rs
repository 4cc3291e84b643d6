//! Proofs that a range of leaves belongs to a root.

use std::ops::Range;

use super::{Hash, fold, group_count, hash_leaf, hash_node, hash_root, leaves_in_group, split};
use crate::limits::{GROUP, LEAF};

/// The hashes of a range of leaves that lie in one group, as computed from their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeHash {
    /// Between one and [`LEAVES_PER_GROUP`].
    leaves: Vec<Hash>,
}

impl RangeHash {
    /// Hashes `bytes`, which start where a leaf does and are [`GROUP`] bytes at the most. No bytes are one empty leaf,
    /// as an empty file has it.
    ///
    /// # Panics
    /// If there are more than [`GROUP`] bytes.
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

    /// The leaves' hashes, in order.
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// The group's node, if the range is the whole group.
    pub fn node(&self) -> Hash {
        fold(&self.leaves)
    }

    /// The siblings that rebuild the group's node from the leaves in `[offset, offset + len)` alone, if these are the
    /// leaves of a whole group.
    ///
    /// `offset` counts bytes from the group's start and is a multiple of [`LEAF`]; the range ends at one or at the
    /// group's end. The order is that of the tree walked from the top, left before right: each subtree without a leaf
    /// of the range gives its node. A range that is the whole group needs none.
    ///
    /// # Panics
    /// If the range does not start at a leaf, or does not end within the group.
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

/// The siblings that rebuild a group's node from the leaves in `[offset, offset + len)` alone: [`RangeHash::proof`] of
/// the whole group's bytes.
///
/// # Panics
/// As [`RangeHash::proof`].
pub fn group_proof(group: &[u8], offset: u32, len: u32) -> Vec<Hash> {
    RangeHash::of(group).proof(offset, len)
}

/// Checks that leaves belong to the file with this `root` and `size`, and returns their group's node.
///
/// `offset` is where the range starts in the file; `proof` is what [`group_proof`] and
/// [`GroupTree::proof`](super::GroupTree::proof) gave, one behind the other. A range that does not start at a leaf, does
/// not lie within one group of the file, or whose proof is a hash too long or too short, is refused like a wrong one.
/// So whoever gets a node knows that the bytes under `range` are those of the file, and how many leaves they are.
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

/// The sibling of a node on its way to the top: `index` counts the nodes of one `level`, where a node spans `2^level`
/// of the tree's `count` groups. `None` if there is nothing right of it: then it goes up as it is.
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

/// The node over `span`, from the leaves in `wanted` and, for everything else, from the proof.
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

/// From a group's node to the top.
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

/// The levels below the top of a tree over `count` groups; 0 is that of the groups.
pub(super) fn levels(count: u64) -> Range<u32> {
    0..u64::BITS - (count - 1).leading_zeros()
}
