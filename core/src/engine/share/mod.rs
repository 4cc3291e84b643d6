//! One share that is offered here: scanned, hashed, served, withdrawn.
//!
//! No state per receiver has to survive a restart: receivers request what they need, and what is kept about them is
//! only for display.

mod ahead;
mod announce;
mod chunks;
mod content;
mod hashing;
mod patience;
mod receiver;
mod request;
mod serve;
mod sessions;

use std::collections::BTreeMap;
use std::time::Duration;

use announce::{Announcing, Number};
use chunks::Chunks;
use content::Content;
use receiver::ReceiverLink;
use serde_bytes::ByteBuf;
use sessions::Sessions;

use super::Violation;
use super::context::{Context, JobOwner, ShareJob};
use super::round_robin::RoundRobin;
use super::seeders::Seeders;
use super::{
    AnnounceReport, DiskDone, DiskWork, Event, LinkId, LookUpId, PathKind, Place, ReceiverOutcome,
    Scanned, ShareEnd, ShareId, ShareLabel, ShareOptions, Short,
};
use crate::code::{ShortCode, Ticket};
use crate::frame::Frame;
use crate::manifest::{EntryKind, ManifestParts, SignedManifest};
use crate::message::{Leave, Message, SecretBytes};
use crate::secret::{ShareCodeLabel, ShareSecret};
use crate::time::{Time, Timestamp};
use crate::{Multiaddr, PeerId, dial};

/// Interval between reports of the hashing progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// A share, from the command that created it to its withdrawal.
pub(super) struct Share {
    id: ShareId,
    label: ShareLabel,
    secret: ShareSecret,
    code: ShareCodeLabel,
    options: ShareOptions,
    /// Its short code, if it has one that is still valid, and the number of wrong guesses.
    short: Option<ShortCode>,
    guesses: u32,
    /// The ticket and short code that were last reported to the user.
    told: Option<(Ticket, Option<ShortCode>)>,
    announcing: Announcing,
    /// What is shared; `None` until it is scanned.
    content: Option<Content>,
    links: BTreeMap<LinkId, ReceiverLink>,
    sessions: Sessions,
    /// Receivers that serve others.
    seeders: Seeders,
    /// Number of disk jobs in progress.
    jobs: usize,
    /// True while a job hashes ahead.
    hashing: bool,
    /// Entries whose roots are still to be noted on this device, and whether a job that does so is in progress.
    unnoted: Vec<u32>,
    noting: bool,
    chunks: Chunks,
    /// Number of hashed bytes last reported, and the earliest time of the next report.
    reported: u64,
    report_due: Time,
    /// True while no requests are answered.
    paused: bool,
    /// When receivers with waiting requests are next told the rate limit, so that they keep waiting.
    patience_due: Time,
    round_robin: RoundRobin,
    /// When the share is withdrawn.
    expires: Time,
    /// Number of receivers that have completed it.
    completed: u32,
    /// Set when the share ends. The engine then drops it.
    ended: Option<ShareEnd>,
}

impl Share {
    pub(super) fn open(
        cx: &mut Context,
        id: ShareId,
        label: ShareLabel,
        secret: Option<ShareSecret>,
        options: ShareOptions,
    ) -> Self {
        let secret = secret.unwrap_or_else(|| ShareSecret::draw(cx.rng()));
        // The label is public and derived from the secret, so a share that is resumed has the same one.
        let code = ShareCodeLabel::of(&secret);
        let (short, guesses) = match &options.short {
            Short::None => (None, 0),
            Short::New => (Some(ShortCode::draw(cx.rng(), options.words.into())), 0),
            Short::Again { code, wrong } => (Some(code.clone()), *wrong),
        };
        let short = short.filter(|_| guesses < cx.limits.guesses);
        cx.disk(
            JobOwner::Share(id, ShareJob::Scan),
            DiskWork::Scan { share: id },
        );
        let expires = options.expires;
        let mut share = Self {
            id,
            label,
            secret,
            code,
            options,
            short,
            guesses,
            told: None,
            announcing: Announcing::new(id),
            content: None,
            links: BTreeMap::new(),
            sessions: Sessions::default(),
            seeders: Seeders::default(),
            jobs: 1,
            hashing: false,
            unnoted: Vec::new(),
            noting: false,
            chunks: Chunks::default(),
            reported: 0,
            report_due: Time::ZERO,
            paused: false,
            patience_due: Time::NEVER,
            round_robin: RoundRobin::default(),
            expires: expires.map_or(Time::NEVER, |after| cx.now + after),
            completed: 0,
            ended: None,
        };
        if share.options.short == Short::New {
            share.check_number(cx);
        }
        share.be_found(cx);
        if !cx.addresses.is_empty() || share.options.relayed_only {
            share.reachable(cx);
        }
        share
    }

