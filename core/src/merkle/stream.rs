//! The tree of a stream, whose length is not known before its end.

use super::{Hash, fold, hash_node, hash_root};

/// Takes groups in order and keeps one node for each bit of their number: the shape of RFC 6962 only depends on the
/// end for how these are joined, which is left to [`StreamTree::root`].
#[derive(Debug, Clone, Default)]
pub struct StreamTree {
    /// Whole subtrees of falling size, left to right.
    peaks: Vec<Hash>,
    groups: u64,
}

impl StreamTree {
    /// Takes in the next group's node.
    pub fn push(&mut self, group: Hash) {
        let mut node = group;
        // As many subtrees are completed as the count of groups so far has trailing ones.
        for _ in 0..self.groups.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = hash_node(&left, &node);
            }
        }
        self.peaks.push(node);
        self.groups += 1;
    }

    /// Groups taken in so far.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// The root, if the stream ends here at `size` bytes. Of no groups at all it is the root of an empty file.
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

/// The node over the hashes of all leaves of one group: between one and
/// [`LEAVES_PER_GROUP`](crate::limits::LEAVES_PER_GROUP), in order.
///
/// # Panics
/// If there is none.
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
