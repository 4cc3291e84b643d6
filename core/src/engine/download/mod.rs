//! One download: from the code to files under their final names.
//!
//! It looks for its peer ([`search`]), fetches and shows the manifest ([`offer`]), and after the user accepts that,
//! requests ranges, verifies, stages and publishes ([`transfer`]). Links come and go meanwhile.

mod answer;
mod arrival;
mod asking;
mod circuit_limit;
mod circuits;
mod delivered;
mod files;
mod finding;
mod inventory;
mod journal;
mod links;
mod local;
mod lookups;
mod manifest_source;
mod offer;
mod order;
mod parts;
mod proofs;
mod publishing;
mod recheck;
mod relay_choice;
mod requests;
mod reuse;
mod search;
mod seed;
mod seeder_links;
mod sharer;
mod sources;
mod storing;
mod swarm;
mod transfer;
mod upgrade;
mod window;

pub(super) use finding::Finding;

use std::time::Duration;

use circuits::Circuits;
use delivered::Delivered;
use links::{FetchLinks, Fetching};
use manifest_source::ManifestSource;
use offer::Offer;
use order::Order;
use publishing::Connected;
use search::Search;
use seed::Seed;
use swarm::Swarm;
use transfer::{Stop, Transfer};

use super::context::{Context, DownloadJob, JobOwner};
use super::remember::Remembering;
use super::{
    DialId, DiskDone, DiskWork, DownloadError, DownloadId, DownloadOutcome, DownloadSummary, Event,
    FetchOptions, FetchSource, LinkId, PathKind, SinkKind, Violation,
};
use crate::PeerId;
use crate::frame::Frame;
use crate::limits::Limits;
use crate::message::{Leave, Message};
use crate::time::Time;

/// Interval between reports of progress to the user, and between those to the sharer.
const REPORT_EVERY: Duration = Duration::from_millis(200);
const HAVE_EVERY: Duration = Duration::from_millis(500);

/// A download, from its command to its end.
pub(super) struct Download {
    pub(super) order: Order,
    /// Finding and reaching the sharer.
    pub(super) finding: Finding,
    pub(super) links: FetchLinks,
    /// Circuits through relays that end each of them after a while.
    circuits: Circuits,
    stage: Stage,
    /// The other sources, and serving other receivers. Set after the offer is accepted.
    swarm: Option<Box<Swarm>>,
    seed: Option<Box<Seed>>,
    manifest_source: ManifestSource,
    /// Set once all data is here: the summary, and until when others are served.
    seeding: Option<(DownloadSummary, Time)>,
    /// Why nothing more can be fetched from the sharer, while seeders may have it.
    gone: Option<DownloadError>,
    /// When to look again for a sharer that was not found.
    seek_due: Option<Time>,
    /// True if the sharer has signed contradictions, so that no source can supply the share.
    hopeless: bool,
    /// What the sharer has done wrong, as shown by data from another source.
    pub(super) accused: Option<Violation>,
    paused: bool,
    delivered: Delivered,
    /// This side's offer of pairing to the sharer.
    remembering: Option<Remembering>,
    /// The outcome to report once the last disk job has ended.
    ending: Option<DownloadOutcome>,
    over: bool,
}

/// Progress of a download.
enum Stage {
    /// The manifest is being fetched or inspected, or waits for the user's answer.
    Offer(Box<Offer>),
    /// The offer is accepted.
    Transfer(Box<Transfer>),
    /// All data is here and is served to others.
    Seeding(Box<Transfer>),
    /// The last disk job is running or has ended.
    Ending,
}

impl Stage {
    /// The accepted transfer, even if it is complete.
    fn transfer(&self) -> Option<&Transfer> {
        match self {
            Self::Transfer(transfer) | Self::Seeding(transfer) => Some(transfer),
            Self::Offer(_) | Self::Ending => None,
        }
    }

    /// The accepted transfer, while some of it is missing.
    fn under_way(&self) -> Option<&Transfer> {
        match self {
            Self::Transfer(transfer) => Some(transfer),
            Self::Offer(_) | Self::Seeding(_) | Self::Ending => None,
        }
    }

