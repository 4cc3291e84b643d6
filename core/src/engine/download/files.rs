//! The files of one download: which are wanted, requested, received, verified and published.

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

/// Window cost of a segment in addition to its bytes: 1 KiB. That is what tracking a small file in flight takes,
/// however short it is. If only bytes counted, a window of small files would fill the memory.
const SEGMENT_COST: u64 = LEAF as u64 / 16;

/// State of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not a file, or not selected.
    Unwanted,
    /// Nothing was requested yet.
    Waiting,
    /// Not requested: whether its bytes are on this device already is being checked.
    Deferred,
    /// Some of it was requested.
    Arriving,
    /// Complete and verified; being moved to its final name.
    Publishing,
    Done,
    Skipped,
    Failed,
}

/// Maximum size of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Maximum number of bytes in one range.
    pub(super) range: u32,
    /// Maximum total bytes of whole files; a larger file is requested in ranges.
    pub(super) batch: u32,
    /// Maximum number of segments.
    pub(super) segments: usize,
}

/// Window cost of these segments.
pub(super) fn cost_of(segments: &[Segment]) -> u64 {
    let bytes = segments.iter().map(|segment| u64::from(segment.len)).sum();
    cost_of_bytes(bytes, segments.len())
}

/// Window cost of this number of bytes in this number of segments.
pub(super) fn cost_of_bytes(bytes: u64, segments: usize) -> u64 {
    bytes.saturating_add(SEGMENT_COST.saturating_mul(segments as u64))
}

/// All files of a download.
pub(super) struct Files {
    manifest: Arc<Manifest>,
    /// The download's own folder, in which all files are stored.
    folder: Option<SafePath>,
    terms: AcceptTerms,
    selected: Option<BTreeSet<u32>>,
    states: Vec<State>,
    arriving: BTreeMap<u32, Arrival>,
    roots: BTreeMap<u32, Hash>,
    /// Segments requested before, and lost with a link or rejected by verification.
    again: BTreeSet<Segment>,
    /// No entry before this one is waiting.
    cursor: u32,
    /// Entries that are waiting again, to be reported to those that consider them done.
    reopened: Vec<u32>,
    /// The file whose ranges are being requested in order.
    current: Option<u32>,
    /// Files started out of order or by an earlier run, whose remaining ranges are still to be requested in order.
    begun: BTreeSet<u32>,
    /// Files complete and verified, to be published. With their root, unless an earlier run has recorded it.
    ready: VecDeque<(u32, Option<Hash>)>,
    /// Files staged from bytes found elsewhere on the device, until a source proves that it has them.
    to_be_shown: BTreeMap<u32, ToBeShown>,
    /// Complete files whose root is not known.
    rootless: BTreeSet<u32>,
    /// Inventory of what can be served to others. `None` if this download does not serve.
    pub(super) held: Option<Inventory>,
    /// Roots of the files being published.
    checked: BTreeMap<u32, Hash>,
    pub(super) count: Count,
}

/// Progress of all files.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) wanted: u64,
    /// Files published.
    pub(super) done: u64,
    pub(super) skipped: u64,
    pub(super) failed: u64,
    pub(super) stripped: u64,
    /// Bytes wanted. `None` while the length of a stream is not known.
    pub(super) bytes: Option<u64>,
    /// Bytes on this device: written, or present before.
    pub(super) here: u64,
    /// Bytes of published files.
    pub(super) published: u64,
}

/// Result of checking whether a file is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// It matches its root, or it is too early to tell.
    Fine,
    /// It does not match, and is fetched again.
    Wrong,
    /// It does not match, but part of it is from an earlier run or an older version: no peer is to blame.
    Stale,
}

/// What to do with a segment's bytes.
pub(super) enum Taken {
    /// Write them to disk.
    Write,
    /// Discard them: they are here already, or no longer wanted.
    Drop,
    /// Discard them: they are here already, and a source has proved that it has them too. `spared` bytes need not be
    /// fetched.
    Shown { spared: u64 },
    /// They do not match the root.
    Bad,
}

