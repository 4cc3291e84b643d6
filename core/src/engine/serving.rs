//! Serving over one link: checks and queues requests, limits what is buffered, and tracks the frames being sent.
//!
//! Shares and seeding downloads decide what can be served and how it is read.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::bits::Bits;
use super::context::Context;
use super::{LinkId, Output, PathKind, Segment, Violation};
use crate::bounded::Bounded;
use crate::limits::{GROUP, LEAF, Limits, RELAYED_PIECE};
use crate::manifest::SignedRoots;
use crate::merkle::{Hash, group_len};
use crate::message::{MAX_PROOF, Message, Served};
use crate::{Multiaddr, PeerId};

/// Maximum number of manifest parts waiting on a link before another one is sent. A receiver that asks for the next
/// part after each needs only one, but this side may learn a little later that a part is sent.
const MANIFEST_PARTS: usize = 2;

/// Maximum number of times that one link may ask to be dialled back.
const CALLS: u32 = 4;

/// Requests of one link.
#[derive(Default)]
pub(super) struct Serving {
    /// Requests not read yet, in the order of arrival.
    waiting: VecDeque<(u64, Vec<Segment>)>,
    /// Requests being read, by id.
    pub(super) reading: BTreeMap<u64, Reading>,
    /// Frames with answers, manifest parts or chunk lists that were given to the link and are not written yet.
    sending: VecDeque<Sending>,
    /// Number of manifest bytes sent so far. Sending them again is no progress.
    manifest_sent: u64,
    /// Number of bytes being read, or read and not yet written to the transport.
    pub(super) buffered: u64,
    /// Id of the last request.
    last_id: Option<u64>,
    /// Entries whose root was sent on this link.
    pub(super) told: Bits,
    /// Entries whose root was requested before it was known.
    pub(super) owed: Vec<u32>,
    /// Number of times that the receiver has asked to be dialled back.
    calls: u32,
}

/// A request being read from disk.
pub(super) struct Reading {
    pub(super) segments: Vec<Segment>,
    /// For each segment, true if it was requested from the disk. The entries of the others had already failed.
    pub(super) asked: Vec<bool>,
}

/// A frame being sent.
struct Sending {
    seq: u64,
    bytes: u64,
    carries: FrameKind,
}

/// Kind of payload in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    Content,
    Manifest {
        /// True if all of it was sent on this link before.
        again: bool,
    },
    /// A file's list of chunks.
    Chunks,
}

impl Serving {
    /// Connects to the receiver at the addresses that it has sent, since it may be reachable from here when we are not
    /// reachable from there. The receiver then opens the link.
    pub(super) fn call(&mut self, cx: &mut Context, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.calls >= CALLS {
            return;
        }
        self.calls += 1;
        if !addresses.is_empty() {
            cx.push(Output::Reach { peer, addresses });
        }
    }

    /// Drops the bytes of these waiting requests.
    pub(super) fn forget(&mut self, ids: &[u64]) {
        // An answer without bytes is still sent, so that both sides agree on what is outstanding.
        for (id, segments) in &mut self.waiting {
            if ids.contains(id) {
                for segment in segments {
                    segment.len = 0;
                }
            }
        }
    }

