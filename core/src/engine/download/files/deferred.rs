//! Files that are deferred, because all or some of their bytes may be here already: nothing is asked for of them until
//! that is seen to. Why one is deferred, and for how long, is for [`known`](super::super::local) to know.

use std::collections::BTreeMap;

use super::super::super::{Segment, Sought};
use super::shown::{ToBeShown, is_shown, to_show};
use super::{Files, State, Taken};
use crate::limits::{GROUP, LEAF};
use crate::manifest::EntryKind;
use crate::merkle::{Hash, RangeHash, group_count, group_len, verify_range};

impl Files {
    /// Files that nothing was asked for yet, and that have bytes.
    pub(in super::super) fn sought(&self) -> Vec<Sought> {
        let entries = (0..).zip(self.manifest.entries());
        entries
            .filter(|(entry, _)| self.is(*entry, State::Waiting))
            .filter_map(|(entry, _)| self.seek(entry))
            .filter(|sought| sought.size > 0)
            .collect()
    }

    /// What the disk has to know of a file to look for it.
    pub(in super::super) fn seek(&self, entry: u32) -> Option<Sought> {
        let found = self.entry(entry)?;
        let EntryKind::File { size, .. } = found.kind else {
            return None;
        };
        let path = self.place_of(found);
        Some(Sought { entry, size, path })
    }

    /// Sets a file apart; says whether it is, by now or before.
    pub(in super::super) fn defer(&mut self, entry: u32) -> bool {
        if self.is(entry, State::Waiting) {
            self.set(entry, State::Deferred);
        }
        self.is_deferred(entry)
    }

    pub(in super::super) fn is_deferred(&self, entry: u32) -> bool {
        self.is(entry, State::Deferred)
    }

    /// Whether a file is in its place, or on its way there.
    pub(in super::super) fn is_coming(&self, entry: u32) -> bool {
        let coming = [State::Deferred, State::Waiting, State::Arriving];
        coming.iter().any(|state| self.is(entry, *state)) || self.is_whole(entry)
    }

    /// It is not here after all: it is asked for like any other.
    pub(in super::super) fn release(&mut self, entry: u32) {
        if self.is_deferred(entry) {
            self.wait_again(entry);
        }
    }

    /// Whether a root of this entry is of use.
    pub(super) fn wants_root(&self, entry: u32) -> bool {
        self.is_deferred(entry) || self.is(entry, State::Arriving) || self.is(entry, State::Waiting)
    }

    /// What is known of an entry's root.
    pub(in super::super) fn root(&self, entry: u32) -> Option<Hash> {
        self.roots.get(&entry).copied()
    }

    /// A file stands under its final name already. Its size.
    pub(in super::super) fn stands(&mut self, entry: u32) -> Option<u64> {
        let size = self.size(entry).filter(|_| self.is_deferred(entry))?;
        self.roots.remove(&entry);
        self.count.here += size;
        Some(self.published(entry))
    }

    /// A file is staged, whole and checked. Its size.
    pub(in super::super) fn adopted(&mut self, entry: u32) -> Option<u64> {
        let size = self.size(entry).filter(|_| self.is_deferred(entry))?;
        let root = self.roots.remove(&entry)?;
        self.set(entry, State::Publishing);
        self.ready.push_back((entry, Some(root)));
        self.count.here += size;
        Some(size)
    }

    /// A file is staged, whole and checked, by bytes from elsewhere on the device. It counts when the sharer has shown
    /// that it has them too: a part of it is asked for. `false`: it has no more than that, and is fetched.
    pub(in super::super) fn adopted_from_elsewhere(&mut self, entry: u32, draw: u64) -> bool {
        let size = self.size(entry).filter(|_| self.is_deferred(entry));
        let (Some(size), Some(root)) = (size.filter(|size| is_shown(*size)), self.root(entry))
        else {
            return false;
        };
        let segment = to_show(entry, size, draw);
        self.begin(entry, Some(size), true);
        let (asked, left) = (segment.len, segment.len);
        let shown = ToBeShown { root, asked, left };
        self.to_be_shown.insert(entry, shown);
        self.again.insert(segment);
        true
    }

    /// A range came of a file that is staged already. Once the part that was asked for has come with proofs, the file is
    /// whole; without one all of it is fetched. `None`: the range is for the disk, like any other.
    pub(super) fn shown(
        &mut self,
        segment: &Segment,
        range: &RangeHash,
        proof: Option<&[Hash]>,
    ) -> Option<Taken> {
        let entry = segment.entry;
        let size = self.size(entry)?;
        let to_be_shown = self.to_be_shown.get_mut(&entry)?;
        let Some(proof) = proof else {
            self.withdraw(entry);
            self.wait_again(entry);
            return Some(Taken::Drop);
        };
        let (root, asked) = (to_be_shown.root, to_be_shown.asked);
        if verify_range(&root, size, segment.offset, range, proof).is_none() {
            return Some(Taken::Bad);
        }
        to_be_shown.left = to_be_shown.left.saturating_sub(segment.len);
        if to_be_shown.left > 0 {
            return Some(Taken::Shown { spared: 0 });
        }
        self.withdraw(entry);
        self.roots.remove(&entry);
        self.set(entry, State::Publishing);
        self.ready.push_back((entry, Some(root)));
        self.count.here += size;
        Some(Taken::Shown {
            spared: size - u64::from(asked),
        })
    }

