//! Serving what a download has to others who fetch the same share, while it goes on and, if that is wanted, after.
//!
//! What may be served is in [`holdings`](super::holdings). Nothing is read back that is not hashed again: a file that was
//! changed here is not served, and nobody is to blame for it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::super::bits::Bits;
use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::gate::{TransferId, cost};
use super::super::seeders::Seeders;
use super::super::serving::{Carries, Reading, Serving, answer, check};
use super::super::turns::Turns;
use super::super::{
    AnnounceReport, DiskDone, DiskWork, Findable, LinkId, Located, Output, PathKind, Place,
    Segment, Violation,
};
use super::holdings::Holdings;
use super::transfer::Transfer;
use super::{Download, Stage};
use crate::PeerId;
use crate::frame::Frame;
use crate::manifest::Entry;
use crate::message::{Announced, MAX_TEXT, Message, Served};
use crate::time::Time;

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
pub(super) struct Seed {
    links: BTreeMap<LinkId, Seeded>,
    seeders: Seeders,
    turns: Turns,
    /// Reads under way.
    jobs: usize,
    /// When what came may be told again.
    tell_due: Time,
    /// Where it is announced in the DHT, when again, and the pause if nobody takes it.
    place: Option<Place>,
    announce_due: Time,
    pause: Duration,
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
    pub(super) fn new(now: Time) -> Self {
        Self {
            links: BTreeMap::new(),
            seeders: Seeders::default(),
            turns: Turns::default(),
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
    pub(super) fn shun(&mut self, cx: &mut Context, peer: PeerId) {
        let own = |(link, seeded): (&LinkId, &Seeded)| (seeded.peer == peer).then_some(*link);
        let links: Vec<_> = self.links.iter().filter_map(own).collect();
        for link in links {
            self.links.remove(&link);
            self.turns.leave(link);
            cx.close(link);
        }
        self.seeders.forget(peer);
    }
}

/// What a transfer may serve.
fn held(transfer: &Transfer) -> Option<&Holdings> {
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

impl Download {
    /// Whether somebody who knows the share's secret may have what is here.
    pub(in super::super) fn serves(&self, peer: PeerId, path: PathKind) -> bool {
        let shunned = self
            .swarm
            .as_ref()
            .is_some_and(|swarm| swarm.is_shunned(peer));
        let may = path == PathKind::Relayed || !self.options.relayed_only;
        let stands = matches!(self.stage, Stage::Transfer(_) | Stage::Seeding(_));
        self.seed.is_some() && stands && !self.is_ending() && !shunned && may
    }

    /// Whether one more link would be served.
    pub(in super::super) fn has_room(&self) -> bool {
        self.seed
            .as_ref()
            .is_some_and(|seed| seed.links.len() < LINKS)
    }

    /// Says over a link to a source that this side serves too, and where it can be dialled.
    pub(super) fn say_seeds(&self, cx: &mut Context, link: LinkId) {
        if self.seed.is_none() {
            return;
        }
        let addresses = cx.own_addresses(self.options.loopback, self.options.relayed_only);
        if !addresses.is_empty() {
            let addresses = addresses.into();
            cx.send(link, Message::Seeds { addresses });
        }
    }

    /// Says so over all links, once it is true.
    pub(super) fn say_seeds_everywhere(&self, cx: &mut Context) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.say_seeds(cx, link);
        }
    }

    /// A link proved the share's key, to be served.
    pub(in super::super) fn seed_up(&mut self, cx: &mut Context, link: LinkId) {
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else {
            return;
        };
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return;
        };
        let entries = transfer.signed.manifest().entries().len();
        let mut serving = Serving::default();
        serving.told = Bits::new(entries);
        let seeded = Seeded {
            peer,
            serving,
            told: 0,
            again: None,
        };
        seed.links.insert(link, seeded);
        seed.seeders.link_up(cx, link);
        let manifest = Announced {
            len: transfer.signed.encoded().len() as u64,
            id: transfer.signed.id(),
        };
        cx.send(link, Message::Seeder { manifest });
        self.tell_addresses(cx, link);
        self.tell_parts(cx, Some(link));
        // Who comes for parts may have some; it can be asked over the connection that it has made.
        self.meet_at(cx, peer, Vec::new());
    }

