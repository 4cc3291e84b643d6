//! The tree of a file that is being downloaded, with which a receiver proves verified groups to others.
//!
//! It keeps the node of each group that is present, and the proof of each group that arrived with one. So a group that
//! was proved once can be proved again, long before the file is complete.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::proof::{climb, levels, sibling};
use super::tree::STEP;
use super::{GroupTree, Hash, group_count, hash_root};

/// A file's groups and the proofs of those that were verified. It takes some 35 bytes a group, plus the siblings that
/// cannot be computed from the groups present: few if groups arrive in order, and up to twice as much on top if not.
#[derive(Debug, Clone)]
pub struct ProofTree {
    groups: GroupTree,
    /// Groups that arrived without a proof.
    unproved: BTreeSet<u64>,
    /// Siblings on the path from a proved group to the top, by level and index, that cannot be computed: some of their
    /// groups are missing or wrong.
    siblings: BTreeMap<(u32, u64), Hash>,
    /// True if the root over all groups is the right one, so that every group is proved by the others.
    whole: bool,
}

impl ProofTree {
    /// Creates the tree of a file of `size` bytes, with no groups.
    pub fn new(size: u64) -> Self {
        Self {
            groups: GroupTree::new(size),
            unproved: BTreeSet::new(),
            siblings: BTreeMap::new(),
            whole: false,
        }
    }

    /// Adds a group without a proof.
    pub fn insert(&mut self, group: u64, node: Hash) {
        if self.groups.insert(group, node) {
            self.unproved.insert(group);
            self.prune(group);
        }
    }

    /// Adds a group with a proof of the group or of some of its leaves. Only the siblings above the group are used. Returns
    /// false, and does nothing, if they do not lead from `node` to `root`.
    pub fn prove(&mut self, root: &Hash, group: u64, node: Hash, proof: &[Hash]) -> bool {
        let (size, count) = (self.groups.size(), group_count(self.groups.size()));
        let beside: Vec<_> = beside(group, count).collect();
        let above = proof.len().checked_sub(beside.len());
        let Some(above) = above.and_then(|start| proof.get(start..)) else {
            return false;
        };
        let top = climb(node, group, count, &mut above.iter());
        if group >= count || top.map(|top| hash_root(size, &top)) != Some(*root) {
            return false;
        }
        let is_new = self.groups.insert(group, node);
        if self.groups.is(group, &node) {
            self.unproved.remove(&group);
        }
        for (place, hash) in beside.into_iter().zip(above) {
            if self.groups.node(place.0, place.1) != Some(*hash) {
                self.siblings.insert(place, *hash);
            }
        }
        if is_new {
            self.prune(group);
        }
        self.whole |= count == 1;
        true
    }

    /// Removes siblings that can be computed now that `group` is present.
    fn prune(&mut self, group: u64) {
        let mut first = 0;
        while first < levels(group_count(self.groups.size())).end {
            let above = first + STEP;
            if self.groups.node(above, group >> above).is_none() {
                return;
            }
            for level in first..above {
                let width = above - level;
                let start = (group >> above) << width;
                for index in start..start + (1 << width) {
                    let place = (level, index);
                    if let Entry::Occupied(known) = self.siblings.entry(place)
                        && self.groups.node(level, index) == Some(*known.get())
                    {
                        known.remove();
                    }
                }
            }
            first = above;
        }
    }

    /// Marks the file as complete with the right root. Does nothing and returns false if groups are missing.
    pub fn confirm(&mut self) -> bool {
        if self.groups.is_complete() {
            self.whole = true;
            self.unproved = BTreeSet::new();
            self.siblings = BTreeMap::new();
        }
        self.whole
    }

    /// Returns the size of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.groups.size()
    }

    /// True if the group is present and this is its node.
    pub fn is(&self, group: u64, node: &Hash) -> bool {
        self.groups.is(group, node)
    }

    /// True if a group is present and can be proved.
    pub fn is_proved(&self, group: u64) -> bool {
        let came_so = !self.unproved.contains(&group) && group_count(self.size()) > 1;
        self.groups.has(group) && (self.whole || came_so)
    }

    /// Returns the siblings on the path from a proved group's node to the top, lowest first.
    pub fn proof(&self, group: u64) -> Option<Vec<Hash>> {
        if self.whole {
            return self.groups.proof(group);
        }
        let count = group_count(self.groups.size());
        if !self.is_proved(group) {
            return None;
        }
        // A sibling that was not kept arrived with this group's proof and equals what the groups present give.
        let sibling = |place: (u32, u64)| {
            let known = self.siblings.get(&place).copied();
            known.or_else(|| self.groups.node(place.0, place.1))
        };
        beside(group, count).map(sibling).collect()
    }
}

