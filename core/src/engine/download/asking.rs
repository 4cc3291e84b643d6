//! What to request next on a link, and how much may be in flight.

use super::super::TransferId;
use super::super::context::Context;
use super::super::{DownloadId, LinkId, Segment};
use super::circuit_limit::CircuitLimit;
use super::files::{self, Files, Size};
use super::requests::Flow;
use super::swarm::Swarm;
use super::transfer::Transfer;
use super::window::Window;
use crate::PeerId;
use crate::limits::GROUP;
use crate::message::MAX_SEGMENTS;

/// Maximum number of outstanding requests on one link, whatever the window allows. Exceeded only by a stuck transfer.
const REQUESTS: usize = 64;

/// The download that requests, and the limits of each request.
pub(super) struct Asker {
    pub(super) id: DownloadId,
    pub(super) of: TransferId,
    /// Maximum number of bytes per request.
    pub(super) piece: u32,
    /// Bytes in flight from other sources.
    pub(super) others: u64,
}

impl Asker {
    /// Returns the limits of one more request, or `None` if none may be made. `held`: bytes that the download holds in
    /// memory.
    pub(super) fn may(
        &self,
        cx: &mut Context,
        transfer: &Transfer,
        (link, flow): (LinkId, &Flow),
        (carries, held): (CircuitLimit, u64),
    ) -> Option<Size> {
        let window = flow.window.as_ref()?;
        // One request is reserved for the range that all the others wait for.
        let at_once = REQUESTS.min(cx.limits.requests.saturating_sub(1)).max(1);
        let is_stuck = transfer.is_stuck(&flow.outstanding, &cx.limits);
        let outstanding = flow.outstanding.len();
        if outstanding >= at_once && !(is_stuck && outstanding < cx.limits.requests) {
            return None;
        }
        let size = Size {
            range: window.request_len().min(self.piece),
            batch: window.piece().min(self.piece),
            segments: cx.limits.segments.min(MAX_SEGMENTS),
        };
        let size = CircuitLimit::size(cx, link, size);
        let (fresh, awaited) = (flow.is_fresh(), flow.awaited());
        if !carries.may(cx, link, fresh, awaited, size) {
            return None;
        }
        let unsafe_yet = self.unsafe_yet(transfer, window);
        let room = window
            .room()
            .min(cx.limits.window.saturating_sub(unsafe_yet));
        if room < u64::from(size.range) && !is_stuck {
            return None;
        }
        cx.memory.holds(self.id, held, true);
        // Whole files together may be larger than a range, and streams are requested in whole groups.
        let at_most = if transfer.is_stream() {
            GROUP
        } else {
            size.range.max(size.batch)
        };
        let fits = cx.memory.may(self.id, at_most, cx.limits.window_total);
        ((fits || is_stuck) && cx.down.may(self.of, cx.now)).then_some(size)
    }

    /// Bytes that a crash would lose (received or in flight) plus files not yet published. Bounded by one window.
    fn unsafe_yet(&self, transfer: &Transfer, window: &Window) -> u64 {
        let own = if transfer.journal.comes_first() {
            window.outstanding()
        } else {
            0
        };
        transfer.unsafe_yet() + self.others + own
    }
}

/// Chooses what to request next: the next in order or, with several sources, something that this one has. Returns the
/// segments and their cost.
pub(super) fn next(
    files: &mut Files,
    swarm: Option<&mut Box<Swarm>>,
    seeder: Option<PeerId>,
    size: Size,
    cx: &mut Context,
) -> Option<(Vec<Segment>, u64)> {
    let Some(swarm) = swarm else {
        return files.next(size);
    };
    let segments = swarm.next(files, seeder, size, cx.rng())?;
    let cost = files::cost_of(&segments);
    Some((segments, cost))
}
