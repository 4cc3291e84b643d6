//! The files of one download: what is wanted, asked for, here, checked and published.

mod deferred;
mod pick;
mod shown;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::super::{AcceptTerms, Kept, KeptSummary, OnConflict};
use super::super::{PublishFile, Segment, Violation};
use super::arrival::Arrival;
use super::inventory::Inventory;
use super::recheck::Recheck;
use crate::limits::{GROUP, LEAF};
use crate::manifest::{Entry, EntryKind, Manifest, SignedRoots};
use crate::merkle::{Hash, RangeHash, file_root, group_count, group_len, verify_range};
use crate::path::SafePath;
use shown::ToBeShown;
pub(super) use shown::is_shown;

/// What a segment costs in a window beside its bytes: a kilobyte. So much a small file on its way takes to keep track of,
/// however little is in it; by bytes alone a window of them would fill the memory.
const SEGMENT_COST: u64 = LEAF as u64 / 16;

/// An entry's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not a file, or not selected.
    Unwanted,
    /// Nothing was asked for yet.
    Waiting,
    /// Not asked for either: it may be here already, and that is being seen to.
    Deferred,
    /// Some of it was asked for.
    Arriving,
    /// Whole and checked; on its way to its final name.
    Publishing,
    Done,
    Skipped,
    Failed,
}

/// How large a request may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Bytes of one range.
    pub(super) range: u32,
    /// Bytes of whole files together; a larger file goes by ranges.
    pub(super) batch: u32,
    /// Segments.
    pub(super) segments: usize,
}

/// What segments cost in a window.
pub(super) fn cost_of(segments: &[Segment]) -> u64 {
    let bytes = segments.iter().map(|segment| u64::from(segment.len)).sum();
    cost_of_bytes(bytes, segments.len())
}

/// What so many bytes in so many segments cost.
pub(super) fn cost_of_bytes(bytes: u64, segments: usize) -> u64 {
    bytes.saturating_add(SEGMENT_COST.saturating_mul(segments as u64))
}

/// All files of a download.
pub(super) struct Files {
    manifest: Arc<Manifest>,
    /// The folder of its own in which all of it lands.
    folder: Option<SafePath>,
    terms: AcceptTerms,
    selected: Option<BTreeSet<u32>>,
    states: Vec<State>,
    arriving: BTreeMap<u32, Arrival>,
    roots: BTreeMap<u32, Hash>,
    /// Asked for before, and lost with a link or refused by its check.
    again: BTreeSet<Segment>,
    /// No entry before this one waits.
    cursor: u32,
    /// Entries that wait again, whoever has crossed them off.
    reopened: Vec<u32>,
    /// The file whose ranges are being asked for.
    current: Option<u32>,
    /// Files that were begun out of their turn or by an earlier run, and whose ranges in order are still to be asked for.
    begun: BTreeSet<u32>,
    /// Whole and checked, to be published; with their root, unless an earlier run has noted that.
    ready: VecDeque<(u32, Option<Hash>)>,
    /// Staged, by bytes from elsewhere on the device.
    to_be_shown: BTreeMap<u32, ToBeShown>,
    /// Whole, but their root is not known.
    rootless: BTreeSet<u32>,
    /// What may be served of it, where it is.
    pub(super) held: Option<Inventory>,
    /// What files hash to that are about to get their names.
    checked: BTreeMap<u32, Hash>,
    pub(super) count: Count,
}

/// How far the files are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) wanted: u64,
    /// Files published.
    pub(super) done: u64,
    pub(super) skipped: u64,
    pub(super) failed: u64,
    pub(super) stripped: u64,
    /// Bytes wanted; nothing while a stream's end is not known.
    pub(super) bytes: Option<u64>,
    /// Bytes written.
    pub(super) here: u64,
    /// Bytes of published files.
    pub(super) published: u64,
}

/// What became of a file when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is what its root says, or it is too early to tell.
    Fine,
    /// It is not, and begins anew.
    Wrong,
    /// The same, and part of it was left by an earlier run: nobody is to blame.
    Stale,
}

/// What came of a segment's bytes.
pub(super) enum Taken {
    /// They go to disk.
    Write,
    /// They are here already, or are not wanted any more.
    Drop,
    /// They are here already, and a source has shown that it has them too. So many bytes need not come for that.
    Shown { spared: u64 },
    /// They are not what the root says.
    Bad,
}