/// Permission bits of a file for which the sharer gives none.
const MODE: u32 = 0o644;

impl Files {
    /// Plans a download. `taken` are entries whose name exists at the destination.
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

    /// Takes over what an earlier run left of the wanted files. Staged data counts once it has been read back.
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

    /// Sets the state of a file that is completely here. Returns its size if the file was wanted.
    fn keep_file(&mut self, entry: u32, state: State) -> Option<u64> {
        let size = self.size(entry).filter(|_| self.is(entry, State::Waiting));
        if size.is_some() {
            self.set(entry, state);
        }
        size
    }

    /// Handles groups that an earlier run wrote and that were read back: `right` are correct, the others are requested.
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
                // It can be served once the file is complete: only then is its proof known.
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

    /// Handles a file that an earlier run verified and that still matches after being read back.
    pub(super) fn kept_whole(&mut self, entry: u32) {
        if self.is(entry, State::Publishing) {
            self.count.here += self.size(entry).unwrap_or_default();
            self.ready.push_back((entry, None));
        }
    }

    /// Handles such a file that no longer matches: all of it is fetched again.
    pub(super) fn not_whole(&mut self, entry: u32) {
        if self.is(entry, State::Publishing) {
            self.wait_again(entry);
        }
    }

    /// Files that were started out of order or by an earlier run, and have ranges left to request.
    pub(super) fn begun(&self) -> Vec<u32> {
        self.begun.iter().copied().collect()
    }

    /// Size of a file in bytes, if it has one.
    pub(super) fn size(&self, index: u32) -> Option<u64> {
        self.entry(index).and_then(Entry::size)
    }

    pub(super) fn entry(&self, index: u32) -> Option<&Entry> {
        self.manifest.entry(index)
    }

    /// Destination of an entry, including the download's folder.
    pub(super) fn place(&self, index: u32) -> Option<SafePath> {
        self.entry(index).map(|entry| self.place_of(entry))
    }

    /// Destination of this entry of the manifest, including the download's folder.
    pub(super) fn place_of(&self, entry: &Entry) -> SafePath {
        place_of(self.folder.as_ref(), &entry.path)
    }

    pub(super) fn terms(&self) -> &AcceptTerms {
        &self.terms
    }

    pub(super) fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Files still to be fetched, wholly or in part.
    pub(super) fn wanted(&self) -> impl Iterator<Item = u32> {
        let states = (0..).zip(&self.states);
        states
            .filter(|(_, state)| matches!(state, State::Waiting | State::Arriving))
            .map(|(index, _)| index)
    }

    /// Entries skipped because their name is taken.
    pub(super) fn skipped(&self) -> Vec<u32> {
        let states = (0..).zip(&self.states);
        states
            .filter(|(_, state)| **state == State::Skipped)
            .map(|(index, _)| index)
            .collect()
    }

    /// True if an entry is selected.
    pub(super) fn is_selected(&self, index: u32) -> bool {
        self.selected
            .as_ref()
            .is_none_or(|selected| selected.contains(&index))
    }

    /// True if nothing is left to request, verify or publish.
    pub(super) fn is_complete(&self) -> bool {
        self.count.done + self.count.failed >= self.count.wanted
    }

    /// Returns what to request next, with its cost: a range of one file, or several whole small files.
    pub(super) fn next(&mut self, size: Size) -> Option<(Vec<Segment>, u64)> {
        let segments = self
            .next_again(size)
            .or_else(|| self.next_range(size))
            .or_else(|| self.next_small(size))
            // There may have been only empty files before the next large one.
            .or_else(|| self.next_range(size))?;
        let cost = cost_of(&segments);
        Some((segments, cost))
    }

    /// Keeps a batch of signed roots, to pass it on.
    pub(super) fn keep_roots(&mut self, batch: &SignedRoots, roots: &[(u32, Hash)]) {
        if let Some(held) = &mut self.held {
            held.learnt(batch, roots);
        }
    }