    /// Sends one part of an encoded manifest, starting at `offset`.
    pub(super) fn send_manifest(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        encoded: &Bytes,
        offset: u64,
    ) -> Result<(), Violation> {
        let parts = self
            .sending
            .iter()
            .filter(|sending| matches!(sending.carries, FrameKind::Manifest { .. }));
        if parts.count() > MANIFEST_PARTS {
            return Err(Violation::new(
                "asks for the manifest faster than it takes it",
            ));
        }
        let most = match cx.links.get(link).map(|link| link.path) {
            Some(PathKind::Relayed) => RELAYED_PIECE,
            _ => GROUP,
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(most as usize).min(encoded.len());
        if start >= end {
            return Err(Violation::new("asked for bytes behind the manifest"));
        }
        let part = encoded.slice(start..end);
        let (bytes, total) = (part.len() as u64, encoded.len() as u64);
        let again = end as u64 <= self.manifest_sent;
        self.manifest_sent = self.manifest_sent.max(end as u64);
        let seq = cx.send_with(link, Message::Manifest { offset, total }, part);
        self.sends(seq, bytes, FrameKind::Manifest { again });
        Ok(())
    }

    /// Queues a valid request. Fails if its id does not increase or if too much is outstanding.
    pub(super) fn queue(
        &mut self,
        id: u64,
        segments: Vec<Segment>,
        limits: &Limits,
    ) -> Result<(), Violation> {
        if self.last_id.is_some_and(|last| id <= last) {
            return Err(Violation::new("request numbers do not count up"));
        }
        if self.waiting.len() + self.reading.len() >= limits.requests {
            return Err(Violation::new("too many requests at once"));
        }
        // Answers without bytes use no buffer, but still have a cost.
        if self.sending.len() >= limits.requests.saturating_mul(2) {
            return Err(Violation::new("asks faster than it takes answers"));
        }
        self.last_id = Some(id);
        self.waiting.push_back((id, segments));
        Ok(())
    }

    /// Takes the first waiting request that `may` allows, if its bytes fit and no rate limit holds it back. `room` is
    /// what the send budget leaves. A link with nothing buffered always has room for one request.
    pub(super) fn next(
        &mut self,
        limits: &Limits,
        room: u64,
        may: impl Fn(&[Segment]) -> bool,
        held_back: impl FnOnce(&[Segment]) -> bool,
    ) -> Option<(u64, Vec<Segment>)> {
        let at = self
            .waiting
            .iter()
            .position(|(_, segments)| may(segments))?;
        let segments = &self.waiting.get(at)?.1;
        let bytes = read_bytes(segments);
        let full = self.buffered + bytes > limits.send_buffer || bytes > room;
        if (self.buffered > 0 && full) || held_back(segments) {
            return None;
        }
        self.waiting.remove(at)
    }

    /// Notes that a request is being read.
    pub(super) fn reads(&mut self, id: u64, reading: Reading) {
        self.buffered += read_bytes(&reading.segments);
        self.reading.insert(id, reading);
    }

    /// Notes that a request's bytes were read and are about to be sent.
    pub(super) fn was_read(&mut self, segments: &[Segment]) {
        self.buffered = self.buffered.saturating_sub(read_bytes(segments));
    }

    /// Puts a request that can't be read yet back at the front of the queue.
    pub(super) fn put_back(&mut self, id: u64, segments: Vec<Segment>) {
        self.was_read(&segments);
        self.waiting.push_front((id, segments));
    }

    /// Notes a frame that was given to the link. Does nothing without a sequence number, which means that the link is
    /// gone.
    pub(super) fn sends(&mut self, seq: Option<u64>, bytes: u64, carries: FrameKind) {
        if let Some(seq) = seq {
            self.sending.push_back(Sending {
                seq,
                bytes,
                carries,
            });
            self.buffered += bytes;
        }
    }

    /// Notes that the link has written all frames up to `seq`. Returns the number of content bytes among them.
    pub(super) fn sent(&mut self, cx: &mut Context, link: LinkId, seq: u64) -> u64 {
        let (mut gone, mut is_of_use) = (0, false);
        while let Some(first) = self.sending.pop_front_if(|first| first.seq <= seq) {
            self.buffered = self.buffered.saturating_sub(first.bytes);
            if first.carries == FrameKind::Content {
                gone += first.bytes;
            }
            // A receiver may ask for nothing but manifest parts or chunk lists for a while, so those count as progress
            // too.
            is_of_use |= first.bytes > 0 && first.carries != FrameKind::Manifest { again: true };
        }
        if is_of_use && let Some(state) = cx.links.get_mut(link) {
            state.progressed(&cx.limits);
        }
        gone
    }

    /// True if requests wait to be read.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// True if no request is being read.
    pub(super) fn is_idle(&self) -> bool {
        self.reading.is_empty()
    }
}

fn read_bytes(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.len)).sum()
}

/// Checks that a request asks only for bytes that exist, in one of the two permitted shapes: one range within a group,
/// or several whole files of at most one group together.
pub(super) fn check(
    bytes_of: impl Fn(u32) -> Option<u64>,
    segments: &[Segment],
    most: usize,
) -> Result<(), Violation> {
    if segments.is_empty() || segments.len() > most {
        return Err(Violation::new("a request with no or too many segments"));
    }
    let mut total = 0u64;
    for segment in segments {
        let Some(size) = bytes_of(segment.entry) else {
            return Err(Violation::new("asked for what has no bytes"));
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

/// Returns the proof of a segment: siblings within its group, then those from the group to the file's root.
pub(super) fn proof_of(
    upper: Option<Vec<Hash>>,
    mut inner: Vec<Hash>,
    size: u64,
    segment: &Segment,
) -> Option<Bounded<Hash, MAX_PROOF>> {
    let whole = segment.len == group_len(size, segment.offset / u64::from(GROUP));
    if whole {
        inner.clear();
    }
    inner.extend(upper?);
    Some(inner.into())
}

/// Sends the answer to a request. Returns the frame's sequence number.
pub(super) fn answer(
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
