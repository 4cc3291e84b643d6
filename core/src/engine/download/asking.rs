//! What is asked for next on a link, and how much ahead.

use std::collections::{BTreeMap, BTreeSet};

use super::super::context::Context;
use super::super::gate::{self, TransferId};
use super::super::{DownloadId, LinkId, PathKind, Segment, SinkKind};
use super::circuits::Carries;
use super::files::{self, Files, Size};
use super::swarm::Swarm;
use super::transfer::Transfer;
use super::window::Window;
use super::{Download, Stage};
use crate::PeerId;
use crate::limits::{GROUP, Limits};
use crate::message::{MAX_SEGMENTS, Message};
use crate::time::Time;

/// Requests that are outstanding on one link at the most, whatever room the window has.
const REQUESTS: usize = 64;

/// What is asked for on one link.
#[derive(Default)]
pub(super) struct Flow {
    pub(super) window: Option<Window>,
    /// Requests that are not answered, by number.
    pub(super) outstanding: BTreeMap<u64, Asked>,
    next_id: u64,
    /// Roots that a mate was asked for.
    asked_roots: BTreeSet<u32>,
}

/// A request that is not answered.
pub(super) struct Asked {
    pub(super) segments: Vec<Segment>,
    pub(super) cost: u64,
    /// What its answer takes of a circuit at the most.
    most: u64,
    pub(super) at: Time,
}

impl Flow {
    pub(super) fn start(&mut self, limits: &Limits, path: PathKind, now: Time) {
        self.window = Some(Window::new(limits, path, now));
    }

    /// Takes note of a request that goes out; its number.
    fn asks(&mut self, segments: Vec<Segment>, (cost, most): (u64, u64), at: Time) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if let Some(window) = &mut self.window {
            window.asked(cost, at);
        }
        let asked = Asked {
            segments,
            cost,
            most,
            at,
        };
        self.outstanding.insert(id, asked);
        id
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Nothing was asked for on it yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.next_id == 0
    }

    /// What answers take of a circuit, at the most, that have not come.
    pub(super) fn awaited(&self) -> u64 {
        let most = self.outstanding.values().map(|asked| asked.most);
        most.fold(0, u64::saturating_add)
    }

    /// Bytes asked for and not here yet.
    pub(super) fn ahead(&self) -> u64 {
        self.window.as_ref().map_or(0, Window::outstanding)
    }

    /// The entry that is asked for first of all.
    pub(super) fn first_asked(&self) -> Option<u32> {
        let asked = self.outstanding.values().next()?;
        asked.segments.first().map(|segment| segment.entry)
    }
}

impl Transfer {
    /// Whether nothing goes on before one more request is made, however full the window is: nothing is on its way to
    /// disk, and nothing is outstanding; or, where bytes have to come in order, what comes next stands before all that is.
    /// What came early for a pipe, and what a stream was asked for early, waits for that.
    fn is_stuck(&self, outstanding: &BTreeMap<u64, Asked>, limits: &Limits) -> bool {
        // A file that gets its name makes room; and so does a sync, which is due or under way with so much at risk.
        if self.files.nameless() > 0 || self.journal.at_risk() > limits.window {
            return false;
        }
        let in_order = self.sink == SinkKind::Pipe || self.files.is_stream(0);
        if self.several || !in_order {
            return outstanding.is_empty() && self.unwritten == 0;
        }
        let outstanding = outstanding.values();
        let first = outstanding.filter_map(|asked| asked.segments.first()).min();
        let overdue = match (self.files.first_again(), first) {
            (Some(again), Some(first)) => again < first,
            (Some(_), None) => true,
            // What is held waits for something that is outstanding on another link, which comes or is lost with it.
            (None, None) => self.unwritten == 0,
            (None, Some(_)) => false,
        };
        overdue && self.writes == 0 && self.to_write.is_empty()
    }

    /// Whole files whose root is to be asked for on this link now, so that no more than `most` are awaited there.
    fn roots_to_ask(
        &mut self,
        link: LinkId,
        is_mate: bool,
        asked_of_mate: &mut BTreeSet<u32>,
        most: usize,
    ) -> Vec<u32> {
        let rootless = self.files.rootless();
        let asked = |entry: &u32| {
            if is_mate {
                asked_of_mate.contains(entry)
            } else {
                self.asked_roots.get(entry) == Some(&link)
            }
        };
        let (awaited, new): (Vec<u32>, Vec<u32>) = rootless.into_iter().partition(asked);
        let room = most.saturating_sub(awaited.len());
        let new: Vec<u32> = new.into_iter().take(room).collect();
        for entry in &new {
            if is_mate {
                asked_of_mate.insert(*entry);
            } else {
                self.asked_roots.insert(*entry, link);
            }
        }
        new
    }
}

impl Download {
    /// Asks for as much as the window has room for.
    pub(super) fn ask(&mut self, cx: &mut Context, link: LinkId) {
        // Only the sharer is asked for these, on one link.
        let is_best = self.best == Some(link);
        if is_best {
            self.ask_roots(cx, link);
            self.ask_chunks(cx, link);
        }
        let asker = Asker {
            id: self.id,
            of: self.of(),
            piece: self.piece(cx, link),
            others: self.asked_of_others(cx, link),
            carries: self.carries(cx, link),
        };
        let (mut held, has_sharer) = (self.held(), self.best.is_some());
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let Some(fetching) = self.links.get_mut(&link) else {
            return;
        };
        let (mate, flow) = (fetching.mate, &mut fetching.flow);
        if flow.window.is_none() || !transfer.staged || transfer.known.is_looking() {
            return;
        }
        if is_best || !has_sharer {
            // Whoever serves lets only so many wait.
            let most = (cx.limits.requests / 2).max(1);
            for entry in transfer.roots_to_ask(link, mate.is_some(), &mut flow.asked_roots, most) {
                cx.send(link, Message::GetRoot { entry });
            }
        }
        let fresh = flow.is_fresh();
        while let Some(size) = asker.may(cx, transfer, (link, flow), held) {
            let swarm = self.swarm.as_mut().filter(|_| transfer.several);
            let Some((segments, cost)) = next(&mut transfer.files, swarm, mate, size, cx) else {
                break;
            };
            cx.down.went(asker.of, gate::cost(&segments), cx.now);
            held += cost;
            let most = asker.carries.asks(cx, &segments);
            let id = flow.asks(segments.clone(), (cost, most), cx.now);
            let segments = segments.into();
            cx.send(link, Message::Request { id, segments });
        }
        if fresh && !flow.is_fresh() {
            self.circuit_asked(link, cx.now);
        }
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
    /// What the relay lets the link carry.
    carries: Carries,
}

impl Asker {
    /// What one more request may ask for, if one may be made. `held` is what the download holds in memory.
    fn may(
        &self,
        cx: &mut Context,
        transfer: &Transfer,
        (link, flow): (LinkId, &Flow),
        held: u64,
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
        if !self.carries.may(cx, link, fresh, awaited, size) {
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
        let at_most = if transfer.files.is_stream(0) {
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
        let here = transfer.unwritten + transfer.journal.at_risk() + transfer.files.nameless();
        here + self.others + own
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
