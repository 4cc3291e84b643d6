//! How a download ends: declined, cancelled, suspended, failed, or because all is here and was served for long enough.

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{DiskWork, DownloadError, DownloadOutcome, Event, LinkId};
use super::{Download, Fetching, Stage, end_search};
use crate::message::{Leave, Message};

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
        let own = |(link, fetching): (&LinkId, &Fetching)| fetching.mate.is_none().then_some(*link);
        let told = self.best.or_else(|| self.links.iter().find_map(own));
        if let Some(link) = told {
            cx.send(link, Message::Leave { outcome });
        }
        for link in std::mem::take(&mut self.links).into_keys() {
            cx.close(link);
        }
        self.best = None;
        end_search(&mut self.search, cx);
        self.end_swarm(cx);
    }

    /// Ends it, after what was staged is removed, or left for another run.
    fn end(&mut self, cx: &mut Context, outcome: DownloadOutcome) {
        let download = self.id;
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
            self.delivered.tell(cx, self.id);
            cx.event(Event::DownloadEnded {
                download: self.id,
                outcome,
            });
        }
    }
}
