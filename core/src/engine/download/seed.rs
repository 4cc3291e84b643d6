//! Serving what a download has to others who fetch the same share, while it goes on and, if that is wanted, after.
//!
//! What may be served is in [`inventory`](super::inventory). Nothing is read back that is not hashed again: a file that was
//! changed here is not served, and nobody is to blame for it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::super::TransferId;
use super::super::bits::Bits;
use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::rate_limiter::cost;
use super::super::round_robin::RoundRobin;
use super::super::seeders::Seeders;
use super::super::serving::{FrameKind, Reading, Serving, answer, check};
use super::super::{
    AnnounceReport, DiskDone, DiskWork, DownloadId, Findable, LinkId, Located, Output, Place,
    Segment, Violation,
};
use super::inventory::Inventory;
use super::transfer::Transfer;
use crate::frame::Frame;
use crate::manifest::Entry;
use crate::message::{Announced, MAX_TEXT, Message, Served};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// Links that one download serves at once.
const LINKS: usize = 16;
/// What came is told at most so often.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// The pause after an announcement that nobody took, doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_mins(1);
/// How long a download goes on before it is announced. One that is over soon helps nobody, and to be found it takes a
/// place at relays of others, which some keep for hours: js-libp2p has 15 of them.
const SETTLED: Duration = Duration::from_secs(10);

/// The serving side of a download.
pub(in super::super) struct Seed {
    id: DownloadId,
    reach: Reach,
    links: BTreeMap<LinkId, Seeded>,
    seeders: Seeders,
    round_robin: RoundRobin,
    /// Reads under way.
    jobs: usize,
    /// When what came may be told again.
    tell_due: Time,
    /// Where it is announced in the DHT, when again, and the pause if nobody takes it.
    place: Option<Place>,
    announce_due: Time,
    pause: Duration,
}

/// How this side may be reached by those whom it serves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// Addresses of this machine alone are dialled and told.
    pub(super) loopback: bool,
    /// Only through relays.
    pub(super) relayed_only: bool,
}

/// Somebody whom this side serves serves too, at these addresses.
pub(super) struct AlsoServes {
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
}

/// One link that is served.
struct Seeded {
    peer: PeerId,
    serving: Serving,
    /// How many of the parts that came it was told of.
    told: usize,
    /// The request that was read a second time last: its file was given its name meanwhile.
    again: Option<u64>,
}

impl Seed {
    pub(super) fn new(id: DownloadId, reach: Reach, now: Time) -> Self {
        Self {
            id,
            reach,
            links: BTreeMap::new(),
            seeders: Seeders::default(),
            round_robin: RoundRobin::default(),
            jobs: 0,
            tell_due: now,
            place: None,
            announce_due: now + SETTLED,
            pause: FIRST_PAUSE,
        }
    }

    /// All is here, and it goes on serving: it is announced now, unless it was.
    pub(super) fn stays(&mut self, now: Time) {
        if self.place.is_none() {
            self.announce_due = now;
        }
    }

    /// A peer has lied: it is not served either.
    pub(super) fn ban(&mut self, cx: &mut Context, peer: PeerId) {
        let own = |(link, seeded): (&LinkId, &Seeded)| (seeded.peer == peer).then_some(*link);
        let links: Vec<_> = self.links.iter().filter_map(own).collect();
        for link in links {
            self.links.remove(&link);
            self.round_robin.leave(link);
            cx.close(link);
        }
        self.seeders.forget(peer);
    }

    /// Whether one more link would be served.
    pub(super) fn has_room(&self) -> bool {
        self.links.len() < LINKS
    }

    /// Says over a link to a source that this side serves too, and where it can be dialled.
    pub(super) fn tell(&self, cx: &mut Context, link: LinkId) {
        let addresses = cx.own_addresses(self.reach.loopback, self.reach.relayed_only);
        if !addresses.is_empty() {
            let addresses = addresses.into();
            cx.send(link, Message::Seeds { addresses });
        }
    }

    /// A link proved the share's key, to be served. Who is at its other end.
    pub(super) fn link_up(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        transfer: &Transfer,
    ) -> Option<PeerId> {
        let peer = cx.links.get(link)?.peer;
        let entries = transfer.signed.manifest().entries().len();
        let mut serving = Serving::default();
        serving.told = Bits::new(entries);
        let seeded = Seeded {
            peer,
            serving,
            told: 0,
            again: None,
        };
        self.links.insert(link, seeded);
        self.seeders.link_up(cx, link);
        let manifest = Announced {
            len: transfer.signed.encoded().len() as u64,
            id: transfer.signed.id(),
        };
        cx.send(link, Message::Seeder { manifest });
        if !self.reach.relayed_only {
            cx.tell_addresses(link, self.reach.loopback);
        }
        self.tell_parts(cx, Some(link), transfer);
        Some(peer)
    }

