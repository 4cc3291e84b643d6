//! A download whose sharer is only reached through relays that end each circuit after some bytes or some time: what is asked
//! for on one circuit, when the next one is opened, how many are in use at once, and through which relays.
//!
//! Nothing is asked for on a circuit that it can't carry, so nothing is sent twice; and the next one is opened while the last
//! answers are on their way. How much goes through one relay, over all downloads, is in [`relays`](super::super::relays).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::context::Context;
use super::super::links::Link;
use super::super::{DialId, Event, FetchKey, LinkId, PathKind, Segment};
use super::files::Size;
use super::{Download, Fetching, Stage};
use crate::limits::{LEAF, RELAYED_PIECE};
use crate::message::MAX_SEGMENTS;
use crate::time::Time;
use crate::{Multiaddr, PeerId, dial};

/// Circuits in use before it was seen how fast they are: while one is being replaced, the other goes on.
const AT_FIRST: usize = 2;
/// A circuit that was used up in less than twice the time that it takes to have one was idle for most of its life: one more
/// is opened from then on. One that took so many times as long is not what holds it up.
const QUICK: u32 = 2;
const SLOW: u32 = 8;
/// Segments of one request on a circuit: each has something beside its bytes.
const SEGMENTS: usize = 8;
/// Beside the bytes, at the most: a request and its answer; a segment in both, with its root; a hash of its proof.
const AROUND: u64 = 220;
const AROUND_SEGMENT: u64 = 90;
const PROOF_HASH: u64 = 34;
/// What opening a circuit costs its relay.
const OPENING: u64 = LEAF as u64 / 2;

/// Circuits of one download.
#[derive(Debug)]
pub(super) struct Circuits {
    dials: BTreeMap<DialId, Opening>,
    /// So many are wanted at once.
    aim: usize,
    /// How long the last one took, from its dial to the sharer's welcome.
    took: Duration,
    /// Relays that were in use since there was another path.
    relays: BTreeSet<PeerId>,
    /// The user was told that nothing more may go through any relay for now.
    told_spared: bool,
    /// When something that waits for a relay may go on.
    wake: Time,
}

/// A circuit that is being opened.
#[derive(Debug, Clone, Copy)]
struct Opening {
    relay: PeerId,
    began: Time,
}

/// What was seen of one circuit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circuit {
    began: Time,
    /// When the first thing was asked for on it.
    asked: Option<Time>,
}

impl Default for Circuits {
    fn default() -> Self {
        Self {
            dials: BTreeMap::new(),
            aim: AT_FIRST,
            took: Duration::ZERO,
            relays: BTreeSet::new(),
            told_spared: false,
            wake: Time::NEVER,
        }
    }
}

impl Circuits {
    /// When something is due about circuits.
    pub(super) fn wake(&self) -> Time {
        self.wake
    }

    /// A link has proved the key; if a circuit was opened for it, what is known of that.
    pub(super) fn came(&mut self, cx: &mut Context, dial: DialId) -> Option<Circuit> {
        let opening = self.dials.remove(&dial)?;
        cx.relays.opened(opening.relay, cx.now);
        Some(Circuit {
            began: opening.began,
            asked: None,
        })
    }

    /// Whether a dial is for one more circuit.
    pub(super) fn dialled(&self, dial: DialId) -> bool {
        self.dials.contains_key(&dial)
    }

    /// A circuit is used up. By how long that took it is judged how many are wanted.
    fn used_up(&mut self, circuit: Circuit, most: usize, now: Time) {
        let Some(asked) = circuit.asked else {
            return;
        };
        let took = now.since(asked);
        if took < self.took * QUICK {
            self.aim = (self.aim + 1).min(most.max(1));
        } else if took > self.took * SLOW {
            self.aim = self.aim.saturating_sub(1).max(AT_FIRST.min(most));
        }
    }
}

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
pub(super) struct Carries {
    /// Hashes of the longest proof.
    hashes: u64,
    /// What is fetched is a stream.
    streams: bool,
    /// The relay that is to be spared.
    spared: Option<PeerId>,
}

