//! Answering receivers: requests wait per link, and are read from disk as the link takes the data read before.

use bytes::Bytes;

use super::super::TransferId;
use super::super::bits::Bits;
use super::super::context::{Context, JobOwner, ShareJob};
use super::super::rate_limiter::cost;
use super::super::serving::{FrameKind, Reading, Serving, answer, check};
use super::super::{DiskDone, DiskError, DiskWork, Event, LinkId, Segment, Violation};
use super::Share;
use super::content::{Content, EntryState};
use super::patience::{Pace, every, say};
use super::receiver::ReceiverLink;
use super::request::{Plan, is_servable, may_read, plan_read, served_bytes};
use crate::limits::GROUP;
use crate::manifest::SignedRoots;
use crate::message::{Failure, Message, Served};
use crate::time::Time;

impl Share {
    pub(super) fn send_manifest(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        offset: u64,
    ) -> Result<(), Violation> {
        let (Some(content), Some(serving)) = (
            &self.content,
            self.links.get_mut(&link).map(|link| &mut link.serving),
        ) else {
            return Err(Violation::new(
                "asked for a manifest that was not announced",
            ));
        };
        serving.send_manifest(cx, link, content.encoded(), offset)
    }

    /// Checks that a request can be answered at all, and queues it.
    pub(super) fn request(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        id: u64,
        segments: Vec<Segment>,
    ) -> Result<(), Violation> {
        let (Some(content), Some(serving)) = (
            &self.content,
            self.links.get_mut(&link).map(|link| &mut link.serving),
        ) else {
            return Err(Violation::new("a request before there is a manifest"));
        };
        check(
            |entry| content.bytes_of(entry),
            &segments,
            cx.limits.segments,
        )?;
        serving.queue(id, segments, &cx.limits)
    }