    /// A link that was served is gone, or its peer broke the protocol.
    pub(in super::super) fn link_down(&mut self, cx: &mut Context, link: LinkId) {
        self.links.remove(&link);
        self.round_robin.leave(link);
        self.note_buffered(cx);
    }

    /// Something came over a link that is served. Who serves too, if that is news.
    pub(super) fn message(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        frame: Frame,
        transfer: &Transfer,
    ) -> Result<Option<AlsoServes>, Violation> {
        let mut also = None;
        match frame.message {
            Message::Hello { name, .. } if name.len() <= MAX_TEXT => {}
            Message::GetManifest { offset } => {
                if let Some(seeded) = self.links.get_mut(&link) {
                    let encoded = transfer.signed.encoded();
                    seeded.serving.send_manifest(cx, link, encoded, offset)?;
                }
            }
            Message::Request { id, segments } => {
                self.request(cx, link, (id, segments.into_inner()), transfer)?;
            }
            Message::Forget { ids } => {
                if let Some(seeded) = self.links.get_mut(&link) {
                    seeded.serving.forget(&ids);
                }
            }
            Message::GetRoot { entry } => self.get_root(cx, link, entry, transfer)?,
            Message::Have { .. } => {}
            Message::Leave { .. } => {
                self.link_down(cx, link);
                cx.close(link);
            }
            Message::Addresses { addresses } => {
                let addresses = cx.vet_told(&addresses, self.reach.loopback);
                let hides = self.reach.relayed_only;
                if let (Some(seeded), false) = (self.links.get_mut(&link), hides) {
                    seeded.serving.call(cx, seeded.peer, addresses);
                }
            }
            Message::Seeds { addresses } => {
                let addresses = cx.vet_peer(&addresses, self.reach.loopback);
                self.seeders.heard(cx, link, addresses.clone());
                let peer = self.links.get(&link).map(|seeded| seeded.peer);
                also = peer.map(|peer| AlsoServes { peer, addresses });
            }
            _ => return Err(Violation::new("a source's message from a receiver")),
        }
        self.pump(cx, transfer);
        Ok(also)
    }

    fn request(
        &mut self,
        cx: &Context,
        link: LinkId,
        (id, segments): (u64, Vec<Segment>),
        transfer: &Transfer,
    ) -> Result<(), Violation> {
        let Some(seeded) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let bytes_of = |entry| transfer.files.entry(entry).and_then(Entry::size);
        check(bytes_of, &segments, cx.limits.segments)?;
        seeded.serving.queue(id, segments, &cx.limits)
    }

    /// The root of an entry is wanted: sent as soon as it is known here.
    fn get_root(
        &mut self,
        cx: &Context,
        link: LinkId,
        entry: u32,
        transfer: &Transfer,
    ) -> Result<(), Violation> {
        let size = transfer.files.entry(entry).and_then(Entry::size);
        if size.is_none() {
            return Err(Violation::new("the root of what has none"));
        }
        let most = cx.limits.requests;
        if let Some(seeded) = self.links.get_mut(&link)
            && !seeded.serving.owed.contains(&entry)
        {
            if seeded.serving.owed.len() >= most {
                return Err(Violation::new("too many roots at once"));
            }
            seeded.serving.owed.push(entry);
        }
        Ok(())
    }

    /// Starts what reads there is room for, and sends roots that were waited for.
    pub(super) fn pump(&mut self, cx: &mut Context, transfer: &Transfer) {
        for (link, seeded) in &mut self.links {
            let owed = std::mem::take(&mut seeded.serving.owed);
            for entry in owed {
                match held(transfer).and_then(|held| held.batch(entry)) {
                    Some((_, roots)) => {
                        cx.send(*link, Message::Roots(roots.clone()));
                    }
                    None => seeded.serving.owed.push(entry),
                }
            }
        }
        self.note_buffered(cx);
        loop {
            let mut links = self
                .round_robin
                .order(self.links.keys().copied())
                .into_iter();
            if !links.any(|link| self.start_read(cx, link, transfer)) {
                return;
            }
        }
    }

