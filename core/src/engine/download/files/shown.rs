//! Files that are staged by bytes from elsewhere on the device: the sharer has to show that it has them too, by a part of them.

use super::super::super::Segment;
use crate::limits::{GROUP, LEAF};
use crate::merkle::{Hash, group_count};

/// A file that is staged, and that the sharer has yet to show.
pub(super) struct ToBeShown {
    pub(super) root: Hash,
    /// Bytes that were asked for, and those of them that have not come.
    pub(super) asked: u32,
    pub(super) left: u32,
}

/// Whether bytes from elsewhere on the device may make up a file of this size: of one leaf all would be asked for.
pub(in super::super) fn is_shown(size: u64) -> bool {
    size > u64::from(LEAF)
}

/// The part of a file that the sharer is asked for, to show that it has it: a group, or a leaf where there is only one. The
/// end of a file is no such part if it is less than half of one: a byte or two could be guessed.
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
        // A byte or two of an end show nothing.
        assert_eq!(shown(leaf + 1, 7), (0, leaf));
        assert_eq!(shown(group, 17), (leaf, leaf));
        assert_eq!(shown(3 * group + 5, 3), (0, group));
        let half = group / 2;
        assert_eq!(shown(3 * group + half, 3), (3 * group, half));
        assert_eq!(shown(3 * group + half, u64::MAX), (3 * group, half));
        assert_eq!(shown(1 << 62, 6), (6 * group, group));
    }
}
