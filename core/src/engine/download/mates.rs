//! How a download comes to its other sources, and what it makes of them: who is dialled, what they say, what becomes of who
//! lies, and what if the sharer is gone.

use std::time::Duration;

use super::super::context::{Context, LookUpOwner};
use super::super::{DownloadError, Event, FetchKey, LinkId, LookUpId, PathKind, Place, Violation};
use super::links::Fetching;
use super::swarm::AT_ONCE;
use super::{Download, Stage};
use crate::message::{Announced, PeerAt};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// How often the DHT is asked for more sources, while there are few; and while what is missing is nowhere.
const LOOK_EVERY: Duration = Duration::from_mins(2);
const LOOK_IN_NEED: Duration = Duration::from_secs(10);
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

    /// Whether a link to a mate over this path is better than what there is.
    fn wants_mate(&self, cx: &Context, peer: PeerId, path: PathKind) -> bool {
        let Some(swarm) = self.swarm.as_ref().filter(|swarm| swarm.is_mate(peer)) else {
            return false;
        };
        let may = path == PathKind::Relayed || !self.order.options.relayed_only;
        let (links, _) = swarm.links(peer);
        let links = links.iter().filter_map(|link| cx.links.get(*link));
        let best = links.map(|link| link.path).min();
        let fetches = matches!(self.stage, Stage::Transfer(_)) && !self.is_ending();
        fetches && may && best.is_none_or(|best| path < best)
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
        self.choose_mate(cx, peer);
        Ok(())
    }

    /// The other side of a link is not whom it was taken for: that is nobody's fault.
    pub(super) fn not_it(&mut self, cx: &mut Context, link: LinkId) {
        let mate = self.links.get(link).and_then(|fetching| fetching.mate);
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

    /// Picks the link to a mate that is to be used: the best path.
    fn choose_mate(&mut self, cx: &mut Context, peer: PeerId) {
        let Some(swarm) = &mut self.swarm else {
            return;
        };
        let (links, _) = swarm.links(peer);
        let welcomed = links.into_iter().filter(|link| {
            let fetching = self.links.get(*link);
            fetching.is_some_and(|fetching| fetching.manifest.is_some())
        });
        let best = welcomed
            .filter_map(|link| cx.links.get(link).map(|state| (state.path, link)))
            .min();
        if swarm.choose(peer, best.map(|(_, link)| link))
            && let Some((path, _)) = best
        {
            cx.event(Event::SourceJoined {
                download: self.order.id,
                peer,
                path,
            });
        }
    }

    /// A link to a mate is gone.
    pub(super) fn mate_down(&mut self, cx: &mut Context, peer: PeerId, link: LinkId) {
        let Some(swarm) = &mut self.swarm else {
            return;
        };
        let served = swarm.link_down(peer, link, cx.now);
        if self.is_ending() {
            return;
        }
        if served {
            self.choose_mate(cx, peer);
            let swarm = self.swarm.as_ref();
            if swarm.is_none_or(|swarm| swarm.links(peer).1.is_none()) {
                self.source_left(cx, peer);
            }
        }
        self.pump(cx);
    }

    /// A mate broke the protocol: its links are closed, and it is not dealt with again. The others go on.
    pub(super) fn shun(&mut self, cx: &mut Context, peer: PeerId) {
        let Some(swarm) = &mut self.swarm else {
            return;
        };
        let served = swarm.links(peer).1.is_some();
        for link in swarm.shun(peer) {
            self.give_back(link);
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

    /// What was asked for on a link is to be asked for again.
    pub(super) fn give_back(&mut self, link: LinkId) {
        if let (Some(fetching), Stage::Transfer(transfer)) =
            (self.links.remove(link), &mut self.stage)
        {
            transfer.lost(fetching.flow);
        }
    }

    /// There is nothing more to be had of the sharer. If others serve, they may have it all; else that is the end.
    pub(super) fn sharer_gone(&mut self, cx: &mut Context, why: DownloadError) {
        let others = self.swarm.as_ref().is_some_and(|swarm| !swarm.is_empty());
        if !others || self.hopeless || self.is_ending() {
            return self.fail(cx, why);
        }
        for link in self.links.to_sharer() {
            self.give_back(link);
            cx.close(link);
        }
        self.links.best = None;
        self.gone = Some(why);
        self.finding.end(cx);
        self.pump(cx);
    }

    /// Takes note of since when nothing that is missing can be had of anybody who is there.
    pub(super) fn look_at_supply(&mut self, now: Time) {
        let idle = self.links.are_idle();
        let sharer = self.links.best.is_some();
        let paused = self.paused;
        let (Some(swarm), Stage::Transfer(transfer)) = (&mut self.swarm, &self.stage) else {
            return;
        };
        let needs = transfer.staged && transfer.is_waiting() && !transfer.files.is_complete();
        let alone = self.gone.is_some() || swarm.sources() > 0;
        if needs && idle && alone && !sharer && !paused {
            swarm.starved.get_or_insert(now);
        } else {
            swarm.starved = None;
        }
    }

    /// When something is due about other sources.
    pub(super) fn swarm_deadline(&self, cx_search: Duration) -> Time {
        let Stage::Transfer(_) = &self.stage else {
            return Time::NEVER;
        };
        let seek = self.seek_due.unwrap_or(Time::NEVER);
        let Some(swarm) = &self.swarm else {
            return seek;
        };
        let starved = swarm.starved.map_or(Time::NEVER, |since| {
            since + self.order.options.search.unwrap_or(cx_search)
        });
        let look = if swarm.lookup.is_none() && self.looks() {
            swarm.look_due
        } else {
            Time::NEVER
        };
        let dial = self.order.has_secret().then(|| swarm.dial_due());
        let due = dial.unwrap_or(Time::NEVER).min(starved).min(look);
        due.min(seek)
    }

    /// Whether the DHT is asked for other sources: only by who gives.
    fn looks(&self) -> bool {
        self.seed.is_some() && self.order.options.dht && self.order.has_secret()
    }

    /// Does what is due about other sources.
    pub(super) fn swarm_tick(&mut self, cx: &mut Context) {
        if !matches!(self.stage, Stage::Transfer(_)) || self.is_ending() {
            return;
        }
        self.end_if_starved(cx);
        self.look_for_mates(cx);
        while let Some(swarm) = &mut self.swarm
            && !matches!(self.order.source.key, FetchKey::Short(_))
            && let Some((peer, addresses)) = swarm.next_dial(cx.now, cx.rng())
        {
            let dial = cx.dial(self.order.id, Some(peer), addresses);
            swarm.dials(dial, peer);
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
        let patience = self.order.options.search.unwrap_or(cx.limits.search);
        let over = swarm
            .starved
            .is_some_and(|since| cx.now >= since + patience);
        let alone = self.gone.is_some() && swarm.is_empty();
        if !(over || alone) {
            return;
        }
        let missing = "parts are missing that nobody who is left has; the sharer has to come back";
        let why = self.gone.take();
        self.fail(
            cx,
            why.unwrap_or_else(|| DownloadError::Unreachable(missing.to_string())),
        );
    }

    fn look_for_mates(&mut self, cx: &mut Context) {
        let looks = self.looks();
        let (Some(swarm), FetchKey::Secret(secret)) = (&mut self.swarm, &self.order.source.key)
        else {
            return;
        };
        if !looks || swarm.lookup.is_some() || cx.now < swarm.look_due {
            return;
        }
        let in_need = swarm.starved.is_some();
        swarm.look_due = cx.now + if in_need { LOOK_IN_NEED } else { LOOK_EVERY };
        if swarm.sources() < AT_ONCE / 2 {
            let place = Place::Share(secret.meeting_point());
            swarm.lookup = Some(cx.look_up(LookUpOwner::Download(self.order.id), place));
        }
    }

    /// A look-up has ended; whether it was for other sources.
    pub(super) fn looked_for_mates(&mut self, lookup: LookUpId) -> bool {
        let swarm = self.swarm.as_mut();
        swarm.is_some_and(|swarm| swarm.lookup.take_if(|own| *own == lookup).is_some())
    }

    /// Nobody is looked for any more.
    pub(super) fn end_swarm(&mut self, cx: &mut Context) {
        if let Some(lookup) = self.swarm.as_mut().and_then(|swarm| swarm.lookup.take()) {
            cx.end_look_up(lookup);
        }
    }

    /// A mate says over a relay where it can be dialled without one.
    pub(super) fn mate_told(&mut self, cx: &mut Context, peer: PeerId, told: Vec<Multiaddr>) {
        let may = !told.is_empty() && !self.order.options.relayed_only;
        if may && self.wants_mate(cx, peer, PathKind::Direct) {
            self.dial_mate(cx, peer, told);
        }
    }

    /// One more dial of a mate, if there is none under way.
    fn dial_mate(&mut self, cx: &mut Context, peer: PeerId, addresses: Vec<Multiaddr>) {
        if let Some(swarm) = self.swarm.as_mut().filter(|swarm| !swarm.is_dialled(peer)) {
            let dial = cx.dial(self.order.id, Some(peer), addresses);
            swarm.dials(dial, peer);
        }
    }

    /// A mate stops to serve.
    pub(super) fn mate_leaves(&mut self, cx: &mut Context, link: LinkId) {
        cx.close(link);
        self.link_down(cx, link, "it has stopped to serve".to_string());
    }

    /// A mate says what it has.
    pub(super) fn told_parts(
        &mut self,
        link: LinkId,
        ranges: &[(u64, u64)],
    ) -> Result<(), Violation> {
        let mate = self.links.get(link).and_then(|fetching| fetching.mate);
        match (mate, &mut self.swarm) {
            (Some(peer), Some(swarm)) => swarm.told_parts(peer, ranges),
            _ => Ok(()),
        }
    }

    /// A connection to a mate came up by itself.
    pub(super) fn mate_path(&mut self, cx: &mut Context, peer: PeerId, path: PathKind) {
        let wanted = self.is_mate(peer) && self.wants_mate(cx, peer, path);
        let swarm = self.swarm.as_mut().filter(|_| wanted);
        if swarm.is_some_and(|swarm| swarm.may_follow(peer, cx.now)) {
            self.dial_mate(cx, peer, Vec::new());
        }
    }

    /// Closes links to mates that have a better one, once nothing is asked for on them any more.
    pub(super) fn release_mates(&mut self, cx: &mut Context) {
        let Some(swarm) = &mut self.swarm else {
            return;
        };
        let used: Vec<_> = swarm.bests().collect();
        let idle = |(link, fetching): (LinkId, &Fetching)| {
            let peer = fetching.mate?;
            let done = fetching.manifest.is_some() && fetching.flow.is_idle();
            (done && !used.contains(&link)).then_some((link, peer))
        };
        let released: Vec<_> = self.links.iter().filter_map(idle).collect();
        for (link, peer) in released {
            self.links.remove(link);
            swarm.link_down(peer, link, cx.now);
            cx.close(link);
        }
    }
}
