//! Several sources of one download: from when on, what is asked of them, and what becomes of the one that breaks the protocol.

use std::sync::Arc;

use super::super::context::Context;
use super::super::{DownloadError, LinkId, SinkKind, Violation};
use super::answer::{Data, Sorted, check, sort};
use super::holdings::Holdings;
use super::parts::Parts;
use super::seed::{Reach, Seed};
use super::swarm::Swarm;
use super::{Download, Stage, files};
use crate::manifest::SignedRoots;

impl Download {
    /// From now on others may serve, and be served. A pipe takes all of it from one source, in order.
    pub(super) fn join_swarm(&mut self, cx: &mut Context) {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let manifest = transfer.signed.manifest();
        let parts = Parts::of(manifest).filter(|_| self.order.sink == SinkKind::Folder);
        let Some(parts) = parts.map(Arc::new) else {
            return;
        };
        if self.order.options.seed {
            let entries = manifest.entries().len();
            transfer.files.held = Some(Holdings::new(Arc::clone(&parts), entries));
            let reach = Reach {
                loopback: self.order.options.loopback,
                relayed_only: self.order.options.relayed_only,
            };
            self.seed = Some(Box::new(Seed::new(self.order.id, reach, cx.now)));
        }
        let mut swarm = Swarm::new(parts, transfer.files.wanted(), cx.now);
        for liar in self.deputy.liars() {
            swarm.shun(liar);
        }
        self.swarm = Some(Box::new(swarm));
        for link in self.links.ids() {
            self.say_seeds(cx, link);
        }
        for (peer, addresses) in self.deputy.take_met() {
            self.meet_at(cx, peer, addresses);
        }
        self.meet_neighbours(cx);
    }

    /// Asks the other sources. While there are any, the sharer too is asked for what is rare, and not for what comes next.
    pub(super) fn ask_mates(&mut self, cx: &mut Context) {
        let mates: Vec<_> = self.swarm.iter().flat_map(|swarm| swarm.bests()).collect();
        if let Stage::Transfer(transfer) = &mut self.stage {
            transfer.several = !mates.is_empty();
            if transfer.several {
                transfer.files.begin_empty();
            }
        }
        if self.paused {
            return;
        }
        for link in mates {
            self.ask(cx, link);
        }
        if let Some(swarm) = &mut self.swarm {
            swarm.release(cx, &mut self.links);
        }
        self.release_worn_mates(cx);
    }

    /// A source broke the protocol. If it was the sharer, others may still have all of it.
    pub(in super::super) fn blamed(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        violation: &Violation,
    ) {
        let Some(mate) = self.links.get(link).map(|fetching| fetching.mate) else {
            return;
        };
        self.deputy_down(cx, link, true);
        self.links.give_back(link, self.stage.under_way_mut());
        match mate {
            Some(peer) => self.shun(cx, peer),
            None => self.sharer_lied(cx, violation),
        }
    }

    /// The sharer is to blame for something, wherever that was seen.
    pub(in super::super) fn sharer_lied(&mut self, cx: &mut Context, violation: &Violation) {
        self.sharer_gone(cx, DownloadError::Violation(violation.to_string()));
    }

    /// An answer came.
    pub(super) fn data(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        data: Data,
    ) -> Result<(), Violation> {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Err(Violation::new("bytes that were not asked for"));
        };
        let Some(fetching) = self.links.get_mut(link) else {
            return Ok(());
        };
        let (mate, flow) = (fetching.mate, &mut fetching.flow);
        let Some(asked) = flow.outstanding.remove(&data.id) else {
            return Err(Violation::new("bytes that were not asked for"));
        };
        if data.served.len() != asked.segments.len() {
            return Err(Violation::new("an answer to another question"));
        }
        if let Some(window) = &mut flow.window {
            let came = files::cost_of_bytes(data.payload.len() as u64, data.served.len());
            window.answered(asked.cost, came, cx.now.since(asked.at), cx.now);
        }
        if !data.payload.is_empty()
            && let Some(state) = cx.links.get_mut(link)
        {
            state.progressed(&cx.limits);
        }
        // What can't be taken at all is asked for again, wherever it is to be had.
        let checked = check(transfer, &asked.segments, &data, mate.is_some());
        if let Err(violation) = checked {
            transfer.files.lost(asked.segments);
            return Err(violation);
        }
        let learned = data.roots.as_ref().map_or(Vec::new(), SignedRoots::entries);
        let sorted = sort(&mut transfer.files, &asked.segments, data)?;
        let Sorted {
            pieces,
            failed,
            bad,
            missing,
            shown,
        } = sorted;
        if let Some(state) = cx.links.get(link) {
            let bytes: u64 = pieces.iter().map(|piece| piece.data.len() as u64).sum();
            let bytes = bytes + shown.bytes;
            self.delivered.add(state.peer, bytes, bad, asked.at, cx.now);
            if let (Some(relay), true) = (state.relay, bytes > 0) {
                self.delivered.carried(relay, bytes);
            }
        }
        transfer.known.spared += shown.spared;
        let brings = !pieces.is_empty() || shown.bytes > 0;
        if !pieces.is_empty() {
            transfer.writes.queue(pieces);
        }
        if brings && mate.is_none() {
            self.finding.end(cx);
        }
        if let (Some(peer), Some(swarm)) = (mate, &mut self.swarm) {
            swarm.lacks(peer, &missing);
            let bad = swarm.is_bad(peer, bad);
            return judge_mate(bad, cx.limits.bad_leaves);
        }
        let may_blame = self.gone.is_none();
        let (known, files) = (&mut transfer.known, &mut transfer.files);
        known.learned(cx, link, files, &learned);
        transfer.mismatched(bad, &cx.limits)?;
        for (entry, reason) in failed {
            transfer.entry_failed(cx, entry, reason);
        }
        transfer.settle_stream(&cx.limits, may_blame)
    }

    /// Signed roots came, from the sharer or passed on by a mate.
    pub(super) fn roots(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        is_mate: bool,
        roots: &SignedRoots,
    ) -> Result<(), Violation> {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Err(Violation::new("roots that were not asked for"));
        };
        let learnt = transfer.verified(roots)?;
        let entries: Vec<u32> = learnt.iter().map(|(entry, _)| *entry).collect();
        let two_faced = transfer.learn(roots, learnt);
        if is_mate && two_faced.is_err() {
            // The sharer has signed one thing for us and another for others: what it shares is not to be had of anybody.
            self.hopeless = true;
            self.accused = two_faced.err();
            return Ok(());
        }
        two_faced?;
        let (known, files) = (&mut transfer.known, &mut transfer.files);
        known.learned(cx, link, files, &entries);
        let settled = transfer.settle(&cx.limits, &entries, self.gone.is_none());
        if is_mate {
            // What does not match came from the sharer, without a proof.
            self.accused = settled.err();
            return Ok(());
        }
        settled
    }
}

fn judge_mate(bad: u32, most: u32) -> Result<(), Violation> {
    if bad < most {
        return Ok(());
    }
    Err(Violation::new(format!(
        "{bad} pieces that do not match their root"
    )))
}