    /// Handles a request for the root of an entry: sends it now, or as soon as the entry is hashed.
    pub(super) fn get_root(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        entry: u32,
    ) -> Result<(), Violation> {
        let (Some(content), Some(serving)) = (
            &self.content,
            self.links.get_mut(&link).map(|link| &mut link.serving),
        ) else {
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

    /// Sends the requested roots that are known by now.
    pub(super) fn pay_roots(&mut self, cx: &mut Context) {
        let Some(content) = &self.content else {
            return;
        };
        for (link, ReceiverLink { serving, .. }) in &mut self.links {
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

    /// Starts reads for waiting requests, round robin over the links, while more disk jobs are allowed.
    pub(super) fn start_reads(&mut self, cx: &mut Context) {
        self.note_buffered(cx);
        while self.jobs < cx.limits.disk_jobs {
            let mut links = self
                .round_robin
                .order(self.links.keys().copied())
                .into_iter();
            if !links.any(|link| self.start_read(cx, link)) {
                return;
            }
        }
    }

    /// Reports the bytes buffered by this share's links to the send budget, which all shares and seeding downloads have
    /// in common.
    pub(super) fn note_buffered(&self, cx: &mut Context) {
        let buffered = self.links.values().map(|link| link.serving.buffered).sum();
        cx.send_budget.holds(TransferId::Share(self.id), buffered);
    }

    /// Starts the read for the first waiting request of a link that can be read, if its buffer has room. Returns true
    /// if a read was started or a request answered.
    fn start_read(&mut self, cx: &mut Context, link: LinkId) -> bool {
        let (Some(content), Some(serving)) = (
            &mut self.content,
            self.links.get_mut(&link).map(|link| &mut link.serving),
        ) else {
            return false;
        };
        let peer = cx.links.get(link).map(|link| link.peer);
        let of = TransferId::Share(self.id);
        let held_back = |segments: &[Segment]| {
            let forgotten = segments.iter().all(|segment| segment.len == 0);
            !forgotten && (self.paused || !cx.up.may(of, cx.now))
        };
        let may = |segments: &[Segment]| may_read(content, segments, peer);
        let room = cx.send_budget.room(of, cx.limits.send_buffer_total);
        let Some((id, segments)) = serving.next(&cx.limits, room, may, held_back) else {
            return false;
        };
        self.round_robin.took(link, cost(&segments));
        let work = match plan_read(content, self.id, &segments, peer) {
            Plan::Answer(served) => {
                let seq = answer(cx, link, id, served, None, Bytes::new());
                serving.sends(seq, 0, FrameKind::Content);
                return true;
            }
            Plan::Read(work) => work,
        };
        let asked = segments.iter().map(|segment| is_servable(content, segment));
        let asked = asked.collect();
        cx.up.went(of, cost(&segments), cx.now);
        serving.reads(id, Reading { segments, asked });
        self.jobs += 1;
        let job = match work {
            DiskWork::ReadPipe { offset, .. } => ShareJob::Pipe { link, id, offset },
            _ => ShareJob::Serve { link, id },
        };
        cx.disk(JobOwner::Share(self.id, job), work);
        self.note_buffered(cx);
        true
    }

    /// Handles a finished read: adds its hashes to the trees and sends its bytes to the receiver.
    pub(super) fn read(&mut self, cx: &mut Context, link: LinkId, id: u64, done: DiskDone) {
        let Some(content) = &mut self.content else {
            return;
        };
        let serving = self.links.get_mut(&link).map(|link| &mut link.serving);
        let Some(reading) = serving.and_then(|serving| serving.reading.remove(&id)) else {
            return; // The link was lost during the read.
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
                // An entry may have failed during the read. Its bytes are in the payload all the same.
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

    /// Handles a finished read of the pipe at `at`. The pipe has advanced even if the link of the request was lost.
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
        let serving = self.links.get_mut(&link).map(|link| &mut link.serving);
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
        let (Some(content), Some(serving)) = (
            &self.content,
            self.links.get_mut(&link).map(|link| &mut link.serving),
        ) else {
            return;
        };
        let roots = untold_roots(cx, content, serving, segments);
        serving.was_read(segments);
        let bytes = payload.len() as u64;
        let seq = answer(cx, link, id, served, roots, payload);
        serving.sends(seq, bytes, FrameKind::Content);
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

    /// Handles that the link has written its frames up to `seq`.
    pub(in super::super) fn sent(&mut self, cx: &mut Context, link: LinkId, seq: u64) {
        let Some(receiver) = self.links.get_mut(&link) else {
            return;
        };
        let gone = receiver.serving.sent(cx, link, seq);
        receiver.ahead.sent(seq);
        self.sessions.sent(link, gone);
        if let Some(content) = &self.content {
            receiver.pay_ahead(cx, link, content);
        }
        self.pump(cx);
    }

    /// Handles a bulk request for roots.
    pub(super) fn get_roots(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        range: (u32, u32),
    ) -> Result<(), Violation> {
        let (Some(content), Some(receiver)) = (&self.content, self.links.get_mut(&link)) else {
            return Err(Violation::new("roots before there is a manifest"));
        };
        receiver.want_roots(cx, link, range, content)
    }

    /// Sends the roots of newly hashed files to the links that have requested them in bulk.
    pub(super) fn tell_fresh(&mut self, cx: &mut Context) {
        let Some(content) = &mut self.content else {
            return;
        };
        let fresh = std::mem::take(&mut content.fresh);
        for (link, receiver) in &mut self.links {
            receiver.ahead.pay_owed(cx, *link, content, &fresh);
        }
        self.unnoted.extend(fresh);
    }

    /// Starts a job that notes on this device which of its files have which roots.
    pub(super) fn note_roots(&mut self, cx: &mut Context) {
        let Some(content) = &self.content else {
            return;
        };
        if self.noting || self.unnoted.is_empty() || self.jobs >= cx.limits.disk_jobs {
            return;
        }
        let entries = std::mem::take(&mut self.unnoted);
        let roots = entries
            .into_iter()
            .filter_map(|entry| Some((entry, content.root(entry)?)))
            .collect();
        self.noting = true;
        self.jobs += 1;
        let share = self.id;
        cx.disk(
            JobOwner::Share(share, ShareJob::Note),
            DiskWork::NoteRoots { share, roots },
        );
    }

    /// Handles a request for the chunks of a file.
    pub(super) fn get_chunks(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        wanted: (u32, u32),
    ) -> Result<(), Violation> {
        self.chunks.want(link, wanted, self.content.as_ref())?;
        self.chunks.pay(cx, wanted.0, &mut self.links)
    }

    /// Starts chunking the next requested file, unless the share is paused.
    pub(super) fn start_chunking(&mut self, cx: &mut Context) {
        let links = &self.links;
        let next = self.chunks.next(|link| links.contains_key(&link));
        let busy = self.jobs >= cx.limits.disk_jobs || self.paused;
        let Some(entry) = next.filter(|_| !busy) else {
            return;
        };
        self.chunks.cuts(entry);
        self.jobs += 1;
        let share = self.id;
        cx.disk(
            JobOwner::Share(share, ShareJob::Chunk { entry }),
            DiskWork::Chunk { share, entry },
        );
    }

    /// Handles the chunk list of a file.
    pub(super) fn chunked(&mut self, cx: &mut Context, entry: u32, done: DiskDone) {
        self.chunks.cut(entry, done);
        // Ignored: a link that requested chunks beyond the end of the list was told its length earlier, or guesses.
        let _ = self.chunks.pay(cx, entry, &mut self.links);
    }

    /// Pauses or resumes answering requests. Data already being read is still sent.
    pub(in super::super) fn pause(&mut self, cx: &mut Context, paused: bool) {
        if self.ended.is_none() && self.paused != paused {
            self.paused = paused;
            self.tell_pace(cx);
            self.pump(cx);
        }
    }

    fn pace(&self, cx: &Context) -> Pace {
        Pace {
            piece: cx.up.piece(TransferId::Share(self.id)),
            paused: self.paused,
        }
    }

    /// Tells all receivers the rate limit, where it has changed.
    pub(in super::super) fn tell_pace(&mut self, cx: &mut Context) {
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.tell_pace_to(cx, link);
        }
    }

    /// Tells one receiver the rate limit, if it has changed and the share is scanned.
    pub(super) fn tell_pace_to(&mut self, cx: &mut Context, link: LinkId) {
        let pace = self.pace(cx);
        if self.content.is_some()
            && let Some(receiver) = self.links.get_mut(&link)
            && receiver.told_pace != pace
        {
            receiver.told_pace = pace;
            say(cx, link, pace);
        }
    }

    /// Repeats the rate limit at intervals to receivers whose requests wait for it, so that they keep waiting.
    pub(super) fn ask_for_patience(&mut self, cx: &mut Context) {
        let pace = self.pace(cx);
        let holds = self.paused || cx.up.rate(TransferId::Share(self.id)).is_some();
        let waiting = self.links.iter().filter(|(_, link)| link.serving.waits());
        let waiting: Vec<_> = waiting.map(|(link, _)| *link).collect();
        if !holds || waiting.is_empty() {
            self.patience_due = Time::NEVER;
        } else if self.patience_due == Time::NEVER {
            self.patience_due = cx.now + every(cx);
        } else if self.patience_due <= cx.now {
            self.patience_due = cx.now + every(cx);
            for link in waiting {
                say(cx, link, pace);
            }
        }
    }
}

/// Returns the known roots of these segments' entries that were not sent on this link yet.
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