    /// True if a later run can resume with what is there.
    fn is_kept(&self) -> bool {
        self.under_way()
            .is_some_and(|transfer| transfer.journal.is_kept())
    }

    fn under_way_mut(&mut self) -> Option<&mut Transfer> {
        match self {
            Self::Transfer(transfer) => Some(transfer),
            Self::Offer(_) | Self::Seeding(_) | Self::Ending => None,
        }
    }

    fn transfer_mut(&mut self) -> Option<&mut Transfer> {
        match self {
            Self::Transfer(transfer) | Self::Seeding(transfer) => Some(transfer),
            Self::Offer(_) | Self::Ending => None,
        }
    }
}

impl Download {
    pub(super) fn open(
        cx: &mut Context,
        id: DownloadId,
        source: FetchSource,
        sink: SinkKind,
        options: FetchOptions,
    ) -> Self {
        cx.relays.named(&options.relays);
        let nonce = cx.draw_number();
        let order = Order::new(id, source, sink, options, nonce);
        let mut download = Self {
            finding: Finding::new(&order, &cx.limits),
            order,
            links: FetchLinks::default(),
            circuits: Circuits::default(),
            stage: Stage::Offer(Box::default()),
            swarm: None,
            seed: None,
            manifest_source: ManifestSource::default(),
            seeding: None,
            gone: None,
            seek_due: None,
            hopeless: false,
            accused: None,
            paused: false,
            delivered: Delivered::default(),
            remembering: None,
            ending: None,
            over: false,
        };
        download.remembering = download
            .order
            .options
            .remember
            .then(|| Remembering::new(cx));
        download.meet_neighbours(cx);
        download.look(cx);
        download
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    fn is_ending(&self) -> bool {
        self.over || self.ending.is_some()
    }

    /// Handles a keyed link.
    pub(super) fn link_up(&mut self, cx: &mut Context, link: LinkId, peer: PeerId, dial: DialId) {
        let Some(state) = cx.links.get(link) else {
            return;
        };
        let (path, better, relay) = (state.path, state.better, state.relay);
        if self.is_seeder(peer) || self.manifest_source.is(peer) {
            if let Some(search) = &mut self.finding.search {
                search.over(dial, cx.now);
            }
            if !self.is_seeder(peer) {
                self.manifest_source.up(link);
            }
            return self.seeder_up(cx, link, peer, Fetching::new(path, relay));
        }
        self.finding.reached(cx, dial, peer, path);
        self.order.source.peer = Some(peer);
        let mut fetching = Fetching::new(path, relay);
        fetching.circuit = self.circuits.came(cx, dial);
        let is_one_more = fetching.circuit.is_some() && self.links.has_sharer();
        self.links.insert(link, fetching);
        self.order.greet(cx, link);
        if is_one_more {
            return;
        }
        self.order.tell_addresses(cx, link);
        self.say_seeds(cx, link);
        cx.event(Event::Connected {
            download: self.order.id,
            peer,
            path,
        });
        let search = self.finding.search.as_ref();
        if let Some(days) = search.and_then(|search| search.days_ahead(peer)) {
            cx.event(Event::OtherDate {
                download: self.order.id,
                days,
            });
        }
        if let Some(better) = better.filter(|better| *better < path) {
            self.path(cx, peer, better);
        }
    }

    /// Handles a lost link: what was requested on it is requested again.
    pub(super) fn link_down(&mut self, cx: &mut Context, link: LinkId, reason: String) {
        let Some(fetching) = self.links.remove(link) else {
            return;
        };
        let path = fetching.path;
        if let (Some(relay), false) = (fetching.relay, fetching.flow.is_idle()) {
            self.delivered.cut(relay);
        }
        if path == PathKind::Relayed {
            self.finding.turn = self.finding.turn.wrapping_add(1);
        }
        if let Stage::Transfer(transfer) = &mut self.stage {
            transfer.lost(fetching.flow);
        }
        if let Stage::Offer(offer) = &mut self.stage {
            offer.lost(link);
        }
        if let Some(peer) = fetching.seeder {
            self.manifest_source_down(cx, link, false);
            return self.seeder_down(cx, peer, link);
        }
        if self.is_ending() {
            return;
        }
        self.choose(cx);
        if self.links.has_sharer() {
            return self.pump(cx);
        }
        // Not reported while seeders serve.
        if !self.has_seeders() {
            cx.event(Event::ConnectionLost {
                download: self.order.id,
                path,
                reason: reason.clone(),
            });
        }
        self.finding.lost(reason);
        self.look(cx);
        self.pump(cx);
    }

    /// Picks the link to the sharer to use.
    fn choose(&mut self, cx: &mut Context) {
        if let Some(path) = self.links.choose(cx, self.stage.under_way()) {
            let download = self.order.id;
            cx.event(Event::PathChanged { download, path });
        }
    }

    /// Handles a frame from one of this download's links.
    pub(super) fn message(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        frame: Frame,
    ) -> Result<(), Violation> {
        if self.is_ending() {
            return Ok(());
        }
        let Frame {
            message,
            payload,
            hashes,
        } = frame;
        if let Message::Secret { secret } = message {
            self.order.told_secret(&secret)?;
            self.finding.proofs.end();
            return Ok(());
        }
        // A sharer that reports its rate limits is not stalled.
        let answers = matches!(
            message,
            Message::Data { .. } | Message::Manifest { .. } | Message::Pace { .. }
        );
        let is_seeder = self.links.is_to_seeder(link);
        match message {
            // It shares something under the same secret, but is not the sharer of this download.
            Message::Welcome { .. } if is_seeder => self.not_it(cx, link),
            Message::Welcome { manifest } => self.welcomed(cx, link, manifest)?,
            Message::Manifest { offset, total } => {
                self.manifest_part(cx, link, (offset, total), &payload)?;
            }
            Message::Data {
                id,
                segments,
                roots,
            } => {
                let data = answer::Data {
                    id,
                    served: segments.into_inner(),
                    roots,
                    payload,
                    hashes,
                };
                self.data(cx, link, data)?;
            }
            Message::Roots(roots) => self.roots(cx, link, is_seeder, &roots)?,
            Message::Chunks {
                entry,
                first,
                total,
            } if !is_seeder => {
                let Some(transfer) = self.stage.under_way_mut() else {
                    return Err(Violation::new("chunks that were not asked for"));
                };
                transfer.chunks(cx, link, (entry, first, total), &payload)?;
            }
            Message::Pace { piece, paused } => {
                self.links.told_pace(link, piece, paused);
                self.tell_sharer_paused(cx);
            }
            Message::Failed { entry, reason } if !is_seeder => {
                if let Stage::Transfer(transfer) = &mut self.stage {
                    transfer.entry_failed(cx, entry, reason);
                }
            }
            Message::Withdrawn if is_seeder => {
                cx.close(link);
                self.link_down(cx, link, "it has stopped to serve".to_string());
            }
            Message::Withdrawn => self.sharer_gone(cx, DownloadError::Withdrawn),
            Message::Seeder { manifest } => self.seeder(cx, link, manifest)?,
            Message::Parts { ranges } if is_seeder => {
                if let (Some(peer), Some(swarm)) = (self.links.seeder_of(link), &mut self.swarm) {
                    swarm.told_parts(peer, &ranges)?;
                }
            }
            Message::Peers { peers } => self.told_peers(cx, &peers),
            Message::Addresses { addresses } => self.told_addresses(cx, link, &addresses),
            Message::Remember { half } if !is_seeder => {
                let sharer = self.links.remembered(cx, link)?;
                if let (Some(ours), Some(sharer)) = (&mut self.remembering, sharer) {
                    ours.told(&cx.peer, &sharer, &half);
                }
            }
            _ => return Err(Violation::new("a receiver's message from a sharer")),
        }
        self.wait(cx.now, answers.then_some(link));
        self.pump(cx);
        Ok(())
    }

    /// Handles the end of a disk job of this download.
    pub(super) fn disk_done(
        &mut self,
        cx: &mut Context,
        job: DownloadJob,
        done: DiskDone,
    ) -> Result<(), Violation> {
        if let (DownloadJob::Discard, true) = (&job, self.ending.is_some()) {
            self.ended(cx);
            return Ok(());
        }
        if self.is_ending() {
            return Ok(());
        }
        match job {
            DownloadJob::Inspect => self.offered(cx, done),
            DownloadJob::ReadBack { link, id } => {
                if let Some((seed, transfer)) = self.serving() {
                    seed.read_back(cx, (link, id), done, transfer);
                }
            }
            DownloadJob::Finish => self.finished(cx, done),
            DownloadJob::Discard
            | DownloadJob::CountProof(_)
            | DownloadJob::ProofSucceeded
            | DownloadJob::ProofNotSent => {}
            job => self.transfer_done(cx, job, done)?,
        }
        self.pump(cx);
        Ok(())
    }

    /// Handles the end of a disk job of its transfer.
    fn transfer_done(
        &mut self,
        cx: &mut Context,
        job: DownloadJob,
        done: DiskDone,
    ) -> Result<(), Violation> {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Ok(());
        };
        let begins = matches!(job, DownloadJob::Stage);
        match transfer.disk_done(cx, job, done, self.gone.is_none()) {
            Ok(()) if begins => self.tell_resumable(cx),
            Ok(()) => {}
            Err(Stop::Violation(violation)) => return Err(violation),
            Err(Stop::Failed(error)) => self.fail(cx, error),
        }
        Ok(())
    }

