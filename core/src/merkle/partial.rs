//! A tree of which only what is needed for its root is kept.

use std::collections::BTreeMap;

use super::proof::{levels, sibling};
use super::{Hash, group_count, hash_node, hash_root};

/// The tree of a file whose groups arrive in any order. A subtree that is whole is kept as its node alone, so that
/// memory goes with the gaps between what has arrived, not with the size of the file.
#[derive(Debug, Clone)]
pub struct PartialTree {
    size: u64,
    /// Whole subtrees whose sibling is not whole, by their first group.
    nodes: BTreeMap<u64, Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// It spans `2^level` groups, or as many of those as the file has.
    level: u32,
    hash: Hash,
}

impl PartialTree {
    /// The tree of a file of `size` bytes, of which nothing is here.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            nodes: BTreeMap::new(),
        }
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes in the node of one group. `false`, and nothing happens, if the group is here already or not in the file.
    pub fn insert(&mut self, group: u64, hash: Hash) -> bool {
        let count = group_count(self.size);
        if group >= count || self.have(group) {
            return false;
        }
        let mut index = group;
        let mut node = Node { level: 0, hash };
        for level in levels(count) {
            if let Some(other) = sibling(level, index, count) {
                let Some(other) = self.take(other << level, level) else {
                    break;
                };
                node.hash = if index.is_multiple_of(2) {
                    hash_node(&node.hash, &other)
                } else {
                    hash_node(&other, &node.hash)
                };
            }
            index /= 2;
            node.level = level + 1;
        }
        self.nodes.insert(index << node.level, node);
        true
    }

    /// Is this group here?
    pub fn have(&self, group: u64) -> bool {
        self.end_of(group).is_some()
    }

    /// The first group from `from` on that is not here.
    pub fn next_missing(&self, from: u64) -> Option<u64> {
        let mut group = from;
        while let Some(end) = self.end_of(group) {
            group = end;
        }
        (group < group_count(self.size)).then_some(group)
    }

    /// Are all groups here?
    pub fn complete(&self) -> bool {
        self.top().is_some()
    }

    /// The file's root, once all groups are here.
    pub fn root(&self) -> Option<Hash> {
        self.top().map(|top| hash_root(self.size, &top))
    }

    /// Forgets everything that has arrived.
    pub fn clear(&mut self) {
        self.nodes.clear();
    }

    /// Nodes that are kept, to see how much memory the tree takes.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.nodes.len()
    }

    fn top(&self) -> Option<Hash> {
        let node = self.nodes.get(&0)?;
        (node.level == levels(group_count(self.size)).end).then_some(node.hash)
    }

    /// Removes the whole subtree that starts at this group and has this level, if there is one.
    fn take(&mut self, first: u64, level: u32) -> Option<Hash> {
        let node = self.nodes.get(&first).filter(|node| node.level == level)?;
        let hash = node.hash;
        self.nodes.remove(&first);
        Some(hash)
    }

    /// One past the last group of the whole subtree that `group` is in.
    fn end_of(&self, group: u64) -> Option<u64> {
        let (first, node) = self.nodes.range(..=group).next_back()?;
        let end = (first + (1 << node.level)).min(group_count(self.size));
        (group < end).then_some(end)
    }
}
