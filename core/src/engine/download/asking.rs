//! What is asked for next on a link, and how much ahead.

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

/// Requests that are outstanding on one link at the most, whatever room the window has.
const REQUESTS: usize = 64;

/// Who asks on a link, and what holds for each request.
pub(super) struct Asker {
    pub(super) id: DownloadId,
    pub(super) of: TransferId,
    /// Bytes that one request asks for at the most.
    pub(super) piece: u32,
    /// Bytes that other sources are asked for.
    pub(super) others: u64,
}

impl Asker {
    /// What one more request may ask for, if one may be made. `held` is what the download holds in memory.
    pub(super) fn may(
        &self,
        cx: &mut Context,
        transfer: &Transfer,
        (link, flow): (LinkId, &Flow),
        (carries, held): (CircuitLimit, u64),
    ) -> Option<Size> {
        let window = flow.window.as_ref()?;
        // One is kept back for what all the others wait for.
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
        // Whole files may be more than a range, and a stream goes by whole groups.
        let at_most = if transfer.is_stream() {
            GROUP
        } else {
            size.range.max(size.batch)
        };
        let fits = cx.memory.may(self.id, at_most, cx.limits.window_total);
        ((fits || is_stuck) && cx.down.may(self.of, cx.now)).then_some(size)
    }

    /// What a crash would lose, now or when it has come, and what waits for its name: a window at the most.
    fn unsafe_yet(&self, transfer: &Transfer, window: &Window) -> u64 {
        let own = if transfer.journal.comes_first() {
            window.outstanding()
        } else {
            0
        };
        transfer.unsafe_yet() + self.others + own
    }
}

/// What is asked for next: what comes next in order, or what a source of several has.
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
