//! What the disk has done for an accepted download, and what it does next: write, copy what is here, sync, note, give files
//! their names, and put everything in its place in the end.

use std::time::Duration;

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{
    Adopted, DiskDone, DiskError, DiskWork, DownloadError, DownloadSummary, Event, PathKind,
    Progress, PublishFolder, PublishSymlink, Published, Segment, SinkKind, Violation,
};
use super::files::Files;
use super::journal::FILES;
use super::recheck::Found;
use super::transfer::{Stop, Transfer};
use crate::limits::Limits;
use crate::manifest::EntryKind;
use crate::path::SafePath;
use crate::time::Time;

/// Over what a download is connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connected {
    /// The path in use, or the last one.
    pub(super) path: PathKind,
    pub(super) rtt: Option<Duration>,
    /// How many sources there are, the sharer one of them.
    pub(super) sources: usize,
}

impl Transfer {
    /// A disk job has ended that is this transfer's own. `may_blame`: see [`settle`](Self::settle).
    pub(super) fn disk_done(
        &mut self,
        cx: &mut Context,
        job: DownloadJob,
        done: DiskDone,
        may_blame: bool,
    ) -> Result<(), Stop> {
        match job {
            DownloadJob::Stage => self.on_staged(cx, done, may_blame)?,
            DownloadJob::HashStaged { entry, first } => {
                self.on_read_again(&cx.limits, (entry, first), done, may_blame)?;
            }
            DownloadJob::Look => self.local.looked(&mut self.files, done, cx.now),
            DownloadJob::Adopt { entries } => self.on_adopted(cx, &entries, done),
            DownloadJob::Reuse { entry } => {
                let groups = self.local.reusing.matched(&mut self.files, entry, done);
                for (group, node) in groups {
                    self.journal.wrote(&self.files, entry, group, node);
                }
                self.settle(&cx.limits, &[entry], may_blame)?;
            }
            DownloadJob::Write { pieces } => {
                self.on_written(&cx.limits, &pieces, done, may_blame)?
            }
            DownloadJob::Sync => match done {
                DiskDone::Failed(error) => return Err(DownloadError::from(error).into()),
                _ => self.journal.note(cx, self.id),
            },
            DownloadJob::Journal => {
                let ready = self.journal.noted(cx.now, &done);
                if !ready.is_empty() {
                    // Files that an earlier run has noted were synced by that.
                    self.publish_entries(cx, ready, true);
                }
            }
            DownloadJob::Publish { entries } => self.on_published(cx, &entries, done)?,
            DownloadJob::Inspect
            | DownloadJob::ReadBack { .. }
            | DownloadJob::Finish
            | DownloadJob::Discard
            | DownloadJob::CountProof(_)
            | DownloadJob::ProofSucceeded
            | DownloadJob::ProofNotSent => {}
        }
        Ok(())
    }

    fn on_staged(&mut self, cx: &mut Context, done: DiskDone, may_blame: bool) -> Result<(), Stop> {
        if let DiskDone::Failed(error) = done {
            return Err(DownloadError::from(error).into());
        }
        self.staged = true;
        let begun = self.files.begun();
        self.settle(&cx.limits, &begun, may_blame)?;
        if self.sink == SinkKind::Folder {
            self.local.look(cx, self.id, &self.files);
        }
        Ok(())
    }

    /// Groups that an earlier run has left were read. What could not be read is as good as lost.
    fn on_read_again(
        &mut self,
        limits: &Limits,
        place: (u32, u64),
        done: DiskDone,
        may_blame: bool,
    ) -> Result<(), Violation> {
        let hashes = match done {
            DiskDone::Hashed { hashes } => hashes,
            _ => Vec::new(),
        };
        let (entry, files) = (place.0, &mut self.files);
        match self.recheck.came(place, &hashes) {
            None => {}
            Some(Found::Groups { read, right }) => {
                files.kept(entry, read, &right);
                return self.settle(limits, &[entry], may_blame);
            }
            Some(Found::Whole) => files.kept_whole(entry),
            Some(Found::NotWhole) => {
                files.not_whole(entry);
                self.journal.dropped(files, entry);
            }
        }
        Ok(())
    }

