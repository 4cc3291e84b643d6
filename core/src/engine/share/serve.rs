//! Answering receivers: requests wait per link, are read as the link takes what was read before, and are answered.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::bits::Bits;
use super::super::context::{Context, JobOwner, ShareJob};
use super::super::gate::{TransferId, cost};
use super::super::remember::Said;
use super::super::{DiskDone, DiskError, DiskWork, Event, LinkId, PathKind, Segment, Violation};
use super::Share;
use super::ahead::Ahead;
use super::content::{Content, EntryState};
use super::patience::Pace;
use super::request::{Plan, check, is_servable, may_read, plan_read, served_bytes};
use crate::limits::{GROUP, RELAYED_PIECE};
use crate::manifest::SignedRoots;
use crate::message::{Failure, Message, Served};

/// Parts of the manifest that may wait for a link. Who asks for the next one when it has the last needs one; that the
/// last is gone may be heard a little later.
const MANIFEST_PARTS: usize = 2;

/// One link's requests.
#[derive(Default)]
pub(super) struct Serving {
    /// Not read yet, in the order in which they came.
    waiting: VecDeque<(u64, Vec<Segment>)>,
    /// Being read.
    reading: BTreeMap<u64, Reading>,
    /// Answers and parts of the manifest that were given to the link and are not yet gone.
    sending: VecDeque<Sending>,
    /// Bytes being read, and read but not gone.
    buffered: u64,
    last_id: Option<u64>,
    /// Entries whose root went out on this link.
    pub(super) told: Bits,
    /// Entries whose root was asked for before it was known.
    owed: Vec<u32>,
    /// Roots that were asked for in bulk.
    pub(super) ahead: Ahead,
    /// How this share holds back, as was said on this link last.
    pub(super) told_pace: Pace,
    /// How often the other side has asked to be called back.
    pub(super) calls: u32,
    /// What was said on it of remembering.
    pub(super) said: Said,
}

/// A request whose bytes are being read.
struct Reading {
    segments: Vec<Segment>,
    /// Which of the segments the disk was asked for: the others had failed by then.
    asked: Vec<bool>,
}

/// A frame on its way out.
struct Sending {
    seq: u64,
    bytes: u64,
    /// Its payload is content, not manifest.
    content: bool,
}

impl Serving {
    pub(super) fn forget(&mut self, ids: &[u64]) {
        // The answer is still owed, so that both sides agree on what is outstanding; it carries no bytes.
        for (id, segments) in &mut self.waiting {
            if ids.contains(id) {
                for segment in segments {
                    segment.len = 0;
                }
            }
        }
    }

    /// A frame was given to the link, if it still has one.
    pub(super) fn sends(&mut self, seq: Option<u64>, bytes: u64, content: bool) {
        if let Some(seq) = seq {
            self.sending.push_back(Sending {
                seq,
                bytes,
                content,
            });
            self.buffered += bytes;
        }
    }

    /// Whether requests wait to be read.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the link waits for nothing from the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.reading.is_empty()
    }

    fn read_bytes(segments: &[Segment]) -> u64 {
        segments.iter().map(|segment| u64::from(segment.len)).sum()
    }
}

impl Share {
    pub(super) fn send_manifest(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        offset: u64,
    ) -> Result<(), Violation> {
        let (Some(content), Some(serving)) = (&self.content, self.serving.get_mut(&link)) else {
            return Err(Violation::new(
                "asked for a manifest that was not announced",
            ));
        };
        let parts = serving.sending.iter().filter(|sending| !sending.content);
        if parts.count() > MANIFEST_PARTS {
            return Err(Violation::new(
                "asks for the manifest faster than it takes it",
            ));
        }
        let total = content.manifest_bytes();
        let path = cx.links.get(link).map(|link| link.path);
        let most = match path {
            Some(PathKind::Relayed) => RELAYED_PIECE,
            _ => GROUP,
        };
        let Some(part) = content.manifest_part(offset, most) else {
            return Err(Violation::new("asked for bytes behind the manifest"));
        };
        let bytes = part.len() as u64;
        let seq = cx.send_with(link, Message::Manifest { offset, total }, part);
        serving.sends(seq, bytes, false);
        Ok(())
    }

