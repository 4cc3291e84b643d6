//! Avoids fetching bytes that are on this device already.
//!
//! A file may be here under its own name, elsewhere on the device, or as another file of the same download. Sizes show
//! which files that may apply to, so only the roots of these are requested at first. A file for which a candidate is
//! found is copied, and counts once its root is right: neither the disk's records nor the sharer is trusted. Files that
//! have to be fetched anyway do not wait for any of this, and the others wait for a limited time.
//!
//! [`reuse`](super::reuse) handles what an older version of a file has of it; finding and copying bytes is the disk's
//! job.

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

/// Timeout for the disk's search for candidates, during which the download waits.
const LOOK: Duration = Duration::from_secs(2);
/// Timeout for roots, after the request and after each answer, and in total.
const ROOTS: Duration = Duration::from_secs(3);
const ROOTS_IN_ALL: Duration = Duration::from_secs(10);
/// Maximum number of root requests on one link. If there would be more, the roots between two ranges are requested too.
const RANGES: usize = 64;
/// Minimum size of files that are taken for duplicates if their sizes are equal: 4 KiB. Below it, finding out costs
/// more than fetching.
const DUPLICATES: u64 = LEAF as u64 / 4;
/// Maximum number of adoption jobs at once; and of files in one job, and of bytes unless it is a single file.
const ADOPTIONS: usize = 2;
const ADOPTED: usize = 64;
const ADOPTED_BYTES: u64 = 1024 * LEAF as u64;

/// What is known of a download's files apart from what arrives over links.
#[derive(Default)]
pub(super) struct LocalFiles {
    /// Timeout of the disk's search for candidates, while that is running.
    looking: Option<Time>,
    /// Files for which the disk found one of the same size.
    candidates: BTreeSet<u32>,
    /// Files that have the same size as another one of this download.
    repeated: BTreeSet<u32>,
    /// Files whose roots are requested first.
    wanted: BTreeSet<u32>,
    /// Links on which they were requested. Two links can alternate as the one in use.
    asked: BTreeSet<LinkId>,
    until: Time,
    until_at_last: Time,
    duplicates: Duplicates,
    to_adopt: VecDeque<Adopt>,
    /// Files queued for adoption or being adopted: each once, however often its root arrives. What happens to such a
    /// file is decided when the disk has answered, and only from then on may it be handled in another way.
    adopting: BTreeSet<u32>,
    adoptions: usize,
    pub(super) reusing: Reusing,
    /// Bytes of complete files that were here and did not have to be fetched.
    pub(super) spared: u64,
    /// Number of files that were in place already.
    pub(super) untouched: u64,
}

/// Files of one download that have the same root: the first one that is complete is the source of the others.
#[derive(Default)]
struct Duplicates {
    /// The first file, by root.
    first: BTreeMap<Hash, u32>,
    /// The other files, by the first one.
    others: BTreeMap<u32, Vec<u32>>,
    /// Paths of the files that are done.
    at: BTreeMap<u32, SafePath>,
}

/// What to do with a file whose root is known.
enum Step {
    Adopt(Adopt),
    /// Wait for a file with the same root.
    Wait,
    Fetch,
}

impl LocalFiles {
    /// True if nothing may be requested yet.
    pub(super) fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Bytes that are here and did not come over a link.
    pub(super) fn local(&self) -> u64 {
        self.spared.saturating_add(self.reusing.bytes())
    }

    /// True if files are being copied.
    pub(super) fn is_busy(&self) -> bool {
        self.adoptions > 0 || self.reusing.is_busy()
    }

    /// When to continue without what has not arrived.
    pub(super) fn deadline(&self) -> Time {
        let roots = if self.wanted.is_empty() {
            Time::NEVER
        } else {
            self.until
        };
        let looking = self.looking.unwrap_or(Time::NEVER);
        looking.min(roots).min(self.reusing.deadline())
    }

    /// Ranges of entries whose roots to request, joined until there are at most `most`.
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

    /// Finds files with the same size as another one, and defers all but the first of each size.
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

    /// Decides what to do with a file now that its root is known.
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

    /// Takes the next files to adopt in one job.
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
    /// Begins by having the disk search for files of this download.
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

    /// Handles the result of the disk's search. Files that have started in the meantime continue as they are.
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

    /// Requests the roots of files that may be here, once on each link that is in use.
    pub(super) fn ask_roots(&mut self, cx: &mut Context, link: LinkId, files: &Files) {
        if self.wanted.is_empty() || self.asked.contains(&link) {
            return;
        }
        self.asked.retain(|link| cx.links.get(*link).is_some());
        self.asked.insert(link);
        // A source limits the number of requests that wait.
        let most = RANGES.min(cx.limits.requests / 2).max(1);
        for (first, end) in self.ranges(files, most) {
            let count = end - first;
            cx.send(link, Message::GetRoots { first, count });
        }
    }

    /// Handles roots that have arrived by any message. New ones count as progress of the link.
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

    /// Handles a file that is not here as a whole: an older version may have parts of it.
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

    /// Handles the end of a copy job. Returns the outcome of each file. The caller handles one before it goes on to the
    /// next.
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

    /// Records that the adoption of a file has ended, with or without success.
    pub(super) fn adopted(&mut self, entry: u32) {
        self.adopting.remove(&entry);
    }

    /// Records that a file of `size` bytes was in place already.
    pub(super) fn stands(&mut self, entry: u32, size: u64) {
        self.candidates.remove(&entry);
        self.spared += size;
        self.untouched += 1;
    }

    /// Records that all of a file was copied to staging.
    pub(super) fn staged_whole(&mut self, files: &mut Files, entry: u32) {
        if let Some(size) = files.adopted(entry) {
            self.candidates.remove(&entry);
            self.spared += size;
        }
    }

    /// Handles a file whose bytes were found elsewhere on the device. A peer that knows nothing of a file but its root
    /// must not be able to get it published here, nor learn that it is here: `draw` determines which part a source has
    /// to send as proof.
    pub(super) fn staged_from_elsewhere(&mut self, files: &mut Files, entry: u32, draw: u64) {
        if files.adopted_from_elsewhere(entry, draw) {
            self.candidates.remove(&entry);
        } else {
            self.not_here(files, entry);
        }
    }

    /// Handles a file that is not what it was taken for. It may still be a duplicate of another one.
    pub(super) fn not_here(&mut self, files: &mut Files, entry: u32) {
        let was_candidate = self.candidates.remove(&entry);
        let root = files.root(entry).filter(|_| was_candidate);
        match root.and_then(|root| self.next_step(files, entry, root)) {
            Some(Step::Adopt(adopt)) => self.adopt_later(adopt),
            Some(Step::Wait) => {}
            Some(Step::Fetch) | None => self.fetch_after_all(files, entry),
        }
    }

    /// Records that a file is in place under this name. Files that wait for the same root are copied from it.
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

    /// Handles a file that will not arrive: the next one that waits for the same root takes its place.
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

    /// Stops waiting for what is overdue. Returns true if the download may continue because of that.
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

    /// Handles a root that is overdue. If it arrives before anything of the file is requested, the file may still be
    /// adopted.
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
