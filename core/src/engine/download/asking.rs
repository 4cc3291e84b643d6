//! What is asked for next on a link, and how much ahead.

use super::super::context::Context;
use super::super::gate::{self, TransferId};
use super::super::{DownloadId, LinkId, Segment};
use super::carries::Carries;
use super::files::{self, Files, Size};
use super::requests::Flow;
use super::swarm::Swarm;
use super::transfer::Transfer;
use super::window::Window;
use super::{Download, Stage};
use crate::PeerId;
use crate::limits::GROUP;
use crate::message::{MAX_SEGMENTS, Message};

/// Requests that are outstanding on one link at the most, whatever room the window has.
const REQUESTS: usize = 64;

impl Download {
    /// Asks for as much as the window has room for.
    pub(super) fn ask(&mut self, cx: &mut Context, link: LinkId) {
        // Only the sharer is asked for these, on one link.
        let is_best = self.links.best == Some(link);
        if is_best {
            self.ask_what_is_here(cx, link);
        }
        // Several sources or circuits together hold no more than one would.
        let several = self
            .stage
            .under_way()
            .is_some_and(|transfer| transfer.several);
        let shares = several || self.links.uses_circuits(cx);
        let others = shares.then(|| self.links.asked_of_others(link));
        let asker = Asker {
            id: self.order.id,
            of: self.order.transfer(),
            piece: self.links.piece(cx, self.order.transfer(), link),
            others: others.unwrap_or_default(),
        };
        let (mut held, has_sharer) = (self.held(), self.links.best.is_some());
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let carries = Carries::of(cx, link, transfer);
        let Some(fetching) = self.links.get_mut(link) else {
            return;
        };
        let (mate, flow) = (fetching.mate, &mut fetching.flow);
        if flow.window.is_none() || !transfer.staged || transfer.known.is_looking() {
            return;
        }
        if is_best || !has_sharer {
            // Whoever serves lets only so many wait.
            let most = (cx.limits.requests / 2).max(1);
            let asked_of_mate = mate.is_some().then_some(&mut flow.asked_roots);
            for entry in transfer.roots_to_ask(link, asked_of_mate, most) {
                cx.send(link, Message::GetRoot { entry });
            }
        }
        let fresh = flow.is_fresh();
        while let Some(size) = asker.may(cx, transfer, (link, flow), (carries, held)) {
            let swarm = self.swarm.as_mut().filter(|_| transfer.several);
            let Some((segments, cost)) = next(&mut transfer.files, swarm, mate, size, cx) else {
                break;
            };
            cx.down.went(asker.of, gate::cost(&segments), cx.now);
            held += cost;
            let most = carries.asks(cx, &segments);
            let id = flow.asks(segments.clone(), (cost, most), cx.now);
            let segments = segments.into();
            cx.send(link, Message::Request { id, segments });
        }
        if fresh && !flow.is_fresh() {
            // From its first request on it is measured how fast a circuit is used up.
            if let Some(circuit) = &mut fetching.circuit {
                circuit.asked.get_or_insert(cx.now);
            }
        }
    }

    /// Asks the sharer for what tells which bytes are here already: roots, and lists of chunks.
    fn ask_what_is_here(&mut self, cx: &mut Context, link: LinkId) {
        let (links, Stage::Transfer(transfer)) = (&self.links, &mut self.stage) else {
            return;
        };
        let (known, files) = (&mut transfer.known, &transfer.files);
        known.ask_roots(cx, link, files);
        let is_up = |link: &LinkId| links.get(*link).is_some();
        known.reusing.ask(cx, link, files, is_up);
    }
}

/// Who asks on a link, and what holds for each request.
struct Asker {
    id: DownloadId,
    of: TransferId,
    /// Bytes that one request asks for at the most.
    piece: u32,
    /// Bytes that other sources are asked for.
    others: u64,
}

impl Asker {
    /// What one more request may ask for, if one may be made. `held` is what the download holds in memory.
    fn may(
        &self,
        cx: &mut Context,
        transfer: &Transfer,
        (link, flow): (LinkId, &Flow),
        (carries, held): (Carries, u64),
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
        let size = Carries::size(cx, link, size);
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
        cx.room.holds(self.id, held, true);
        // Whole files may be more than a range, and a stream goes by whole groups.
        let at_most = if transfer.is_stream() {
            GROUP
        } else {
            size.range.max(size.batch)
        };
        let fits = cx.room.may(self.id, at_most, cx.limits.window_total);
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
fn next(
    files: &mut Files,
    swarm: Option<&mut Box<Swarm>>,
    mate: Option<PeerId>,
    size: Size,
    cx: &mut Context,
) -> Option<(Vec<Segment>, u64)> {
    let Some(swarm) = swarm else {
        return files.next(size);
    };
    let segments = swarm.next(files, mate, size, cx.rng())?;
    let cost = files::cost_of(&segments);
    Some((segments, cost))
}