    /// A request came: checks that it can be answered at all, and queues it.
    pub(super) fn request(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        id: u64,
        segments: Vec<Segment>,
    ) -> Result<(), Violation> {
        let limits = &cx.limits;
        let (Some(content), Some(serving)) = (&self.content, self.serving.get_mut(&link)) else {
            return Err(Violation::new("a request before there is a manifest"));
        };
        if serving.last_id.is_some_and(|last| id <= last) {
            return Err(Violation::new("request numbers do not count up"));
        }
        if serving.waiting.len() + serving.reading.len() >= limits.requests {
            return Err(Violation::new("too many requests at once"));
        }
        // Answers without bytes fill no buffer, but are not for nothing either.
        if serving.sending.len() >= limits.requests.saturating_mul(2) {
            return Err(Violation::new("asks faster than it takes answers"));
        }
        check(content, &segments, limits.segments)?;
        serving.last_id = Some(id);
        serving.waiting.push_back((id, segments));
        Ok(())
    }

    /// The root of an entry is wanted: sent now, or as soon as the entry is hashed.
    pub(super) fn get_root(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        entry: u32,
    ) -> Result<(), Violation> {
        let (Some(content), Some(serving)) = (&self.content, self.serving.get_mut(&link)) else {
            return Err(Violation::new("a root before there is a manifest"));
        };
        match content.entry(entry) {
            None | Some(EntryState::Bare) => {
                return Err(Violation::new("the root of what has none"));
            }
            Some(EntryState::Failed { failure, .. }) => {
                let reason = *failure;
                cx.send(link, Message::Failed { entry, reason });
            }
            Some(EntryState::File { .. } | EntryState::Stream(_)) => {
                if !serving.owed.contains(&entry) {
                    if serving.owed.len() >= cx.limits.requests {
                        return Err(Violation::new("too many roots at once"));
                    }
                    serving.owed.push(entry);
                }
                self.pay_roots(cx);
            }
        }
        Ok(())
    }

    /// Sends the roots that were asked for and are known by now.
    pub(super) fn pay_roots(&mut self, cx: &mut Context) {
        let Some(content) = &self.content else {
            return;
        };
        for (link, serving) in &mut self.serving {
            let owed = std::mem::take(&mut serving.owed);
            for entry in owed {
                if let Some(EntryState::Failed { failure, .. }) = content.entry(entry) {
                    let reason = *failure;
                    cx.send(*link, Message::Failed { entry, reason });
                } else if let Some(root) = content.root(entry) {
                    if let Some(roots) = content.sign_roots(&[(entry, root)], &cx.identity) {
                        cx.send(*link, Message::Roots(roots));
                    }
                } else {
                    serving.owed.push(entry);
                }
            }
        }
    }

    /// Starts reads for waiting requests: one per link in turn, while there is room.
    pub(super) fn start_reads(&mut self, cx: &mut Context) {
        let mut started = true;
        let mut total: u64 = self.serving.values().map(|serving| serving.buffered).sum();
        while started {
            started = false;
            for link in self.turns() {
                if self.jobs >= cx.limits.disk_jobs {
                    return;
                }
                started |= self.start_read(cx, link, &mut total);
            }
        }
    }

    /// The links, from the one behind that which had the last turn.
    fn turns(&self) -> Vec<LinkId> {
        let mut links: Vec<_> = self.serving.keys().copied().collect();
        let first = links.partition_point(|link| Some(*link) <= self.turn);
        links.rotate_left(first);
        links
    }