    /// A link that was served is gone, or its peer broke the protocol.
    pub(in super::super) fn seed_down(&mut self, cx: &mut Context, link: LinkId) {
        if let Some(seed) = &mut self.seed {
            seed.links.remove(&link);
            seed.turns.leave(link);
            self.note_buffered(cx);
        }
    }

    /// A peer broke the protocol on a link that was served: it is no source either.
    pub(in super::super) fn seed_blamed(&mut self, cx: &mut Context, link: LinkId, peer: PeerId) {
        self.seed_down(cx, link);
        self.shun(cx, peer);
    }

    /// Something came over a link that is served.
    pub(in super::super) fn seed_message(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        frame: Frame,
    ) -> Result<(), Violation> {
        match frame.message {
            Message::Hello { name, .. } if name.len() <= MAX_TEXT => {}
            Message::GetManifest { offset } => {
                if let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer())
                    && let Some(seeded) = seed.links.get_mut(&link)
                {
                    let encoded = transfer.signed.encoded();
                    seeded.serving.send_manifest(cx, link, encoded, offset)?;
                }
            }
            Message::Request { id, segments } => {
                self.seed_request(cx, link, id, segments.into_inner())?;
            }
            Message::Forget { ids } => {
                if let Some(seeded) = self.seeded(link) {
                    seeded.serving.forget(&ids);
                }
            }
            Message::GetRoot { entry } => self.seed_root(cx, link, entry)?,
            Message::Have { .. } => {}
            Message::Leave { .. } => {
                self.seed_down(cx, link);
                cx.close(link);
            }
            Message::Addresses { addresses } => {
                let addresses = cx.vet_told(&addresses, self.options.loopback);
                let hides = self.options.relayed_only;
                if let (Some(seeded), false) = (self.seeded(link), hides) {
                    seeded.serving.call(cx, seeded.peer, addresses);
                }
            }
            Message::Seeds { addresses } => self.seed_heard(cx, link, &addresses),
            _ => return Err(Violation::new("a source's message from a receiver")),
        }
        self.seed_pump(cx);
        Ok(())
    }

    /// Somebody whom we serve serves too: others are told, and it is a source.
    fn seed_heard(&mut self, cx: &mut Context, link: LinkId, told: &[serde_bytes::ByteBuf]) {
        let addresses = cx.vet_peer(told, self.options.loopback);
        let Some(seed) = &mut self.seed else {
            return;
        };
        seed.seeders.heard(cx, link, addresses.clone());
        if let Some(peer) = seed.links.get(&link).map(|seeded| seeded.peer) {
            self.meet(cx, peer, &addresses);
        }
    }

    fn seeded(&mut self, link: LinkId) -> Option<&mut Seeded> {
        self.seed.as_mut()?.links.get_mut(&link)
    }

    fn seed_request(
        &mut self,
        cx: &Context,
        link: LinkId,
        id: u64,
        segments: Vec<Segment>,
    ) -> Result<(), Violation> {
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return Ok(());
        };
        let Some(seeded) = seed.links.get_mut(&link) else {
            return Ok(());
        };
        let bytes_of = |entry| transfer.files.entry(entry).and_then(Entry::size);
        check(bytes_of, &segments, cx.limits.segments)?;
        seeded.serving.queue(id, segments, &cx.limits)
    }

    /// The root of an entry is wanted: sent as soon as it is known here.
    fn seed_root(&mut self, cx: &mut Context, link: LinkId, entry: u32) -> Result<(), Violation> {
        let is_file = self.stage.transfer().is_some_and(|transfer| {
            let size = transfer.files.entry(entry).and_then(Entry::size);
            size.is_some()
        });
        if !is_file {
            return Err(Violation::new("the root of what has none"));
        }
        let most = cx.limits.requests;
        if let Some(seeded) = self.seeded(link)
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
    pub(super) fn seed_pump(&mut self, cx: &mut Context) {
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return;
        };
        for (link, seeded) in &mut seed.links {
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
        while let Some(seed) = &self.seed {
            let mut links = seed.turns.order(seed.links.keys().copied()).into_iter();
            if !links.any(|link| self.seed_read(cx, link)) {
                return;
            }
        }
    }

    /// Starts the read for the first of a link's requests that can be; says whether it got anywhere.
    fn seed_read(&mut self, cx: &mut Context, link: LinkId) -> bool {
        let download = self.id;
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return false;
        };
        let Some(seeded) = seed.links.get_mut(&link) else {
            return false;
        };
        if seed.jobs >= cx.limits.disk_jobs {
            return false;
        }
        let rests = |segment: &Segment| !transfer.files.is_moving(segment.entry);
        let may = |segments: &[Segment]| segments.iter().all(rests);
        let of = TransferId::Download(download);
        let held_back = |segments: &[Segment]| {
            let forgotten = segments.iter().all(|segment| segment.len == 0);
            !forgotten && !cx.up.may(of, cx.now)
        };
        let room = cx.outgoing.room(of, cx.limits.send_buffer_total);
        let Some((id, segments)) = seeded.serving.next(&cx.limits, room, may, held_back) else {
            return false;
        };
        seed.turns.took(link, cost(&segments));
        if segments.iter().any(|segment| segment.len == 0) {
            let served = vec![Served::Forgotten; segments.len()];
            let seq = answer(cx, link, id, served, None, Bytes::new());
            seeded.serving.sends(seq, 0, Carries::Content);
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
            seeded.serving.sends(seq, 0, Carries::Content);
            return true;
        }
        cx.up.went(of, cost(&segments), cx.now);
        seeded.serving.reads(id, Reading { segments, asked });
        seed.jobs += 1;
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
        let links = self.seed.iter().flat_map(|seed| seed.links.values());
        let buffered = links.map(|seeded| seeded.serving.buffered).sum();
        let of = TransferId::Download(self.id);
        cx.outgoing.holds(of, buffered);
    }

    /// Bytes were read back: what is as it came goes out, with its proof.
    pub(super) fn read_back(&mut self, cx: &mut Context, link: LinkId, id: u64, done: DiskDone) {
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer_mut()) else {
            return;
        };
        seed.jobs = seed.jobs.saturating_sub(1);
        let Some(seeded) = seed.links.get_mut(&link) else {
            return; // The link went while its bytes were read.
        };
        let Some(Reading { segments, asked }) = seeded.serving.reading.remove(&id) else {
            return;
        };
        let (mut payload, results) = match done {
            DiskDone::Read { payload, segments } => (payload, segments),
            _ => (Bytes::new(), Vec::new()),
        };
        // A file that has got its name meanwhile is read again, from there.
        let moved = |segment: &Segment| {
            transfer.files.is_moving(segment.entry) || transfer.files.is_done(segment.entry)
        };
        let mut results = results.into_iter();
        let mut served = Vec::with_capacity(segments.len());
        let mut bytes = Vec::new();
        let (mut spoilt, mut again) = (Vec::new(), false);
        for (segment, asked) in segments.iter().zip(asked) {
            let result = if asked { results.next() } else { None };
            let Some(Ok(Some(hash))) = result else {
                again |= asked && moved(segment);
                spoilt.extend(asked.then_some(segment.entry));
                served.push(Served::Missing);
                continue;
            };
            let read = payload.split_to(payload.len().min(segment.len as usize));
            let size = transfer.files.size(segment.entry).unwrap_or_default();
            let proof = held(transfer).and_then(|held| held.proof(segment, size, hash));
            if proof.is_some() && read.len() == segment.len as usize {
                bytes.push(read);
                let len = segment.len;
                served.push(Served::Bytes { len, proof });
            } else {
                spoilt.push(segment.entry);
                served.push(Served::Missing);
            }
        }
        if again && seeded.again.replace(id) != Some(id) {
            seeded.serving.put_back(id, segments);
            return self.seed_pump(cx);
        }
        for entry in spoilt {
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
        let payload = join(bytes);
        let len = payload.len() as u64;
        let seq = answer(cx, link, id, served, None, payload);
        seeded.serving.sends(seq, len, Carries::Content);
        self.seed_pump(cx);
    }

    /// A link that is served has written a frame.
    pub(in super::super) fn seed_sent(&mut self, cx: &mut Context, link: LinkId, seq: u64) {
        if let Some(seeded) = self.seeded(link) {
            seeded.serving.sent(cx, link, seq);
        }
        self.seed_pump(cx);
    }

    /// Tells what came, over one link or over all that have not heard.
    fn tell_parts(&mut self, cx: &mut Context, only: Option<LinkId>) {
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return;
        };
        let Some(held) = held(transfer) else {
            return;
        };
        for (link, seeded) in &mut seed.links {
            if only.is_some_and(|only| only != *link) || seeded.told >= held.count() {
                continue;
            }
            let (ranges, told) = held.news(seeded.told);
            seeded.told = told;
            for ranges in Holdings::messages(&ranges) {
                cx.send(*link, Message::Parts { ranges });
            }
        }
    }

    pub(super) fn seed_deadline(&self) -> Time {
        let (Some(seed), Some(transfer)) = (&self.seed, self.stage.transfer()) else {
            return Time::NEVER;
        };
        let came = held(transfer).map_or(0, Holdings::count);
        let news = seed.links.values().any(|seeded| seeded.told < came);
        let tell = if news { seed.tell_due } else { Time::NEVER };
        let announce = if self.options.dht && self.can_meet() {
            seed.announce_due
        } else {
            Time::NEVER
        };
        let over = self
            .seeding
            .as_ref()
            .map_or(Time::NEVER, |(_, until)| *until);
        tell.min(seed.seeders.deadline()).min(announce).min(over)
    }

    /// Does what is due about serving.
    pub(super) fn seed_tick(&mut self, cx: &mut Context) {
        let hides = self.options.relayed_only;
        let due = |seed: &Seed| seed.announce_due <= cx.now;
        let announces = self.options.dht && self.seed.as_deref().is_some_and(due);
        let place = announces.then(|| self.meeting_place()).flatten();
        if self.stage.transfer().is_none() {
            return;
        }
        let Some(seed) = &mut self.seed else {
            return;
        };
        seed.seeders.tick(cx, hides);
        if let Some(place) = place {
            seed.announce_due = Time::NEVER;
            seed.place = Some(place);
            cx.push(Output::Announce { place });
        }
        if seed.tell_due <= cx.now {
            seed.tell_due = cx.now + TELL_EVERY;
            self.tell_parts(cx, None);
        }
        self.end_seeding_if_over(cx);
    }

    fn end_seeding_if_over(&mut self, cx: &mut Context) {
        if let Some((_, until)) = &self.seeding
            && *until <= cx.now
        {
            self.end_seeding(cx);
        }
    }

    /// An announcement has gone round.
    pub(in super::super) fn announced(
        &mut self,
        cx: &Context,
        place: Place,
        report: &AnnounceReport,
    ) {
        let Some(seed) = self.seed.as_mut().filter(|seed| seed.place == Some(place)) else {
            return;
        };
        let is_found = Findable::of(report).is_found();
        let again = if is_found {
            cx.limits.announce_again
        } else {
            seed.pause
        };
        seed.pause = if is_found {
            FIRST_PAUSE
        } else {
            (seed.pause * 2).min(LAST_PAUSE)
        };
        seed.announce_due = cx.now + again;
    }

    /// Nothing is served any more: whoever is, is told.
    pub(super) fn end_seed(&mut self, cx: &mut Context) {
        let Some(seed) = self.seed.take() else {
            return;
        };
        for link in seed.links.into_keys() {
            cx.send(link, Message::Withdrawn);
            cx.close(link);
        }
        if let Some(place) = seed.place {
            cx.push(Output::Withdraw { place });
        }
    }
}

/// The pieces of an answer in one payload: mostly there is one.
fn join(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop().unwrap_or_default();
    }
    pieces.concat().into()
}