/// Permission bits of a file whose sender says none.
const MODE: u32 = 0o644;

impl Files {
    /// Plans a download. `taken` are entries whose name is taken here.
    pub(super) fn new(
        manifest: Arc<Manifest>,
        folder: Option<SafePath>,
        terms: AcceptTerms,
        taken: &[u32],
    ) -> Self {
        let entries = manifest.entries();
        let mut states = vec![State::Unwanted; entries.len()];
        let mut count = Count {
            bytes: Some(0),
            ..Count::default()
        };
        let selected: Option<BTreeSet<u32>> = terms
            .select
            .as_ref()
            .map(|list| list.iter().copied().collect());
        let taken: BTreeSet<u32> = taken.iter().copied().collect();
        for ((index, entry), state) in (0..).zip(entries).zip(&mut states) {
            let is_selected = selected
                .as_ref()
                .is_none_or(|selected| selected.contains(&index));
            let is_file = matches!(entry.kind, EntryKind::File { .. } | EntryKind::Stream);
            if !is_file || !is_selected {
                continue;
            }
            if terms.on_conflict == OnConflict::Skip && taken.contains(&index) {
                *state = State::Skipped;
                count.skipped += 1;
                continue;
            }
            *state = State::Waiting;
            count.wanted += 1;
            count.bytes = match (count.bytes, entry.size()) {
                (Some(sum), Some(size)) => sum.checked_add(size),
                _ => None,
            };
        }
        Self {
            manifest,
            folder,
            terms,
            selected,
            states,
            arriving: BTreeMap::new(),
            roots: BTreeMap::new(),
            again: BTreeSet::new(),
            cursor: 0,
            reopened: Vec::new(),
            current: None,
            begun: BTreeSet::new(),
            ready: VecDeque::new(),
            to_be_shown: BTreeMap::new(),
            rootless: BTreeSet::new(),
            held: None,
            checked: BTreeMap::new(),
            count,
        }
    }

    /// Takes in what an earlier run has left, as far as it is wanted.
    /// What is staged counts when it was read.
    pub(super) fn keep(&mut self, kept: Kept) -> Recheck {
        let mut earlier = Recheck::default();
        for entry in &kept.published {
            if let Some(size) = self.keep_file(*entry, State::Done) {
                self.count.here += size;
                self.count.done += 1;
                self.count.published += size;
            }
        }
        for (entry, root) in kept.whole {
            if let Some(size) = self.keep_file(entry, State::Publishing) {
                earlier.add_whole(entry, size, root);
            }
        }
        for groups in kept.groups {
            let wanted =
                self.is(groups.entry, State::Waiting) || self.begun.contains(&groups.entry);
            let Some(size) = self.size(groups.entry).filter(|_| wanted) else {
                continue;
            };
            if self.is(groups.entry, State::Waiting) {
                self.begin(groups.entry, Some(size), false);
                self.begun.insert(groups.entry);
            }
            if let Some(arrival) = self.arriving.get_mut(&groups.entry) {
                let last = group_count(size);
                for (group, node) in (groups.first..last).zip(groups.nodes) {
                    if arrival.take_ahead(group) {
                        earlier.add_group(groups.entry, size, group, node);
                    }
                }
            }
        }
        earlier
    }

    /// Takes in a file of which all is here; its bytes, if it was wanted.
    fn keep_file(&mut self, entry: u32, state: State) -> Option<u64> {
        let size = self.size(entry).filter(|_| self.is(entry, State::Waiting));
        if size.is_some() {
            self.set(entry, state);
        }
        size
    }

    /// Groups that an earlier run has written were read: these are right, and the others are asked for.
    pub(super) fn kept(&mut self, entry: u32, groups: Range<u64>, right: &[(u64, Hash)]) {
        let Some(arrival) = self.arriving.get_mut(&entry) else {
            return;
        };
        let Some(size) = arrival.size() else {
            return;
        };
        for (group, node) in right {
            self.count.here += arrival.keep(*group, *node);
            if let Some(held) = &mut self.held {
                // It can be served when the file is whole: what proves it is known then.
                held.arrived((entry, *group), size, *node, None);
            }
        }
        let wrong = groups.filter(|group| !arrival.have(group * u64::from(GROUP), 1));
        self.again.extend(wrong.map(|group| Segment {
            entry,
            offset: group * u64::from(GROUP),
            len: group_len(size, group),
        }));
    }