    /// Starts disk jobs of its transfer.
    fn pump_disk(&mut self, cx: &mut Context) {
        let stays = self.seed.is_some() && self.order.options.seed_for.is_some();
        if let Stage::Transfer(transfer) = &mut self.stage {
            transfer.start_disk_work(cx, stays);
        }
    }

    pub(super) fn deadline(&self, limits: &Limits) -> Time {
        let circuits = self.circuits.wake();
        let stalled = limits.stalled;
        if self.is_ending() {
            return Time::NEVER;
        }
        let search = self
            .finding
            .search
            .as_ref()
            .map_or(Time::NEVER, Search::deadline);
        let report = match &self.stage {
            Stage::Transfer(transfer) => transfer.deadline(),
            _ => Time::NEVER,
        };
        let waits = self.links.waits_since();
        let stalled = waits.map_or(Time::NEVER, |since| since + stalled);
        let sharer = self.order.source.peer;
        let swarm = self.swarm_deadline(limits).min(self.seed_deadline());
        let swarm = swarm
            .min(self.manifest_source.deadline(sharer, self.sought()))
            .min(circuits);
        search.min(report).min(stalled).min(swarm)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, cx: &mut Context) {
        self.note_room(cx);
        if self.is_ending() {
            return;
        }
        self.drop_stalled(cx);
        if self
            .finding
            .search
            .as_ref()
            .is_some_and(|search| search.deadline() <= cx.now)
        {
            self.search_on(cx);
        }
        let goes_on = match &mut self.stage {
            Stage::Transfer(transfer) => transfer.local.tick(&mut transfer.files, cx.now),
            _ => false,
        };
        if goes_on || self.circuits.wake() <= cx.now {
            self.pump(cx);
        }
        if let Stage::Transfer(transfer) = &mut self.stage {
            transfer.keep(cx);
        }
        let is_due = |due: Option<Time>| due.is_some_and(|due| due <= cx.now);
        let transfer = self.stage.under_way();
        let report = is_due(transfer.map(|transfer| transfer.report_due));
        let have = is_due(transfer.map(|transfer| transfer.have_due));
        if report {
            self.report(cx);
        }
        if have {
            self.have(cx);
        }
        let (id, sharer, sought) = (self.order.id, self.order.source.peer, self.sought());
        self.manifest_source.tick(cx, id, sharer, sought);
        self.swarm_tick(cx);
        self.seed_tick(cx);
    }