    /// Files were copied, if they were here.
    fn on_adopted(&mut self, cx: &mut Context, entries: &[u32], done: DiskDone) {
        for (entry, outcome) in self.local.adoption_done(entries, done) {
            self.local.adopted(entry);
            match outcome {
                Adopted::Stands => self.on_found_in_place(cx, entry),
                Adopted::Staged => self.local.staged_whole(&mut self.files, entry),
                Adopted::StagedFromElsewhere => {
                    let draw = cx.draw_number();
                    let files = &mut self.files;
                    self.local.staged_from_elsewhere(files, entry, draw);
                }
                Adopted::No => self.local.not_here(&mut self.files, entry),
            }
        }
    }

    /// A file was in its place all the time.
    fn on_found_in_place(&mut self, cx: &mut Context, entry: u32) {
        let path = self.files.place(entry);
        let (Some(size), Some(path)) = (self.files.stands(entry), path) else {
            return;
        };
        self.local.stands(entry, size);
        self.journal.published(&self.files, entry, &path);
        self.local.in_place(&self.files, entry, &path);
        cx.event(Event::FileDone {
            download: self.id,
            path,
            size,
        });
    }

    /// Pieces are on disk, or could not be written.
    fn on_written(
        &mut self,
        limits: &Limits,
        pieces: &[Segment],
        done: DiskDone,
        may_blame: bool,
    ) -> Result<(), Stop> {
        self.writes.ended(pieces);
        if let DiskDone::Failed(error) = done {
            return Err(DownloadError::from(error).into());
        }
        for piece in pieces {
            if let Some((group, node)) = self.files.written(piece) {
                self.journal.wrote(&self.files, piece.entry, group, node);
            }
            if let Some(held) = &mut self.files.held {
                held.landed(piece.entry, piece.offset);
            }
        }
        let mut entries: Vec<u32> = pieces.iter().map(|piece| piece.entry).collect();
        entries.dedup();
        Ok(self.settle(limits, &entries, may_blame)?)
    }

    /// Files stand under their names, or could not be put there.
    fn on_published(
        &mut self,
        cx: &mut Context,
        entries: &[u32],
        done: DiskDone,
    ) -> Result<(), DownloadError> {
        self.publishing = false;
        let results = match done {
            DiskDone::Published(results) => results,
            DiskDone::Failed(error) => return Err(error.into()),
            _ => return Ok(()),
        };
        for (entry, result) in entries.iter().zip(results) {
            match result {
                Ok(Published::At(path)) => {
                    let size = self.files.published(*entry);
                    self.journal.published(&self.files, *entry, &path);
                    self.files.stands_at(*entry, &path);
                    self.local.in_place(&self.files, *entry, &path);
                    cx.event(Event::FileDone {
                        download: self.id,
                        path,
                        size,
                    });
                }
                Ok(Published::Skipped) => {
                    self.files.skip(*entry);
                    self.local.out_of_place(&mut self.files, *entry);
                    if let Some(path) = self.files.place(*entry) {
                        cx.event(Event::FileSkipped {
                            download: self.id,
                            path,
                        });
                    }
                }
                // Without room nothing else will fare better.
                Err(DiskError::Full) => return Err(DiskError::Full.into()),
                Err(error) => self.give_up(cx, *entry, error.to_string()),
            }
        }
        Ok(())
    }

    /// Starts disk work: writes, then publishing, then the end. `stays`: it is served to others after that.
    pub(super) fn start_disk_work(&mut self, cx: &mut Context, stays: bool) {
        let begins_anew = self.journal.comes_before_writes();
        if !begins_anew {
            self.writes.start(cx, self.id);
        }
        if self.staged {
            self.recheck.start(cx, self.id);
        }
        self.local.reusing.match_chunks(cx, self.id, &self.files);
        if !begins_anew {
            self.local.adopt(cx, self.id);
        }
        self.keep(cx);
        self.publish(cx);
        self.finish_if_complete(cx, stays);
    }

    /// Makes safe what is due, and what is to be published.
    pub(super) fn keep(&mut self, cx: &mut Context) {
        if self.staged {
            let files = &mut self.files;
            self.publishing |= self.journal.keep(cx, self.id, files, self.publishing);
        }
    }

