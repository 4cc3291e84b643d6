//! How a download comes to its peer: what it makes of what is [found](super::finding), of dials that fail, of who does not let
//! it in, and of better paths.

use serde_bytes::ByteBuf;

use super::super::context::Context;
use super::super::{DialId, DownloadError, Event, LinkId, LookUpId, PathKind};
use super::Download;
use super::others::SEEK_AGAIN;
use super::search::Step;
use crate::message::Refusal;
use crate::{Multiaddr, PeerId};

impl Download {
    /// Looks for the peer: from the beginning, or on if the last link brought nothing.
    pub(super) fn look(&mut self, cx: &mut Context) {
        let last_path = self.links.last_path;
        match self.finding.look(cx, &self.order, last_path) {
            Ok(true) => self.search_on(cx),
            Ok(false) => {}
            Err(error) => self.fail(cx, error),
        }
    }

    pub(super) fn search_on(&mut self, cx: &mut Context) {
        let download = self.order.id;
        let Some((step, reason)) = self.finding.step(cx, download) else {
            return;
        };
        if self.finding.asks_about_relays() && !self.has_mates() {
            // The search goes on when the user agrees to them.
            self.finding.end(cx);
            let relays = self.finding.relays.ask();
            return cx.event(Event::RelaysInQuestion { download, relays });
        }
        match step {
            Step::Wait => {}
            // While others serve, the sharer is looked for quietly, and again after a while.
            Step::Attempt(_) if self.has_mates() => {}
            Step::GiveUp(_) if self.has_mates() => {
                self.finding.end(cx);
                self.seek_due = Some(cx.now + SEEK_AGAIN);
            }
            Step::Attempt(attempt) => cx.event(Event::Connecting {
                download,
                attempt,
                reason,
            }),
            Step::WrongWords => self.fail(cx, DownloadError::WrongWords),
            Step::NoMoreProofs => self.fail(cx, DownloadError::NoMoreProofs),
            Step::GiveUp(reason) => self.fail(cx, DownloadError::Unreachable(reason)),
        }
    }

    /// The user agrees to these relays.
    pub(in super::super) fn use_relays(&mut self, cx: &mut Context, relays: &[PeerId]) {
        self.finding.relays.agree(relays);
        if self.finding.search.is_none() && self.links.is_empty() && !self.is_ending() {
            self.look(cx);
        }
    }

    /// A dial failed, or its link did before it had keys.
    pub(in super::super) fn dial_failed(&mut self, cx: &mut Context, dial: DialId, reason: String) {
        if let Some(swarm) = &mut self.swarm
            && swarm.dial_over(dial, cx.now)
        {
            return;
        }
        if self.deputy.failed(dial, cx.now) {
            return;
        }
        if self.circuit_failed(cx, dial) {
            return;
        }
        let wanted = self.wants_link(cx, PathKind::Direct);
        let wanted_of = self.order.source.peer.filter(|_| wanted);
        let upgrade = &mut self.finding.upgrade;
        upgrade.over(cx, self.order.id, dial, wanted_of);
        if let Some(search) = &mut self.finding.search {
            search.failed(dial, reason, cx.now);
            self.search_on(cx);
        }
    }

    /// Whether a link that comes up now would be of use.
    pub(in super::super) fn wants_link(&self, cx: &Context, path: PathKind) -> bool {
        let best = self.links.best.and_then(|link| cx.links.get(link));
        let is_better = best.is_none_or(|best| path < best.path);
        !self.is_ending() && self.order.may_use(path) && is_better
    }