    /// True if a link from this peer over this path may use the share.
    pub(super) fn takes(&self, peer: PeerId, path: PathKind) -> bool {
        let may = path == PathKind::Relayed || !self.options.relayed_only;
        may && self.options.only.is_none_or(|only| only == peer)
    }

    pub(super) fn secret(&self) -> &ShareSecret {
        &self.secret
    }

    /// Its short code, if it has one that is still valid.
    pub(super) fn short(&self) -> Option<&ShortCode> {
        self.short.as_ref()
    }

    /// Handles a wrong guess at the words of this code over this link. After a few of them the code is dead. The guess
    /// is answered once it has been counted on disk, where the next run finds it.
    pub(super) fn guessed_wrong(&mut self, cx: &mut Context, link: LinkId, code: ShortCode) {
        let owner = JobOwner::Share(self.id, ShareJob::CountGuess(link));
        let share = self.id;
        cx.disk(owner, DiskWork::CountGuess { share, code });
        self.jobs += 1;
        self.guesses = self.guesses.saturating_add(1);
        let left = cx.limits.guesses.saturating_sub(self.guesses);
        cx.event(Event::WrongWords {
            share: self.id,
            left,
        });
        if left == 0 {
            self.short = None;
            self.be_found(cx);
            cx.event(Event::CodeBurnt { share: self.id });
        }
    }

    /// Updates where the share is announced: at its rendezvous point, and under its number of today and of yesterday,
    /// as clocks of receivers may be a little behind.
    pub(super) fn be_found(&mut self, cx: &mut Context) {
        let mut places = Vec::new();
        if self.options.dht {
            places.push(Place::Share(self.secret.meeting_point()));
        }
        let free = self
            .short
            .as_ref()
            .filter(|_| !self.announcing.is_checking());
        if let (true, Some(day), Some(short)) = (self.options.dht, cx.day, free) {
            let number = short.number();
            let days = [day, day.saturating_sub(1)];
            places.extend(days.map(|day| Place::Number { number, day }));
        }
        self.announcing.set(cx, &places);
    }

    /// Checks whether a new short code's number is free. Nobody is told the code before that.
    fn check_number(&mut self, cx: &mut Context) {
        if let (true, Some(day), Some(short)) = (self.options.dht, cx.day, &self.short) {
            let number = short.number();
            self.announcing.check(cx, Place::Number { number, day });
        }
    }

    fn checked(&mut self, cx: &mut Context, number: Number) {
        match number {
            Number::Unknown => {}
            Number::Free => {
                self.be_found(cx);
                self.tell(cx);
            }
            Number::Taken => {
                self.short = Some(ShortCode::draw(cx.rng(), self.options.words.into()));
                self.check_number(cx);
            }
        }
    }

    /// Handles a peer found by a lookup.
    pub(super) fn found(&mut self, cx: &mut Context, lookup: LookUpId, peer: PeerId) {
        let number = self.announcing.found(cx, lookup, peer);
        self.checked(cx, number);
    }