    /// Records the name under which a file was published. It may differ from the name in the manifest.
    pub(super) fn stands_at(&mut self, index: u32, path: &SafePath) {
        if self.held.is_none() || self.place(index).as_ref() == Some(path) {
            return;
        }
        if let Some(held) = &mut self.held {
            held.renamed(index, path.clone());
        }
    }

    /// The first segment to be requested again.
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

    /// Cuts a segment down to the size of one request; the rest is requested later.
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

    /// Next range of the file that is being requested in order.
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

    /// Starts the next waiting file, if it is large enough to be requested in ranges.
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
                // An empty file has no bytes to request, and its root is known.
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

    /// Sets a file back to waiting: all of it has to be requested, for the first time or again.
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

    /// Queues segments that were requested and will not arrive: their link was lost, or their answer was rejected.
    pub(super) fn lost(&mut self, segments: impl IntoIterator<Item = Segment>) {
        for segment in segments {
            if self.is(segment.entry, State::Arriving) {
                self.again.insert(segment);
            }
        }
    }

    /// Takes over roots signed by the sharer.
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
                // Known already, or the entry no longer needs it.
                _ => {}
            }
        }
        Ok(())
    }

    /// Handles the bytes of a segment: verifies them as far as that is possible so far.
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

    /// Sets the length of a stream.
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

    /// Records that a range of an entry is on disk. Returns the group completed by that and its hash, if that is known.
    pub(super) fn written(&mut self, range: &Segment) -> Option<(u64, Hash)> {
        let arrival = self.arriving.get_mut(&range.entry)?;
        self.count.here += u64::from(range.len);
        arrival.wrote(range.offset, range.len)
    }

    /// Checks whether an entry is complete and matches its root. If it does not match, it is fetched again.
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

    /// True if an entry is complete and verified, and being published.
    pub(super) fn is_whole(&self, entry: u32) -> bool {
        self.is(entry, State::Publishing)
    }

    /// Complete files whose root is not known.
    pub(super) fn rootless(&self) -> Vec<u32> {
        self.rootless.iter().copied().collect()
    }

    /// Window cost of the files that wait to be published: publishing may be slower than fetching.
    pub(super) fn nameless(&self) -> u64 {
        cost_of_bytes(0, self.ready.len())
    }

    /// Takes up to `most` entries that are complete and verified. With their root, unless an earlier run has recorded
    /// it.
    pub(super) fn take_ready(&mut self, most: usize) -> Vec<(u32, Option<Hash>)> {
        let many = self.ready.len().min(most);
        let ready: Vec<_> = self.ready.drain(..many).collect();
        let checked = ready.iter().filter_map(|(of, root)| Some((*of, (*root)?)));
        self.checked.extend(checked);
        ready
    }

    /// How an entry is published. Its attributes are those the sharer gives, without those the user did not agree to.
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

    /// Permission bits with which a file is published.
    pub(super) fn mode(&self, index: u32) -> u32 {
        match self.entry(index).map(|entry| &entry.kind) {
            Some(EntryKind::File { mode, .. }) => self.agreed(*mode),
            _ => MODE,
        }
    }

    /// Removes the permission bits that the user did not agree to.
    fn agreed(&self, mode: u32) -> u32 {
        if self.terms.executables {
            mode
        } else {
            mode & !0o111
        }
    }

    /// Records that a file is published under its final name. Returns its size.
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

    /// Skips a file whose name was taken at the last moment: existing files are kept.
    pub(super) fn skip(&mut self, index: u32) {
        self.set(index, State::Skipped);
        self.count.skipped += 1;
        self.count.wanted = self.count.wanted.saturating_sub(1);
    }

    /// Gives up an entry. Returns true if it was still open.
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

/// Destination of an entry.
pub(super) fn place_of(folder: Option<&SafePath>, path: &SafePath) -> SafePath {
    folder.map_or_else(|| path.clone(), |folder| path.below(folder))
}

/// Summary, for the user, of what an earlier run left of a manifest's files.
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