    /// Does what is possible now: requests the manifest or ranges, writes, publishes, finishes.
    fn pump(&mut self, cx: &mut Context) {
        self.go_as_far(cx);
        // Sets when to continue what waits for a relay.
        let goes_on = !self.paused && !self.is_ending();
        let mut circuits = std::mem::take(&mut self.circuits);
        circuits.wait(cx, self.circuit_view().filter(|_| goes_on).as_ref());
        self.circuits = circuits;
    }

    fn go_as_far(&mut self, cx: &mut Context) {
        let transfer = self.stage.under_way();
        let is_exhausted = |best| self.links.is_exhausted(cx, best, transfer);
        if self.links.best.is_some_and(is_exhausted) {
            self.choose(cx);
        }
        self.ask_seeders(cx);
        let Some(best) = self.links.best else {
            self.ask_manifest_source(cx);
            self.wait(cx.now, None);
            self.pump_disk(cx);
            return self.look_at_supply(cx.now);
        };
        if let Stage::Offer(offer) = &mut self.stage {
            if let Some(offset) = offer.wants(best) {
                cx.send(best, Message::GetManifest { offset });
            }
            return self.wait(cx.now, None);
        }
        if !self.paused {
            self.ask(cx, best);
            self.ask_circuits(cx);
        }
        // A better link has replaced these, and no request is open on them.
        for link in self.links.superseded(cx, self.stage.under_way()) {
            let circuit = self.links.remove(link).and_then(|link| link.circuit);
            if let Some(circuit) = circuit {
                self.circuits.used_up(circuit, cx.limits.circuits, cx.now);
            }
            cx.close(link);
        }
        self.wait(cx.now, None);
        self.pump_disk(cx);
        self.look_at_supply(cx.now);
    }

