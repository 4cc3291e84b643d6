//! One file being received: which ranges were requested, which have arrived, and their hashes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Segment;
use crate::limits::{GROUP, LEAF, LEAVES_PER_GROUP};
use crate::merkle::{
    Hash, PartialTree, RangeHash, StreamTree, group_count, group_len, group_node, leaves_in_group,
};

/// A file being received.
pub(super) struct Arrival {
    tree: Tree,
    /// Offset of the next range to request.
    next: u64,
    /// Groups beyond `next` that were requested out of order.
    ahead: BTreeSet<u64>,
    /// Leaf hashes of groups of which only some leaves have arrived.
    partial: BTreeMap<u64, [Option<Hash>; LEAVES_PER_GROUP as usize]>,
    /// Groups whose hash is known but not all bytes are written, or the reverse. Not used for files of one group, where
    /// the tree and `written` are enough: small files are many.
    unsettled: BTreeMap<u64, Unsettled>,
    /// Number of bytes on disk.
    pub(super) written: u64,
    /// Some of it is from an earlier run. If the file does not match its root, that need not be the peer's fault.
    pub(super) kept: bool,
}

/// State of a group that is not completely on disk or whose hash is not known.
#[derive(Default)]
struct Unsettled {
    node: Option<Hash>,
    written: u32,
}

enum Tree {
    File(PartialTree),
    /// Groups may arrive out of order after the loss of a link. Those wait in `early`.
    Stream {
        tree: StreamTree,
        early: BTreeMap<u64, Hash>,
        size: Option<u64>,
    },
}

impl Arrival {
    /// A file of `size` bytes, or a stream if `None`. `whole`: all of it is requested at once.
    pub(super) fn new(size: Option<u64>, whole: bool) -> Self {
        let tree = match size {
            Some(size) => Tree::File(PartialTree::new(size)),
            None => Tree::Stream {
                tree: StreamTree::default(),
                early: BTreeMap::new(),
                size: None,
            },
        };
        Self {
            tree,
            next: size.filter(|_| whole).unwrap_or(0),
            ahead: BTreeSet::new(),
            partial: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            written: 0,
            kept: false,
        }
    }

    /// Adds a group that an earlier run has left on disk, with its hash as read there. Returns its bytes, or 0 if it
    /// was known.
    pub(super) fn keep(&mut self, group: u64, node: Hash) -> u64 {
        let Tree::File(tree) = &mut self.tree else {
            return 0;
        };
        if !tree.insert(group, node) {
            return 0;
        }
        self.kept = true;
        let bytes = u64::from(group_len(tree.size(), group));
        self.written += bytes;
        bytes
    }

    /// Notes that a range is on disk. Returns its group and the group's hash if the group is now completely written and
    /// hashed.
    pub(super) fn wrote(&mut self, offset: u64, len: u32) -> Option<(u64, Hash)> {
        self.written += u64::from(len);
        let Tree::File(tree) = &self.tree else {
            return None;
        };
        let size = tree.size();
        if group_count(size) == 1 {
            let node = tree.top().filter(|_| self.written >= size)?;
            return Some((0, node));
        }
        let group = offset / u64::from(GROUP);
        let all = group_len(size, group);
        let unsettled = self.unsettled.entry(group).or_default();
        unsettled.written = unsettled.written.saturating_add(len);
        let node = unsettled.node.filter(|_| unsettled.written >= all)?;
        self.unsettled.remove(&group);
        Some((group, node))
    }

    /// Its size, if known.
    pub(super) fn size(&self) -> Option<u64> {
        match &self.tree {
            Tree::File(tree) => Some(tree.size()),
            Tree::Stream { size, .. } => *size,
        }
    }

    /// Moves `next` past groups requested out of order or left by an earlier run. Returns `None` if no group is missing
    /// from there on.
    fn skip(&mut self) -> Option<()> {
        loop {
            let group = self.next / u64::from(GROUP);
            match &self.tree {
                Tree::File(tree) if tree.have(group) => {
                    self.next = tree.next_missing(group)?.saturating_mul(GROUP.into());
                }
                _ if self.next.is_multiple_of(u64::from(GROUP))
                    && self.ahead.remove(&(self.next / u64::from(GROUP))) =>
                {
                    self.next += u64::from(GROUP);
                }
                _ => return Some(()),
            }
        }
    }

    /// Returns the next range to request: at most `len` bytes, inside one group. Streams are requested in whole groups.
    pub(super) fn next(&mut self, entry: u32, len: u32) -> Option<Segment> {
        self.skip()?;
        let offset = self.next;
        let rest_of_group = GROUP - u32::try_from(offset % u64::from(GROUP)).unwrap_or(0);
        let len = match &self.tree {
            Tree::Stream { size: Some(_), .. } => return None,
            Tree::Stream { .. } => GROUP,
            Tree::File(tree) => {
                let rest = tree.size().checked_sub(offset).filter(|rest| *rest > 0)?;
                let most = len.max(LEAF).min(rest_of_group);
                u32::try_from(rest).unwrap_or(u32::MAX).min(most)
            }
        };
        self.next += u64::from(len);
        Some(Segment { entry, offset, len })
    }