    /// A file that an earlier run has checked was read, and is what it was.
    pub(super) fn kept_whole(&mut self, entry: u32) {
        if self.is(entry, State::Publishing) {
            self.count.here += self.size(entry).unwrap_or_default();
            self.ready.push_back((entry, None));
        }
    }

    /// It is not: all of it is to be fetched.
    pub(super) fn not_whole(&mut self, entry: u32) {
        if self.is(entry, State::Publishing) {
            self.wait_again(entry);
        }
    }

    /// Files of which all is here, by what an earlier run has left.
    pub(super) fn begun(&self) -> Vec<u32> {
        self.begun.iter().copied().collect()
    }

    /// Bytes of a file, if it has a size.
    pub(super) fn size(&self, index: u32) -> Option<u64> {
        self.entry(index).and_then(Entry::size)
    }

    pub(super) fn entry(&self, index: u32) -> Option<&Entry> {
        self.manifest.entry(index)
    }

    /// Where an entry lands, below the download's folder.
    pub(super) fn place(&self, index: u32) -> Option<SafePath> {
        self.entry(index).map(|entry| self.place_of(entry))
    }

    /// The same, of an entry of this manifest.
    pub(super) fn place_of(&self, entry: &Entry) -> SafePath {
        place_of(self.folder.as_ref(), &entry.path)
    }

    pub(super) fn terms(&self) -> &AcceptTerms {
        &self.terms
    }

    pub(super) fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Files that are to come, wholly or in part.
    pub(super) fn wanted(&self) -> impl Iterator<Item = u32> {
        let states = (0..).zip(&self.states);
        states
            .filter(|(_, state)| matches!(state, State::Waiting | State::Arriving))
            .map(|(index, _)| index)
    }