impl Carries {
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

fn is_limited(cx: &Context, link: LinkId) -> bool {
    cx.links.get(link).is_some_and(Link::is_limited)
}

fn fits(cx: &Context, link: LinkId, awaited: u64, size: Size, hashes: u64) -> bool {
    let Some(state) = cx.links.get(link) else {
        return false;
    };
    let left = state.left().unwrap_or(u64::MAX);
    let most = awaited.saturating_add(most_of_any(size, hashes));
    cx.now < state.wears_out() && most <= left
}

impl Download {
    /// What holds for requests on a link, as far as relays are concerned.
    pub(super) fn carries(&self, cx: &Context, link: LinkId) -> Carries {
        let Stage::Transfer(transfer) = &self.stage else {
            return Carries::default();
        };
        // A relay that lets each circuit carry whole files means to.
        let is_small = |state: &&Link| state.allowance.bytes.is_some_and(|it| it < SMALL);
        let state = cx.links.get(link).filter(is_small);
        Carries {
            hashes: transfer.proof_hashes,
            streams: transfer.is_stream(),
            spared: state.and_then(|state| state.relay),
        }
    }

    /// Whether nothing more can be asked for on a link, as the relay ends it.
    fn is_worn(&self, cx: &Context, link: LinkId) -> bool {
        let (Some(fetching), Stage::Transfer(transfer)) = (self.links.get(&link), &self.stage)
        else {
            return false;
        };
        // A stream goes by whole groups, which is more than such a circuit carries: it is tried.
        if !is_limited(cx, link) || transfer.is_stream() {
            return false;
        }
        let size = Size {
            range: RELAYED_PIECE,
            batch: RELAYED_PIECE,
            segments: SEGMENTS.min(cx.limits.segments).min(MAX_SEGMENTS),
        };
        let flow = &fetching.flow;
        let fits = fits(cx, link, flow.awaited(), size, transfer.proof_hashes);
        let expired = cx
            .links
            .get(link)
            .is_none_or(|state| state.wears_out() <= cx.now);
        expired || !(fits || flow.is_fresh())
    }

    /// How good a link is for what is asked for next, beside its path: one that no relay ends before one that it does, and
    /// one that is worn out last.
    pub(super) fn wear(&self, cx: &Context, link: LinkId) -> (bool, bool) {
        (self.is_worn(cx, link), is_limited(cx, link))
    }

    /// Whether the sharer is fetched from over circuits that its relays end.
    pub(super) fn uses_circuits(&self, cx: &Context) -> bool {
        let best = self.best.and_then(|best| cx.links.get(best));
        best.is_some_and(|best| best.path == PathKind::Relayed && best.is_limited())
    }

    /// Links to the sharer through relays.
    fn circuits(&self) -> impl Iterator<Item = (LinkId, &Fetching)> {
        let own =
            |fetching: &Fetching| fetching.mate.is_none() && fetching.path == PathKind::Relayed;
        let links = self.links.iter().filter(move |(_, fetching)| own(fetching));
        links.map(|(link, fetching)| (*link, fetching))
    }

    /// Circuits that are in use beside the best link.
    pub(super) fn other_circuits(&self, cx: &Context) -> Vec<LinkId> {
        if !self.uses_circuits(cx) {
            return Vec::new();
        }
        let used = |(link, fetching): &(LinkId, &Fetching)| {
            let other = Some(*link) != self.best && fetching.manifest.is_some();
            other && is_limited(cx, *link)
        };
        self.circuits().filter(used).map(|(link, _)| link).collect()
    }

    /// Whether a link that comes up over one more circuit is of use.
    pub(super) fn wants_circuit(&self, cx: &Context, dial: DialId, path: PathKind) -> bool {
        let best = self.best.and_then(|best| cx.links.get(best));
        let relayed = best.is_none_or(|best| best.path == PathKind::Relayed);
        self.circuits.dialled(dial) && path == PathKind::Relayed && relayed && !self.is_ending()
    }

    /// The link in use can't carry more: another one is picked.
    pub(super) fn leave_worn(&mut self, cx: &mut Context) {
        if self.best.is_some_and(|best| self.is_worn(cx, best)) {
            self.choose(cx);
        }
    }

    /// Whether a link that is not the best is kept, as more can be asked for on it.
    pub(super) fn keeps(&self, cx: &Context, link: LinkId) -> bool {
        let relayed = self.links.get(&link).map(|link| link.path) == Some(PathKind::Relayed);
        relayed && self.uses_circuits(cx) && is_limited(cx, link) && !self.is_worn(cx, link)
    }

    /// Closes links to other sources that can't carry more, once nothing is asked for on them: they are dialled again.
    pub(super) fn release_worn_mates(&mut self, cx: &mut Context) {
        let over = |(link, fetching): (&LinkId, &Fetching)| {
            let idle = fetching.mate.is_some() && fetching.flow.is_idle();
            (idle && fetching.manifest.is_some() && self.is_worn(cx, *link)).then_some(*link)
        };
        let worn: Vec<_> = self.links.iter().filter_map(over).collect();
        for link in worn {
            cx.close(link);
            self.link_down(cx, link, "its relay would have ended it".to_string());
        }
    }