    /// Stops requesting more, or resumes.
    pub(in super::super) fn pause(&mut self, cx: &mut Context, paused: bool) {
        if self.is_ending() || self.paused == paused {
            return;
        }
        self.paused = paused;
        self.report(cx);
        self.pump(cx);
    }

    /// Tells the user whether the sharer is paused, if that has changed.
    pub(super) fn tell_sharer_paused(&mut self, cx: &mut Context) {
        if let Some(paused) = self.links.pause_changed() {
            let download = self.order.id;
            cx.event(Event::SharerPaused { download, paused });
        }
    }

    /// Reports the memory it uses to the memory budget, which it shares with other transfers.
    pub(super) fn note_room(&self, cx: &mut Context) {
        let has_source = self.links.best.is_some() || self.has_seeders();
        let asks = match &self.stage {
            Stage::Transfer(transfer) => transfer.staged && !self.paused && has_source,
            _ => false,
        };
        if self.is_ending() {
            cx.memory.leave(self.order.id);
        } else {
            let held = self.links.held(self.stage.under_way());
            cx.memory.holds(self.order.id, held, asks);
        }
    }

    /// Continues: no rate limit or memory budget holds it up any more.
    pub(in super::super) fn go_on(&mut self, cx: &mut Context) {
        self.pump(cx);
        if let Some((seed, transfer)) = self.serving() {
            seed.pump(cx, transfer);
        }
        self.note_room(cx);
    }

    /// Handles the user's refusal of the offer.
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

    /// Ends it for this run, so that a later run can resume it. Cancels it if that is impossible.
    pub(in super::super) fn suspend(&mut self, cx: &mut Context) {
        if self.seeding.is_some() || !self.stage.is_kept() {
            return self.cancel(cx);
        }
        if !self.is_ending() {
            self.leave(cx, Leave::Cancelled);
            self.end(cx, DownloadOutcome::Suspended);
        }
    }

    /// Ends it for a reason other than the user's wish.
    pub(in super::super) fn fail(&mut self, cx: &mut Context, error: DownloadError) {
        if !self.is_ending() {
            self.leave(cx, Leave::Cancelled);
            self.end(cx, DownloadOutcome::Failed(error));
        }
    }

    /// Ends seeding, and with it the download.
    pub(super) fn end_seeding(&mut self, cx: &mut Context) {
        if let Some((summary, _)) = self.seeding.take() {
            self.end(cx, DownloadOutcome::Completed(summary));
        }
    }

