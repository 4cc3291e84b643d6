//! What a download does about its [other sources](super::swarm): who may be one, what they say, what becomes of who lies, and
//! what if the sharer is gone.

use std::time::Duration;

use super::super::context::Context;
use super::super::{DownloadError, Event, LinkId, PathKind, Violation};
use super::links::Fetching;
use super::{Download, Stage};
use crate::limits::Limits;
use crate::message::{Announced, PeerAt};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// How soon a sharer that was given up is looked for again, while others serve.
pub(super) const SEEK_AGAIN: Duration = Duration::from_mins(1);

impl Download {
    /// Whether a link that a dial has led to may be of use: one to the sharer, or to whom the dial was for.
    pub(in super::super) fn expects(
        &self,
        cx: &Context,
        dial: super::super::DialId,
        peer: PeerId,
        path: PathKind,
    ) -> bool {
        if let Some(asked) = self.deputy.dialled(dial) {
            return asked == peer && self.wants_deputy(path);
        }
        if self.wants_circuit(cx, dial, path) {
            return self.order.source.peer == Some(peer);
        }
        let mate = self.swarm.as_ref().and_then(|swarm| swarm.dialled(dial));
        match mate {
            Some(mate) => mate == peer && self.wants_mate(cx, peer, path),
            None => {
                self.wants_link(cx, path) && self.order.source.peer.is_none_or(|own| own == peer)
            }
        }
    }

    /// Whether anybody but the sharer serves now.
    pub(super) fn has_mates(&self) -> bool {
        self.swarm.as_ref().is_some_and(|swarm| swarm.sources() > 0)
    }

    pub(super) fn is_mate(&self, peer: PeerId) -> bool {
        let swarm = self.swarm.as_ref();
        self.order.source.peer != Some(peer) && swarm.is_some_and(|swarm| swarm.is_mate(peer))
    }

    /// Somebody may serve, at these addresses, as far as they may be dialled.
    pub(super) fn meet(&mut self, cx: &Context, peer: PeerId, addresses: &[Multiaddr]) {
        let vetted = self.finding.vet(&self.order, addresses, &cx.limits);
        self.meet_at(cx, peer, vetted);
    }

    /// Who is on the local network may serve: who gives asks there too.
    pub(super) fn meet_neighbours(&mut self, cx: &Context) {
        if self.order.options.seed {
            for (peer, addresses) in &cx.nearby {
                self.meet(cx, *peer, addresses);
            }
        }
    }

    /// As [`meet`](Self::meet); without addresses, over a connection that it has made.
    pub(super) fn meet_at(&mut self, cx: &Context, peer: PeerId, addresses: Vec<Multiaddr>) {
        let fetches = matches!(self.stage, Stage::Transfer(_)) && !self.is_ending();
        if peer == cx.peer || self.order.source.peer == Some(peer) {
            return;
        }
        // The user still looks at the offer.
        if matches!(self.stage, Stage::Offer(_)) {
            return self.deputy.meet(peer, addresses);
        }
        if let (Some(swarm), true) = (&mut self.swarm, fetches) {
            swarm.meet(peer, addresses, cx.now);
        }
    }

    /// A source says who else serves.
    pub(super) fn told_peers(&mut self, cx: &Context, peers: &[PeerAt]) {
        for told in peers {
            let Ok(peer) = PeerId::from_bytes(&told.peer) else {
                continue;
            };
            let mut addresses = cx.vet_peer(&told.addresses, self.order.options.loopback);
            addresses.retain(|address| self.finding.may_dial(&self.order, address));
            self.meet_at(cx, peer, addresses);
        }
    }

    /// A link to a mate proved the key.
    pub(super) fn mate_up(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        peer: PeerId,
        mut fetching: Fetching,
    ) {
        fetching.mate = Some(peer);
        self.links.insert(link, fetching);
        if let Some(swarm) = &mut self.swarm {
            swarm.link_up(peer, link);
        }
        self.order.greet(cx, link);
        self.order.tell_addresses(cx, link);
        self.say_seeds(cx, link);
    }

    /// The other side of a link is not the sharer, and serves what it has.
    pub(super) fn seeder(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        manifest: Announced,
    ) -> Result<(), Violation> {
        let welcomed = |fetching: &Fetching| fetching.mate.is_some() && fetching.manifest.is_some();
        if self.links.get(link).is_some_and(welcomed) {
            return Err(Violation::new("a second welcome on one link"));
        }
        if self.deputy_welcomes(&cx.limits, link, manifest)? {
            return Ok(());
        }
        let Some(fetching) = self.links.get_mut(link) else {
            return Ok(());
        };
        let (Some(peer), Stage::Transfer(transfer)) = (fetching.mate, &self.stage) else {
            self.not_it(cx, link);
            return Ok(());
        };
        // It fetched from this sharer at another time, when other files were on offer.
        if manifest.id != transfer.signed.id() {
            self.not_it(cx, link);
            return Ok(());
        }
        fetching.manifest = Some(manifest.len);
        fetching.flow.start(&cx.limits, fetching.path, cx.now);
        if let Some(swarm) = &mut self.swarm {
            swarm.choose_link(cx, self.order.id, &self.links, peer);
        }
        Ok(())
    }

    /// The other side of a link is not whom it was taken for: that is nobody's fault.
    pub(super) fn not_it(&mut self, cx: &mut Context, link: LinkId) {
        let mate = self.links.mate_of(link);
        cx.close(link);
        self.link_down(cx, link, "it is not who has this".to_string());
        match (mate, &mut self.swarm) {
            (Some(peer), Some(swarm)) => {
                swarm.pause(peer, cx.now);
            }
            (Some(_), None) => {}
            // Nobody had named the sharer, so it may be anybody else.
            _ => self.order.was_not_sharer(),
        }
    }

