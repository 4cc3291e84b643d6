//! Serving over one link, whoever does it: which requests make sense, how many may wait, what is read next, what is sent and
//! not yet gone.
//!
//! What there is to serve, and what it takes to read it, is for shares and for downloads that serve what they have.

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

/// Parts of the manifest that may wait for a link. Who asks for the next one when it has the last needs one; that the
/// last is gone may be heard a little later.
const MANIFEST_PARTS: usize = 2;

/// How often one link may ask to be called back.
const CALLS: u32 = 4;

/// One link's requests.
#[derive(Default)]
pub(super) struct Serving {
    /// Not read yet, in the order in which they came.
    waiting: VecDeque<(u64, Vec<Segment>)>,
    /// Being read.
    pub(super) reading: BTreeMap<u64, Reading>,
    /// Answers and parts of the manifest that were given to the link and are not yet gone.
    sending: VecDeque<Sending>,
    /// How much of the manifest went out: who asks for it again is brought no further.
    manifest_sent: u64,
    /// Bytes being read, and read but not gone.
    pub(super) buffered: u64,
    last_id: Option<u64>,
    /// Entries whose root went out on this link.
    pub(super) told: Bits,
    /// Entries whose root was asked for before it was known.
    pub(super) owed: Vec<u32>,
    /// How often the other side has asked to be called back.
    calls: u32,
}

/// A request whose bytes are being read.
pub(super) struct Reading {
    pub(super) segments: Vec<Segment>,
    /// Which of the segments the disk was asked for: the others had failed by then.
    pub(super) asked: Vec<bool>,
}

/// A frame on its way out.
struct Sending {
    seq: u64,
    bytes: u64,
    carries: FrameKind,
}

/// What a frame carries beside its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    Content,
    Manifest {
        /// All of it went out on this link before.
        again: bool,
    },
    /// How a file is cut.
    Chunks,
}

impl Serving {
    /// The receiver says where it can be dialled: called back from here it may be reached where it can't reach us. It
    /// opens the link then.
    pub(super) fn call(&mut self, cx: &mut Context, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.calls >= CALLS {
            return;
        }
        self.calls += 1;
        if !addresses.is_empty() {
            cx.push(Output::Reach { peer, addresses });
        }
    }

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

    /// Sends the part of an encoded manifest from `offset` on.
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

    /// A request that makes sense came: it waits for its turn, if not too much waits already.
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
        // Answers without bytes fill no buffer, but are not for nothing either.
        if self.sending.len() >= limits.requests.saturating_mul(2) {
            return Err(Violation::new("asks faster than it takes answers"));
        }
        self.last_id = Some(id);
        self.waiting.push_back((id, segments));
        Ok(())
    }

    /// The first request that waits and may be read, if there is room for its bytes, and no limit holds it back. `room` is
    /// what all that serve leave for more.
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

    /// A request is being read.
    pub(super) fn reads(&mut self, id: u64, reading: Reading) {
        self.buffered += read_bytes(&reading.segments);
        self.reading.insert(id, reading);
    }

    /// A request's bytes were read, and are about to be sent.
    pub(super) fn was_read(&mut self, segments: &[Segment]) {
        self.buffered = self.buffered.saturating_sub(read_bytes(segments));
    }

    /// A request could not be read yet after all: it is the next one.
    pub(super) fn put_back(&mut self, id: u64, segments: Vec<Segment>) {
        self.was_read(&segments);
        self.waiting.push_front((id, segments));
    }

    /// A frame was given to the link, if it still has one.
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

    /// The link has written its frames up to this one: how many bytes of content that was.
    pub(super) fn sent(&mut self, cx: &mut Context, link: LinkId, seq: u64) -> u64 {
        let (mut gone, mut is_of_use) = (0, false);
        while let Some(first) = self.sending.pop_front_if(|first| first.seq <= seq) {
            self.buffered = self.buffered.saturating_sub(first.bytes);
            if first.carries == FrameKind::Content {
                gone += first.bytes;
            }
            // Lists and manifests are long where pieces are short, and who wants them has nothing else for a while.
            is_of_use |= first.bytes > 0 && first.carries != FrameKind::Manifest { again: true };
        }
        if is_of_use && let Some(state) = cx.links.get_mut(link) {
            state.progressed(&cx.limits);
        }
        gone
    }

    /// Whether requests wait to be read.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the link waits for nothing from the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.reading.is_empty()
    }
}

fn read_bytes(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.len)).sum()
}

/// Whether a request asks only for what the manifest says is there, in one of the two shapes that requests have.
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

/// The proof of a segment: what its group needs inside, and the group in its file.
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

/// Answers a request; the frame's number.
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
