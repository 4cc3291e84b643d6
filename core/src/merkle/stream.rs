//! The tree of a stream, whose length is unknown before its end.

use super::{Hash, fold, hash_node, hash_root};

/// Adds groups in order and keeps one node for each bit set in their number. In the shape of RFC 6962 only the joining
/// of these nodes depends on the end, so [`StreamTree::root`] does it.
#[derive(Debug, Clone, Default)]
pub struct StreamTree {
    /// Complete subtrees of decreasing size, left to right.
    peaks: Vec<Hash>,
    groups: u64,
}

impl StreamTree {
    /// Adds the next group's node.
    pub fn push(&mut self, group: Hash) {
        let mut node = group;
        // The number of subtrees completed now is the number of trailing ones in the count of groups so far.
        for _ in 0..self.groups.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = hash_node(&left, &node);
            }
        }
        self.peaks.push(node);
        self.groups += 1;
    }

    /// Returns the number of groups added so far.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Returns the root if the stream ends here with `size` bytes. Without any groups it is the root of an empty file.
    pub fn root(&self, size: u64) -> Hash {
        let top = self
            .peaks
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| hash_node(&left, &right));
        hash_root(size, &top.unwrap_or_else(|| super::hash_group(&[])))
    }
}

/// Returns the node over the hashes of all leaves of one group, in order: from one to
/// [`LEAVES_PER_GROUP`](crate::limits::LEAVES_PER_GROUP).
///
/// # Panics
/// If there are none.
pub fn group_node(leaves: &[Hash]) -> Hash {
    fold(leaves)
}

#[cfg(test)]
mod tests {
    use super::super::{file_root, hash_group};
    use super::*;
    use crate::limits::GROUP;

    #[test]
    fn a_stream_ends_in_the_root_of_the_file_that_it_was() {
        let group = GROUP as usize;
        for len in [
            0,
            1,
            group,
            group + 1,
            2 * group,
            3 * group - 1,
            5 * group,
            7 * group + 3,
        ] {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            let mut tree = StreamTree::default();
            for group in bytes.chunks(group) {
                tree.push(hash_group(group));
            }
            assert_eq!(tree.root(len as u64), file_root(&bytes), "{len} bytes");
        }
    }
}
