//! What a link carries that a relay ends after some bytes or some time: how much may be asked for on it, and whether anything.

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

/// Segments of one request on a circuit: each has something beside its bytes.
const SEGMENTS: usize = 8;
/// Beside the bytes, at the most: a request and its answer; a segment in both, with its root; a hash of its proof.
const AROUND: u64 = 220;
const AROUND_SEGMENT: u64 = 90;
const PROOF_HASH: u64 = 34;
/// What an answer to these segments takes of a circuit at the most, with its request. `hashes`: of the longest proof.
fn most_of(segments: &[Segment], hashes: u64) -> u64 {
    let of = |segment: &Segment| u64::from(segment.len) + AROUND_SEGMENT;
    let all = segments.iter().map(of).fold(AROUND, u64::saturating_add);
    // Several are whole files of one leaf each, which need no proof.
    match segments.len() {
        0 | 1 => all.saturating_add(hashes * PROOF_HASH),
        _ => all,
    }
}

/// The same of whatever is asked for with this size.
fn most_of_any(size: Size, hashes: u64) -> u64 {
    let batch = u64::from(size.batch) + size.segments as u64 * AROUND_SEGMENT;
    let range = u64::from(size.range) + AROUND_SEGMENT + hashes * PROOF_HASH;
    AROUND + batch.max(range)
}

/// What holds for requests on a link that a relay ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CircuitLimit {
    /// Hashes of the longest proof.
    hashes: u64,
    /// What is fetched is a stream.
    streams: bool,
    /// The relay that is to be spared.
    spared: Option<PeerId>,
}

impl CircuitLimit {
    /// What holds for requests on a link.
    pub(super) fn of(cx: &Context, link: LinkId, transfer: &Transfer) -> Self {
        // A relay that lets each circuit carry whole files means to.
        let is_small = |state: &&Link| state.allowance.bytes.is_some_and(|it| it < SMALL);
        let state = cx.links.get(link).filter(is_small);
        Self {
            hashes: transfer.proof_hashes,
            streams: transfer.is_stream(),
            spared: state.and_then(|state| state.relay),
        }
    }

    /// What one request may ask for.
    pub(super) fn size(cx: &Context, link: LinkId, size: Size) -> Size {
        if !is_limited(cx, link) {
            return size;
        }
        let segments = size.segments.min(SEGMENTS);
        Size { segments, ..size }
    }

    /// Whether one more request may be made on a link. `awaited`: what answers take that have not come.
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
        // On a circuit that is too small for a leaf one is asked for all the same: it may just fit. A stream goes by whole
        // groups, and so does that.
        let fits = fresh || self.streams || fits(cx, link, awaited, size, self.hashes);
        fits && self.opens_at(cx) <= cx.now
    }

    /// When the relay may be asked to carry more.
    pub(super) fn opens_at(self, cx: &Context) -> Time {
        self.spared
            .map_or(Time::ZERO, |relay| cx.relays.opens_at(relay))
    }

    /// A request is made. What its answer takes at the most.
    pub(super) fn asks(self, cx: &mut Context, segments: &[Segment]) -> u64 {
        let most = most_of(segments, self.hashes);
        if let Some(relay) = self.spared {
            cx.relays.carries(relay, most, cx.now);
        }
        most
    }
}

/// A relay whose circuits carry less is there for the talk that precedes a direct connection, and is spared.
const SMALL: u64 = 1 << 20;

/// Whether a relay ends a link.
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

/// Whether nothing more can be asked for on a link, as the relay ends it.
pub(super) fn is_exhausted(cx: &Context, link: LinkId, flow: &Flow, transfer: &Transfer) -> bool {
    // A stream goes by whole groups, which is more than such a circuit carries: it is tried.
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
