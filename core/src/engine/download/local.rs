//! Bytes that are here already are not fetched.
//!
//! A file may be here under its own name, anywhere else on the device, or as another file of the same download. What could
//! be is told by sizes, so the roots of those files are asked for first, and nothing else of them. A file of which a
//! candidate is found is copied, and counts when its root is right: neither the disk's memory nor the sharer is
//! believed. Files that are wanted anyhow do not wait for any of this, and those that do wait only so long.
//!
//! What an older version of a file has of it is for [`reuse`](super::reuse) to know; how bytes are found and copied, the
//! disk's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{Adopt, Adopted, DiskDone, DiskWork, DownloadId, Duplicate, LinkId};
use super::files::{Files, is_shown};
use super::reuse::{REUSED, Reusing};
use crate::limits::LEAF;
use crate::merkle::Hash;
use crate::message::Message;
use crate::path::SafePath;
use crate::time::Time;

/// How long a download waits for the disk's look at what is here.
const LOOK: Duration = Duration::from_secs(2);
/// How long files wait for roots, after the question and after each answer; and how long in all.
const ROOTS: Duration = Duration::from_secs(3);
const ROOTS_IN_ALL: Duration = Duration::from_secs(10);
/// Questions for roots on one link: what lies between two ranges is asked for too, where there would be more.
const RANGES: usize = 64;
/// Files of the same size are taken for the same from here on: 4 KiB. Below it costs more to find out than to fetch.
const DUPLICATES: u64 = LEAF as u64 / 4;
/// Adoptions at once, and what one has to do at the most: files, and bytes unless it is one file.
const ADOPTIONS: usize = 2;
const ADOPTED: usize = 64;
const ADOPTED_BYTES: u64 = 1024 * LEAF as u64;

/// What is known of a download's files beside what comes over links.
#[derive(Default)]
pub(super) struct LocalFiles {
    /// The disk looks what is here; until then at the most.
    looking: Option<Time>,
    /// Files of whose size something is here.
    candidates: BTreeSet<u32>,
    /// Files whose size another one has.
    repeated: BTreeSet<u32>,
    /// Files whose roots are wanted before anything else of them.
    wanted: BTreeSet<u32>,
    /// Links on which they were asked for. Two can take turns at being the one in use.
    asked: BTreeSet<LinkId>,
    until: Time,
    until_at_last: Time,
    duplicates: Duplicates,
    to_adopt: VecDeque<Adopt>,
    /// Files that wait to be adopted, or are being: each once, however often its root comes. What comes of a file is
    /// decided when the disk has answered, and something else may be done to it from then on.
    adopting: BTreeSet<u32>,
    adoptions: usize,
    pub(super) reusing: Reusing,
    /// Bytes that were here and did not have to be fetched, of files that are whole.
    pub(super) spared: u64,
    /// Files that stood in their places.
    pub(super) untouched: u64,
}

/// Files of one download that have the same root: the first that is had serves the others.
#[derive(Default)]
struct Duplicates {
    /// Who comes first, by root.
    first: BTreeMap<Hash, u32>,
    /// The others, by who comes first.
    others: BTreeMap<u32, Vec<u32>>,
    /// Where those stand that are done.
    at: BTreeMap<u32, SafePath>,
}

/// What is to be done with a file whose root is known.
enum Step {
    Adopt(Adopt),
    /// It waits for one with the same root.
    Wait,
    Fetch,
}

impl LocalFiles {
    /// Whether nothing may be asked for yet.
    pub(super) fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Bytes that are here and did not come over a link.
    pub(super) fn local(&self) -> u64 {
        self.spared.saturating_add(self.reusing.bytes())
    }

    /// Whether files are being copied.
    pub(super) fn is_busy(&self) -> bool {
        self.adoptions > 0 || self.reusing.is_busy()
    }

    /// When to go on without what did not come.
    pub(super) fn deadline(&self) -> Time {
        let roots = if self.wanted.is_empty() {
            Time::NEVER
        } else {
            self.until
        };
        let looking = self.looking.unwrap_or(Time::NEVER);
        looking.min(roots).min(self.reusing.deadline())
    }

    /// What is asked for in bulk: as few ranges as it takes.
    fn ranges(&self, files: &Files, most: usize) -> Vec<(u32, u32)> {
        let unknown = |entry: &&u32| files.root(**entry).is_none();
        let mut ranges: Vec<(u32, u32)> = self
            .wanted
            .iter()
            .filter(unknown)
            .map(|entry| (*entry, entry.saturating_add(1)))
            .collect();
        let mut gap = 0;
        loop {
            ranges.dedup_by(|next, before| {
                let near = next.0 - before.1 <= gap;
                if near {
                    before.1 = next.1;
                }
                near
            });
            if ranges.len() <= most {
                return ranges;
            }
            gap = gap * 2 + 1;
        }
    }

