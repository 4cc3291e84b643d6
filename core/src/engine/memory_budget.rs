//! The memory budget of all downloads together: bytes requested, and bytes received but not yet on disk.
//!
//! Each window bounds one download. This budget bounds all of them, in equal parts. Each download reports what it
//! holds.

use std::collections::BTreeMap;

use super::DownloadId;
use crate::limits::{GROUP, LEAF};

/// Bytes held by all downloads.
#[derive(Debug, Default)]
pub(super) struct MemoryBudget {
    held: BTreeMap<DownloadId, Held>,
}

/// Bytes held by one download.
#[derive(Debug, Default)]
struct Held {
    bytes: u64,
    /// True if the download requests more whenever it can.
    asks: bool,
    /// Number of bytes of a request that did not fit.
    waits: Option<u32>,
}

impl MemoryBudget {
    /// Sets the number of bytes that a download holds.
    pub(super) fn holds(&mut self, id: DownloadId, bytes: u64, asks: bool) {
        let held = self.held.entry(id).or_default();
        held.bytes = bytes;
        held.asks = asks;
    }

    /// Removes a download.
    pub(super) fn leave(&mut self, id: DownloadId) {
        self.held.remove(&id);
    }

    /// Maximum number of bytes that one download may hold.
    fn part(&self, total: u64) -> u64 {
        let asking = self.held.values().filter(|held| held.asks).count() as u64;
        total / asking.max(1)
    }

    /// Maximum number of bytes per request, so that several fit into one part: whole leaves, at least one, at most a
    /// group.
    pub(super) fn piece(&self, total: u64) -> u32 {
        let quarter = u32::try_from(self.part(total) / 4).unwrap_or(GROUP);
        (quarter.min(GROUP) / LEAF).max(1) * LEAF
    }

    fn fits(&self, id: DownloadId, len: u32, total: u64) -> bool {
        let own = self.held.get(&id).map_or(0, |held| held.bytes);
        let all = self.held.values().map(|held| held.bytes);
        let all = all.fold(0, u64::saturating_add);
        let with = |bytes: u64| bytes.saturating_add(len.into());
        // A download that holds nothing may always have one request, so that none waits for the disk of another.
        own == 0 || (with(own) <= self.part(total) && with(all) <= total)
    }

    /// True if a download may request `len` more bytes. Otherwise marks it as waiting.
    pub(super) fn may(&mut self, id: DownloadId, len: u32, total: u64) -> bool {
        let fits = self.fits(id, len, total);
        if let Some(held) = self.held.get_mut(&id) {
            held.waits = (!fits).then_some(len);
        }
        fits
    }

    /// Returns the first waiting download whose request fits now, and clears its mark. It waits again only once it is
    /// refused again.
    pub(super) fn next(&mut self, total: u64) -> Option<DownloadId> {
        let waiting = |(id, held): (&DownloadId, &Held)| Some((*id, held.waits?));
        let mut waiting = self.held.iter().filter_map(waiting);
        let (first, _) = waiting.find(|(id, len)| self.fits(*id, *len, total))?;
        self.held.get_mut(&first)?.waits = None;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: DownloadId = DownloadId(1);
    const TWO: DownloadId = DownloadId(2);

    #[test]
    fn one_alone_has_all_of_it_and_two_have_half_each() {
        let mut room = MemoryBudget::default();
        room.holds(ONE, 700, true);
        assert!(room.may(ONE, 300, 1000));
        assert!(!room.may(ONE, 301, 1000));
        room.holds(TWO, 200, true);
        assert!(!room.may(ONE, 1, 1000));
        // The first is over its part, and what is left is for the second.
        assert!(room.may(TWO, 100, 1000));
        assert!(!room.may(TWO, 101, 1000));
    }

    #[test]
    fn who_has_nothing_may_ask_for_something_and_who_asks_for_nothing_has_no_part() {
        let mut room = MemoryBudget::default();
        room.holds(ONE, 1000, false);
        room.holds(TWO, 0, true);
        assert!(room.may(TWO, 100, 1000));
        room.holds(ONE, 0, false);
        room.holds(TWO, 800, true);
        assert!(room.may(TWO, 200, 1000));
    }

    #[test]
    fn who_waits_is_named_once_when_there_is_room() {
        let mut room = MemoryBudget::default();
        room.holds(ONE, 900, true);
        room.holds(TWO, 100, true);
        assert!(!room.may(TWO, 100, 1000));
        assert_eq!(room.next(1000), None);
        room.holds(ONE, 800, true);
        assert_eq!(room.next(1000), Some(TWO));
        assert_eq!(room.next(1000), None);
    }

    #[test]
    fn with_many_downloads_requests_get_small() {
        let mut room = MemoryBudget::default();
        for id in 0..256 {
            room.holds(DownloadId(id), 0, true);
        }
        assert_eq!(room.piece(32 << 20), 2 * LEAF);
        assert_eq!(MemoryBudget::default().piece(32 << 20), GROUP);
    }
}