    /// Handles the end of a lookup.
    pub(super) fn looked_up(&mut self, cx: &mut Context, lookup: LookUpId) {
        let number = self.announcing.looked_up(lookup);
        self.checked(cx, number);
    }

    /// Handles the report of a finished announcement.
    pub(super) fn announced(&mut self, cx: &mut Context, place: Place, report: &AnnounceReport) {
        self.announcing.announced(cx, place, report);
    }

    /// Handles a change of this side's addresses.
    pub(super) fn reachable(&mut self, cx: &mut Context) {
        self.announcing.moved(cx.now);
        self.tell(cx);
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.tell_addresses(cx, link);
        }
    }

    fn tell_addresses(&self, cx: &mut Context, link: LinkId) {
        if !self.options.relayed_only {
            cx.tell_addresses(link, self.options.loopback);
        }
    }

    /// Reports the codes to the user, if they have changed.
    fn tell(&mut self, cx: &mut Context) {
        let vetted = dial::vet(&cx.addresses, self.options.loopback, &cx.limits).dial;
        let is_inside = |address: &Multiaddr| dial::ip_of(address).is_some_and(dial::is_inside);
        let may = |address: &Multiaddr| match dial::path_kind(address) {
            PathKind::Relayed => true,
            _ if self.options.relayed_only => false,
            // `dial::vet` has already filtered these by `options.loopback`.
            PathKind::Loopback => true,
            PathKind::Lan | PathKind::Direct => self.options.lan || !is_inside(address),
        };
        // Sorted, so that a share resumed after a restart has exactly the same code.
        let mut addresses: Vec<_> = vetted.into_iter().filter(may).collect();
        addresses.sort_unstable();
        let ticket = Ticket {
            peer: cx.peer,
            addresses,
            secret: self.secret.clone(),
            share_code: self.code.clone(),
        };
        let short = self.short.clone();
        let told = (ticket, short.filter(|_| !self.announcing.is_checking()));
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told.clone());
            let (ticket, short) = told;
            cx.event(Event::ShareOpen {
                share: self.id,
                ticket,
                short,
            });
        }
    }

    /// Handles the addresses where the receiver at the other end of a link can be dialled.
    fn call(&mut self, cx: &mut Context, link: LinkId, addresses: &[ByteBuf]) {
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else {
            return;
        };
        let addresses = cx.vet_told(addresses, self.options.loopback);
        if let (Some(receiver), false) = (self.links.get_mut(&link), self.options.relayed_only) {
            receiver.serving.call(cx, peer, addresses);
        }
    }

    /// Handles a link that proved this share's key or its short code. With a short code, the receiver is sent the key.
    pub(super) fn link_up(&mut self, cx: &mut Context, link: LinkId, short: bool) {
        self.links.insert(link, ReceiverLink::default());
        self.seeders.link_up(cx, link);
        if short {
            let secret = SecretBytes(*self.secret.as_bytes());
            cx.send(link, Message::Secret { secret });
        }
        self.welcome(cx, link);
        self.tell_pace_to(cx, link);
        self.tell_addresses(cx, link);
    }

    fn welcome(&self, cx: &mut Context, link: LinkId) {
        let manifest = self.content.as_ref().map(Content::announced);
        cx.send(link, Message::Welcome { manifest });
    }

    /// Handles the loss of a link.
    pub(super) fn link_down(&mut self, cx: &mut Context, link: LinkId) {
        if self.links.remove(&link).is_some() {
            self.sessions.link_down(cx, link);
            self.round_robin.leave(link);
            self.note_buffered(cx);
        }
    }

    /// Handles a message on one of this share's links.
    pub(super) fn message(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        frame: Frame,
    ) -> Result<(), Violation> {
        match frame.message {
            Message::Hello { session, name } => {
                self.sessions.hello(cx, self.id, link, session, name)?;
            }
            Message::GetManifest { offset } => self.send_manifest(cx, link, offset)?,
            Message::Request { id, segments } => {
                self.request(cx, link, id, segments.into_inner())?;
            }
            Message::Forget { ids } => {
                if let Some(receiver) = self.links.get_mut(&link) {
                    receiver.serving.forget(&ids);
                }
            }
            Message::GetRoot { entry } => self.get_root(cx, link, entry)?,
            Message::GetRoots { first, count } => self.get_roots(cx, link, (first, count))?,
            Message::GetChunks { entry, first } => self.get_chunks(cx, link, (entry, first))?,
            Message::Have { done, total } => self.sessions.have(cx, link, done, total),
            Message::Leave { outcome } => self.leave(cx, link, outcome),
            Message::Addresses { addresses } => self.call(cx, link, &addresses),
            Message::Remember { half } => self.remember(cx, link, &half)?,
            Message::Seeds { addresses } => {
                let addresses = cx.vet_peer(&addresses, self.options.loopback);
                self.seeders.heard(cx, link, addresses);
            }
            _ => return Err(Violation::new("a sharer's message from a receiver")),
        }
        self.pump(cx);
        Ok(())
    }

    /// Handles a receiver's request to pair. Not answered unless this side wants to pair too.
    fn remember(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        half: &SecretBytes,
    ) -> Result<(), Violation> {
        if let Some(receiver) = self.links.get_mut(&link) {
            receiver.said.ask()?;
        }
        let would = self.options.remember;
        self.sessions.remember(cx, link, half, would)
    }

    fn leave(&mut self, cx: &mut Context, link: LinkId, leave: Leave) {
        let outcome = match leave {
            Leave::Completed => ReceiverOutcome::Completed,
            Leave::Declined => ReceiverOutcome::Declined,
            Leave::Cancelled => ReceiverOutcome::Cancelled,
        };
        for link in self.sessions.end(cx, link, outcome) {
            self.links.remove(&link);
            cx.close(link);
        }
        if leave == Leave::Completed {
            self.completed = self.completed.saturating_add(1);
            if self.options.uses.is_some_and(|uses| self.completed >= uses) {
                self.end(cx, ShareEnd::UsedUp);
            }
        }
    }

    /// Handles a protocol violation of the peer on this link. The engine closes the link.
    pub(super) fn blamed(&mut self, cx: &mut Context, link: LinkId) {
        self.links.remove(&link);
        self.seeders.blamed(link);
        for other in self.sessions.end(cx, link, ReceiverOutcome::Violation) {
            self.links.remove(&other);
            cx.close(other);
        }
    }

    /// Handles the end of a disk job of this share.
    pub(super) fn disk_done(&mut self, cx: &mut Context, job: ShareJob, done: DiskDone) {
        self.jobs = self.jobs.saturating_sub(1);
        if self.ended.is_some() {
            return;
        }
        match job {
            ShareJob::Scan => self.scanned(cx, done),
            ShareJob::Serve { link, id } => self.read(cx, link, id, done),
            ShareJob::Pipe { link, id, offset } => self.pipe_read(cx, link, id, offset, done),
            ShareJob::HashGroups { entry, first } => self.groups_hashed(cx, entry, first, done),
            ShareJob::HashFiles { entries } => self.files_hashed(cx, &entries, done),
            ShareJob::Chunk { entry } => self.chunked(cx, entry, done),
            ShareJob::Note => self.noting = false,
            ShareJob::CountGuess(_) | ShareJob::Forget => {}
        }
        self.pump(cx);
    }

    fn scanned(&mut self, cx: &mut Context, done: DiskDone) {
        let scanned = match done {
            DiskDone::Scanned(scanned) => scanned,
            DiskDone::Failed(error) => return self.end(cx, ShareEnd::Failed(error.to_string())),
            _ => {
                return self.end(
                    cx,
                    ShareEnd::Failed("the disk answered with something else".into()),
                );
            }
        };
        let (signed, skipped) = match self.sign(cx, scanned) {
            Ok(signed) => signed,
            Err(reason) => return self.end(cx, ShareEnd::Failed(reason)),
        };
        cx.event(Event::ShareScanned {
            share: self.id,
            summary: signed.manifest().summary(),
            manifest: signed.manifest().clone(),
            skipped,
        });
        self.content = Some(Content::new(signed));
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.welcome(cx, link);
            self.tell_pace_to(cx, link);
        }
    }

    fn sign(
        &self,
        cx: &Context,
        scanned: Scanned,
    ) -> Result<(SignedManifest, Vec<(String, String)>), String> {
        if scanned.entries.is_empty() {
            let mut reason = "there is nothing to share".to_string();
            if let Some((name, why)) = scanned.skipped.first() {
                reason = format!("{reason}: {name}: {why}");
            }
            return Err(reason);
        }
        let parts = ManifestParts {
            name: self.label.name.clone(),
            description: self.label.description.clone(),
            author: self.label.author.clone(),
            created: made_at(&scanned),
            entries: scanned.entries,
        };
        let signed = SignedManifest::sign(parts, &cx.identity, &cx.limits)
            .map_err(|error| error.to_string())?;
        Ok((signed, scanned.skipped))
    }

    /// Withdraws the share: tells the receivers and closes its files.
    pub(super) fn end(&mut self, cx: &mut Context, reason: ShareEnd) {
        if self.ended.is_some() {
            return;
        }
        for link in std::mem::take(&mut self.links).into_keys() {
            cx.send(link, Message::Withdrawn);
            cx.close(link);
        }
        self.sessions.end_all(cx);
        self.announcing.end(cx);
        cx.disk(
            JobOwner::Share(self.id, ShareJob::Forget),
            DiskWork::Forget { share: self.id },
        );
        cx.event(Event::ShareEnded {
            share: self.id,
            reason: reason.clone(),
        });
        self.ended = Some(reason);
    }

    /// True if the share has ended.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn deadline(&self) -> Time {
        let next = self.sessions.deadline().min(self.announcing.deadline());
        let next = next.min(self.expires).min(self.patience_due);
        next.min(self.seeders.deadline())
    }

    /// Handles the passing of time.
    pub(super) fn tick(&mut self, cx: &mut Context) {
        self.sessions.tick(cx);
        if cx.now >= self.expires {
            self.end(cx, ShareEnd::Expired);
        }
        if self.ended.is_none() {
            let number = self.announcing.tick(cx);
            self.checked(cx, number);
            self.ask_for_patience(cx);
            self.seeders.tick(cx, self.options.relayed_only);
        }
    }

    /// Starts as many disk jobs as allowed: reads that receivers wait for first, then hashing ahead.
    pub(super) fn pump(&mut self, cx: &mut Context) {
        if self.ended.is_some() {
            return;
        }
        self.start_reads(cx);
        self.start_chunking(cx);
        // While receivers keep the disk busy, their reads hash what they touch, and hashing ahead would only slow them
        // down. But receivers that wait for roots may have the files already, and receivers can serve each other only
        // files whose roots are known.
        let mut links = self.links.values();
        let idle = links.all(|link| link.serving.is_idle());
        if idle || self.links.values().any(|link| link.ahead.is_owed()) || self.seeders.count() > 1
        {
            self.start_hashing(cx);
        }
        self.note_roots(cx);
    }
}

/// Returns the manifest's date: the latest modification time of its files and folders, or the time of the scan if none
/// has one. If nothing was modified, a restarted sharer thus has the same manifest and signed roots, and receivers can
/// resume.
fn made_at(scanned: &Scanned) -> Timestamp {
    let dates = scanned.entries.iter().filter_map(|entry| match entry.kind {
        EntryKind::File { modified, .. } | EntryKind::Folder { modified, .. } => Some(modified),
        EntryKind::Symlink { .. } | EntryKind::Stream => None,
    });
    dates.max().unwrap_or(scanned.at)
}