    /// Files that share their size with another one, all but the first of each size apart from it.
    fn find_duplicates(&mut self, files: &mut Files) {
        let mut sizes: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for sought in files
            .sought()
            .iter()
            .filter(|sought| sought.size >= DUPLICATES)
        {
            sizes.entry(sought.size).or_default().push(sought.entry);
        }
        for entry in &self.candidates {
            let size = files.size(*entry).filter(|size| *size >= DUPLICATES);
            if let Some(size) = size {
                sizes.entry(size).or_default().push(*entry);
            }
        }
        for same in sizes.into_values().filter(|same| same.len() > 1) {
            for (at, entry) in same.iter().enumerate() {
                if at > 0 {
                    files.defer(*entry);
                }
                self.wanted.insert(*entry);
                self.repeated.insert(*entry);
            }
        }
    }

    /// What is to be done with a file, now that its root is known.
    fn next_step(&mut self, files: &Files, entry: u32, root: Hash) -> Option<Step> {
        self.wanted.remove(&entry);
        if self.candidates.contains(&entry) {
            let file = files.seek(entry)?;
            let duplicate = None;
            return Some(Step::Adopt(Adopt {
                file,
                root,
                duplicate,
            }));
        }
        if !self.repeated.contains(&entry) {
            return Some(Step::Fetch);
        }
        let first = self.duplicates.first.get(&root).copied();
        match first.filter(|first| *first != entry) {
            Some(first) if files.is_done(first) => {
                let file = files.seek(entry)?;
                let path = self.duplicates.at.get(&first).cloned();
                let path = path.or_else(|| Some(files.seek(first)?.path));
                let mode = files.mode(first);
                let duplicate = path.map(|path| Duplicate { path, mode });
                Some(Step::Adopt(Adopt {
                    file,
                    root,
                    duplicate,
                }))
            }
            Some(first) if files.is_coming(first) => {
                self.duplicates.others.entry(first).or_default().push(entry);
                Some(Step::Wait)
            }
            _ => {
                self.duplicates.first.insert(root, entry);
                Some(Step::Fetch)
            }
        }
    }

    fn adopt_later(&mut self, adopt: Adopt) {
        if self.adopting.insert(adopt.file.entry) {
            self.to_adopt.push_back(adopt);
        }
    }

    /// The next files to adopt in one job.
    fn next_adoption(&mut self) -> Vec<Adopt> {
        let mut files: Vec<Adopt> = Vec::new();
        let mut bytes = 0u64;
        while files.len() < ADOPTED
            && let Some(next) = self.to_adopt.pop_front_if(|next| {
                bytes == 0 || bytes.saturating_add(next.file.size) <= ADOPTED_BYTES
            })
        {
            bytes = bytes.saturating_add(next.file.size);
            files.push(next);
        }
        files
    }
}

impl LocalFiles {
    /// The download may begin: the disk looks first which of its files could be here.
    pub(super) fn look(&mut self, cx: &mut Context, download: DownloadId, files: &Files) {
        let files = files.sought();
        if files.is_empty() {
            return;
        }
        self.looking = Some(cx.now + LOOK);
        cx.disk(
            JobOwner::Download(download, DownloadJob::Look),
            DiskWork::Candidates { download, files },
        );
    }

    /// The disk has looked. What has begun meanwhile goes on as it is.
    pub(super) fn looked(&mut self, files: &mut Files, done: DiskDone, now: Time) {
        self.looking = None;
        let found = match done {
            DiskDone::Candidates(found) => found,
            _ => Vec::new(),
        };
        for candidate in found {
            let entry = candidate.entry;
            let Some(size) = files.size(entry) else {
                continue;
            };
            let elsewhere = candidate.elsewhere && is_shown(size);
            let same_size = elsewhere || candidate.stands == Some(size);
            if !(same_size || size >= REUSED) || !files.defer(entry) {
                continue;
            }
            if candidate.stands.is_some() {
                self.reusing.stands(entry);
            }
            if same_size {
                self.candidates.insert(entry);
                self.wanted.insert(entry);
            } else {
                self.reusing.queue(entry);
            }
        }
        self.find_duplicates(files);
        self.until = now + ROOTS;
        self.until_at_last = now + ROOTS_IN_ALL;
    }

