//! Files staged from bytes found elsewhere on the device: a source has to prove that it has them too, by sending a
//! part.

use super::super::super::Segment;
use crate::limits::{GROUP, LEAF};
use crate::merkle::{Hash, group_count};

/// A staged file that a source has yet to prove it has.
pub(super) struct ToBeShown {
    pub(super) root: Hash,
    /// Number of bytes requested, and of those that have not arrived.
    pub(super) asked: u32,
    pub(super) left: u32,
}

/// True if a file of this size may be made from bytes elsewhere on the device. A file of one leaf would be requested
/// whole.
pub(in super::super) fn is_shown(size: u64) -> bool {
    size > u64::from(LEAF)
}

/// The part of a file that a source has to send to prove that it has the file: a group, or a leaf if there is only one
/// group. The end of a file is not chosen if it is shorter than half of that: a byte or two could be guessed.
pub(super) fn to_show(entry: u32, size: u64, draw: u64) -> Segment {
    let unit = if group_count(size) > 1 { GROUP } else { LEAF };
    let wide = u64::from(unit);
    let end = size % wide;
    let parts = size / wide + u64::from(end >= wide / 2);
    let offset = draw % parts.max(1) * wide;
    let len = u32::try_from(size - offset).unwrap_or(unit).min(unit);
    Segment { entry, offset, len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_to_be_shown_or_a_leaf_of_the_only_one() {
        let (leaf, group) = (u64::from(LEAF), u64::from(GROUP));
        let shown = |size, draw| {
            let segment = to_show(1, size, draw);
            (segment.offset, u64::from(segment.len))
        };
        assert!(!is_shown(leaf) && is_shown(leaf + 1));
        assert_eq!(shown(leaf + 1, 0), (0, leaf));
        // A byte or two at the end prove nothing.
        assert_eq!(shown(leaf + 1, 7), (0, leaf));
        assert_eq!(shown(group, 17), (leaf, leaf));
        assert_eq!(shown(3 * group + 5, 3), (0, group));
        let half = group / 2;
        assert_eq!(shown(3 * group + half, 3), (3 * group, half));
        assert_eq!(shown(3 * group + half, u64::MAX), (3 * group, half));
        assert_eq!(shown(1 << 62, 6), (6 * group, group));
    }
}