    /// True if a group may be requested out of order, because nothing of it was requested yet.
    pub(super) fn is_open(&self, group: u64) -> bool {
        let start = group.saturating_mul(u64::from(GROUP));
        match &self.tree {
            Tree::File(tree) => {
                start >= self.next
                    && start < tree.size()
                    && !self.ahead.contains(&group)
                    && !tree.have(group)
                    && !self.partial.contains_key(&group)
            }
            Tree::Stream { .. } => false,
        }
    }

    /// Returns the part not yet requested of the last group that was started, and moves `next` past it. It is requested
    /// later, from any source.
    pub(super) fn leave_group(&mut self, entry: u32) -> Option<Segment> {
        let within = self.next % u64::from(GROUP);
        let size = self.size().filter(|size| self.next < *size)?;
        if within == 0 {
            return None;
        }
        let offset = self.next;
        let end = (offset - within + u64::from(GROUP)).min(size);
        self.next = end;
        let len = u32::try_from(end - offset).ok()?;
        Some(Segment { entry, offset, len })
    }

    /// Marks a group as requested out of order, from a source or from disk. Returns false if it was marked before.
    pub(super) fn take_ahead(&mut self, group: u64) -> bool {
        self.ahead.insert(group)
    }

    /// True if the range's group, or any leaf of the range, has arrived.
    pub(super) fn have(&self, offset: u64, len: u32) -> bool {
        let group = offset / u64::from(GROUP);
        let whole = match &self.tree {
            Tree::File(tree) => tree.have(group),
            Tree::Stream { tree, early, .. } => group < tree.groups() || early.contains_key(&group),
        };
        let leaves = leaves_of(offset, len);
        let partial = self.partial.get(&group);
        whole
            || partial.is_some_and(|hashes| {
                hashes
                    .iter()
                    .take(leaves.end)
                    .skip(leaves.start)
                    .any(Option::is_some)
            })
    }

    /// Adds the hashes of a range. Returns the hash of its group if the group is complete now.
    pub(super) fn take(&mut self, offset: u64, len: u32, range: &RangeHash) -> Option<Hash> {
        let group = offset / u64::from(GROUP);
        let total = self.leaves_in(group);
        if range.leaves().len() == total || matches!(self.tree, Tree::Stream { .. }) {
            self.partial.remove(&group);
            self.insert(group, range.node());
            return Some(range.node());
        }
        let hashes = self.partial.entry(group).or_default();
        let leaves = leaves_of(offset, len);
        for (slot, hash) in hashes.iter_mut().skip(leaves.start).zip(range.leaves()) {
            *slot = Some(*hash);
        }
        let all: Option<Vec<Hash>> = hashes.iter().take(total).copied().collect();
        let node = group_node(&all?);
        self.partial.remove(&group);
        self.insert(group, node);
        Some(node)
    }

    fn insert(&mut self, group: u64, node: Hash) {
        match &mut self.tree {
            Tree::File(tree) => {
                tree.insert(group, node);
                if group_count(tree.size()) > 1 {
                    self.unsettled.entry(group).or_default().node = Some(node);
                }
            }
            Tree::Stream { tree, early, .. } => {
                early.insert(group, node);
                while let Some(node) = early.remove(&tree.groups()) {
                    tree.push(node);
                }
            }
        }
    }

    fn leaves_in(&self, group: u64) -> usize {
        let most = LEAVES_PER_GROUP as usize;
        self.size()
            .map_or(most, |size| leaves_in_group(size, group))
    }

    /// Sets the end of a stream. Returns false if another end was set before, or if more than that is written already.
    pub(super) fn end_at(&mut self, end: u64) -> bool {
        match &mut self.tree {
            Tree::File(_) => false,
            Tree::Stream {
                size: Some(size), ..
            } => *size == end,
            Tree::Stream { size, .. } => {
                *size = Some(end);
                self.written <= end
            }
        }
    }

    /// Returns the root of the file, once all of it is hashed and on disk.
    pub(super) fn root(&self) -> Option<Hash> {
        match &self.tree {
            Tree::File(tree) if self.written >= tree.size() => tree.root(),
            Tree::Stream {
                tree,
                size: Some(size),
                ..
            } if self.written >= *size => {
                (tree.groups() >= size.div_ceil(u64::from(GROUP))).then(|| tree.root(*size))
            }
            _ => None,
        }
    }
}

/// Indices of a range's leaves inside their group.
fn leaves_of(offset: u64, len: u32) -> std::ops::Range<usize> {
    let first = (offset % u64::from(GROUP)) / u64::from(LEAF);
    let first = usize::try_from(first).unwrap_or(0);
    first..first + (len.div_ceil(LEAF).max(1) as usize)
}