    /// Starts the read for the first of a link's waiting requests that can be, if its buffer has room; says whether it
    /// got anywhere.
    fn start_read(&mut self, cx: &mut Context, link: LinkId, total: &mut u64) -> bool {
        let (Some(content), Some(serving)) = (&mut self.content, self.serving.get_mut(&link))
        else {
            return false;
        };
        let peer = cx.links.get(link).map(|link| link.peer);
        let can_start = |(_, segments): &(u64, Vec<Segment>)| may_read(content, segments, peer);
        let Some(at) = serving.waiting.iter().position(can_start) else {
            return false;
        };
        let Some((_, segments)) = serving.waiting.get(at) else {
            return false;
        };
        let bytes = Serving::read_bytes(segments);
        let full = serving.buffered + bytes > cx.limits.send_buffer
            || *total + bytes > cx.limits.send_buffer_total;
        if serving.buffered > 0 && full {
            return false;
        }
        let of = TransferId::Share(self.id);
        if bytes > 0 && (self.paused || !cx.up.may(of, cx.now)) {
            return false;
        }
        self.turn = Some(link);
        let Some((id, segments)) = serving.waiting.remove(at) else {
            return false;
        };
        let work = match plan_read(content, self.id, &segments, peer) {
            Plan::Answer(served) => {
                let seq = answer(cx, link, id, served, None, Bytes::new());
                serving.sends(seq, 0, true);
                return true;
            }
            Plan::Read(work) => work,
        };
        let asked = segments.iter().map(|segment| is_servable(content, segment));
        let asked = asked.collect();
        cx.up.went(of, cost(&segments), cx.now);
        serving.buffered += bytes;
        *total += bytes;
        serving.reading.insert(id, Reading { segments, asked });
        self.jobs += 1;
        let job = match work {
            DiskWork::ReadPipe { offset, .. } => ShareJob::Pipe { link, id, offset },
            _ => ShareJob::Serve { link, id },
        };
        cx.disk(JobOwner::Share(self.id, job), work);
        true
    }

    /// A read for a request is done: its hashes go into the trees, its bytes to the receiver.
    pub(super) fn read(&mut self, cx: &mut Context, link: LinkId, id: u64, done: DiskDone) {
        let Some(content) = &mut self.content else {
            return;
        };
        let serving = self.serving.get_mut(&link);
        let Some(reading) = serving.and_then(|serving| serving.reading.remove(&id)) else {
            return; // The link went while its bytes were read.
        };
        let Reading { segments, asked } = reading;
        let (payload, results) = match done {
            DiskDone::Read { payload, segments } => (payload, segments),
            DiskDone::Failed(error) => (Bytes::new(), vec![Err(error); segments.len()]),
            _ => (Bytes::new(), Vec::new()),
        };
        let mut results = results.into_iter();
        let mut served = Vec::with_capacity(segments.len());
        let mut failed = Vec::new();
        for (segment, asked) in segments.iter().zip(asked) {
            let result = if asked { results.next() } else { None };
            let outcome = match (result, content.entry(segment.entry)) {
                // An entry may have failed while this was read. Its bytes are in the payload all the same.
                (Some(Ok(hash)), _) => served_bytes(content, segment, hash),
                (_, Some(EntryState::Failed { failure, .. })) => Served::Failed(*failure),
                (Some(Err(error)), _) => {
                    failed.push((segment.entry, error.clone()));
                    Served::Failed(content.fail(segment.entry, &error))
                }
                (None, _) => Served::Failed(Failure::Unreadable),
            };
            served.push(outcome);
        }
        self.send_data(cx, link, id, &segments, served, payload);
        self.report_failed(cx, failed);
        self.hashed(cx);
    }