    /// Asks for the roots of what may be here, once on each link that is in use.
    pub(super) fn ask_roots(&mut self, cx: &mut Context, link: LinkId, files: &Files) {
        if self.wanted.is_empty() || self.asked.contains(&link) {
            return;
        }
        self.asked.retain(|link| cx.links.get(*link).is_some());
        self.asked.insert(link);
        // Whoever serves lets only so many wait.
        let most = RANGES.min(cx.limits.requests / 2).max(1);
        for (first, end) in self.ranges(files, most) {
            let count = end - first;
            cx.send(link, Message::GetRoots { first, count });
        }
    }

    /// Roots have come, over whichever way. Those that are new bring the transfer forward.
    pub(super) fn learned(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        files: &mut Files,
        entries: &[u32],
    ) {
        let mut news = false;
        let mut fetch = Vec::new();
        for entry in entries {
            let Some(root) = files.root(*entry) else {
                continue;
            };
            news |= self.wanted.contains(entry);
            let considered = self.wanted.contains(entry) || self.candidates.contains(entry);
            if !considered || self.adopting.contains(entry) || !self.reusing.give_back(*entry) {
                continue;
            }
            match self.next_step(files, *entry, root) {
                Some(Step::Adopt(adopt)) if files.defer(*entry) => {
                    self.adopt_later(adopt);
                }
                Some(Step::Wait) => {
                    files.defer(*entry);
                }
                _ => fetch.push(*entry),
            }
        }
        if news {
            self.until = (cx.now + ROOTS).min(self.until_at_last.max(self.until));
            if let Some(state) = cx.links.get_mut(link) {
                state.progressed(&cx.limits);
            }
        }
        for entry in fetch {
            self.fetch_after_all(files, entry);
        }
    }

    /// A file is not here as a whole. What an older version has of it may be.
    fn fetch_after_all(&mut self, files: &mut Files, entry: u32) {
        self.wanted.remove(&entry);
        self.candidates.remove(&entry);
        self.late(files, entry);
    }

    /// Starts to copy what is here.
    pub(super) fn adopt(&mut self, cx: &mut Context, download: DownloadId) {
        while self.adoptions < ADOPTIONS.min(cx.limits.disk_jobs) {
            let files = self.next_adoption();
            if files.is_empty() {
                return;
            }
            self.adoptions += 1;
            let entries = files.iter().map(|adopt| adopt.file.entry).collect();
            cx.disk(
                JobOwner::Download(download, DownloadJob::Adopt { entries }),
                DiskWork::Adopt { download, files },
            );
        }
    }

    /// Files were copied, if they were here. What became of each is told one by one, and is seen to before the next one.
    pub(super) fn adoption_done(&mut self, entries: &[u32], done: DiskDone) -> Vec<(u32, Adopted)> {
        self.adoptions = self.adoptions.saturating_sub(1);
        let outcomes = match done {
            DiskDone::Adopted(outcomes) => outcomes,
            _ => Vec::new(),
        };
        let missed = std::iter::repeat(Adopted::No);
        let outcomes = outcomes.into_iter().chain(missed);
        entries.iter().copied().zip(outcomes).collect()
    }

    /// A file was adopted, or it turned out that it can't be.
    pub(super) fn adopted(&mut self, entry: u32) {
        self.adopting.remove(&entry);
    }

    /// A file of so many bytes was in its place all the time.
    pub(super) fn stands(&mut self, entry: u32, size: u64) {
        self.candidates.remove(&entry);
        self.spared += size;
        self.untouched += 1;
    }

    /// All of a file was copied to staging.
    pub(super) fn staged_whole(&mut self, files: &mut Files, entry: u32) {
        if let Some(size) = files.adopted(entry) {
            self.candidates.remove(&entry);
            self.spared += size;
        }
    }

    /// The bytes of a file were found elsewhere on the device. Whoever knows no more of a file than its root must not have
    /// it published here, nor learn that it is here: `draw` decides what a source has to show.
    pub(super) fn staged_from_elsewhere(&mut self, files: &mut Files, entry: u32, draw: u64) {
        if files.adopted_from_elsewhere(entry, draw) {
            self.candidates.remove(&entry);
        } else {
            self.not_here(files, entry);
        }
    }

    /// A file is not what it was taken for. It may still be the duplicate of another one.
    pub(super) fn not_here(&mut self, files: &mut Files, entry: u32) {
        let was_candidate = self.candidates.remove(&entry);
        let root = files.root(entry).filter(|_| was_candidate);
        match root.and_then(|root| self.next_step(files, entry, root)) {
            Some(Step::Adopt(adopt)) => self.adopt_later(adopt),
            Some(Step::Wait) => {}
            Some(Step::Fetch) | None => self.fetch_after_all(files, entry),
        }
    }