    /// Starts the read for the first of a link's requests that can be; says whether it got anywhere.
    fn start_read(&mut self, cx: &mut Context, link: LinkId, transfer: &Transfer) -> bool {
        let download = self.id;
        let Some(seeded) = self.links.get_mut(&link) else {
            return false;
        };
        if self.jobs >= cx.limits.disk_jobs {
            return false;
        }
        let rests = |segment: &Segment| !transfer.files.is_moving(segment.entry);
        let may = |segments: &[Segment]| segments.iter().all(rests);
        let of = TransferId::Download(download);
        let held_back = |segments: &[Segment]| {
            let forgotten = segments.iter().all(|segment| segment.len == 0);
            !forgotten && !cx.up.may(of, cx.now)
        };
        let room = cx.send_budget.room(of, cx.limits.send_buffer_total);
        let Some((id, segments)) = seeded.serving.next(&cx.limits, room, may, held_back) else {
            return false;
        };
        self.round_robin.took(link, cost(&segments));
        if segments.iter().any(|segment| segment.len == 0) {
            let served = vec![Served::Forgotten; segments.len()];
            let seq = answer(cx, link, id, served, None, Bytes::new());
            seeded.serving.sends(seq, 0, FrameKind::Content);
            return true;
        }
        let kept: Vec<_> = segments
            .iter()
            .map(|segment| kept(transfer, *segment))
            .collect();
        let asked: Vec<_> = kept.iter().map(Option::is_some).collect();
        let segments_back: Vec<_> = kept.into_iter().flatten().collect();
        if segments_back.is_empty() {
            let served = vec![Served::Missing; segments.len()];
            let seq = answer(cx, link, id, served, None, Bytes::new());
            seeded.serving.sends(seq, 0, FrameKind::Content);
            return true;
        }
        cx.up.went(of, cost(&segments), cx.now);
        seeded.serving.reads(id, Reading { segments, asked });
        self.jobs += 1;
        cx.disk(
            JobOwner::Download(download, DownloadJob::ReadBack { link, id }),
            DiskWork::ReadBack {
                download,
                segments: segments_back,
            },
        );
        self.note_buffered(cx);
        true
    }

    /// Takes note of what the links that are served hold, for the sake of all else that is.
    fn note_buffered(&self, cx: &mut Context) {
        let buffered = self.links.values().map(|seeded| seeded.serving.buffered);
        let of = TransferId::Download(self.id);
        cx.send_budget.holds(of, buffered.sum());
    }

    /// Bytes were read back: what is as it came goes out, with its proof.
    pub(super) fn read_back(
        &mut self,
        cx: &mut Context,
        (link, id): (LinkId, u64),
        done: DiskDone,
        transfer: &mut Transfer,
    ) {
        self.jobs = self.jobs.saturating_sub(1);
        let Some(seeded) = self.links.get_mut(&link) else {
            return; // The link went while its bytes were read.
        };
        let Some(reading) = seeded.serving.reading.remove(&id) else {
            return;
        };
        let back = Back::of(&reading, done, transfer);
        let segments = reading.segments;
        if back.again && seeded.again.replace(id) != Some(id) {
            seeded.serving.put_back(id, segments);
            return self.pump(cx, transfer);
        }
        for entry in back.spoilt {
            if let Some(held) = &mut transfer.files.held {
                held.lost(entry);
            }
        }
        let mut roots = Vec::new();
        for segment in &segments {
            let batch = held(transfer).and_then(|held| held.batch(segment.entry));
            if let Some((at, batch)) = batch
                && seeded.serving.told.insert(at)
            {
                roots.push(batch.clone());
            }
        }
        for roots in roots {
            cx.send(link, Message::Roots(roots));
        }
        seeded.serving.was_read(&segments);
        let payload = join(back.bytes);
        let len = payload.len() as u64;
        let seq = answer(cx, link, id, back.served, None, payload);
        seeded.serving.sends(seq, len, FrameKind::Content);
        self.pump(cx, transfer);
    }

    /// A link that is served has written a frame.
    pub(in super::super) fn sent(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        seq: u64,
        transfer: &Transfer,
    ) {
        if let Some(seeded) = self.links.get_mut(&link) {
            seeded.serving.sent(cx, link, seq);
        }
        self.pump(cx, transfer);
    }

    /// Tells what came, over one link or over all that have not heard.
    fn tell_parts(&mut self, cx: &mut Context, only: Option<LinkId>, transfer: &Transfer) {
        let Some(held) = held(transfer) else {
            return;
        };
        for (link, seeded) in &mut self.links {
            if only.is_some_and(|only| only != *link) || seeded.told >= held.count() {
                continue;
            }
            let (ranges, told) = held.news(seeded.told);
            seeded.told = told;
            for ranges in Inventory::messages(&ranges) {
                cx.send(*link, Message::Parts { ranges });
            }
        }
    }

