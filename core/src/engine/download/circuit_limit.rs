//! Links that a relay ends after some bytes or some time: whether and how much may be requested on them.

use super::super::context::Context;
use super::super::links::Link;
use super::super::{LinkId, Segment};
use super::files::Size;
use super::requests::Flow;
use super::transfer::Transfer;
use crate::PeerId;
use crate::limits::RELAYED_PIECE;
use crate::message::MAX_SEGMENTS;
use crate::time::Time;

/// Maximum number of segments in one request on a circuit. Each costs more than its bytes.
const SEGMENTS: usize = 8;
/// Maximum overhead in bytes: of a request with its answer, of a segment in both with its root, of one hash of a proof.
const AROUND: u64 = 220;
const AROUND_SEGMENT: u64 = 90;
const PROOF_HASH: u64 = 34;
/// Maximum number of bytes that a request for these segments and its answer take of a circuit. `hashes`: length of the
/// longest proof.
fn most_of(segments: &[Segment], hashes: u64) -> u64 {
    let of = |segment: &Segment| u64::from(segment.len) + AROUND_SEGMENT;
    let all = segments.iter().map(of).fold(AROUND, u64::saturating_add);
    // Several segments are whole files of at most one leaf each, which need no proof.
    match segments.len() {
        0 | 1 => all.saturating_add(hashes * PROOF_HASH),
        _ => all,
    }
}

/// The same for any request within these limits.
fn most_of_any(size: Size, hashes: u64) -> u64 {
    let batch = u64::from(size.batch) + size.segments as u64 * AROUND_SEGMENT;
    let range = u64::from(size.range) + AROUND_SEGMENT + hashes * PROOF_HASH;
    AROUND + batch.max(range)
}

/// Limits of requests on a link that a relay ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CircuitLimit {
    /// Number of hashes in the longest proof.
    hashes: u64,
    /// True if a stream is fetched.
    streams: bool,
    /// The relay whose rate limit applies.
    spared: Option<PeerId>,
}

impl CircuitLimit {
    /// Returns the limits of requests on a link.
    pub(super) fn of(cx: &Context, link: LinkId, transfer: &Transfer) -> Self {
        // A relay whose circuits may carry whole files is meant to be used for that.
        let is_small = |state: &&Link| state.allowance.bytes.is_some_and(|it| it < SMALL);
        let state = cx.links.get(link).filter(is_small);
        Self {
            hashes: transfer.proof_hashes,
            streams: transfer.is_stream(),
            spared: state.and_then(|state| state.relay),
        }
    }

    /// Returns the limits of one request.
    pub(super) fn size(cx: &Context, link: LinkId, size: Size) -> Size {
        if !is_limited(cx, link) {
            return size;
        }
        let segments = size.segments.min(SEGMENTS);
        Size { segments, ..size }
    }

    /// True if one more request may be made on a link. `awaited`: bytes that outstanding requests still take of the
    /// circuit.
    pub(super) fn may(
        self,
        cx: &Context,
        link: LinkId,
        fresh: bool,
        awaited: u64,
        size: Size,
    ) -> bool {
        if !is_limited(cx, link) {
            return true;
        }
        // The first request is made even on a circuit that is too small for a leaf: it may just fit. The same for
        // streams, which are requested in whole groups.
        let fits = fresh || self.streams || fits(cx, link, awaited, size, self.hashes);
        fits && self.opens_at(cx) <= cx.now
    }

    /// When the relay's rate limit allows more.
    pub(super) fn opens_at(self, cx: &Context) -> Time {
        self.spared
            .map_or(Time::ZERO, |relay| cx.relays.opens_at(relay))
    }

    /// Notes a request with the relay's rate limit. Returns the maximum number of bytes that it takes of the circuit.
    pub(super) fn asks(self, cx: &mut Context, segments: &[Segment]) -> u64 {
        let most = most_of(segments, self.hashes);
        if let Some(relay) = self.spared {
            cx.relays.carries(relay, most, cx.now);
        }
        most
    }
}

/// Relays whose circuits carry fewer bytes than this are meant for setting up direct connections, and are rate-limited.
const SMALL: u64 = 1 << 20;

/// True if a relay ends this link after some bytes or some time.
pub(super) fn is_limited(cx: &Context, link: LinkId) -> bool {
    cx.links.get(link).is_some_and(Link::is_limited)
}

fn fits(cx: &Context, link: LinkId, awaited: u64, size: Size, hashes: u64) -> bool {
    let Some(state) = cx.links.get(link) else {
        return false;
    };
    let left = state.left().unwrap_or(u64::MAX);
    let most = awaited.saturating_add(most_of_any(size, hashes));
    cx.now < state.usable_until() && most <= left
}

/// True if nothing more can be requested on a link, because its relay is about to end it.
pub(super) fn is_exhausted(cx: &Context, link: LinkId, flow: &Flow, transfer: &Transfer) -> bool {
    // Streams are requested in whole groups, which is more than such a circuit carries. They are requested all the
    // same.
    if !is_limited(cx, link) || transfer.is_stream() {
        return false;
    }
    let size = Size {
        range: RELAYED_PIECE,
        batch: RELAYED_PIECE,
        segments: SEGMENTS.min(cx.limits.segments).min(MAX_SEGMENTS),
    };
    let fits = fits(cx, link, flow.awaited(), size, transfer.proof_hashes);
    let state = cx.links.get(link);
    let expired = state.is_none_or(|state| state.usable_until() <= cx.now);
    expired || !(fits || flow.is_fresh())
}