    /// Nothing more is asked for of a file that was to be shown.
    fn withdraw(&mut self, entry: u32) {
        self.to_be_shown.remove(&entry);
        self.arriving.remove(&entry);
        self.again.retain(|segment| segment.entry != entry);
    }

    /// Leaves of a file are staged that an older version has as well. The rest is asked for, and nothing is believed of
    /// it before the file's root is right. Says which groups are whole by that, and how many bytes are here.
    pub(in super::super) fn reuse(
        &mut self,
        entry: u32,
        parts: &[(u64, RangeHash)],
    ) -> (Vec<(u64, Hash)>, u64) {
        let Some(size) = self.size(entry).filter(|_| self.is_deferred(entry)) else {
            return (Vec::new(), 0);
        };
        self.begin(entry, Some(size), true);
        if let Some(arrival) = self.arriving.get_mut(&entry) {
            arrival.kept = true;
        }
        let mut here: BTreeMap<u64, u32> = BTreeMap::new();
        let (mut groups, mut bytes) = (Vec::new(), 0);
        for (offset, range) in parts {
            let Some(segment) = segment_of(entry, size, *offset, range) else {
                continue;
            };
            let Some(arrival) = self.arriving.get_mut(&entry) else {
                break;
            };
            if arrival.have(segment.offset, segment.len) {
                continue;
            }
            arrival.take(segment.offset, segment.len, range);
            let leaves = here.entry(offset / u64::from(GROUP)).or_default();
            *leaves |= mask(&segment);
            bytes += u64::from(segment.len);
            groups.extend(self.written(&segment));
        }
        self.again.extend(missing(entry, size, &here));
        (groups, bytes)
    }
}

/// The range of a file that these leaves are, if it has such a range: whole leaves of one group.
fn segment_of(entry: u32, size: u64, offset: u64, range: &RangeHash) -> Option<Segment> {
    let within = u32::try_from(offset % u64::from(GROUP)).ok()?;
    let rest = group_len(size, offset / u64::from(GROUP)).checked_sub(within)?;
    let leaves = u32::try_from(range.leaves().len()).ok()?;
    let fits = within.is_multiple_of(LEAF) && leaves <= rest.div_ceil(LEAF) && rest > 0;
    fits.then(|| Segment {
        entry,
        offset,
        len: leaves.saturating_mul(LEAF).min(rest),
    })
}

/// The leaves of a range, as bits of its group.
fn mask(segment: &Segment) -> u32 {
    let first = segment.offset % u64::from(GROUP) / u64::from(LEAF);
    let leaves = u64::from(segment.len.div_ceil(LEAF));
    let bits = ((1u64 << leaves) - 1) << first;
    u32::try_from(bits).unwrap_or(u32::MAX)
}

/// Ranges of a file, each in one group, of the leaves that are not here.
fn missing(entry: u32, size: u64, here: &BTreeMap<u64, u32>) -> Vec<Segment> {
    let mut ranges: Vec<Segment> = Vec::new();
    for group in 0..group_count(size) {
        let have = here.get(&group).copied().unwrap_or_default();
        let len = group_len(size, group);
        let start = group * u64::from(GROUP);
        let mut open: Option<Segment> = None;
        for leaf in 0..len.div_ceil(LEAF) {
            let is_here = have >> leaf & 1 == 1;
            let at = leaf * LEAF;
            let bytes = LEAF.min(len - at);
            match &mut open {
                Some(_) if is_here => ranges.extend(open.take()),
                Some(range) => range.len += bytes,
                None if is_here => {}
                None => {
                    open = Some(Segment {
                        entry,
                        offset: start + u64::from(at),
                        len: bytes,
                    });
                }
            }
        }
        ranges.extend(open);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(leaves: usize) -> RangeHash {
        RangeHash::of(&vec![1; leaves * LEAF as usize])
    }

    #[test]
    fn what_is_not_reused_is_asked_for_in_ranges_of_one_group() {
        let (leaf, group) = (u64::from(LEAF), u64::from(GROUP));
        let size = 2 * group + 3 * leaf + 7;
        let here = BTreeMap::from([(0, 0b110), (2, 0b1)]);
        let ranges: Vec<_> = missing(4, size, &here)
            .iter()
            .map(|range| (range.entry, range.offset, range.len))
            .collect();
        assert_eq!(
            ranges,
            [
                (4, 0, LEAF),
                (4, 3 * leaf, GROUP - 3 * LEAF),
                (4, group, GROUP),
                (4, 2 * group + leaf, 2 * LEAF + 7),
            ]
        );
        let whole = BTreeMap::from([(0, 0xffff), (1, 0xffff), (2, 0b1111)]);
        assert_eq!(missing(4, size, &whole), []);
    }

    #[test]
    fn ranges_that_no_file_has_are_not_taken() {
        let (leaf, group) = (u64::from(LEAF), u64::from(GROUP));
        let size = group + leaf + 7;
        let len = |offset, leaves| segment_of(0, size, offset, &range(leaves)).map(|of| of.len);
        assert_eq!(len(0, 16), Some(GROUP));
        assert_eq!(len(leaf, 15), Some(GROUP - LEAF));
        assert_eq!(len(leaf, 16), None);
        assert_eq!(len(7, 1), None);
        assert_eq!(len(group, 2), Some(LEAF + 7));
        assert_eq!(len(group, 3), None);
        assert_eq!(len(group + leaf, 1), Some(7));
        assert_eq!(len(2 * group, 1), None);
        assert_eq!(len(u64::MAX - 5, 1), None);
    }
}
