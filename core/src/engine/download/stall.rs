//! Sharers that are alive and answer nothing: since when that is so on each link, and what is done about it.

use super::super::LinkId;
use super::super::context::Context;
use super::{Download, Fetching, Stage, search};
use crate::time::Time;

impl Download {
    /// Whether an answer is owed on a link, and may be waited for only so long. A stream's source takes its own
    /// time, and so does a sharer that says that it has paused.
    fn is_owed(&self, link: LinkId) -> bool {
        match &self.stage {
            Stage::Offer(offer) => offer.awaits(link),
            Stage::Transfer(transfer) => {
                let first = self
                    .links
                    .get(&link)
                    .and_then(|link| link.flow.first_asked());
                let paused = self.links.get(&link).is_some_and(|link| link.pace.paused);
                first.is_some_and(|entry| !paused && !transfer.files.is_stream(entry))
            }
            Stage::Seeding(_) | Stage::Ending => false,
        }
    }

    /// Takes note of since when answers are owed. `answered`: one has just come on this link.
    pub(super) fn wait(&mut self, now: Time, answered: Option<LinkId>) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            let owed = self.is_owed(link);
            if let Some(state) = self.links.get_mut(&link) {
                let since = state.waiting.filter(|_| answered != Some(link));
                state.waiting = owed.then(|| since.unwrap_or(now));
            }
        }
    }

    /// Bytes of an answer that is not whole yet came over a link.
    pub(in super::super) fn active(&mut self, link: LinkId, now: Time) {
        // A deputy may say for ever that something comes, where others have it at once.
        let answered = (!self.is_deputy_of_several(link)).then_some(link);
        self.wait(now, answered);
    }

    /// Gives up a link whose peer is alive and answers nothing.
    pub(super) fn drop_stalled(&mut self, cx: &mut Context) {
        let stalled = cx.limits.stalled;
        let over = |state: &Fetching| state.waiting.is_some_and(|since| cx.now >= since + stalled);
        let Some(link) = self
            .links
            .iter()
            .find(|(_, state)| over(state))
            .map(|(id, _)| *id)
        else {
            return;
        };
        if let Some(search) = &mut self.search {
            search.charge(stalled);
        }
        cx.close(link);
        self.link_down(cx, link, search::NOTHING_CAME.to_string());
    }
}
