//! Requests out of order: part by part, depending on which source has what.

use super::super::super::Segment;
use super::{Files, Size, State};
use crate::limits::{GROUP, LEAF};
use crate::manifest::Entry;
use crate::merkle::group_len;

impl Files {
    /// Takes the entries that were set back to waiting since the last call.
    pub(in super::super) fn take_reopened(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.reopened)
    }

    /// Stops requesting the current file in order: it is treated like the others from now on.
    pub(in super::super) fn leave_turn(&mut self) {
        let Some(entry) = self.current.take() else {
            return;
        };
        if let Some(arrival) = self.arriving.get_mut(&entry) {
            self.begun.insert(entry);
            self.again.extend(arrival.leave_group(entry));
        }
    }

    /// Takes the first segment to be requested again that a source has, cut down to the size of one request.
    pub(in super::super) fn again_from(
        &mut self,
        size: Size,
        has: impl Fn(u32, u64) -> bool,
    ) -> Option<Segment> {
        let mut again = self.again.iter();
        let first = again.find(|segment| has(segment.entry, segment.offset / u64::from(GROUP)));
        let first = *first?;
        self.again.remove(&first);
        Some(self.split(first, size.range))
    }

    /// True if nothing of a group was requested yet.
    pub(in super::super) fn is_open(&self, entry: u32, group: u64) -> bool {
        match self.states.get(entry as usize) {
            Some(State::Waiting) => true,
            Some(State::Arriving) => {
                let arrival = self.arriving.get(&entry);
                arrival.is_some_and(|arrival| arrival.is_open(group))
            }
            _ => false,
        }
    }

    /// Requests an open group. Of a large file, as much of the group as one request may ask for, the rest later; of a
    /// small file, also those that follow it, as many as fit.
    pub(in super::super) fn take_part(
        &mut self,
        (entry, group): (u32, u64),
        size: Size,
        has: impl Fn(u32, u64) -> bool,
    ) -> Vec<Segment> {
        if !self.is_open(entry, group) {
            return Vec::new();
        }
        let Some(bytes) = self.entry(entry).and_then(Entry::size) else {
            return Vec::new();
        };
        if self.is(entry, State::Waiting) {
            if bytes <= u64::from(size.batch) {
                return self.take_small(entry, size, has);
            }
            self.begin(entry, Some(bytes), false);
            self.begun.insert(entry);
        }
        if let Some(arrival) = self.arriving.get_mut(&entry) {
            arrival.take_ahead(group);
        }
        let all = Segment {
            entry,
            offset: group.saturating_mul(u64::from(GROUP)),
            len: group_len(bytes, group),
        };
        vec![self.split(all, size.range.max(LEAF))]
    }

    fn take_small(
        &mut self,
        first: u32,
        size: Size,
        has: impl Fn(u32, u64) -> bool,
    ) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut bytes = 0;
        for entry in first.. {
            let all = self.entry(entry).and_then(Entry::size);
            let Some(len) = all.and_then(|all| u32::try_from(all).ok()) else {
                break;
            };
            let fits = len > 0 && len <= size.batch.saturating_sub(bytes);
            let open = self.is(entry, State::Waiting) && has(entry, 0);
            if !fits || !open || segments.len() >= size.segments {
                break;
            }
            bytes += len;
            self.begin(entry, Some(u64::from(len)), true);
            let offset = 0;
            segments.push(Segment { entry, offset, len });
        }
        segments
    }

    /// Completes files without bytes: they need no source.
    pub(in super::super) fn begin_empty(&mut self) {
        for index in 0..u32::try_from(self.states.len()).unwrap_or(u32::MAX) {
            let size = self.entry(index).and_then(Entry::size);
            if size == Some(0) && self.is(index, State::Waiting) {
                self.empty(index);
            }
        }
    }

    /// True if an arriving entry's data can't be verified, because its root is not known.
    pub(in super::super) fn is_unproved(&self, entry: u32) -> bool {
        self.arriving.contains_key(&entry) && !self.roots.contains_key(&entry)
    }

    /// True if a file is being published, so that the path to read it from is about to change.
    pub(in super::super) fn is_moving(&self, entry: u32) -> bool {
        self.is(entry, State::Publishing)
    }

    /// True if a file is published under its final name.
    pub(in super::super) fn is_done(&self, entry: u32) -> bool {
        self.is(entry, State::Done)
    }
}
