//! A download and all its sources: who else may serve and is served, what is asked of whom, what becomes of answers and of who
//! lies.

use std::sync::Arc;

use super::super::context::Context;
use super::super::{DownloadError, Event, LinkId, PathKind, SinkKind, Violation, rate_limiter};
use super::answer::{Data, Sorted, check, sort};
use super::asking::{Asker, next};
use super::circuit_limit::CircuitLimit;
use super::inventory::Inventory;
use super::links::Fetching;
use super::parts::Parts;
use super::seed::{AlsoServes, Reach, Seed};
use super::swarm::Swarm;
use super::transfer::Transfer;
use super::{Download, Stage, files};
use crate::frame::Frame;
use crate::limits::Limits;
use crate::manifest::SignedRoots;
use crate::message::{Announced, Message, PeerAt};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

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
            transfer.files.held = Some(Inventory::new(Arc::clone(&parts), entries));
            let reach = Reach {
                loopback: self.order.options.loopback,
                relayed_only: self.order.options.relayed_only,
            };
            self.seed = Some(Box::new(Seed::new(self.order.id, reach, cx.now)));
        }
        let mut swarm = Swarm::new(parts, transfer.files.wanted(), cx.now);
        for liar in self.manifest_source.liars() {
            swarm.ban(liar);
        }
        self.swarm = Some(Box::new(swarm));
        for link in self.links.ids() {
            self.say_seeds(cx, link);
        }
        for (peer, addresses) in self.manifest_source.take_met() {
            self.meet_at(cx, peer, addresses);
        }
        self.meet_neighbours(cx);
    }

    /// Asks the other sources. While there are any, the sharer too is asked for what is rare, and not for what comes next.
    pub(super) fn ask_seeders(&mut self, cx: &mut Context) {
        let seeders: Vec<_> = self.swarm.iter().flat_map(|swarm| swarm.bests()).collect();
        if let Stage::Transfer(transfer) = &mut self.stage {
            transfer.several = !seeders.is_empty();
            if transfer.several {
                transfer.files.begin_empty();
            }
        }
        if self.paused {
            return;
        }
        for link in seeders {
            self.ask(cx, link);
        }
        if let Some(swarm) = &mut self.swarm {
            swarm.release(cx, &mut self.links);
        }
        self.release_exhausted_seeders(cx);
    }

    /// A source broke the protocol. If it was the sharer, others may still have all of it.
    pub(in super::super) fn blamed(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        violation: &Violation,
    ) {
        let Some(seeder) = self.links.get(link).map(|fetching| fetching.seeder) else {
            return;
        };
        self.manifest_source_down(cx, link, true);
        self.links.give_back(link, self.stage.under_way_mut());
        match seeder {
            Some(peer) => self.ban(cx, peer),
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
        let (seeder, flow) = (fetching.seeder, &mut fetching.flow);
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
        let checked = check(transfer, &asked.segments, &data, seeder.is_some());
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
        transfer.local.spared += shown.spared;
        let brings = !pieces.is_empty() || shown.bytes > 0;
        if !pieces.is_empty() {
            transfer.writes.queue(pieces);
        }
        if brings && seeder.is_none() {
            self.finding.end(cx);
        }
        if let (Some(peer), Some(swarm)) = (seeder, &mut self.swarm) {
            swarm.lacks(peer, &missing);
            let bad = swarm.add_bad(peer, bad);
            return judge_seeder(bad, cx.limits.bad_leaves);
        }
        let may_blame = self.gone.is_none();
        let (known, files) = (&mut transfer.local, &mut transfer.files);
        known.learned(cx, link, files, &learned);
        transfer.mismatched(bad, &cx.limits)?;
        for (entry, reason) in failed {
            transfer.entry_failed(cx, entry, reason);
        }
        transfer.settle_stream(&cx.limits, may_blame)
    }

    /// Signed roots came, from the sharer or passed on by a seeder.
    pub(super) fn roots(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        is_seeder: bool,
        roots: &SignedRoots,
    ) -> Result<(), Violation> {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Err(Violation::new("roots that were not asked for"));
        };
        let learnt = transfer.verified(roots)?;
        let entries: Vec<u32> = learnt.iter().map(|(entry, _)| *entry).collect();
        let two_faced = transfer.learn(roots, learnt);
        if is_seeder && two_faced.is_err() {
            // The sharer has signed one thing for us and another for others: what it shares is not to be had of anybody.
            self.hopeless = true;
            self.accused = two_faced.err();
            return Ok(());
        }
        two_faced?;
        let (known, files) = (&mut transfer.local, &mut transfer.files);
        known.learned(cx, link, files, &entries);
        let settled = transfer.settle(&cx.limits, &entries, self.gone.is_none());
        if is_seeder {
            // What does not match came from the sharer, without a proof.
            self.accused = settled.err();
            return Ok(());
        }
        settled
    }

    /// Whether a link that a dial has led to may be of use: one to the sharer, or to whom the dial was for.
    pub(in super::super) fn expects(
        &self,
        cx: &Context,
        dial: super::super::DialId,
        peer: PeerId,
        path: PathKind,
    ) -> bool {
        if let Some(asked) = self.manifest_source.dialled(dial) {
            return asked == peer && self.order.may_use(path) && self.needs_manifest_source();
        }
        if !self.is_ending() && self.circuits.wants(cx, dial, path, &self.links) {
            return self.order.source.peer == Some(peer);
        }
        let seeder = self.swarm.as_ref().and_then(|swarm| swarm.dialled(dial));
        match seeder {
            Some(seeder) => seeder == peer && self.wants_seeder(cx, peer, path),
            None => {
                self.wants_link(cx, path) && self.order.source.peer.is_none_or(|own| own == peer)
            }
        }
    }

    /// Whether anybody but the sharer serves now.
    pub(super) fn has_seeders(&self) -> bool {
        self.swarm.as_ref().is_some_and(|swarm| swarm.sources() > 0)
    }

    pub(super) fn is_seeder(&self, peer: PeerId) -> bool {
        let swarm = self.swarm.as_ref();
        self.order.source.peer != Some(peer) && swarm.is_some_and(|swarm| swarm.is_seeder(peer))
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
            return self.manifest_source.meet(peer, addresses);
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

    /// A link to a seeder proved the key.
    pub(super) fn seeder_up(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        peer: PeerId,
        mut fetching: Fetching,
    ) {
        fetching.seeder = Some(peer);
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
        let welcomed =
            |fetching: &Fetching| fetching.seeder.is_some() && fetching.manifest.is_some();
        if self.links.get(link).is_some_and(welcomed) {
            return Err(Violation::new("a second welcome on one link"));
        }
        if self.manifest_source_welcomes(&cx.limits, link, manifest)? {
            return Ok(());
        }
        let Some(fetching) = self.links.get_mut(link) else {
            return Ok(());
        };
        let (Some(peer), Stage::Transfer(transfer)) = (fetching.seeder, &self.stage) else {
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
        let seeder = self.links.seeder_of(link);
        cx.close(link);
        self.link_down(cx, link, "it is not who has this".to_string());
        match (seeder, &mut self.swarm) {
            (Some(peer), Some(swarm)) => {
                swarm.pause(peer, cx.now);
            }
            (Some(_), None) => {}
            // Nobody had named the sharer, so it may be anybody else.
            _ => self.order.was_not_sharer(),
        }
    }

    /// A seeder broke the protocol: its links are closed, and it is not dealt with again. The others go on.
    pub(super) fn ban(&mut self, cx: &mut Context, peer: PeerId) {
        let Some(swarm) = &mut self.swarm else {
            return;
        };
        let served = swarm.links(peer).1.is_some();
        for link in swarm.ban(peer) {
            self.links.give_back(link, self.stage.under_way_mut());
            cx.close(link);
        }
        if let Some(seed) = &mut self.seed {
            seed.ban(cx, peer);
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
        if !self.has_seeders() {
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

    /// A link to a seeder is gone.
    pub(super) fn seeder_down(&mut self, cx: &mut Context, peer: PeerId, link: LinkId) {
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

    /// Whether a link to a seeder over this path is better than what there is.
    fn wants_seeder(&self, cx: &Context, peer: PeerId, path: PathKind) -> bool {
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

    /// A better way to a seeder may be there: told over a relay, or, without addresses, a connection that came up by itself.
    pub(super) fn better_way(
        &mut self,
        cx: &mut Context,
        peer: PeerId,
        path: PathKind,
        at: Option<Vec<Multiaddr>>,
    ) {
        let wanted = self.is_seeder(peer) && self.wants_seeder(cx, peer, path);
        let Some(swarm) = self.swarm.as_mut().filter(|_| wanted) else {
            return;
        };
        match at {
            Some(at) if !at.is_empty() => swarm.dial(cx, self.order.id, peer, at),
            None if swarm.follow(peer, cx.now) => {
                swarm.dial(cx, self.order.id, peer, Vec::new());
            }
            Some(_) | None => {}
        }
    }

    /// Asks for as much as the window has room for.
    pub(super) fn ask(&mut self, cx: &mut Context, link: LinkId) {
        // Only the sharer is asked for these, on one link.
        let is_best = self.links.best == Some(link);
        if is_best {
            self.ask_what_is_here(cx, link);
        }
        // Several sources or circuits together hold no more than one would.
        let several = self
            .stage
            .under_way()
            .is_some_and(|transfer| transfer.several);
        let shares = several || self.links.uses_circuits(cx);
        let others = shares.then(|| self.links.asked_of_others(link));
        let asker = Asker {
            id: self.order.id,
            of: self.order.transfer(),
            piece: self.links.piece(cx, self.order.transfer(), link),
            others: others.unwrap_or_default(),
        };
        let (mut held, has_sharer) = (
            self.links.held(self.stage.under_way()),
            self.links.best.is_some(),
        );
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let carries = CircuitLimit::of(cx, link, transfer);
        let Some(fetching) = self.links.get_mut(link) else {
            return;
        };
        let (seeder, flow) = (fetching.seeder, &mut fetching.flow);
        if flow.window.is_none() || !transfer.staged || transfer.local.is_looking() {
            return;
        }
        if is_best || !has_sharer {
            // Whoever serves lets only so many wait.
            let most = (cx.limits.requests / 2).max(1);
            let asked_of_seeder = seeder.is_some().then_some(&mut flow.asked_roots);
            for entry in transfer.roots_to_ask(link, asked_of_seeder, most) {
                cx.send(link, Message::GetRoot { entry });
            }
        }
        let fresh = flow.is_fresh();
        while let Some(size) = asker.may(cx, transfer, (link, flow), (carries, held)) {
            let swarm = self.swarm.as_mut().filter(|_| transfer.several);
            let Some((segments, cost)) = next(&mut transfer.files, swarm, seeder, size, cx) else {
                break;
            };
            cx.down
                .went(asker.of, rate_limiter::cost(&segments), cx.now);
            held += cost;
            let most = carries.asks(cx, &segments);
            let id = flow.asks(segments.clone(), (cost, most), cx.now);
            let segments = segments.into();
            cx.send(link, Message::Request { id, segments });
        }
        if fresh && !flow.is_fresh() {
            // From its first request on it is measured how fast a circuit is used up.
            if let Some(circuit) = &mut fetching.circuit {
                circuit.asked.get_or_insert(cx.now);
            }
        }
    }

    /// Asks the sharer for what tells which bytes are here already: roots, and lists of chunks.
    fn ask_what_is_here(&mut self, cx: &mut Context, link: LinkId) {
        let (links, Stage::Transfer(transfer)) = (&self.links, &mut self.stage) else {
            return;
        };
        let (known, files) = (&mut transfer.local, &transfer.files);
        known.ask_roots(cx, link, files);
        let is_up = |link: &LinkId| links.get(*link).is_some();
        known.reusing.ask(cx, link, files, is_up);
    }

    /// Its serving side, and what there is to serve.
    pub(in super::super) fn serving(&mut self) -> Option<(&mut Seed, &mut Transfer)> {
        Some((self.seed.as_deref_mut()?, self.stage.transfer_mut()?))
    }

    /// Whether it serves, and one more link would be served.
    pub(in super::super) fn has_room(&self) -> bool {
        self.seed.as_ref().is_some_and(|seed| seed.has_room())
    }

    /// Whether somebody who knows the share's secret may have what is here.
    pub(in super::super) fn serves(&self, peer: PeerId, path: PathKind) -> bool {
        let banned = self
            .swarm
            .as_ref()
            .is_some_and(|swarm| swarm.is_banned(peer));
        let may = path == PathKind::Relayed || !self.order.options.relayed_only;
        let stands = matches!(self.stage, Stage::Transfer(_) | Stage::Seeding(_));
        self.seed.is_some() && stands && !self.is_ending() && !banned && may
    }

    /// Says over a link to a source that this side serves too, and where it can be dialled.
    pub(super) fn say_seeds(&self, cx: &mut Context, link: LinkId) {
        if let Some(seed) = &self.seed {
            seed.tell(cx, link);
        }
    }

    /// A link proved the share's key, to be served.
    pub(in super::super) fn seed_up(&mut self, cx: &mut Context, link: LinkId) {
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return;
        };
        if let Some(peer) = seed.link_up(cx, link, transfer) {
            // Who comes for parts may have some; it can be asked over the connection that it has made.
            self.meet_at(cx, peer, Vec::new());
        }
    }

    /// A peer broke the protocol on a link that was served: it is no source either.
    pub(in super::super) fn seed_blamed(&mut self, cx: &mut Context, link: LinkId, peer: PeerId) {
        if let Some((seed, _)) = self.serving() {
            seed.link_down(cx, link);
        }
        self.ban(cx, peer);
    }

    /// Something came over a link that is served.
    pub(in super::super) fn seed_message(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        frame: Frame,
    ) -> Result<(), Violation> {
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return Ok(());
        };
        let also = seed.message(cx, link, frame, transfer)?;
        if let Some(AlsoServes { peer, addresses }) = also {
            self.meet(cx, peer, &addresses);
        }
        Ok(())
    }

    pub(super) fn seed_deadline(&self) -> Time {
        let (Some(seed), Some(transfer)) = (&self.seed, self.stage.transfer()) else {
            return Time::NEVER;
        };
        let announces = self.order.options.dht && self.order.has_secret();
        let over = self.seeding.as_ref();
        let over = over.map_or(Time::NEVER, |(_, until)| *until);
        seed.deadline(transfer, announces).min(over)
    }

    /// Does what is due about serving.
    pub(super) fn seed_tick(&mut self, cx: &mut Context) {
        let (key, in_dht) = (&self.order.source.key, self.order.options.dht);
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return;
        };
        seed.tick(cx, transfer, || key.meeting_place().filter(|_| in_dht));
        if self
            .seeding
            .as_ref()
            .is_some_and(|(_, until)| *until <= cx.now)
        {
            self.end_seeding(cx);
        }
    }

    /// Nothing is served any more.
    pub(super) fn end_seed(&mut self, cx: &mut Context) {
        if let Some(seed) = self.seed.take() {
            seed.end(cx);
        }
    }
}

fn judge_seeder(bad: u32, most: u32) -> Result<(), Violation> {
    if bad < most {
        return Ok(());
    }
    Err(Violation::new(format!(
        "{bad} pieces that do not match their root"
    )))
}