    /// A circuit is closed in order.
    pub(super) fn circuit_over(&mut self, cx: &Context, fetching: &Fetching) {
        if let Some(circuit) = fetching.circuit {
            self.circuits.used_up(circuit, cx.limits.circuits, cx.now);
        }
    }

    /// The sharer's welcome came over a link.
    pub(super) fn circuit_welcomed(&mut self, cx: &mut Context, link: LinkId) {
        let Some(fetching) = self.links.get(&link) else {
            return;
        };
        if let Some(circuit) = fetching.circuit {
            self.circuits.took = cx.now.since(circuit.began);
        }
        if !is_limited(cx, link) {
            return;
        }
        if let Some(relay) = fetching.relay
            && self.circuits.relays.insert(relay)
        {
            self.tell_circuits(cx, link);
        }
    }

    fn tell_circuits(&self, cx: &mut Context, link: LinkId) {
        let allowance = cx.links.get(link).map(|state| state.allowance);
        cx.event(Event::Circuits {
            download: self.id,
            relays: self.circuits.relays.len(),
            allowance: allowance.unwrap_or_default(),
        });
    }

    /// Something was asked for on a link.
    pub(super) fn circuit_asked(&mut self, link: LinkId, now: Time) {
        if let Some(fetching) = self.links.get_mut(&link)
            && let Some(circuit) = &mut fetching.circuit
        {
            circuit.asked.get_or_insert(now);
        }
    }

    /// A dial has come to nothing; whether it was for one more circuit.
    pub(super) fn circuit_failed(&mut self, cx: &mut Context, dial: DialId) -> bool {
        let Some(opening) = self.circuits.dials.remove(&dial) else {
            return false;
        };
        // Where there is a better path by now, it was this side that wanted it no more.
        if self.uses_circuits(cx) || self.best.is_none() {
            let others = cx.circuits_through(opening.relay);
            cx.relays.refused(opening.relay, others, cx.now);
        }
        if !self.is_ending() {
            self.pump(cx);
        }
        true
    }

    /// Asks on all circuits, and opens the next ones.
    pub(super) fn ask_circuits(&mut self, cx: &mut Context) {
        if !self.uses_circuits(cx) {
            return self.circuits.relays.clear();
        }
        for link in self.other_circuits(cx) {
            self.ask(cx, link);
        }
        self.tell_spared(cx);
        while let Some((peer, relay, address)) = self.next_circuit(cx) {
            let dial = cx.dial(self.id, Some(peer), vec![address]);
            cx.relays.carries(relay, OPENING, cx.now);
            let began = cx.now;
            self.circuits.dials.insert(dial, Opening { relay, began });
        }
    }

    /// Tells the user, once, when what relays may be asked to carry is used up and nothing goes on before there is more.
    fn tell_spared(&mut self, cx: &mut Context) {
        let Stage::Transfer(transfer) = &self.stage else {
            return;
        };
        let idle = |(_, fetching): (LinkId, &Fetching)| fetching.flow.is_idle();
        let waits = self.circuits().all(idle) && transfer.is_waiting();
        let closed = |(link, _)| self.carries(cx, link).opens_at(cx) > cx.now;
        let spared = self.circuits().all(closed);
        if self.circuits.told_spared || !waits || !spared || transfer.files.is_complete() {
            return;
        }
        self.circuits.told_spared = true;
        let (download, an_hour) = (self.id, cx.limits.relay_an_hour);
        cx.event(Event::RelaysSpared { download, an_hour });
    }

    /// The next circuit to open, if one more is wanted now: to whom, through which relay, and where that is.
    fn next_circuit(&self, cx: &Context) -> Option<(PeerId, PeerId, Multiaddr)> {
        let peer = self.source.peer?;
        let FetchKey::Secret(_) = &self.source.key else {
            return None;
        };
        let fresh = self
            .circuits()
            .filter(|(link, _)| !self.is_worn(cx, *link))
            .count();
        let opening = self.circuits.dials.len();
        let all = self.circuits().count() + opening;
        if fresh + opening >= self.circuits_wanted(cx) || all >= cx.limits.circuits.max(2) {
            return None;
        }
        let alone = fresh + opening == 0 && all <= 1;
        let (relay, address) = self.next_relay(cx, alone)?;
        Some((peer, relay, address))
    }

