//! Sharers that are alive and answer nothing: since when that is so on each link, and what is done about it.

use super::super::LinkId;
use super::super::context::Context;
use super::links::Fetching;
use super::{Download, Stage, search};
use crate::time::Time;

impl Download {
    /// Takes note of since when answers are owed. `answered`: one has just come on this link.
    pub(super) fn wait(&mut self, now: Time, answered: Option<LinkId>) {
        let stage = &self.stage;
        let is_owed = |link, fetching: &Fetching| is_owed(stage, link, fetching);
        self.links.wait(now, answered, is_owed);
    }

    /// Bytes of an answer that is not whole yet came over a link.
    pub(in super::super) fn active(&mut self, link: LinkId, now: Time) {
        // A deputy may say for ever that something comes, where others have it at once.
        let answered = (!self.deputy.is_one_of_several(link)).then_some(link);
        self.wait(now, answered);
    }

    /// Gives up a link whose peer is alive and answers nothing.
    pub(super) fn drop_stalled(&mut self, cx: &mut Context) {
        let stalled = cx.limits.stalled;
        let Some(link) = self.links.stalled(cx.now, stalled) else {
            return;
        };
        if let Some(search) = &mut self.finding.search {
            search.charge(stalled);
        }
        cx.close(link);
        self.link_down(cx, link, search::NOTHING_CAME.to_string());
    }
}

/// Whether an answer is owed on a link, and may be waited for only so long. A stream's source takes its own time, and so
/// does a sharer that says that it has paused.
fn is_owed(stage: &Stage, link: LinkId, fetching: &Fetching) -> bool {
    match stage {
        Stage::Offer(offer) => offer.awaits(link),
        Stage::Transfer(transfer) => fetching
            .flow
            .first_asked()
            .is_some_and(|entry| !fetching.pace.paused && !transfer.files.is_stream(entry)),
        Stage::Seeding(_) | Stage::Ending => false,
    }
}