    /// A file stands under this name: those that wait for the same are copied from it.
    pub(super) fn in_place(&mut self, files: &Files, entry: u32, path: &SafePath) {
        self.spared += self.reusing.taken(entry);
        if self.repeated.contains(&entry) {
            self.duplicates.at.insert(entry, path.clone());
        }
        let waiting = self.duplicates.others.remove(&entry);
        for other in waiting.unwrap_or_default() {
            let found = files.seek(other).zip(files.root(other));
            if let Some((file, root)) = found.filter(|_| files.is_deferred(other)) {
                let (path, mode) = (path.clone(), files.mode(entry));
                let duplicate = Some(Duplicate { path, mode });
                self.adopt_later(Adopt {
                    file,
                    root,
                    duplicate,
                });
            }
        }
    }

    /// A file will not come. The next one that waits for the same takes its place.
    pub(super) fn out_of_place(&mut self, files: &mut Files, entry: u32) {
        self.wanted.remove(&entry);
        self.candidates.remove(&entry);
        self.reusing.taken(entry);
        let others = self.duplicates.others.remove(&entry).unwrap_or_default();
        let mut fetch = Vec::new();
        for other in others {
            let root = files.root(other);
            match root.and_then(|root| self.next_step(files, other, root)) {
                Some(Step::Adopt(adopt)) => self.adopt_later(adopt),
                Some(Step::Wait) => {}
                Some(Step::Fetch) | None => fetch.push(other),
            }
        }
        for other in fetch {
            self.fetch_after_all(files, other);
        }
    }

    /// Time has passed: what did not come is not waited for any more. Says whether something goes on by that.
    pub(super) fn tick(&mut self, files: &mut Files, now: Time) -> bool {
        if self.deadline() > now {
            return false;
        }
        self.looking = self.looking.filter(|until| *until > now);
        let mut late = self.reusing.late(now);
        for entry in &late {
            files.release(*entry);
        }
        late.clear();
        if self.until <= now {
            late.extend(std::mem::take(&mut self.wanted));
        }
        for entry in late {
            self.late(files, entry);
        }
        true
    }

    /// A root did not come in time. If it comes before anything was asked for, the file may still be adopted.
    fn late(&mut self, files: &mut Files, entry: u32) {
        let large = files.size(entry).is_some_and(|size| size >= REUSED);
        if !(large && files.is_deferred(entry) && self.reusing.queue(entry)) {
            files.release(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{AcceptTerms, OnConflict};
    use crate::manifest::{Entry, EntryKind, ManifestParts, SignedManifest};
    use crate::time::Timestamp;

    fn files(sizes: &[u64]) -> Files {
        let entry = |(at, size): (usize, &u64)| Entry {
            path: SafePath::parse(&format!("{at}")).unwrap(),
            kind: EntryKind::File {
                size: *size,
                mode: 0o644,
                modified: Timestamp::default(),
            },
        };
        let parts = ManifestParts {
            entries: sizes.iter().enumerate().map(entry).collect(),
            ..ManifestParts::default()
        };
        let keys = crate::Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let signed = SignedManifest::sign(parts, &keys, &crate::limits::Limits::default());
        let manifest = Arc::clone(signed.unwrap().manifest());
        let terms = AcceptTerms {
            select: None,
            on_conflict: OnConflict::Rename,
            executables: false,
        };
        Files::new(manifest, None, terms, &[])
    }

    #[test]
    fn many_ranges_are_joined_over_what_lies_between() {
        let sizes = vec![DUPLICATES; 1000];
        let files = files(&sizes);
        let mut known = LocalFiles {
            wanted: [1, 2, 3, 9].into(),
            ..LocalFiles::default()
        };
        assert_eq!(known.ranges(&files, RANGES), [(1, 4), (9, 10)]);
        known.wanted = (0..500).map(|at| 2 * at).collect();
        assert_eq!(known.ranges(&files, RANGES), [(0, 999)]);
    }

    #[test]
    fn the_first_of_each_size_is_asked_for_and_the_others_wait() {
        let mut files = files(&[
            DUPLICATES,
            DUPLICATES + 1,
            DUPLICATES,
            DUPLICATES - 1,
            DUPLICATES - 1,
            DUPLICATES,
        ]);
        let mut known = LocalFiles::default();
        known.find_duplicates(&mut files);
        let apart: Vec<u32> = (0..6).filter(|entry| files.is_deferred(*entry)).collect();
        assert_eq!(apart, [2, 5]);
        assert_eq!(known.wanted, [0, 2, 5].into());
    }
}
