//! A tree of which only what is needed for its root is kept.

use std::collections::BTreeMap;

use super::proof::{levels, sibling};
use super::{Hash, group_count, hash_node, hash_root};

/// The tree of a file whose groups arrive in any order. A subtree that is whole is kept as its node alone, so that
/// memory goes with the gaps between what has arrived, not with the size of the file.
#[derive(Debug, Clone)]
pub struct PartialTree {
    size: u64,
    nodes: Nodes,
}

#[derive(Debug, Clone)]
enum Nodes {
    /// The file is one group, as most files are.
    One(Option<Hash>),
    /// Whole subtrees whose sibling is not whole, by their first group.
    Many(BTreeMap<u64, Node>),
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
        let nodes = if group_count(size) == 1 {
            Nodes::One(None)
        } else {
            Nodes::Many(BTreeMap::new())
        };
        Self { size, nodes }
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
        match &mut self.nodes {
            Nodes::One(only) => *only = Some(hash),
            Nodes::Many(nodes) => join(nodes, group, count, hash),
        }
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
        *self = Self::new(self.size);
    }

    /// Nodes that are kept, to see how much memory the tree takes.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        match &self.nodes {
            Nodes::One(only) => only.iter().count(),
            Nodes::Many(nodes) => nodes.len(),
        }
    }

    /// The node that all groups are below, once they are here: of a file of one group that group's own.
    pub(crate) fn top(&self) -> Option<Hash> {
        match &self.nodes {
            Nodes::One(only) => *only,
            Nodes::Many(nodes) => {
                let node = nodes.get(&0)?;
                (node.level == levels(group_count(self.size)).end).then_some(node.hash)
            }
        }
    }

    /// One past the last group of the whole subtree that `group` is in.
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

/// Takes in the node of one group that is not here, of `count`, and makes one of it and its siblings as far as those are.
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

/// Removes the whole subtree that starts at this group and has this level, if there is one.
fn take(nodes: &mut BTreeMap<u64, Node>, first: u64, level: u32) -> Option<Hash> {
    let node = nodes.get(&first).filter(|node| node.level == level)?;
    let hash = node.hash;
    nodes.remove(&first);
    Some(hash)
}