    /// A mate broke the protocol: its links are closed, and it is not dealt with again. The others go on.
    pub(super) fn shun(&mut self, cx: &mut Context, peer: PeerId) {
        let Some(swarm) = &mut self.swarm else {
            return;
        };
        let served = swarm.links(peer).1.is_some();
        for link in swarm.shun(peer) {
            self.links.give_back(link, self.stage.under_way_mut());
            cx.close(link);
        }
        if let Some(seed) = &mut self.seed {
            seed.shun(cx, peer);
        }
        if served {
            self.source_left(cx, peer);
        }
        self.pump(cx);
    }

    fn source_left(&mut self, cx: &mut Context, peer: PeerId) {
        let download = self.order.id;
        cx.event(Event::SourceLeft { download, peer });
        // Nobody serves any more: a sharer that was given up meanwhile is looked for at once.
        if !self.has_mates() {
            self.seek_due = self.seek_due.map(|due| due.min(cx.now));
        }
    }

    /// There is nothing more to be had of the sharer. If others serve, they may have it all; else that is the end.
    pub(super) fn sharer_gone(&mut self, cx: &mut Context, why: DownloadError) {
        let others = self.swarm.as_ref().is_some_and(|swarm| !swarm.is_empty());
        if !others || self.hopeless || self.is_ending() {
            return self.fail(cx, why);
        }
        for link in self.links.to_sharer() {
            self.links.give_back(link, self.stage.under_way_mut());
            cx.close(link);
        }
        self.links.best = None;
        self.gone = Some(why);
        self.finding.end(cx);
        self.pump(cx);
    }

    /// A link to a mate is gone.
    pub(super) fn mate_down(&mut self, cx: &mut Context, peer: PeerId, link: LinkId) {
        let is_ending = self.is_ending();
        let Some(swarm) = &mut self.swarm else {
            return;
        };
        let served = swarm.link_down(peer, link, cx.now);
        if is_ending {
            return;
        }
        if served {
            swarm.choose_link(cx, self.order.id, &self.links, peer);
            if swarm.links(peer).1.is_none() {
                self.source_left(cx, peer);
            }
        }
        self.pump(cx);
    }

    /// Whether a link to a mate over this path is better than what there is.
    fn wants_mate(&self, cx: &Context, peer: PeerId, path: PathKind) -> bool {
        let fetches = matches!(self.stage, Stage::Transfer(_)) && !self.is_ending();
        let swarm = self.swarm.as_ref();
        let wants = || swarm.is_some_and(|swarm| swarm.wants(cx, peer, path));
        fetches && self.order.may_use(path) && wants()
    }

    /// Takes note of since when nothing that is missing can be had of anybody who is there.
    pub(super) fn look_at_supply(&mut self, now: Time) {
        let idle = self.links.are_idle() && self.links.best.is_none() && !self.paused;
        let (Some(swarm), Stage::Transfer(transfer)) = (&mut self.swarm, &self.stage) else {
            return;
        };
        let needs = transfer.staged && transfer.is_waiting() && !transfer.files.is_complete();
        let alone = self.gone.is_some() || swarm.sources() > 0;
        swarm.set_starved(needs && idle && alone, now);
    }

    /// When something is due about other sources.
    pub(super) fn swarm_deadline(&self, limits: &Limits) -> Time {
        let Stage::Transfer(_) = &self.stage else {
            return Time::NEVER;
        };
        let seek = self.seek_due.unwrap_or(Time::NEVER);
        let looks = self.seed.is_some() && self.order.looks_for_others();
        let patience = self.order.patience(limits);
        let may_dial = self.order.has_secret();
        let swarm = self.swarm.as_ref();
        swarm.map_or(seek, |swarm| {
            swarm.deadline(patience, looks, may_dial).min(seek)
        })
    }

    /// Does what is due about other sources.
    pub(super) fn swarm_tick(&mut self, cx: &mut Context) {
        if !matches!(self.stage, Stage::Transfer(_)) || self.is_ending() {
            return;
        }
        self.end_if_starved(cx);
        let looks = self.seed.is_some() && self.order.looks_for_others();
        if let Some(swarm) = &mut self.swarm {
            swarm.tick(cx, &self.order, looks);
        }
        if self.seek_due.is_some_and(|due| due <= cx.now) {
            self.seek_due = None;
            if self.links.best.is_none() && self.finding.search.is_none() && self.gone.is_none() {
                self.look(cx);
            }
        }
    }

    fn end_if_starved(&mut self, cx: &mut Context) {
        let Some(swarm) = &self.swarm else {
            return;
        };
        let over = swarm.is_starved(self.order.patience(&cx.limits), cx.now);
        let alone = self.gone.is_some() && swarm.is_empty();
        if !(over || alone) {
            return;
        }
        let missing = "parts are missing that nobody who is left has; the sharer has to come back";
        let why = self.gone.take();
        let why = why.unwrap_or_else(|| DownloadError::Unreachable(missing.to_string()));
        self.fail(cx, why);
    }

    /// A better way to a mate may be there: told over a relay, or, without addresses, a connection that came up by itself.
    pub(super) fn better_way(
        &mut self,
        cx: &mut Context,
        peer: PeerId,
        path: PathKind,
        at: Option<Vec<Multiaddr>>,
    ) {
        let wanted = self.is_mate(peer) && self.wants_mate(cx, peer, path);
        let Some(swarm) = self.swarm.as_mut().filter(|_| wanted) else {
            return;
        };
        match at {
            Some(at) if !at.is_empty() => swarm.dial(cx, self.order.id, peer, at),
            Some(_) => {}
            None if swarm.may_follow(peer, cx.now) => {
                swarm.dial(cx, self.order.id, peer, Vec::new());
            }
            None => {}
        }
    }
}
