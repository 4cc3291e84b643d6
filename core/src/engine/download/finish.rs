//! The end of a download, and the reports on the way there.

use std::time::Duration;

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{
    DiskDone, DiskWork, DownloadOutcome, DownloadSummary, Event, Progress, PublishFolder,
    PublishSymlink,
};
use super::files::Files;
use super::{Download, REPORT_EVERY, Stage};
use crate::manifest::EntryKind;
use crate::message::{Leave, Message};
use crate::path::SafePath;
use crate::time::Time;

/// How often the sharer is told how far we are.
const HAVE_EVERY: Duration = Duration::from_millis(500);

impl Download {
    pub(super) fn finish_if_complete(&mut self, cx: &mut Context) {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let busy =
            transfer.finishing || transfer.publishing || transfer.writes > 0 || !transfer.staged;
        let busy = busy || transfer.journal.is_busy() || transfer.known.is_busy();
        let busy = busy || transfer.earlier.is_busy();
        if busy || !transfer.to_write.is_empty() || !transfer.files.is_complete() {
            return;
        }
        transfer.finishing = true;
        let (folders, symlinks) = rest_of(&transfer.files);
        transfer.symlinks = symlinks.len() as u64;
        cx.disk(
            JobOwner::Download(self.id, DownloadJob::Finish),
            DiskWork::Finish {
                download: self.id,
                folders,
                symlinks,
                keep: self.seed.is_some() && self.options.seed_for.is_some(),
            },
        );
    }

    /// Everything is in its place.
    pub(super) fn finished(&mut self, cx: &mut Context, done: DiskDone) {
        let failed = match done {
            DiskDone::Finished { failed } => failed,
            DiskDone::Failed(error) => return self.fail(cx, error.into()),
            _ => Vec::new(),
        };
        let misplaced = failed.len() as u64;
        let unlinked = failed
            .iter()
            .filter(|(path, _)| self.is_symlink(path))
            .count() as u64;
        for (path, error) in failed {
            cx.event(Event::FileFailed {
                download: self.id,
                path,
                reason: error.to_string(),
            });
        }
        self.report(cx);
        let path = self
            .best
            .and_then(|link| cx.links.get(link))
            .map(|link| link.path);
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let count = transfer.files.count;
        let summary = DownloadSummary {
            files: count.done + transfer.symlinks.saturating_sub(unlinked),
            bytes: count.published,
            skipped: count.skipped,
            failed: count.failed + misplaced,
            executables_stripped: count.stripped,
            spared: transfer.known.spared,
            untouched: transfer.known.untouched,
            took: cx.now.since(transfer.started),
            path,
        };
        self.have(cx);
        self.tell_agreed(cx);
        self.leave(cx, Leave::Completed);
        let stage = std::mem::replace(&mut self.stage, Stage::Ending);
        if let (Some(time), Some(seed), Stage::Transfer(transfer)) =
            (self.options.seed_for, &mut self.seed, stage)
        {
            seed.stays(cx.now);
            self.stage = Stage::Seeding(transfer);
            self.seeding = Some((summary, cx.now + time));
            cx.event(Event::Seeding {
                download: self.id,
                summary,
                time,
            });
            return;
        }
        self.end_seed(cx);
        self.ending = Some(DownloadOutcome::Completed(summary));
        self.ended(cx);
    }

    fn is_symlink(&self, path: &SafePath) -> bool {
        let Stage::Transfer(transfer) = &self.stage else {
            return false;
        };
        let entries = transfer.signed.manifest().entries().iter();
        entries
            .filter(|entry| matches!(entry.kind, EntryKind::Symlink { .. }))
            .any(|entry| transfer.files.place_of(entry) == *path)
    }

    /// Reports progress to the user, and now and then to the sharer.
    pub(super) fn report_if_due(&mut self, cx: &mut Context) {
        let due = |at: Time| at <= cx.now;
        let (report, have) = match &self.stage {
            Stage::Transfer(transfer) => (due(transfer.report_due), due(transfer.have_due)),
            _ => return,
        };
        if report {
            self.report(cx);
        }
        if have {
            self.have(cx);
        }
    }

    pub(super) fn report(&mut self, cx: &mut Context) {
        let link = self.best.and_then(|link| cx.links.get(link));
        let (path, rtt) = match link {
            Some(link) => (link.path, link.rtt),
            None => (self.last_path, None),
        };
        let mates = self.swarm.as_ref().map_or(0, |swarm| swarm.sources());
        let sources = mates + usize::from(self.best.is_some());
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let count = transfer.files.count;
        let local = transfer.known.local() + transfer.earlier.right();
        let fetched = count.here.saturating_sub(local);
        transfer.rate.sample(cx.now, fetched);
        transfer.report_due = cx.now + REPORT_EVERY;
        let progress = Progress {
            done: count.here,
            total: count.bytes,
            files_done: count.done,
            files_total: count.wanted,
            rate: transfer.rate.now(),
            rtt,
            path,
            sources,
            checking: transfer.earlier.progress(),
            paused: self.paused,
        };
        cx.event(Event::Progress {
            download: self.id,
            progress,
        });
    }

    fn have(&mut self, cx: &mut Context) {
        let (Some(best), Stage::Transfer(transfer)) = (self.best, &mut self.stage) else {
            return;
        };
        transfer.have_due = cx.now + HAVE_EVERY;
        let count = transfer.files.count;
        let total = count.bytes.unwrap_or(0);
        cx.send(
            best,
            Message::Have {
                done: count.here,
                total,
            },
        );
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