/// Returns the level and index of each sibling on a group's path to the top, lowest first.
fn beside(group: u64, count: u64) -> impl Iterator<Item = (u32, u64)> {
    levels(count).filter_map(move |level| {
        let index = sibling(level, group >> level, count)?;
        Some((level, index))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{RangeHash, file_root, hash_group, verify_range};
    use super::*;
    use crate::limits::GROUP;

    fn file(groups: u64) -> (Vec<u8>, GroupTree) {
        let len = usize::try_from(groups).unwrap() * GROUP as usize - 5;
        let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
        let mut tree = GroupTree::new(len as u64);
        for (group, bytes) in (0..).zip(bytes.chunks(GROUP as usize)) {
            tree.insert(group, hash_group(bytes));
        }
        (bytes, tree)
    }

    fn group(bytes: &[u8], group: u64) -> &[u8] {
        bytes
            .chunks(GROUP as usize)
            .nth(usize::try_from(group).unwrap())
            .unwrap()
    }

    #[test]
    fn each_group_that_was_proved_can_be_proved_again_and_no_other() {
        for groups in 1..=9_u64 {
            let (bytes, full) = file(groups);
            let root = file_root(&bytes);
            let mut tree = ProofTree::new(full.size());
            for at in (0..groups).rev().step_by(2) {
                let node = hash_group(group(&bytes, at));
                assert!(tree.prove(&root, at, node, &full.proof(at).unwrap()));
                assert!(!tree.prove(&root, at, root, &full.proof(at).unwrap()));
            }
            for at in 0..groups {
                let proved = (groups - 1 - at).is_multiple_of(2);
                assert_eq!(tree.is_proved(at), proved, "group {at} of {groups}");
                if let Some(proof) = tree.proof(at) {
                    let range = RangeHash::of(group(&bytes, at));
                    let offset = at * u64::from(GROUP);
                    let node = verify_range(&root, full.size(), offset, &range, &proof);
                    assert!(tree.is(at, &node.unwrap()));
                }
            }
            assert!(!tree.is_proved(groups));
        }
    }

    #[test]
    fn what_came_without_a_proof_is_proved_by_the_whole_file() {
        let (bytes, full) = file(5);
        let mut tree = ProofTree::new(full.size());
        for at in 0..5 {
            let node = hash_group(group(&bytes, at));
            if at == 2 {
                tree.prove(&file_root(&bytes), at, node, &full.proof(at).unwrap());
            } else {
                tree.insert(at, node);
            }
            assert_eq!(tree.is_proved(at), at == 2);
        }
        tree.confirm();
        for at in 0..5 {
            assert_eq!(tree.proof(at), full.proof(at));
        }
        assert!(!tree.is(1, &hash_group(b"other bytes")));
    }

    #[test]
    fn what_can_be_computed_is_not_kept() {
        let groups = 300;
        let (bytes, full) = file(groups);
        let root = file_root(&bytes);
        let mut tree = ProofTree::new(full.size());
        for at in 0..groups {
            let node = hash_group(group(&bytes, at));
            assert!(tree.prove(&root, at, node, &full.proof(at).unwrap()));
            assert!(tree.siblings.len() <= 48, "{} at {at}", tree.siblings.len());
        }
        for at in 0..groups {
            assert_eq!(tree.proof(at), full.proof(at));
        }
    }

    #[test]
    fn in_any_order_what_was_proved_is_proved_and_wrong_groups_between_change_nothing() {
        let groups = 70;
        let (bytes, full) = file(groups);
        let root = file_root(&bytes);
        for step in [1, 3, 11, 23, 69] {
            let mut tree = ProofTree::new(full.size());
            for at in (0..groups).map(|at| at * step % groups) {
                if at % 5 == 2 {
                    tree.insert(at, hash_group(b"not what it should be"));
                } else {
                    let node = hash_group(group(&bytes, at));
                    assert!(tree.prove(&root, at, node, &full.proof(at).unwrap()));
                }
                for at in 0..groups {
                    let proof = tree.proof(at);
                    let proved = at % 5 != 2 && tree.groups.has(at);
                    assert_eq!(
                        proof,
                        full.proof(at).filter(|_| proved),
                        "{at}, step {step}"
                    );
                }
            }
        }
    }
}