    /// Tells the sharer, on the link in use, that nothing more is wanted, and closes all links.
    pub(super) fn leave(&mut self, cx: &mut Context, outcome: Leave) {
        let to_sharer = self.links.to_sharer();
        if let Some(link) = self.links.best.or_else(|| to_sharer.first().copied()) {
            cx.send(link, Message::Leave { outcome });
        }
        for link in self.links.take_all() {
            cx.close(link);
        }
        self.finding.end(cx);
        if let Some(swarm) = &mut self.swarm {
            swarm.end(cx);
        }
    }

    /// Ends it after its staged data is removed, or kept for a later run.
    fn end(&mut self, cx: &mut Context, outcome: DownloadOutcome) {
        let download = self.order.id;
        let work = match &outcome {
            DownloadOutcome::Suspended | DownloadOutcome::Failed(_) if self.stage.is_kept() => {
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
            self.delivered.tell(cx, self.order.id);
            cx.event(Event::DownloadEnded {
                download: self.order.id,
                outcome,
            });
        }
    }

    /// Handles the end of the last job of a complete transfer: everything is in place.
    pub(super) fn finished(&mut self, cx: &mut Context, done: DiskDone) {
        let failed = match done {
            DiskDone::Finished { failed } => failed,
            DiskDone::Failed(error) => return self.fail(cx, error.into()),
            _ => Vec::new(),
        };
        let mut paths = Vec::with_capacity(failed.len());
        for (path, error) in failed {
            paths.push(path.clone());
            cx.event(Event::FileFailed {
                download: self.order.id,
                path,
                reason: error.to_string(),
            });
        }
        self.report(cx);
        let path = self
            .links
            .best
            .and_then(|link| cx.links.get(link))
            .map(|link| link.path);
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let summary = transfer.summary(&paths, path, cx.now);
        self.have(cx);
        self.tell_agreed(cx);
        self.leave(cx, Leave::Completed);
        let stage = std::mem::replace(&mut self.stage, Stage::Ending);
        if let (Some(time), Some(seed), Stage::Transfer(transfer)) =
            (self.order.options.seed_for, &mut self.seed, stage)
        {
            seed.stays(cx.now);
            self.stage = Stage::Seeding(transfer);
            self.seeding = Some((summary, cx.now + time));
            cx.event(Event::Seeding {
                download: self.order.id,
                summary,
                time,
            });
            return;
        }
        self.end_seed(cx);
        self.ending = Some(DownloadOutcome::Completed(summary));
        self.ended(cx);
    }

    pub(super) fn report(&mut self, cx: &mut Context) {
        let link = self.links.best.and_then(|link| cx.links.get(link));
        let (path, rtt) = match link {
            Some(link) => (link.path, link.rtt),
            None => (self.links.last_path, None),
        };
        let seeders = self.swarm.as_ref().map_or(0, |swarm| swarm.sources());
        let over = Connected {
            path,
            rtt,
            sources: seeders + usize::from(self.links.best.is_some()),
        };
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        transfer.report_due = cx.now + REPORT_EVERY;
        let progress = transfer.progress(over, self.paused, cx.now);
        cx.event(Event::Progress {
            download: self.order.id,
            progress,
        });
    }

    pub(super) fn have(&mut self, cx: &mut Context) {
        let (Some(best), Stage::Transfer(transfer)) = (self.links.best, &mut self.stage) else {
            return;
        };
        transfer.have_due = cx.now + HAVE_EVERY;
        let count = transfer.files.count;
        let total = count.bytes.unwrap_or(0);
        cx.send(
            best,
            Message::Have {
                done: count.here,
                total,
            },
        );
    }

    /// Reports the agreed pairing, now that all data is here.
    pub(super) fn tell_agreed(&mut self, cx: &mut Context) {
        let agreed = self.remembering.take().and_then(Remembering::agreed);
        let Stage::Transfer(transfer) = &self.stage else {
            return;
        };
        if let (Some(secret), Some(peer)) = (agreed, self.order.source.peer) {
            let name = transfer.signed.manifest().author().to_string();
            cx.event(Event::Paired { peer, name, secret });
        }
    }
}
