//! Several sources of one download: from when on, what is asked of them, and what becomes of the one that breaks the protocol.

use std::sync::Arc;

use super::super::context::Context;
use super::super::{DownloadError, LinkId, SinkKind, Violation};
use super::holdings::Holdings;
use super::parts::Parts;
use super::seed::Seed;
use super::swarm::Swarm;
use super::window::Window;
use super::{Download, Stage};

impl Download {
    /// From now on others may serve, and be served. A pipe takes all of it from one source, in order.
    pub(super) fn join_swarm(&mut self, cx: &mut Context) {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let manifest = transfer.signed.manifest();
        let parts = Parts::of(manifest).filter(|_| self.sink == SinkKind::Folder);
        let Some(parts) = parts.map(Arc::new) else {
            return;
        };
        if self.options.seed {
            let entries = manifest.entries().len();
            transfer.files.held = Some(Holdings::new(Arc::clone(&parts), entries));
            self.seed = Some(Box::new(Seed::new(cx.now)));
        }
        let mut swarm = Swarm::new(parts, transfer.files.wanted(), cx.now);
        for liar in self.deputy.liars() {
            swarm.shun(liar);
        }
        self.swarm = Some(Box::new(swarm));
        self.say_seeds_everywhere(cx);
        for (peer, addresses) in std::mem::take(&mut self.met) {
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
        self.release_mates(cx);
        self.release_worn_mates(cx);
    }

    /// Bytes that were asked for on other links than this one, while there are several sources or circuits: all of them
    /// together hold no more than one would.
    pub(super) fn asked_of_others(&self, cx: &Context, link: LinkId) -> u64 {
        let several = matches!(&self.stage, Stage::Transfer(transfer) if transfer.several);
        if !several && !self.uses_circuits(cx) {
            return 0;
        }
        let others = self.links.iter().filter(|(other, _)| **other != link);
        others
            .filter_map(|(_, fetching)| fetching.flow.window.as_ref())
            .map(Window::outstanding)
            .sum()
    }

    /// A source broke the protocol. If it was the sharer, others may still have all of it.
    pub(in super::super) fn blamed(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        violation: &Violation,
    ) {
        let Some(mate) = self.links.get(&link).map(|fetching| fetching.mate) else {
            return;
        };
        self.deputy_down(cx, link, true);
        self.give_back(link);
        match mate {
            Some(peer) => self.shun(cx, peer),
            None => self.sharer_lied(cx, violation),
        }
    }

    /// The sharer is to blame for something, wherever that was seen.
    pub(in super::super) fn sharer_lied(&mut self, cx: &mut Context, violation: &Violation) {
        self.sharer_gone(cx, DownloadError::Violation(violation.to_string()));
    }

    /// Whether a link to the sharer stands.
    pub(super) fn has_sharer(&self) -> bool {
        self.links.values().any(|fetching| fetching.mate.is_none())
    }
}