    /// The sharer does not let us in.
    pub(in super::super) fn refused(
        &mut self,
        cx: &mut Context,
        peer: PeerId,
        dial: DialId,
        refusal: Refusal,
    ) {
        match refusal {
            Refusal::WrongWords => self.finding.proofs.refused_words(peer),
            // Who refuses before a proof may be asked again.
            _ if self.finding.proofs.is_awaited(peer) => self.finding.proofs.answered(peer),
            _ => {}
        }
        let swarm = self.swarm.as_ref();
        let mate = swarm.is_some_and(|swarm| swarm.dialled(dial).is_some());
        // Who is near was asked before it was known who the sharer is, and answers after.
        let other = self.order.is_other(peer);
        if mate || other || self.deputy.dialled(dial).is_some() {
            return self.dial_failed(cx, dial, "it does not serve this".into());
        }
        // Whoever is near is asked: most of them have something else, or nothing.
        let anybody = self.order.source.peer.is_none() && self.order.source.addresses.is_empty();
        match refusal {
            Refusal::NoSuchShare if anybody => {
                self.dial_failed(cx, dial, "nobody who was found has this code".into());
            }
            Refusal::Version if anybody => {
                let reason = "somebody speaks another version of the protocol";
                self.dial_failed(cx, dial, reason.into());
            }
            Refusal::NoSuchShare => self.sharer_gone(cx, DownloadError::NoSuchShare),
            Refusal::WrongWords if self.finding.search.is_none() => {
                self.fail(cx, DownloadError::WrongWords);
            }
            // Two may have one number.
            Refusal::WrongWords => {
                self.dial_failed(cx, dial, "somebody has this code with other words".into());
            }
            Refusal::Version => self.fail(
                cx,
                DownloadError::Violation(
                    "it speaks another version of the protocol; update both sides".into(),
                ),
            ),
            Refusal::Busy => self.dial_failed(cx, dial, "the other side is busy".into()),
        }
    }

    /// Somebody is on the local network who may be the peer.
    pub(in super::super) fn nearby(&mut self, cx: &mut Context, peer: PeerId) {
        self.finding.nearby(cx, self.order.id, peer);
        let is_of_use = self.order.options.seed;
        if let (true, Some(addresses)) = (is_of_use, cx.nearby.get(&peer).cloned()) {
            self.meet(cx, peer, &addresses);
        }
    }

    /// A look-up has found somebody.
    pub(in super::super) fn found(
        &mut self,
        cx: &mut Context,
        lookup: LookUpId,
        (peer, by): (PeerId, PeerId),
        addresses: &[Multiaddr],
    ) {
        if self.is_ending() || peer == cx.peer {
            return;
        }
        let found = (lookup, peer, by);
        let vetted = self.finding.found(cx, &self.order, found, addresses);
        self.meet_at(cx, peer, vetted);
    }

    /// A look-up has ended.
    pub(in super::super) fn looked_up(
        &mut self,
        cx: &mut Context,
        lookup: LookUpId,
        reached: bool,
    ) {
        if let Some(swarm) = &mut self.swarm
            && swarm.looked_up(lookup)
        {
            return;
        }
        if let Some(round) = self.finding.looked_up(cx, lookup, reached) {
            cx.event(Event::NotFound {
                download: self.order.id,
                reached: round.reached,
                day: cx.day.filter(|_| round.all_days),
            });
        }
        self.search_on(cx);
    }

    /// This side can be reached elsewhere now: peers behind relays are told.
    pub(in super::super) fn reachable(&mut self, cx: &mut Context) {
        for link in self.links.ids() {
            self.order.tell_addresses(cx, link);
            if self.swarm.is_some() {
                self.say_seeds(cx, link);
            }
        }
    }

    /// The other side of a link says over a relay where it can be dialled without one.
    pub(super) fn told_addresses(&mut self, cx: &mut Context, link: LinkId, told: &[ByteBuf]) {
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else {
            return;
        };
        let told = cx.vet_told(told, self.order.options.loopback);
        if self.links.is_to_mate(link) {
            return self.better_way(cx, peer, PathKind::Direct, Some(told));
        }
        if self.wants_link(cx, PathKind::Direct) {
            self.finding.upgrade.told(cx, self.order.id, peer, told);
        }
    }

    /// A connection to the peer came up by itself: this side was called back, or a hole was punched. If that is better
    /// than what is in use, a link is opened over it.
    pub(in super::super) fn path(&mut self, cx: &mut Context, peer: PeerId, path: PathKind) {
        self.better_way(cx, peer, path, None);
        let ours = self.order.source.peer == Some(peer) && self.links.has_sharer();
        if ours && self.wants_link(cx, path) {
            self.finding.upgrade.path(cx, self.order.id, peer);
        }
    }
}
