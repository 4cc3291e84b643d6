//! Answering receivers: requests wait per link, are read as the link takes what was read before, and are answered.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::bits::Bits;
use super::super::context::{Context, JobOwner, ShareJob};
use super::super::{DiskDone, DiskError, DiskWork, Event, GroupHash, LinkId, Segment, Violation};
use super::content::{Content, EntryState, group_len};
use super::{REPORT_EVERY, Share};
use crate::bounded::Bounded;
use crate::limits::{GROUP, LEAF};
use crate::manifest::SignedRoots;
use crate::merkle::Hash;
use crate::message::{Failure, Message, Served};

/// Bytes of a pipe that are kept behind what was read last: what a receiver may have asked for and lost with a link.
const PIPE_KEPT: u64 = 16 * 1024 * 1024;
/// Bytes hashed ahead in one job.
const HASH_AHEAD: u64 = 4 * 1024 * 1024;

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
    told: Bits,
    /// Entries whose root was asked for before it was known.
    owed: Vec<u32>,
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
    fn sends(&mut self, seq: Option<u64>, bytes: u64, content: bool) {
        if let Some(seq) = seq {
            self.sending.push_back(Sending {
                seq,
                bytes,
                content,
            });
            self.buffered += bytes;
        }
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
        if serving.buffered > cx.limits.send_buffer {
            return Err(Violation::new(
                "asks for the manifest faster than it takes it",
            ));
        }
        let total = content.manifest_bytes();
        let Some(part) = content.manifest_part(offset) else {
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
    fn pay_roots(&mut self, cx: &mut Context) {
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
        while started {
            started = false;
            let links: Vec<_> = self.serving.keys().copied().collect();
            for link in links {
                if self.jobs >= cx.limits.disk_jobs {
                    return;
                }
                started |= self.start_read(cx, link);
            }
        }
    }

    /// Starts the read for the first of a link's waiting requests that can be, if its buffer has room; says whether it
    /// got anywhere.
    fn start_read(&mut self, cx: &mut Context, link: LinkId) -> bool {
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
        if serving.buffered > 0 && serving.buffered + bytes > cx.limits.send_buffer {
            return false;
        }
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
        serving.buffered += bytes;
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

    fn report_failed(&self, cx: &mut Context, failed: Vec<(u32, DiskError)>) {
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
        self.sessions.sent(link, gone);
        self.pump(cx);
    }

    /// Hashes the next part that nobody has asked for yet.
    pub(super) fn start_hashing(&mut self, cx: &mut Context) {
        let busy = self.hashing;
        let Some(content) = &mut self.content else {
            return;
        };
        if busy || self.jobs >= cx.limits.disk_jobs {
            return;
        }
        let Some(job) = next_to_hash(content, self.id, cx.limits.segments) else {
            return;
        };
        self.hashing = true;
        self.jobs += 1;
        let (job, work) = job;
        cx.disk(JobOwner::Share(self.id, job), work);
    }

    pub(super) fn groups_hashed(
        &mut self,
        cx: &mut Context,
        entry: u32,
        first: u64,
        done: DiskDone,
    ) {
        self.hashing = false;
        let Some(content) = &mut self.content else {
            return;
        };
        match done {
            DiskDone::Hashed { hashes } => {
                for (group, hash) in (first..).zip(hashes) {
                    content.insert(entry, group, hash);
                }
            }
            DiskDone::Failed(error) => {
                content.fail(entry, &error);
                self.report_failed(cx, vec![(entry, error)]);
            }
            _ => {
                content.fail(entry, &DiskError::NotFound);
            }
        }
        self.hashed(cx);
    }

    pub(super) fn files_hashed(&mut self, cx: &mut Context, entries: &[u32], done: DiskDone) {
        self.hashing = false;
        let Some(content) = &mut self.content else {
            return;
        };
        let results = match done {
            DiskDone::Read { segments, .. } => segments,
            DiskDone::Failed(error) => vec![Err(error); entries.len()],
            _ => Vec::new(),
        };
        let mut failed = Vec::new();
        for (entry, result) in entries.iter().zip(results) {
            match result {
                Ok(Some(GroupHash { hash, .. })) => {
                    content.insert(*entry, 0, hash);
                }
                Ok(None) => {}
                Err(error) => {
                    content.fail(*entry, &error);
                    failed.push((*entry, error));
                }
            }
        }
        self.report_failed(cx, failed);
        self.hashed(cx);
    }

    /// Tells now and then how far hashing is, and sends roots that were waited for.
    fn hashed(&mut self, cx: &mut Context) {
        if let Some(content) = &self.content
            && content.hashed != self.reported
            && (cx.now >= self.report_due || content.hashed == content.total)
        {
            self.reported = content.hashed;
            self.report_due = cx.now + REPORT_EVERY;
            cx.event(Event::ShareHashed {
                share: self.id,
                done: content.hashed,
                total: content.total,
            });
        }
        self.pay_roots(cx);
    }
}

/// Whether a request asks only for what the manifest says is there, in one of the two shapes that requests have.
fn check(content: &Content, segments: &[Segment], most: usize) -> Result<(), Violation> {
    if segments.is_empty() || segments.len() > most {
        return Err(Violation::new("a request with no or too many segments"));
    }
    let mut total = 0u64;
    for segment in segments {
        let size = match content.entry(segment.entry) {
            Some(EntryState::File { size, .. } | EntryState::Failed { size, .. }) => *size,
            Some(EntryState::Stream(_)) => u64::MAX,
            Some(EntryState::Bare) | None => {
                return Err(Violation::new("asked for what has no bytes"));
            }
        };
        total += u64::from(segment.len);
        let end = segment.offset.checked_add(u64::from(segment.len));
        let in_group =
            segment.offset % u64::from(GROUP) + u64::from(segment.len) <= u64::from(GROUP);
        let aligned = segment.offset.is_multiple_of(u64::from(LEAF));
        let ends_leaf = end.is_some_and(|end| end == size || end.is_multiple_of(u64::from(LEAF)));
        if segment.len == 0
            || end.is_none_or(|end| end > size)
            || !in_group
            || !aligned
            || !ends_leaf
        {
            return Err(Violation::new("asked for a range that is not there"));
        }
        let whole = segment.offset == 0 && u64::from(segment.len) == size;
        if segments.len() > 1 && !whole {
            return Err(Violation::new("a request mixes ranges"));
        }
    }
    if total > u64::from(GROUP) {
        return Err(Violation::new("a request over a group"));
    }
    Ok(())
}

/// What to do for a request.
enum Plan {
    /// Answer at once.
    Answer(Vec<Served>),
    /// Read first.
    Read(DiskWork),
}

fn plan_read(
    content: &mut Content,
    share: super::ShareId,
    segments: &[Segment],
    peer: Option<crate::PeerId>,
) -> Plan {
    if segments.iter().any(|segment| segment.len == 0) {
        return Plan::Answer(vec![Served::Forgotten; segments.len()]);
    }
    if let Some(first) = segments.first()
        && let Some(EntryState::Stream(stream)) = content.entry_mut(first.entry)
    {
        return plan_pipe(stream, share, *first, peer);
    }
    let readable: Vec<_> = segments
        .iter()
        .filter(|segment| is_servable(content, segment))
        .copied()
        .collect();
    if readable.is_empty() {
        let failed = segments
            .iter()
            .map(|segment| match content.entry(segment.entry) {
                Some(EntryState::Failed { failure, .. }) => Served::Failed(*failure),
                _ => Served::Failed(Failure::Unreadable),
            });
        return Plan::Answer(failed.collect());
    }
    let hash = readable.iter().any(|segment| wants_hash(content, segment));
    Plan::Read(DiskWork::Read {
        share,
        segments: readable,
        hash,
    })
}

/// Whether a request's turn has come. A pipe has one reader at a time; and what stands ahead of where it was read waits
/// for what lies between, which the same receiver has asked for over another link, or will ask for again.
fn may_read(content: &Content, segments: &[Segment], peer: Option<crate::PeerId>) -> bool {
    let Some(first) = segments.first() else {
        return true;
    };
    let Some(EntryState::Stream(stream)) = content.entry(first.entry) else {
        return true;
    };
    let near = stream.read.saturating_add(1)..=stream.read.saturating_add(PIPE_KEPT);
    let ahead = stream.size.is_none() && stream.taken_by == peer && near.contains(&first.offset);
    first.len == 0 || !(stream.reading || ahead)
}

fn plan_pipe(
    stream: &mut super::content::StreamState,
    share: super::ShareId,
    segment: Segment,
    peer: Option<crate::PeerId>,
) -> Plan {
    let passed = segment.offset.saturating_add(PIPE_KEPT) < stream.read
        || segment.offset > stream.read
        || !segment.offset.is_multiple_of(u64::from(GROUP));
    let taken = stream.taken_by.is_some() && stream.taken_by != peer;
    if let Some(size) = stream.size
        && segment.offset > size
    {
        return Plan::Answer(vec![Served::End { len: 0, size }]);
    }
    if taken || passed {
        return match stream.size {
            Some(size) if !taken && segment.offset >= size => {
                Plan::Answer(vec![Served::End { len: 0, size }])
            }
            _ => Plan::Answer(vec![Served::Failed(Failure::Passed)]),
        };
    }
    stream.taken_by = peer;
    stream.reading = true;
    Plan::Read(DiskWork::ReadPipe {
        share,
        offset: segment.offset,
        len: segment.len,
        keep_from: stream.read.saturating_sub(PIPE_KEPT),
    })
}

fn is_servable(content: &Content, segment: &Segment) -> bool {
    matches!(content.entry(segment.entry), Some(EntryState::File { .. }))
}

/// Whether reading this segment should hash its group: the group is not hashed yet, or the proof starts inside it.
fn wants_hash(content: &Content, segment: &Segment) -> bool {
    let Some(EntryState::File { size, tree }) = content.entry(segment.entry) else {
        return false;
    };
    let group = segment.offset / u64::from(GROUP);
    !tree.has(group) || segment.len != group_len(*size, group)
}

/// Takes a read segment's hash into its tree, and says how it is served.
fn served_bytes(content: &mut Content, segment: &Segment, hash: Option<GroupHash>) -> Served {
    let group = segment.offset / u64::from(GROUP);
    let mut inner = Vec::new();
    if let Some(read) = hash {
        content.insert(segment.entry, group, read.hash);
        inner = read.inner;
    }
    let proof = match content.entry(segment.entry) {
        Some(EntryState::File { size, tree }) => proof_of(tree.proof(group), inner, *size, segment),
        _ => None,
    };
    Served::Bytes {
        len: segment.len,
        proof,
    }
}

fn proof_of(
    upper: Option<Vec<Hash>>,
    mut inner: Vec<Hash>,
    size: u64,
    segment: &Segment,
) -> Option<Bounded<Hash, { crate::message::MAX_PROOF }>> {
    let whole = segment.len == group_len(size, segment.offset / u64::from(GROUP));
    if whole {
        inner.clear();
    }
    inner.extend(upper?);
    Some(inner.into())
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

/// The next work that brings hashing forward: groups of one large file, or a handful of small files.
fn next_to_hash(
    content: &mut Content,
    share: super::ShareId,
    most: usize,
) -> Option<(ShareJob, DiskWork)> {
    let mut segments = Vec::new();
    let mut bytes = 0;
    while content.cursor < content.entry_count() && segments.len() < most {
        let entry = content.cursor;
        if let Some((size, first)) = content.unhashed(entry) {
            if size > u64::from(GROUP) {
                if segments.is_empty() {
                    return Some(large_job(share, entry, size, first));
                }
                break;
            }
            if bytes + size > u64::from(GROUP) {
                break;
            }
            bytes += size;
            let len = u32::try_from(size).unwrap_or(GROUP);
            segments.push(Segment {
                entry,
                offset: 0,
                len,
            });
        }
        content.cursor += 1;
    }
    if segments.is_empty() {
        return None;
    }
    let entries = segments.iter().map(|segment| segment.entry).collect();
    let work = DiskWork::Read {
        share,
        segments,
        hash: true,
    };
    Some((ShareJob::HashFiles { entries }, work))
}

fn large_job(share: super::ShareId, entry: u32, size: u64, first: u64) -> (ShareJob, DiskWork) {
    let groups = size.div_ceil(u64::from(GROUP));
    let count = (groups - first).min(HASH_AHEAD / u64::from(GROUP));
    let count = u32::try_from(count).unwrap_or(1);
    let work = DiskWork::HashGroups {
        share,
        entry,
        first,
        count,
    };
    (ShareJob::HashGroups { entry, first }, work)
}
