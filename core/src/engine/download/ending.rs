//! How a download ends: declined, cancelled, suspended, failed, or because all is here and was served for long enough.

use std::time::Duration;

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::remember::Remembering;
use super::super::{DiskDone, DiskWork, DownloadError, DownloadOutcome, Event};
use super::publishing::Connected;
use super::{Download, REPORT_EVERY, Stage};
use crate::message::{Leave, Message};
use crate::time::Time;

/// How often the sharer is told how far we are.
const HAVE_EVERY: Duration = Duration::from_millis(500);

impl Download {
    /// The user refuses it.
    pub(in super::super) fn decline(&mut self, cx: &mut Context) {
        if matches!(self.stage, Stage::Offer(_)) && !self.is_ending() {
            self.leave(cx, Leave::Declined);
            self.end(cx, DownloadOutcome::Declined);
        }
    }

    pub(in super::super) fn cancel(&mut self, cx: &mut Context) {
        if self.seeding.is_some() {
            return self.end_seeding(cx);
        }
        if !self.is_ending() {
            self.leave(cx, Leave::Cancelled);
            self.end(cx, DownloadOutcome::Cancelled);
        }
    }

    /// Ends it for this run.
    pub(in super::super) fn suspend(&mut self, cx: &mut Context) {
        if self.seeding.is_some() || !self.is_kept() {
            return self.cancel(cx);
        }
        if !self.is_ending() {
            self.leave(cx, Leave::Cancelled);
            self.end(cx, DownloadOutcome::Suspended);
        }
    }

    /// Whether another run can go on with what is there.
    fn is_kept(&self) -> bool {
        matches!(&self.stage, Stage::Transfer(transfer) if transfer.journal.is_kept())
    }

    /// Ends it for a reason that is not the user's.
    pub(in super::super) fn fail(&mut self, cx: &mut Context, error: DownloadError) {
        if !self.is_ending() {
            self.leave(cx, Leave::Cancelled);
            self.end(cx, DownloadOutcome::Failed(error));
        }
    }

    /// All is here, and others were served for long enough.
    pub(super) fn end_seeding(&mut self, cx: &mut Context) {
        if let Some((summary, _)) = self.seeding.take() {
            self.end(cx, DownloadOutcome::Completed(summary));
        }
    }

    /// Tells the sharer on the link in use that nothing more is wanted, and closes all links.
    pub(super) fn leave(&mut self, cx: &mut Context, outcome: Leave) {
        let to_sharer = self.links.to_sharer();
        if let Some(link) = self.links.best.or_else(|| to_sharer.first().copied()) {
            cx.send(link, Message::Leave { outcome });
        }
        for link in self.links.take_all() {
            cx.close(link);
        }
        self.finding.end(cx);
        if let Some(swarm) = &mut self.swarm {
            swarm.end(cx);
        }
    }

    /// Ends it, after what was staged is removed, or left for another run.
    fn end(&mut self, cx: &mut Context, outcome: DownloadOutcome) {
        let download = self.order.id;
        let work = match &outcome {
            DownloadOutcome::Suspended | DownloadOutcome::Failed(_) if self.is_kept() => {
                DiskWork::Close { download }
            }
            _ => DiskWork::Discard { download },
        };
        self.ending = Some(outcome);
        self.stage = Stage::Ending;
        self.end_seed(cx);
        cx.disk(JobOwner::Download(download, DownloadJob::Discard), work);
    }

    pub(super) fn ended(&mut self, cx: &mut Context) {
        if let Some(outcome) = self.ending.take() {
            self.over = true;
            self.delivered.tell(cx, self.order.id);
            cx.event(Event::DownloadEnded {
                download: self.order.id,
                outcome,
            });
        }
    }

    /// Everything is in its place.
    pub(super) fn finished(&mut self, cx: &mut Context, done: DiskDone) {
        let failed = match done {
            DiskDone::Finished { failed } => failed,
            DiskDone::Failed(error) => return self.fail(cx, error.into()),
            _ => Vec::new(),
        };
        let mut paths = Vec::with_capacity(failed.len());
        for (path, error) in failed {
            paths.push(path.clone());
            cx.event(Event::FileFailed {
                download: self.order.id,
                path,
                reason: error.to_string(),
            });
        }
        self.report(cx);
        let path = self
            .links
            .best
            .and_then(|link| cx.links.get(link))
            .map(|link| link.path);
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let summary = transfer.summary(&paths, path, cx.now);
        self.have(cx);
        self.tell_agreed(cx);
        self.leave(cx, Leave::Completed);
        let stage = std::mem::replace(&mut self.stage, Stage::Ending);
        if let (Some(time), Some(seed), Stage::Transfer(transfer)) =
            (self.order.options.seed_for, &mut self.seed, stage)
        {
            seed.stays(cx.now);
            self.stage = Stage::Seeding(transfer);
            self.seeding = Some((summary, cx.now + time));
            cx.event(Event::Seeding {
                download: self.order.id,
                summary,
                time,
            });
            return;
        }
        self.end_seed(cx);
        self.ending = Some(DownloadOutcome::Completed(summary));
        self.ended(cx);
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
        let link = self.links.best.and_then(|link| cx.links.get(link));
        let (path, rtt) = match link {
            Some(link) => (link.path, link.rtt),
            None => (self.links.last_path, None),
        };
        let mates = self.swarm.as_ref().map_or(0, |swarm| swarm.sources());
        let over = Connected {
            path,
            rtt,
            sources: mates + usize::from(self.links.best.is_some()),
        };
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        transfer.report_due = cx.now + REPORT_EVERY;
        let progress = transfer.progress(over, self.paused, cx.now);
        cx.event(Event::Progress {
            download: self.order.id,
            progress,
        });
    }

    fn have(&mut self, cx: &mut Context) {
        let (Some(best), Stage::Transfer(transfer)) = (self.links.best, &mut self.stage) else {
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

    /// All is here: what was agreed on counts.
    pub(super) fn tell_agreed(&mut self, cx: &mut Context) {
        let agreed = self.remembering.take().and_then(Remembering::agreed);
        let Stage::Transfer(transfer) = &self.stage else {
            return;
        };
        if let (Some(secret), Some(peer)) = (agreed, self.order.source.peer) {
            let name = transfer.signed.manifest().author().to_string();
            cx.event(Event::Paired { peer, name, secret });
        }
    }
}