    /// Entries that were left out because their name is taken.
    pub(super) fn skipped(&self) -> Vec<u32> {
        let states = (0..).zip(&self.states);
        states
            .filter(|(_, state)| **state == State::Skipped)
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether an entry is part of what was selected.
    pub(super) fn is_selected(&self, index: u32) -> bool {
        self.selected
            .as_ref()
            .is_none_or(|selected| selected.contains(&index))
    }

    /// Nothing is left to ask for, to check or to publish.
    pub(super) fn is_complete(&self) -> bool {
        self.count.done + self.count.failed >= self.count.wanted
    }

    /// The next thing to ask for: a range of one file, or several whole small ones. With what it costs.
    pub(super) fn next(&mut self, size: Size) -> Option<(Vec<Segment>, u64)> {
        let segments = self
            .next_again(size)
            .or_else(|| self.next_range(size))
            .or_else(|| self.next_small(size))
            // Empty files may have stood between here and the next large one.
            .or_else(|| self.next_range(size))?;
        let cost = cost_of(&segments);
        Some((segments, cost))
    }

    /// Keeps roots as they were signed, to pass them on.
    pub(super) fn keep_roots(&mut self, batch: &SignedRoots, roots: &[(u32, Hash)]) {
        if let Some(held) = &mut self.held {
            held.learnt(batch, roots);
        }
    }

    /// A file stands under this name, which may be another than it has in the manifest.
    pub(super) fn stands_at(&mut self, index: u32, path: &SafePath) {
        if self.held.is_none() || self.place(index).as_ref() == Some(path) {
            return;
        }
        if let Some(held) = &mut self.held {
            held.renamed(index, path.clone());
        }
    }

    /// The first of what has to be asked for again.
    pub(super) fn first_again(&self) -> Option<&Segment> {
        self.again.first()
    }

    fn next_again(&mut self, size: Size) -> Option<Vec<Segment>> {
        let first = self.again.pop_first()?;
        if !self.is_small(&first) || first.len > size.batch {
            return Some(vec![self.split(first, size.range)]);
        }
        let mut segments = vec![first];
        let mut bytes = first.len;
        while let Some(next) = self.again.first().copied()
            && self.is_small(&next)
            && segments.len() < size.segments
            && bytes.saturating_add(next.len) <= size.batch
        {
            self.again.pop_first();
            bytes += next.len;
            segments.push(next);
        }
        Some(segments)
    }

    /// Cuts a segment down to what one request may ask for now; the rest is asked for later.
    fn split(&mut self, segment: Segment, len: u32) -> Segment {
        let len = len.max(LEAF);
        if segment.len <= len || self.is_stream(segment.entry) {
            return segment;
        }
        let rest = Segment {
            entry: segment.entry,
            offset: segment.offset + u64::from(len),
            len: segment.len - len,
        };
        self.again.insert(rest);
        Segment { len, ..segment }
    }

    fn is_small(&self, segment: &Segment) -> bool {
        let size = self.entry(segment.entry).and_then(Entry::size);
        segment.offset == 0 && size == Some(u64::from(segment.len))
    }

    pub(super) fn is_stream(&self, entry: u32) -> bool {
        matches!(
            self.entry(entry),
            Some(Entry {
                kind: EntryKind::Stream,
                ..
            })
        )
    }

    /// The next range of the file that is being asked for.
    fn next_range(&mut self, size: Size) -> Option<Vec<Segment>> {
        loop {
            let begun = self.current.or_else(|| self.begun.pop_first());
            let entry = match begun {
                Some(entry) => entry,
                None => self.start_large(size.batch)?,
            };
            let segment = self
                .arriving
                .get_mut(&entry)
                .and_then(|arrival| arrival.next(entry, size.range));
            match segment {
                Some(segment) => {
                    self.current = Some(entry);
                    return Some(vec![segment]);
                }
                None => self.current = None,
            }
        }
    }

    /// Begins with the next waiting file, if it is one that goes by ranges.
    fn start_large(&mut self, most: u32) -> Option<u32> {
        let (index, size) = self.first_waiting()?;
        if size.is_some_and(|size| size <= u64::from(most)) {
            return None;
        }
        self.begin(index, size, false);
        self.current = Some(index);
        Some(index)
    }

    fn next_small(&mut self, size: Size) -> Option<Vec<Segment>> {
        let mut segments = Vec::new();
        let mut bytes = 0;
        while segments.len() < size.segments
            && let Some((index, Some(all))) = self.first_waiting()
            && let Ok(len) = u32::try_from(all)
            && len <= size.batch - bytes
        {
            self.begin(index, Some(all), true);
            if len == 0 {
                // An empty file has no bytes to ask for; what it hashes to is known.
                self.empty(index);
                continue;
            }
            bytes += len;
            segments.push(Segment {
                entry: index,
                offset: 0,
                len,
            });
        }
        (!segments.is_empty()).then_some(segments)
    }

    fn first_waiting(&mut self) -> Option<(u32, Option<u64>)> {
        while let Some(state) = self.states.get(self.cursor as usize) {
            if *state == State::Waiting {
                let size = self.entry(self.cursor).and_then(Entry::size);
                return Some((self.cursor, size));
            }
            self.cursor += 1;
        }
        None
    }

    fn begin(&mut self, index: u32, size: Option<u64>, whole: bool) {
        self.set(index, State::Arriving);
        self.arriving.insert(index, Arrival::new(size, whole));
    }

    /// All of a file is to be asked for after all, or anew.
    fn wait_again(&mut self, entry: u32) {
        self.set(entry, State::Waiting);
        self.cursor = self.cursor.min(entry);
        self.reopened.push(entry);
    }

    fn empty(&mut self, index: u32) {
        self.arriving.remove(&index);
        self.set(index, State::Publishing);
        self.ready.push_back((index, Some(file_root(&[]))));
    }

    fn set(&mut self, index: u32, state: State) {
        if let Some(slot) = self.states.get_mut(index as usize) {
            *slot = state;
        }
    }

    fn is(&self, index: u32, state: State) -> bool {
        self.states.get(index as usize) == Some(&state)
    }

    /// These were asked for and will not come: a link is gone, or their answer was refused.
    pub(super) fn lost(&mut self, segments: impl IntoIterator<Item = Segment>) {
        for segment in segments {
            if self.is(segment.entry, State::Arriving) {
                self.again.insert(segment);
            }
        }
    }

    /// Takes in roots that the sharer has signed.
    pub(super) fn learn(&mut self, roots: Vec<(u32, Hash)>) -> Result<(), Violation> {
        for (entry, root) in roots {
            if !matches!(
                self.entry(entry).map(|entry| &entry.kind),
                Some(EntryKind::File { .. } | EntryKind::Stream)
            ) {
                return Err(Violation::new("a root of what has none"));
            }
            match self.roots.get(&entry) {
                Some(known) if *known != root => {
                    return Err(Violation::new("two roots for one file"));
                }
                None if self.wants_root(entry) => {
                    self.roots.insert(entry, root);
                }
                // Known already, or of an entry that is past needing it.
                _ => {}
            }
        }
        Ok(())
    }

    /// Bytes came for a segment: checks them as far as they can be checked by now.
    pub(super) fn arrived(
        &mut self,
        segment: &Segment,
        len: u32,
        range: &RangeHash,
        proof: Option<&[Hash]>,
    ) -> Taken {
        if let Some(taken) = self.shown(segment, range, proof) {
            return taken;
        }
        let root = self.roots.get(&segment.entry);
        let Some(arrival) = self.arriving.get_mut(&segment.entry) else {
            return Taken::Drop;
        };
        if arrival.have(segment.offset, len) {
            return Taken::Drop;
        }
        if let (Some(root), Some(proof), Some(size)) = (root, proof, arrival.size())
            && verify_range(root, size, segment.offset, range, proof).is_none()
        {
            return Taken::Bad;
        }
        let size = arrival.size();
        let node = arrival.take(segment.offset, len, range);
        if let (Some(held), Some(size), Some(node)) = (&mut self.held, size, node) {
            let place = (segment.entry, segment.offset / u64::from(GROUP));
            held.arrived(place, size, node, root.zip(proof));
        }
        Taken::Write
    }

    /// A stream's end is known.
    pub(super) fn ends(&mut self, entry: u32, size: u64) -> Result<(), Violation> {
        let Some(arrival) = self.arriving.get_mut(&entry) else {
            return Ok(());
        };
        if !arrival.end_at(size) {
            return Err(Violation::new("a stream that ends twice"));
        }
        self.count.bytes = Some(size);
        self.again
            .retain(|segment| segment.entry != entry || segment.offset < size);
        Ok(())
    }

    /// A range of an entry is on disk. Says which of its groups is whole by that and known, and as what.
    pub(super) fn written(&mut self, range: &Segment) -> Option<(u64, Hash)> {
        let arrival = self.arriving.get_mut(&range.entry)?;
        self.count.here += u64::from(range.len);
        arrival.wrote(range.offset, range.len)
    }

    /// Looks whether an entry is whole by now, and whether it is what its root says. If not, it is fetched again.
    pub(super) fn settle(&mut self, entry: u32) -> Settled {
        let Some(found) = self.arriving.get(&entry).and_then(Arrival::root) else {
            return Settled::Fine;
        };
        let Some(root) = self.roots.get(&entry) else {
            self.rootless.insert(entry);
            return Settled::Fine;
        };
        self.rootless.remove(&entry);
        let matches = found == *root;
        let Some(arrival) = self.arriving.remove(&entry) else {
            return Settled::Fine;
        };
        if let Some(held) = &mut self.held {
            if matches {
                held.confirmed(entry);
            } else {
                held.lost(entry);
            }
        }
        if matches {
            self.roots.remove(&entry);
            self.set(entry, State::Publishing);
            self.ready.push_back((entry, Some(found)));
            return Settled::Fine;
        }
        self.count.here = self.count.here.saturating_sub(arrival.written);
        self.again.retain(|segment| segment.entry != entry);
        self.wait_again(entry);
        if arrival.kept {
            Settled::Stale
        } else {
            Settled::Wrong
        }
    }

    /// Whether an entry is whole and checked, and on its way to its final name.
    pub(super) fn is_whole(&self, entry: u32) -> bool {
        self.is(entry, State::Publishing)
    }

    /// Whole files whose root is not known.
    pub(super) fn rootless(&self) -> Vec<u32> {
        self.rootless.iter().copied().collect()
    }

    /// Files that wait for their names cost so much of a window: names may be slower to give than bytes are to fetch.
    pub(super) fn nameless(&self) -> u64 {
        cost_of_bytes(0, self.ready.len())
    }

    /// Entries that are whole and checked, up to `most`; with their root, unless an earlier run has noted that.
    pub(super) fn take_ready(&mut self, most: usize) -> Vec<(u32, Option<Hash>)> {
        let many = self.ready.len().min(most);
        let ready: Vec<_> = self.ready.drain(..many).collect();
        let checked = ready.iter().filter_map(|(of, root)| Some((*of, (*root)?)));
        self.checked.extend(checked);
        ready
    }

    /// How an entry is published. The attributes are what the sharer says, less what the user did not agree to.
    pub(super) fn publication(&mut self, index: u32) -> Option<PublishFile> {
        let entry = self.manifest.entry(index)?;
        let (sent, modified) = match entry.kind {
            EntryKind::File { mode, modified, .. } => (mode, modified),
            _ => (MODE, self.manifest.created()),
        };
        let mode = self.agreed(sent);
        self.count.stripped += u64::from(mode != sent);
        Some(PublishFile {
            entry: index,
            path: self.place_of(entry),
            mode,
            modified,
            on_conflict: self.terms.on_conflict,
            root: self.checked.remove(&index),
        })
    }

    /// The permission bits that a file is published with.
    pub(super) fn mode(&self, index: u32) -> u32 {
        match self.entry(index).map(|entry| &entry.kind) {
            Some(EntryKind::File { mode, .. }) => self.agreed(*mode),
            _ => MODE,
        }
    }

    /// Of these permission bits those that the user has agreed to.
    fn agreed(&self, mode: u32) -> u32 {
        if self.terms.executables {
            mode
        } else {
            mode & !0o111
        }
    }

    /// A file stands under its final name. Returns its size.
    pub(super) fn published(&mut self, index: u32) -> u64 {
        self.set(index, State::Done);
        self.count.done += 1;
        let size = self
            .entry(index)
            .and_then(Entry::size)
            .or(self.count.bytes)
            .unwrap_or(0);
        self.count.published = self.count.published.saturating_add(size);
        size
    }

    /// A file's name was taken at the last moment, and existing files are kept.
    pub(super) fn skip(&mut self, index: u32) {
        self.set(index, State::Skipped);
        self.count.skipped += 1;
        self.count.wanted = self.count.wanted.saturating_sub(1);
    }

    /// Gives an entry up; says whether that is new.
    pub(super) fn fail(&mut self, index: u32) -> bool {
        let open = [
            State::Waiting,
            State::Deferred,
            State::Arriving,
            State::Publishing,
        ];
        if !open.iter().any(|state| self.is(index, *state)) {
            return false;
        }
        self.set(index, State::Failed);
        self.count.failed += 1;
        if let Some(held) = &mut self.held {
            held.lost(index);
        }
        if let Some(arrival) = self.arriving.remove(&index) {
            self.count.here = self.count.here.saturating_sub(arrival.written);
        }
        let size = self.entry(index).and_then(Entry::size).unwrap_or(0);
        self.count.bytes = self.count.bytes.map(|bytes| bytes.saturating_sub(size));
        self.again.retain(|segment| segment.entry != index);
        self.to_be_shown.remove(&index);
        self.rootless.remove(&index);
        self.roots.remove(&index);
        self.ready.retain(|(ready, _)| *ready != index);
        self.begun.remove(&index);
        if self.current == Some(index) {
            self.current = None;
        }
        true
    }
}

/// Where an entry lands.
pub(super) fn place_of(folder: Option<&SafePath>, path: &SafePath) -> SafePath {
    folder.map_or_else(|| path.clone(), |folder| path.below(folder))
}

/// What an earlier run has left of a manifest's files, for people.
pub(super) fn summary(manifest: &Manifest, kept: &Kept) -> KeptSummary {
    let size = |entry: &u32| manifest.entry(*entry).and_then(Entry::size);
    let whole = kept.whole.iter().map(|(entry, _)| entry);
    let whole = kept.published.iter().chain(whole);
    let mut bytes: u64 = whole.filter_map(size).sum();
    for groups in &kept.groups {
        if let Some(size) = size(&groups.entry) {
            let end = groups.first.saturating_add(groups.nodes.len() as u64);
            let range = groups.first..end.min(group_count(size));
            bytes += range
                .map(|group| u64::from(group_len(size, group)))
                .sum::<u64>();
        }
    }
    KeptSummary {
        bytes,
        files: kept.published.len() as u64,
    }
}