    /// When something is due about serving. `announces`: it may be announced in the DHT.
    pub(super) fn deadline(&self, transfer: &Transfer, announces: bool) -> Time {
        let came = held(transfer).map_or(0, Inventory::count);
        let news = self.links.values().any(|seeded| seeded.told < came);
        let tell = if news { self.tell_due } else { Time::NEVER };
        let announce = if announces {
            self.announce_due
        } else {
            Time::NEVER
        };
        tell.min(self.seeders.deadline()).min(announce)
    }

    /// Does what is due about serving. `place`: where it is to be announced, if it may be.
    pub(super) fn tick(
        &mut self,
        cx: &mut Context,
        transfer: &Transfer,
        place: impl FnOnce() -> Option<Place>,
    ) {
        let is_due = self.announce_due <= cx.now;
        let place = is_due.then(place).flatten();
        self.seeders.tick(cx, self.reach.relayed_only);
        if let Some(place) = place {
            self.announce_due = Time::NEVER;
            self.place = Some(place);
            cx.push(Output::Announce { place });
        }
        if self.tell_due <= cx.now {
            self.tell_due = cx.now + TELL_EVERY;
            self.tell_parts(cx, None, transfer);
        }
    }

    /// An announcement has gone round.
    pub(in super::super) fn announced(
        &mut self,
        cx: &Context,
        place: Place,
        report: &AnnounceReport,
    ) {
        if self.place != Some(place) {
            return;
        }
        let is_found = Findable::of(report).is_found();
        let again = if is_found {
            cx.limits.announce_again
        } else {
            self.pause
        };
        self.pause = if is_found {
            FIRST_PAUSE
        } else {
            (self.pause * 2).min(LAST_PAUSE)
        };
        self.announce_due = cx.now + again;
    }

    /// Nothing is served any more: whoever is, is told.
    pub(super) fn end(self, cx: &mut Context) {
        for link in self.links.into_keys() {
            cx.send(link, Message::Withdrawn);
            cx.close(link);
        }
        if let Some(place) = self.place {
            cx.push(Output::Withdraw { place });
        }
    }
}

/// What was read back for a request.
struct Back {
    served: Vec<Served>,
    bytes: Vec<Bytes>,
    /// Files that are not as they came.
    spoilt: Vec<u32>,
    /// A file got its name while it was read: it is to be read again, from there.
    again: bool,
}

impl Back {
    fn of(reading: &Reading, done: DiskDone, transfer: &Transfer) -> Self {
        let mut back = Self {
            served: Vec::with_capacity(reading.segments.len()),
            bytes: Vec::new(),
            spoilt: Vec::new(),
            again: false,
        };
        let (mut payload, results) = match done {
            DiskDone::Read { payload, segments } => (payload, segments),
            _ => (Bytes::new(), Vec::new()),
        };
        let moved = |segment: &Segment| {
            transfer.files.is_moving(segment.entry) || transfer.files.is_done(segment.entry)
        };
        let mut results = results.into_iter();
        for (segment, asked) in reading.segments.iter().zip(&reading.asked) {
            let result = if *asked { results.next() } else { None };
            let Some(Ok(Some(hash))) = result else {
                back.again |= *asked && moved(segment);
                back.spoilt.extend(asked.then_some(segment.entry));
                back.served.push(Served::Missing);
                continue;
            };
            let read = payload.split_to(payload.len().min(segment.len as usize));
            let size = transfer.files.size(segment.entry).unwrap_or_default();
            let proof = held(transfer).and_then(|held| held.proof(segment, size, hash));
            if proof.is_some() && read.len() == segment.len as usize {
                back.bytes.push(read);
                let len = segment.len;
                back.served.push(Served::Bytes { len, proof });
            } else {
                back.spoilt.push(segment.entry);
                back.served.push(Served::Missing);
            }
        }
        back
    }
}

/// What a transfer may serve.
fn held(transfer: &Transfer) -> Option<&Inventory> {
    transfer.files.held.as_ref()
}

/// Where a segment's bytes are by now: `None` while they can't be read, or are gone.
fn kept(transfer: &Transfer, segment: Segment) -> Option<Located> {
    let held = held(transfer).filter(|held| held.has(&segment))?;
    let files = &transfer.files;
    let path = if files.is_done(segment.entry) {
        let renamed = held.place_of(segment.entry).cloned();
        Some(renamed.or_else(|| files.place(segment.entry))?)
    } else {
        None
    };
    Some(Located { segment, path })
}

/// The pieces of an answer in one payload: mostly there is one.
fn join(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop().unwrap_or_default();
    }
    pieces.concat().into()
}
