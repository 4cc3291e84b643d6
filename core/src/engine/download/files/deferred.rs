//! Deferred files: all or some of their bytes may be on this device already, so nothing of them is requested until that
//! is checked. [`known`](super::super::local) decides which files are deferred, and for how long.

use std::collections::BTreeMap;

use super::super::super::{Segment, Sought};
use super::shown::{ToBeShown, is_shown, to_show};
use super::{Files, State, Taken};
use crate::limits::{GROUP, LEAF};
use crate::manifest::EntryKind;
use crate::merkle::{Hash, RangeHash, group_count, group_len, verify_range};

impl Files {
    /// Files with bytes of which nothing was requested yet.
    pub(in super::super) fn sought(&self) -> Vec<Sought> {
        let entries = (0..).zip(self.manifest.entries());
        entries
            .filter(|(entry, _)| self.is(*entry, State::Waiting))
            .filter_map(|(entry, _)| self.seek(entry))
            .filter(|sought| sought.size > 0)
            .collect()
    }

    /// What the disk needs to know about a file to look for it.
    pub(in super::super) fn seek(&self, entry: u32) -> Option<Sought> {
        let found = self.entry(entry)?;
        let EntryKind::File { size, .. } = found.kind else {
            return None;
        };
        let path = self.place_of(found);
        Some(Sought { entry, size, path })
    }

    /// Defers a waiting file. Returns true if it is deferred now, even if it was before.
    pub(in super::super) fn defer(&mut self, entry: u32) -> bool {
        if self.is(entry, State::Waiting) {
            self.set(entry, State::Deferred);
        }
        self.is_deferred(entry)
    }

    pub(in super::super) fn is_deferred(&self, entry: u32) -> bool {
        self.is(entry, State::Deferred)
    }

    /// True if a file is not published yet and still expected: deferred, waiting, arriving or being published.
    pub(in super::super) fn is_coming(&self, entry: u32) -> bool {
        let coming = [State::Deferred, State::Waiting, State::Arriving];
        coming.iter().any(|state| self.is(entry, *state)) || self.is_whole(entry)
    }

    /// Ends the deferral: the file is not here, and is requested like any other.
    pub(in super::super) fn release(&mut self, entry: u32) {
        if self.is_deferred(entry) {
            self.wait_again(entry);
        }
    }

    /// True if the root of this entry is of use.
    pub(super) fn wants_root(&self, entry: u32) -> bool {
        self.is_deferred(entry) || self.is(entry, State::Arriving) || self.is(entry, State::Waiting)
    }

    /// An entry's root, if it is known and still needed.
    pub(in super::super) fn root(&self, entry: u32) -> Option<Hash> {
        self.roots.get(&entry).copied()
    }

    /// Records that a deferred file already exists under its final name. Returns its size.
    pub(in super::super) fn stands(&mut self, entry: u32) -> Option<u64> {
        let size = self.size(entry).filter(|_| self.is_deferred(entry))?;
        self.roots.remove(&entry);
        self.count.here += size;
        Some(self.published(entry))
    }

    /// Records that a deferred file is staged, complete and verified. Returns its size.
    pub(in super::super) fn adopted(&mut self, entry: u32) -> Option<u64> {
        let size = self.size(entry).filter(|_| self.is_deferred(entry))?;
        let root = self.roots.remove(&entry)?;
        self.set(entry, State::Publishing);
        self.ready.push_back((entry, Some(root)));
        self.count.here += size;
        Some(size)
    }

    /// Records that a deferred file is staged, complete and verified, from bytes found elsewhere on the device. It
    /// counts once a source has proved that it has them too, so a part of it is requested. Returns false if the file is
    /// no larger than such a part: it is fetched.
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

    /// Handles a range of a file that is staged already. Once the requested part has arrived with proofs, the file is
    /// complete; if a range comes without a proof, all of the file is fetched. `None` if the range belongs to another
    /// file: it is for the disk.
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

    /// Stops waiting for a source to prove that it has this staged file.
    fn withdraw(&mut self, entry: u32) {
        self.to_be_shown.remove(&entry);
        self.arriving.remove(&entry);
        self.again.retain(|segment| segment.entry != entry);
    }

    /// Takes over leaves that were staged from an older version of a file. The rest is requested, and nothing is
    /// trusted until the file matches its root. Returns the groups completed by that, with their hashes, and the number
    /// of bytes taken over.
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

/// The range of a file that these leaves cover. `None` unless they are whole leaves of one of its groups.
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

/// Bit mask of a range's leaves within its group.
fn mask(segment: &Segment) -> u32 {
    let first = segment.offset % u64::from(GROUP) / u64::from(LEAF);
    let leaves = u64::from(segment.len.div_ceil(LEAF));
    let bits = ((1u64 << leaves) - 1) << first;
    u32::try_from(bits).unwrap_or(u32::MAX)
}

/// Ranges of the leaves that are not here, each within one group.
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
