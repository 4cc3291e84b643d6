//! The tree that a sharer keeps of a file, to prove any of its groups.

// Every index here is computed from a group that was first checked against the tree's size.
#![allow(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use super::proof::{levels, sibling};
use super::{Hash, fold, group_count, hash_root};

/// Number of stored children of a stored node, which are four levels below it. Nodes on the three levels in between are
/// computed on demand, so a group takes 34 bytes instead of 64 for all levels, and a proof takes some microseconds.
const FAN: u64 = 1 << STEP;
/// Number of levels of the binary tree from one stored level to the next.
pub(super) const STEP: u32 = 4;
/// [`FAN`] as a `usize`, for array lengths.
const WIDTH: usize = 1 << STEP;

/// The tree of a local file. Groups are added in any order as they are hashed; proofs are available once it is complete.
#[derive(Debug, Clone)]
pub struct GroupTree {
    size: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// The file is one group, as most files are, and only its root is kept.
    One(Option<Hash>),
    Many(Box<Levels>),
}

#[derive(Debug, Clone)]
struct Levels {
    /// Number of groups in the file.
    count: u64,
    /// Nodes of every fourth level, from the groups up to the top.
    stored: Vec<BTreeMap<u64, Box<Block>>>,
    /// The first missing group; `count` if there is none.
    missing: u64,
    /// The root, once all groups are present.
    root: Option<Hash>,
}

/// Adjacent nodes of one level, all children of one stored node.
#[derive(Debug, Clone)]
struct Block {
    /// A bit for each node that is present.
    have: u16,
    nodes: [Hash; WIDTH],
}

impl GroupTree {
    /// Creates the tree of a file of `size` bytes, with no groups.
    pub fn new(size: u64) -> Self {
        let count = group_count(size);
        let kind = if count == 1 {
            Kind::One(None)
        } else {
            Kind::Many(Box::new(Levels::new(count)))
        };
        Self { size, kind }
    }

    /// Returns the size of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the number of groups in the file.
    pub fn groups(&self) -> u64 {
        group_count(self.size)
    }

    /// Adds the node of one group. Returns false, and does nothing, if the group is present already or not in the file.
    pub fn insert(&mut self, group: u64, hash: Hash) -> bool {
        if group >= self.groups() || self.has(group) {
            return false;
        }
        match &mut self.kind {
            Kind::One(root) => *root = Some(hash_root(self.size, &hash)),
            Kind::Many(levels) => {
                if let Some(top) = levels.insert(group, hash) {
                    levels.root = Some(hash_root(self.size, &top));
                }
            }
        }
        true
    }

    /// True if this group is present.
    pub fn has(&self, group: u64) -> bool {
        match &self.kind {
            Kind::One(root) => group == 0 && root.is_some(),
            Kind::Many(levels) => levels.has(group),
        }
    }

    /// Returns the first missing group.
    pub fn missing(&self) -> Option<u64> {
        let missing = match &self.kind {
            Kind::One(root) => u64::from(root.is_some()),
            Kind::Many(levels) => levels.missing,
        };
        (missing < self.groups()).then_some(missing)
    }

    /// True if all groups are present.
    pub fn is_complete(&self) -> bool {
        self.root().is_some()
    }

    /// Returns the file's root, once all groups are present.
    pub fn root(&self) -> Option<Hash> {
        match &self.kind {
            Kind::One(root) => *root,
            Kind::Many(levels) => levels.root,
        }
    }

    /// True if the group is present and this is its node.
    pub fn is(&self, group: u64, node: &Hash) -> bool {
        match &self.kind {
            Kind::One(root) => group == 0 && *root == Some(hash_root(self.size, node)),
            Kind::Many(levels) => levels.has(group) && levels.node(0, group) == Some(*node),
        }
    }

    /// Returns a node of any level, once all groups below it are present.
    pub(super) fn node(&self, level: u32, index: u64) -> Option<Hash> {
        match &self.kind {
            Kind::One(_) => None,
            Kind::Many(levels) => levels.node(level, index),
        }
    }

    /// Returns the siblings on the path from a group's node to the top, lowest first, once all groups are present.
    pub fn proof(&self, group: u64) -> Option<Vec<Hash>> {
        if !self.is_complete() || group >= self.groups() {
            return None;
        }
        match &self.kind {
            Kind::One(_) => Some(Vec::new()),
            Kind::Many(levels) => levels.proof(group),
        }
    }
}

impl Levels {
    fn new(count: u64) -> Self {
        let mut stored = vec![BTreeMap::new()];
        let mut nodes = count;
        while nodes > FAN {
            nodes = nodes.div_ceil(FAN);
            stored.push(BTreeMap::new());
        }
        Self {
            count,
            stored,
            missing: 0,
            root: None,
        }
    }

    /// Stores a group's node and every stored node that it completes. Returns the top node once the tree is complete.
    fn insert(&mut self, group: u64, hash: Hash) -> Option<Hash> {
        let top = self.fill(group, hash);
        while self.missing < self.count && self.has(self.missing) {
            self.missing += 1;
        }
        top
    }

    fn fill(&mut self, group: u64, mut hash: Hash) -> Option<Hash> {
        let (mut index, mut nodes) = (group, self.count);
        for blocks in &mut self.stored {
            let first = index - index % FAN;
            let block = blocks.entry(index / FAN).or_default();
            block.set((index % FAN) as usize, hash);
            hash = fold(block.whole((nodes - first).min(FAN) as usize)?);
            index /= FAN;
            nodes = nodes.div_ceil(FAN);
        }
        Some(hash)
    }

    fn has(&self, group: u64) -> bool {
        let block = self.stored[0].get(&(group / FAN));
        block.is_some_and(|block| block.has(group % FAN))
    }

    fn proof(&self, group: u64) -> Option<Vec<Hash>> {
        levels(self.count)
            .filter_map(|level| {
                let sibling = sibling(level, group >> level, self.count)?;
                Some(self.node(level, sibling))
            })
            .collect()
    }

    /// Returns a node of any level if all groups below it are present, computed from the stored nodes below it.
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let (stored, above) = (level / STEP, level % STEP);
        let first = index.checked_shl(above)?;
        let nodes = self.count.div_ceil(1 << (stored * STEP));
        let start = (first % FAN) as usize;
        let size = nodes.checked_sub(first)?.min(1 << above).min(FAN) as usize;
        let block = self.stored.get(stored as usize)?.get(&(first / FAN))?;
        let here = block.have >> start;
        let nodes = block.nodes.get(start..start + size)?;
        (size > 0 && here.trailing_ones() as usize >= size).then(|| fold(nodes))
    }
}

impl Default for Block {
    fn default() -> Self {
        Self {
            have: 0,
            nodes: [Hash([0; 32]); WIDTH],
        }
    }
}

impl Block {
    fn set(&mut self, index: usize, hash: Hash) {
        self.have |= 1 << index;
        self.nodes[index] = hash;
    }

    fn has(&self, index: u64) -> bool {
        self.have >> index & 1 == 1
    }

    /// Returns the first `size` nodes, if all of them are present.
    fn whole(&self, size: usize) -> Option<&[Hash]> {
        (self.have.trailing_ones() as usize >= size).then(|| &self.nodes[..size])
    }
}
