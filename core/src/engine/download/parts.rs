//! Parts: the groups of all files of a manifest, numbered through in its order. By these numbers peers tell each other what
//! they have.

use std::ops::Range;

use crate::limits::GROUP;
use crate::manifest::{EntryKind, Manifest};

/// Parts of a manifest at the most, 4 TiB: what somebody has is a bit each. Of larger ones nobody tells what they have,
/// and all of it comes from the sharer.
const MAX_PARTS: u64 = 1 << 24;

/// Which parts each entry has.
#[derive(Debug)]
pub(super) struct Parts {
    /// The first part of each entry, and behind the last one the number of all.
    first: Vec<u32>,
}

impl Parts {
    /// The parts of a manifest; `None` if it has too many, or a stream, whose parts nobody can count.
    pub(super) fn of(manifest: &Manifest) -> Option<Self> {
        let mut first = vec![0];
        let mut total = 0;
        for entry in manifest.entries() {
            total += match entry.kind {
                EntryKind::File { size, .. } => size.div_ceil(u64::from(GROUP)),
                EntryKind::Stream => return None,
                EntryKind::Folder { .. } | EntryKind::Symlink { .. } => 0,
            };
            if total > MAX_PARTS {
                return None;
            }
            first.push(u32::try_from(total).ok()?);
        }
        Some(Self { first })
    }

    /// How many there are.
    pub(super) fn total(&self) -> usize {
        self.first.last().map_or(0, |total| *total as usize)
    }

    /// An entry's parts.
    pub(super) fn of_entry(&self, entry: u32) -> Range<usize> {
        let at = entry as usize;
        match (self.first.get(at), self.first.get(at + 1)) {
            (Some(first), Some(end)) => *first as usize..*end as usize,
            _ => 0..0,
        }
    }

    /// The part that a group of an entry is.
    pub(super) fn part(&self, entry: u32, group: u64) -> Option<usize> {
        let parts = self.of_entry(entry);
        let group = usize::try_from(group).ok()?;
        (group < parts.len()).then_some(parts.start + group)
    }

    /// The entry that a part is of, and which group of it.
    pub(super) fn place(&self, part: usize) -> Option<(u32, u64)> {
        if part >= self.total() {
            return None;
        }
        let at = self.first.partition_point(|first| *first as usize <= part);
        let entry = at.checked_sub(1)?;
        let group = part - *self.first.get(entry)? as usize;
        Some((u32::try_from(entry).ok()?, group as u64))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Keypair;
    use crate::limits::Limits;
    use crate::manifest::{Entry, ManifestParts, SignedManifest};
    use crate::path::SafePath;
    use crate::time::Timestamp;

    fn parts(sizes: &[u64]) -> Option<Parts> {
        let entry = |(at, size): (usize, &u64)| Entry {
            path: SafePath::parse(&format!("f{at}")).unwrap(),
            kind: EntryKind::File {
                size: *size,
                mode: 0o644,
                modified: Timestamp::default(),
            },
        };
        let entries = sizes.iter().enumerate().map(entry).collect();
        let parts = ManifestParts {
            entries,
            ..ManifestParts::default()
        };
        let keys = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let signed = SignedManifest::sign(parts, &keys, &Limits::default()).unwrap();
        Parts::of(signed.manifest())
    }

    #[test]
    fn each_group_has_a_number_and_each_number_a_group() {
        let group = u64::from(GROUP);
        let parts = parts(&[0, 1, 3 * group + 1, 0, group]).unwrap();
        assert_eq!(parts.total(), 6);
        let places: Vec<_> = (0..6).map(|part| parts.place(part).unwrap()).collect();
        assert_eq!(places, [(1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (4, 0)]);
        for (part, (entry, group)) in places.into_iter().enumerate() {
            assert_eq!(parts.part(entry, group), Some(part));
        }
        assert_eq!(parts.place(6), None);
        assert_eq!(
            (parts.part(0, 0), parts.part(1, 1), parts.part(9, 0)),
            (None, None, None)
        );
    }

    #[test]
    fn more_parts_than_the_limit_are_not_numbered() {
        let most = MAX_PARTS * u64::from(GROUP);
        assert_eq!(
            parts(&[most]).map(|parts| parts.total() as u64),
            Some(MAX_PARTS)
        );
        assert!(parts(&[most, 1]).is_none());
    }
}