    /// The pipe was read at `at` for a request, whose link may be gone by now: what was read stays read.
    pub(super) fn pipe_read(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        id: u64,
        at: u64,
        done: DiskDone,
    ) {
        let Some(content) = &mut self.content else {
            return;
        };
        let serving = self.serving.get_mut(&link);
        let reading = serving.and_then(|serving| serving.reading.remove(&id));
        let mut failed = Vec::new();
        let (served, payload) = match (content.entry_mut(0), done) {
            (Some(EntryState::Stream(stream)), DiskDone::PipeRead { payload, hash, end }) => {
                stream.reading = false;
                let len = u32::try_from(payload.len()).unwrap_or(GROUP);
                if at == stream.read && (len > 0 || at == 0) && stream.size.is_none() {
                    stream.tree.push(hash);
                    stream.read += u64::from(len);
                }
                if end {
                    stream.size = Some(stream.read);
                }
                let served = match stream.size {
                    Some(size) if at.saturating_add(u64::from(len)) >= size => {
                        Served::End { len, size }
                    }
                    _ => Served::Bytes { len, proof: None },
                };
                (served, payload)
            }
            (_, DiskDone::Failed(error)) => {
                failed.push((0, error.clone()));
                (Served::Failed(content.fail(0, &error)), Bytes::new())
            }
            _ => (Served::Failed(Failure::Unreadable), Bytes::new()),
        };
        if let Some(Reading { segments, .. }) = reading {
            self.send_data(cx, link, id, &segments, vec![served], payload);
        }
        self.report_failed(cx, failed);
        self.pay_roots(cx);
    }

    fn send_data(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        id: u64,
        segments: &[Segment],
        served: Vec<Served>,
        payload: Bytes,
    ) {
        let (Some(content), Some(serving)) = (&self.content, self.serving.get_mut(&link)) else {
            return;
        };
        let roots = untold_roots(cx, content, serving, segments);
        let bytes = payload.len() as u64;
        serving.buffered = serving
            .buffered
            .saturating_sub(Serving::read_bytes(segments));
        let seq = answer(cx, link, id, served, roots, payload);
        serving.sends(seq, bytes, true);
    }

    pub(super) fn report_failed(&self, cx: &mut Context, failed: Vec<(u32, DiskError)>) {
        for (entry, error) in failed {
            let path = self
                .content
                .as_ref()
                .and_then(|content| content.path(entry));
            if let Some(path) = path {
                cx.event(Event::ShareFileFailed {
                    share: self.id,
                    path,
                    error,
                });
            }
        }
    }

    /// The link has written a frame.
    pub(in super::super) fn sent(&mut self, cx: &mut Context, link: LinkId, seq: u64) {
        let Some(serving) = self.serving.get_mut(&link) else {
            return;
        };
        let mut gone = 0;
        while let Some(first) = serving.sending.pop_front_if(|first| first.seq <= seq) {
            serving.buffered = serving.buffered.saturating_sub(first.bytes);
            gone += if first.content { first.bytes } else { 0 };
        }
        if gone > 0
            && let Some(state) = cx.links.get_mut(link)
        {
            state.progressed(&cx.limits);
        }
        serving.ahead.sent(seq);
        self.sessions.sent(link, gone);
        self.pay_ahead(cx, link);
        self.pump(cx);
    }
}

/// Roots of these segments' entries that are known and did not go out on this link yet.
fn untold_roots(
    cx: &Context,
    content: &Content,
    serving: &mut Serving,
    segments: &[Segment],
) -> Option<SignedRoots> {
    if serving.told.bound() == 0 {
        serving.told = Bits::new(content.entry_count() as usize);
    }
    let mut roots = Vec::new();
    for segment in segments {
        if !serving.told.contains(segment.entry as usize)
            && let Some(root) = content.root(segment.entry)
        {
            serving.told.insert(segment.entry as usize);
            roots.push((segment.entry, root));
        }
    }
    if roots.is_empty() {
        return None;
    }
    content.sign_roots(&roots, &cx.identity)
}

fn answer(
    cx: &mut Context,
    link: LinkId,
    id: u64,
    served: Vec<Served>,
    roots: Option<SignedRoots>,
    payload: Bytes,
) -> Option<u64> {
    let segments = served.into();
    cx.send_with(
        link,
        Message::Data {
            id,
            segments,
            roots,
        },
        payload,
    )
}