    /// Gives files their names that need not be noted before.
    fn publish(&mut self, cx: &mut Context) {
        if self.publishing || !self.staged || self.journal.comes_first() {
            return;
        }
        let ready = self.files.take_ready(FILES);
        let entries: Vec<u32> = ready.into_iter().map(|(entry, _)| entry).collect();
        if entries.is_empty() {
            return;
        }
        if self.sink == SinkKind::Pipe {
            for entry in entries {
                let size = self.files.published(entry);
                if let Some(path) = self.files.place(entry) {
                    cx.event(Event::FileDone {
                        download: self.id,
                        path,
                        size,
                    });
                }
            }
            return;
        }
        for entry in &entries {
            self.journal.leaves(&self.files, *entry);
        }
        self.publish_entries(cx, entries, false);
    }

    /// Gives staged files their names. `synced`: their bytes are safe already.
    fn publish_entries(&mut self, cx: &mut Context, entries: Vec<u32>, synced: bool) {
        let publication = |entry: &u32| self.files.publication(*entry);
        let files = entries.iter().filter_map(publication).collect();
        self.publishing = true;
        let download = self.id;
        cx.disk(
            JobOwner::Download(download, DownloadJob::Publish { entries }),
            DiskWork::Publish {
                download,
                files,
                synced,
            },
        );
    }

    fn finish_if_complete(&mut self, cx: &mut Context, stays: bool) {
        let busy =
            self.finishing.is_some() || self.publishing || !self.staged || !self.writes.is_idle();
        let busy = busy || self.journal.is_busy() || self.local.is_busy();
        if busy || self.recheck.is_busy() || !self.files.is_complete() {
            return;
        }
        let (folders, symlinks) = rest_of(&self.files);
        self.finishing = Some(symlinks.len() as u64);
        let download = self.id;
        cx.disk(
            JobOwner::Download(download, DownloadJob::Finish),
            DiskWork::Finish {
                download,
                folders,
                symlinks,
                keep: stays,
            },
        );
    }

    /// What came of all of it, but for what could not be put in its place in the end.
    pub(super) fn summary(
        &self,
        failed: &[SafePath],
        path: Option<PathKind>,
        now: Time,
    ) -> DownloadSummary {
        let count = self.files.count;
        let symlinks = self.finishing.unwrap_or_default();
        let unlinked = failed.iter().filter(|path| self.is_symlink(path)).count() as u64;
        DownloadSummary {
            files: count.done + symlinks.saturating_sub(unlinked),
            bytes: count.published,
            skipped: count.skipped,
            failed: count.failed + failed.len() as u64,
            executables_stripped: count.stripped,
            spared: self.local.spared,
            untouched: self.local.untouched,
            took: now.since(self.started),
            path,
        }
    }

    fn is_symlink(&self, path: &SafePath) -> bool {
        let entries = self.signed.manifest().entries().iter();
        entries
            .filter(|entry| matches!(entry.kind, EntryKind::Symlink { .. }))
            .any(|entry| self.files.place_of(entry) == *path)
    }

    /// How far it is, for people.
    pub(super) fn progress(&mut self, over: Connected, paused: bool, now: Time) -> Progress {
        let count = self.files.count;
        let local = self.local.local() + self.recheck.right();
        let fetched = count.here.saturating_sub(local);
        self.rate.sample(now, fetched);
        Progress {
            done: count.here,
            total: count.bytes,
            files_done: count.done,
            files_total: count.wanted,
            rate: self.rate.now(),
            rtt: over.rtt,
            path: over.path,
            sources: over.sources,
            checking: self.recheck.progress(),
            paused,
        }
    }
}

/// Folders and symlinks that were selected.
fn rest_of(files: &Files) -> (Vec<PublishFolder>, Vec<PublishSymlink>) {
    let (mut folders, mut symlinks) = (Vec::new(), Vec::new());
    for (index, entry) in (0..).zip(files.manifest().entries()) {
        if !files.is_selected(index) {
            continue;
        }
        match &entry.kind {
            EntryKind::Folder { mode, modified } => folders.push(PublishFolder {
                path: files.place_of(entry),
                mode: *mode,
                modified: *modified,
            }),
            EntryKind::Symlink { target } => symlinks.push(PublishSymlink {
                entry: index,
                path: files.place_of(entry),
                target: target.clone(),
                on_conflict: files.terms().on_conflict,
            }),
            EntryKind::File { .. } | EntryKind::Stream => {}
        }
    }
    (folders, symlinks)
}
