//! A download and its sharer: how it comes to it, the links to it, its offer, who stands in for it, and circuits that relays
//! end.

use std::time::Duration;

use serde_bytes::ByteBuf;

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{
    AcceptTerms, DialId, DiskDone, DiskWork, DownloadError, Event, FetchKey, Kept, LinkId,
    LookUpId, Origin, PathKind, SinkKind, Violation,
};
use super::circuit_limit::is_limited;
use super::circuits::View;
use super::files::Files;
use super::journal::Journal;
use super::links::Fetching;
use super::search::{Search, Step};
use super::transfer::Transfer;
use super::{Download, Stage, search};
use crate::code::{MAX_ADDRESSES, Ticket};
use crate::limits::Limits;
use crate::manifest::SignedManifest;
use crate::message::{Announced, Message, Refusal};
use crate::secret::ShareCodeLabel;
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// How soon a sharer that was given up is looked for again, while others serve.
const SEEK_AGAIN: Duration = Duration::from_mins(1);

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
        if self.finding.asks_about_relays() && !self.has_seeders() {
            // The search goes on when the user agrees to them.
            self.finding.end(cx);
            let relays = self.finding.relays.ask();
            return cx.event(Event::RelaysInQuestion { download, relays });
        }
        match step {
            Step::Wait => {}
            // While others serve, the sharer is looked for quietly, and again after a while.
            Step::Attempt(_) if self.has_seeders() => {}
            Step::GiveUp(_) if self.has_seeders() => {
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
        if self.manifest_source.failed(dial, cx.now) {
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
        let seeder = swarm.is_some_and(|swarm| swarm.dialled(dial).is_some());
        // Who is near was asked before it was known who the sharer is, and answers after.
        let other = self.order.is_other(peer);
        if seeder || other || self.manifest_source.dialled(dial).is_some() {
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
        if self.links.is_to_seeder(link) {
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

    pub(super) fn welcomed(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        manifest: Option<Announced>,
    ) -> Result<(), Violation> {
        let Some(fetching) = self.links.get_mut(link) else {
            return Ok(());
        };
        if fetching.manifest.is_some() {
            return Err(Violation::new("a second welcome on one link"));
        }
        let Some(announced) = manifest else {
            cx.event(Event::SharerPreparing {
                download: self.order.id,
            });
            return Ok(());
        };
        fetching.manifest = Some(announced.len);
        fetching.flow.start(&cx.limits, fetching.path, cx.now);
        self.release_manifest_source(cx);
        if let Some(ours) = &self.remembering {
            self.links.offer_to_remember(cx, link, ours)?;
        }
        self.choose(cx);
        self.circuit_welcomed(cx, link);
        self.tell_sharer_paused(cx);
        let same = match &mut self.stage {
            Stage::Offer(offer) => offer.announced(announced, &cx.limits)?,
            Stage::Transfer(transfer) => transfer.signed.id() == announced.id,
            Stage::Seeding(_) | Stage::Ending => true,
        };
        if !same {
            self.fail(cx, DownloadError::OtherFiles);
        }
        Ok(())
    }

    pub(super) fn manifest_part(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        (offset, total): (u64, u64),
        part: &[u8],
    ) -> Result<(), Violation> {
        let Stage::Offer(offer) = &mut self.stage else {
            return Ok(()); // A late answer, asked for again over another link.
        };
        let encoded = offer.part(offset, total, part)?;
        if let Some(state) = cx.links.get_mut(link) {
            state.progressed(&cx.limits);
        }
        // As long as somebody else tells what the sharer shares, the sharer is looked for.
        let by_sharer = self
            .links
            .get(link)
            .is_none_or(|link| link.seeder.is_none());
        if by_sharer {
            self.finding.end(cx);
        }
        let Some(encoded) = encoded else {
            return Ok(());
        };
        let Some(peer) = self.order.source.peer else {
            return Ok(());
        };
        let signed = SignedManifest::decode(encoded, &peer, &cx.limits)
            .map_err(|error| Violation::new(format!("its manifest is refused: {error}")))?;
        let origin = Origin::of(&signed);
        let own_folder = self.order.options.own_folder && self.order.sink == SinkKind::Folder;
        let paths = offer.decoded(signed, own_folder)?;
        self.release_manifest_source(cx);
        if self.order.sink == SinkKind::Pipe {
            self.offered(
                cx,
                DiskDone::Inspected {
                    taken: Vec::new(),
                    free: None,
                    kept: Kept::default(),
                },
            );
            return Ok(());
        }
        cx.disk(
            JobOwner::Download(self.order.id, DownloadJob::Inspect),
            DiskWork::Inspect {
                download: self.order.id,
                paths,
                origin,
            },
        );
        Ok(())
    }

    /// The folder was looked at: the user is asked.
    pub(super) fn offered(&mut self, cx: &mut Context, done: DiskDone) {
        let Stage::Offer(offer) = &mut self.stage else {
            return;
        };
        match done {
            DiskDone::Inspected { taken, free, kept } => {
                if let Some((manifest, taken, kept)) = offer.inspected(&taken, kept) {
                    cx.event(Event::Offer {
                        download: self.order.id,
                        manifest,
                        folder: offer.folder().cloned(),
                        taken,
                        free,
                        kept,
                    });
                }
            }
            DiskDone::Failed(error) => self.fail(cx, error.into()),
            _ => {}
        }
    }

    /// The user takes the offer.
    pub(in super::super) fn accept(&mut self, cx: &mut Context, terms: AcceptTerms) {
        let Stage::Offer(offer) = &mut self.stage else {
            return;
        };
        let folder = offer.folder().cloned();
        let Some((signed, taken, kept)) = offer.accept() else {
            return;
        };
        let resumes = !kept.is_empty();
        let mut files = Files::new(signed.manifest().clone(), folder, terms, &taken);
        let earlier = files.keep(kept);
        for index in files.skipped() {
            if let Some(path) = files.place(index) {
                cx.event(Event::FileSkipped {
                    download: self.order.id,
                    path,
                });
            }
        }
        if self.order.sink == SinkKind::Pipe && files.count.wanted != 1 {
            let reason = format!(
                "a pipe takes one file, and this is {}; select one, or receive into a folder",
                files.count.wanted
            );
            return self.fail(cx, DownloadError::Unsuitable(reason));
        }
        let origin = Origin::of(&signed);
        let sized = self.order.sink == SinkKind::Folder && !signed.manifest().summary().stream;
        let journal = Journal::new(sized, resumes, &files, &cx.limits, cx.now);
        let parts = (files, earlier);
        let transfer = Transfer::new(
            self.order.id,
            signed,
            parts,
            journal,
            self.order.sink,
            cx.now,
        );
        self.stage = Stage::Transfer(Box::new(transfer));
        self.join_swarm(cx);
        match self.order.sink {
            SinkKind::Pipe => self.pump(cx),
            SinkKind::Folder => cx.disk(
                JobOwner::Download(self.order.id, DownloadJob::Stage),
                DiskWork::Stage {
                    download: self.order.id,
                    origin,
                },
            ),
        }
    }

    /// Says by which ticket another run comes to the same.
    pub(super) fn tell_resumable(&self, cx: &mut Context) {
        let Stage::Transfer(transfer) = &self.stage else {
            return;
        };
        let (FetchKey::Secret(secret), Some(peer)) =
            (&self.order.source.key, self.order.source.peer)
        else {
            return;
        };
        if self.order.sink == SinkKind::Pipe {
            return;
        }
        let known = self
            .order
            .source
            .addresses
            .iter()
            .chain(&self.finding.addresses);
        let ticket = Ticket {
            peer,
            addresses: known.take(MAX_ADDRESSES).cloned().collect(),
            secret: secret.clone(),
            share_code: ShareCodeLabel::of(secret),
        };
        cx.event(Event::Resumable {
            download: self.order.id,
            ticket,
            origin: Origin::of(&transfer.signed),
        });
    }

    /// Whether somebody else may be asked for the manifest.
    pub(super) fn needs_manifest_source(&self) -> bool {
        let missing = matches!(&self.stage, Stage::Offer(offer) if !offer.is_here());
        let knows_whose = self.order.source.peer.is_some();
        let may_ask = self.order.has_secret() && self.order.sink == SinkKind::Folder;
        missing && knows_whose && may_ask && !self.links.has_sharer() && !self.is_ending()
    }

    /// Since when the sharer is looked for, if somebody else may be asked.
    pub(super) fn sought(&self) -> Option<Time> {
        let search = self.finding.search.as_ref();
        search
            .filter(|_| self.needs_manifest_source())
            .map(Search::began)
    }

    /// A link is gone, and what it brought of the manifest with it.
    pub(super) fn manifest_source_down(&mut self, cx: &Context, link: LinkId, lied: bool) {
        if self.manifest_source.down(link, lied, cx.now)
            && let Stage::Offer(offer) = &mut self.stage
        {
            offer.begin_anew();
        }
    }

    /// A manifest source says which manifest it has. Whether it is of use.
    pub(super) fn manifest_source_welcomes(
        &mut self,
        limits: &Limits,
        link: LinkId,
        manifest: Announced,
    ) -> Result<bool, Violation> {
        let needed = self.needs_manifest_source();
        let own = self.manifest_source.has(link);
        let fetching = self.links.get_mut(link).filter(|_| own && needed);
        let (Stage::Offer(offer), Some(fetching)) = (&mut self.stage, fetching) else {
            return Ok(false);
        };
        fetching.manifest = Some(manifest.len);
        offer.begin_anew();
        offer.announced(manifest, limits)?;
        Ok(true)
    }

    /// Asks a manifest source for the next part of the manifest.
    pub(super) fn ask_manifest_source(&mut self, cx: &mut Context) {
        if let (Some(link), Stage::Offer(offer)) = (self.manifest_source.link(), &mut self.stage)
            && let Some(offset) = offer.wants(link)
        {
            cx.send(link, Message::GetManifest { offset });
        }
    }

    /// The sharer is here, or what was asked for: nobody stands in any more. The sharer is looked for again once the offer
    /// is taken.
    pub(super) fn release_manifest_source(&mut self, cx: &mut Context) {
        let Some((peer, link)) = self.manifest_source.release() else {
            return;
        };
        let fetching = link.and_then(|link| self.links.remove(link));
        if let Some(link) = link {
            cx.close(link);
        }
        let Stage::Offer(offer) = &mut self.stage else {
            return;
        };
        if !offer.is_here() {
            return offer.begin_anew();
        }
        self.finding.end(cx);
        self.seek_due = Some(cx.now);
        if let Some(Fetching { path, .. }) = fetching {
            cx.event(Event::Deputy {
                download: self.order.id,
                peer,
                path,
            });
        }
    }

    /// What decides about circuits, while a transfer is under way.
    pub(super) fn circuit_view(&self) -> Option<View<'_>> {
        let Stage::Transfer(transfer) = &self.stage else {
            return None;
        };
        Some(View {
            links: &self.links,
            transfer,
            source: &self.order.source,
            known: &self.finding.addresses,
            options: &self.order.options,
            choice: &self.finding.relays,
            turn: self.finding.turn,
            paused: self.paused,
        })
    }

    /// Closes links to other sources that can't carry more, once nothing is asked for on them: they are dialled again.
    pub(super) fn release_exhausted_seeders(&mut self, cx: &mut Context) {
        for link in self.links.exhausted_seeders(cx, self.stage.under_way()) {
            cx.close(link);
            self.link_down(cx, link, "its relay would have ended it".to_string());
        }
    }

    /// The sharer's welcome came over a link.
    pub(super) fn circuit_welcomed(&mut self, cx: &mut Context, link: LinkId) {
        let Some(fetching) = self.links.get(link) else {
            return;
        };
        let relay = fetching.relay.filter(|_| is_limited(cx, link));
        if self.circuits.welcomed(fetching.circuit, relay, cx.now) {
            let allowance = cx.links.get(link).map(|state| state.allowance);
            cx.event(Event::Circuits {
                download: self.order.id,
                relays: self.circuits.relays(),
                allowance: allowance.unwrap_or_default(),
            });
        }
    }

    /// A dial has come to nothing; whether it was for one more circuit.
    pub(super) fn circuit_failed(&mut self, cx: &mut Context, dial: DialId) -> bool {
        let Some(relay) = self.circuits.failed(dial) else {
            return false;
        };
        // Where there is a better path by now, it was this side that wanted it no more.
        if self.links.uses_circuits(cx) || self.links.best.is_none() {
            let others = cx.circuits_through(relay);
            cx.relays.refused(relay, others, cx.now);
        }
        if !self.is_ending() {
            self.pump(cx);
        }
        true
    }

    /// Asks on all circuits, and opens the next ones.
    pub(super) fn ask_circuits(&mut self, cx: &mut Context) {
        if !self.links.uses_circuits(cx) {
            return self.circuits.unused();
        }
        for link in self.links.other_circuits(cx) {
            self.ask(cx, link);
        }
        let view = self.circuit_view();
        if view.is_some_and(|view| self.circuits.must_tell_spared(cx, &view)) {
            self.circuits.told_spared();
            let (download, an_hour) = (self.order.id, cx.limits.relay_an_hour);
            cx.event(Event::RelaysSpared { download, an_hour });
        }
        while let Some(next) = self
            .circuit_view()
            .and_then(|view| self.circuits.next(cx, &view))
        {
            self.circuits.open(cx, self.order.id, next);
        }
    }

    /// Takes note of since when answers are owed. `answered`: one has just come on this link.
    pub(super) fn wait(&mut self, now: Time, answered: Option<LinkId>) {
        let stage = &self.stage;
        let is_owed = |link, fetching: &Fetching| is_owed(stage, link, fetching);
        self.links.wait(now, answered, is_owed);
    }

    /// Bytes of an answer that is not whole yet came over a link.
    pub(in super::super) fn active(&mut self, link: LinkId, now: Time) {
        // A manifest source may say for ever that something comes, where others have it at once.
        let answered = (!self.manifest_source.is_one_of_several(link)).then_some(link);
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