    /// How many circuits are of use at once.
    fn circuits_wanted(&self, cx: &Context) -> usize {
        let Stage::Transfer(transfer) = &self.stage else {
            return 0;
        };
        let stream = transfer.is_stream();
        if stream || !transfer.staged || self.paused || transfer.files.is_complete() {
            return 0;
        }
        let best = self.best.and_then(|best| cx.links.get(best));
        let Some(bytes) = best.and_then(|best| best.allowance.bytes) else {
            // It is time that ends them, and one carries as much as many.
            return 1;
        };
        // As many as what is left to ask for takes.
        let left = transfer.files.count.bytes.map_or(u64::MAX, |all| {
            let here = transfer.files.count.here;
            all.saturating_sub(here).saturating_sub(self.held())
        });
        let needed = usize::try_from(left.div_ceil(bytes.max(1))).unwrap_or(usize::MAX);
        needed.clamp(1, self.circuits.aim)
    }

    /// Through which relay the next circuit leads: of those that take one more, the one that has the fewest of this download.
    /// `alone`: it has none that is of use.
    fn next_relay(&self, cx: &Context, alone: bool) -> Option<(PeerId, Multiaddr)> {
        let mut relays = self.relays(cx);
        cx.standings.sort(&mut relays, |(relay, _)| *relay);
        let takes = |relay: PeerId| {
            let through = cx.circuits_through(relay);
            let most = cx
                .limits
                .circuits_per_relay
                .min(cx.relays.takes(relay, cx.now));
            (alone || through < most)
                && cx.relays.rests_until(relay) <= cx.now
                && cx.relays.opens_at(relay) <= cx.now
        };
        let usable = relays.into_iter().filter(|(relay, _)| takes(*relay));
        let (relay, mut at) = usable.min_by_key(|(relay, _)| self.own_through(*relay))?;
        // One address: each would take a circuit. Another one next time, in case that leads nowhere.
        let turn = self.turn.checked_rem(at.len())?;
        Some((relay, at.swap_remove(turn)))
    }

    fn own_through(&self, relay: PeerId) -> usize {
        let standing = self.circuits();
        let standing = standing.filter(|(_, fetching)| fetching.relay == Some(relay));
        let opening = self.circuits.dials.values();
        standing.count() + opening.filter(|opening| opening.relay == relay).count()
    }

    /// Relays through which the sharer can be reached, with their addresses.
    fn relays(&self, cx: &Context) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let known: Vec<_> = self
            .source
            .addresses
            .iter()
            .chain(&self.known)
            .cloned()
            .collect();
        let mut vetted = dial::vet(&known, self.options.loopback, &cx.limits).dial;
        vetted.retain(|address| self.relays.may_use(address));
        dial::by_relay(dial::ways(&vetted).relayed)
    }

    /// Takes note of when something that waits for a relay may go on.
    pub(super) fn wait_for_relays(&mut self, cx: &Context) {
        self.circuits.wake = self.next_wake(cx);
    }

    fn next_wake(&self, cx: &Context) -> Time {
        if !matches!(self.stage, Stage::Transfer(_)) || self.paused || self.is_ending() {
            return Time::NEVER;
        }
        let links = self.links.keys().filter(|link| is_limited(cx, **link));
        let open = links.map(|link| self.carries(cx, *link).opens_at(cx));
        let open = open.filter(|at| *at > cx.now).min();
        let next = open.unwrap_or(Time::NEVER);
        if !self.uses_circuits(cx) {
            return next;
        }
        let standing = self.circuits().filter_map(|(link, _)| cx.links.get(link));
        let worn = standing
            .map(Link::wears_out)
            .filter(|at| *at > cx.now)
            .min();
        next.min(worn.unwrap_or(Time::NEVER))
            .min(self.next_relay_at(cx))
    }

    /// When a relay takes one more circuit, if one is wanted that none takes now.
    fn next_relay_at(&self, cx: &Context) -> Time {
        let fresh = self.circuits().filter(|(link, _)| !self.is_worn(cx, *link));
        if fresh.count() + self.circuits.dials.len() >= self.circuits_wanted(cx) {
            return Time::NEVER;
        }
        let relays = self.relays(cx).into_iter();
        let rested = relays.map(|(relay, _)| {
            let rested = cx.relays.rests_until(relay);
            rested.max(cx.relays.opens_at(relay))
        });
        let next = rested.chain([cx.relays.next_closed(cx.now)]);
        next.filter(|at| *at > cx.now).min().unwrap_or(Time::NEVER)
    }
}
