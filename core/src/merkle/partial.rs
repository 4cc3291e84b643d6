//! A tree that keeps only what is needed to compute its root.

use std::collections::BTreeMap;

use super::proof::{levels, sibling};
use super::{Hash, group_count, hash_node, hash_root};

/// The tree of a file whose groups arrive in any order. A complete subtree is kept as its node only, so that memory
/// grows with the number of gaps between the groups present, not with the size of the file.
#[derive(Debug, Clone)]
pub struct PartialTree {
    size: u64,
    nodes: Nodes,
}

#[derive(Debug, Clone)]
enum Nodes {
    /// For a file of one group, as most files are.
    One(Option<Hash>),
    /// Complete subtrees whose sibling is incomplete, by their first group.
    Many(BTreeMap<u64, Node>),
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The node spans `2^level` groups, or fewer at the end of the file.
    level: u32,
    hash: Hash,
}

impl PartialTree {
    /// Creates the tree of a file of `size` bytes, with no groups.
    pub fn new(size: u64) -> Self {
        let nodes = if group_count(size) == 1 {
            Nodes::One(None)
        } else {
            Nodes::Many(BTreeMap::new())
        };
        Self { size, nodes }
    }

    /// Returns the size of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the node of one group. Returns false, and does nothing, if the group is present already or not in the file.
    pub fn insert(&mut self, group: u64, hash: Hash) -> bool {
        let count = group_count(self.size);
        if group >= count || self.have(group) {
            return false;
        }
        match &mut self.nodes {
            Nodes::One(only) => *only = Some(hash),
            Nodes::Many(nodes) => join(nodes, group, count, hash),
        }
        true
    }

    /// True if this group is present.
    pub fn have(&self, group: u64) -> bool {
        self.end_of(group).is_some()
    }

    /// Returns the first missing group from `from`.
    pub fn next_missing(&self, from: u64) -> Option<u64> {
        let mut group = from;
        while let Some(end) = self.end_of(group) {
            group = end;
        }
        (group < group_count(self.size)).then_some(group)
    }

    /// True if all groups are present.
    pub fn complete(&self) -> bool {
        self.top().is_some()
    }

    /// Returns the file's root, once all groups are present.
    pub fn root(&self) -> Option<Hash> {
        self.top().map(|top| hash_root(self.size, &top))
    }

    /// Removes all groups.
    pub fn clear(&mut self) {
        *self = Self::new(self.size);
    }

    /// Returns the number of nodes in memory.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        match &self.nodes {
            Nodes::One(only) => only.iter().count(),
            Nodes::Many(nodes) => nodes.len(),
        }
    }

    /// Returns the top node once all groups are present. For a file of one group it is that group's node.
    pub(crate) fn top(&self) -> Option<Hash> {
        match &self.nodes {
            Nodes::One(only) => *only,
            Nodes::Many(nodes) => {
                let node = nodes.get(&0)?;
                (node.level == levels(group_count(self.size)).end).then_some(node.hash)
            }
        }
    }

    /// Returns the end (exclusive) of the complete subtree that contains `group`.
    fn end_of(&self, group: u64) -> Option<u64> {
        match &self.nodes {
            Nodes::One(only) => only.filter(|_| group == 0).map(|_| 1),
            Nodes::Many(nodes) => {
                let (first, node) = nodes.range(..=group).next_back()?;
                let end = (first + (1 << node.level)).min(group_count(self.size));
                (group < end).then_some(end)
            }
        }
    }
}

/// Adds the node of a missing group of `count`, and joins it with its siblings as long as they are complete.
fn join(nodes: &mut BTreeMap<u64, Node>, group: u64, count: u64, hash: Hash) {
    let mut index = group;
    let mut node = Node { level: 0, hash };
    for level in levels(count) {
        if let Some(other) = sibling(level, index, count) {
            let Some(other) = take(nodes, other << level, level) else {
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
    nodes.insert(index << node.level, node);
}

/// Removes and returns the complete subtree with this first group and level, if there is one.
fn take(nodes: &mut BTreeMap<u64, Node>, first: u64, level: u32) -> Option<Hash> {
    let node = nodes.get(&first).filter(|node| node.level == level)?;
    let hash = node.hash;
    nodes.remove(&first);
    Some(hash)
}
