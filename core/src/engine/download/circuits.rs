//! A download whose sharer is only reached through relays that end each circuit after some bytes or some time: when the next
//! circuit is opened, how many are in use at once, and through which relays.
//!
//! Nothing is asked for on a circuit that it can't [carry](super::circuit_limit), so nothing is sent twice; and the next one is
//! opened while the last answers are on their way. How much goes through one relay, over all downloads, is in
//! [`relays`](super::super::relays).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::context::Context;
use super::super::links::Link;
use super::super::{DialId, DownloadId, FetchKey, FetchOptions, FetchSource, LinkId, PathKind};
use super::circuit_limit::{CircuitLimit, is_limited};
use super::links::{Circuit, FetchLinks, Fetching};
use super::relay_choice::RelayChoice;
use super::transfer::Transfer;
use crate::limits::LEAF;
use crate::time::Time;
use crate::{Multiaddr, PeerId, dial};

/// Circuits in use before it was seen how fast they are: while one is being replaced, the other goes on.
const AT_FIRST: usize = 2;
/// A circuit that was used up in less than twice the time that it takes to have one was idle for most of its life: one more
/// is opened from then on. One that took so many times as long is not what holds it up.
const QUICK: u32 = 2;
const SLOW: u32 = 8;
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

/// What decides about circuits, and is the download's.
pub(super) struct View<'a> {
    pub(super) links: &'a FetchLinks,
    pub(super) transfer: &'a Transfer,
    pub(super) source: &'a FetchSource,
    /// Where the sharer was found, beside what the code says.
    pub(super) known: &'a [Multiaddr],
    pub(super) options: &'a FetchOptions,
    pub(super) choice: &'a RelayChoice,
    /// Which of several addresses comes first.
    pub(super) turn: usize,
    pub(super) paused: bool,
}

/// A circuit to open.
pub(super) struct Next {
    sharer: PeerId,
    relay: PeerId,
    address: Multiaddr,
}

impl View<'_> {
    fn is_exhausted(&self, cx: &Context, link: LinkId) -> bool {
        self.links.is_exhausted(cx, link, Some(self.transfer))
    }

    /// Circuits on which more can be asked for.
    fn fresh(&self, cx: &Context) -> usize {
        let circuits = self.links.circuits();
        circuits
            .filter(|(link, _)| !self.is_exhausted(cx, *link))
            .count()
    }

    /// Bytes that were not asked for yet; as good as without end where that is not known.
    fn left(&self) -> u64 {
        let count = self.transfer.files.count;
        count.bytes.map_or(u64::MAX, |all| {
            let held = self.links.held(Some(self.transfer));
            all.saturating_sub(count.here).saturating_sub(held)
        })
    }

    /// Relays through which the sharer can be reached, with their addresses.
    fn relays(&self, cx: &Context) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let known = self.source.addresses.iter().chain(self.known);
        let known: Vec<_> = known.cloned().collect();
        let mut vetted = dial::vet(&known, self.options.loopback, &cx.limits).dial;
        vetted.retain(|address| self.choice.may_use(address));
        dial::by_relay(dial::ways(&vetted).relayed)
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

    /// Whether a link is of use that comes up over one more circuit, as this dial was for one.
    pub(super) fn wants(
        &self,
        cx: &Context,
        dial: DialId,
        path: PathKind,
        links: &FetchLinks,
    ) -> bool {
        let best = links.best.and_then(|best| cx.links.get(best));
        let relayed = best.is_none_or(|best| best.path == PathKind::Relayed);
        self.dials.contains_key(&dial) && path == PathKind::Relayed && relayed
    }

    /// A circuit to the sharer is welcome. Says whether its relay is a new one.
    pub(super) fn welcomed(
        &mut self,
        circuit: Option<Circuit>,
        relay: Option<PeerId>,
        now: Time,
    ) -> bool {
        if let Some(circuit) = circuit {
            self.took = now.since(circuit.began);
        }
        relay.is_some_and(|relay| self.relays.insert(relay))
    }

    /// How many relays are in use.
    pub(super) fn relays(&self) -> usize {
        self.relays.len()
    }

    /// There is another path than circuits.
    pub(super) fn unused(&mut self) {
        self.relays.clear();
    }

    /// A dial has come to nothing; the relay that it was for, if it was for one more circuit.
    pub(super) fn failed(&mut self, dial: DialId) -> Option<PeerId> {
        self.dials.remove(&dial).map(|opening| opening.relay)
    }

    /// A circuit is opened.
    pub(super) fn open(&mut self, cx: &mut Context, download: DownloadId, next: Next) {
        let relay = next.relay;
        let dial = cx.dial(download, Some(next.sharer), vec![next.address]);
        cx.relays.carries(relay, OPENING, cx.now);
        let began = cx.now;
        self.dials.insert(dial, Opening { relay, began });
    }

    /// Whether what relays may be asked to carry is used up, and nothing goes on before there is more: told once.
    pub(super) fn must_tell_spared(&self, cx: &Context, view: &View) -> bool {
        let idle = |(_, fetching): (LinkId, &Fetching)| fetching.flow.is_idle();
        let waits = view.links.circuits().all(idle) && view.transfer.is_waiting();
        let closed = |(link, _)| CircuitLimit::of(cx, link, view.transfer).opens_at(cx) > cx.now;
        let spared = view.links.circuits().all(closed);
        !self.told_spared && waits && spared && !view.transfer.files.is_complete()
    }

    /// It was told.
    pub(super) fn told_spared(&mut self) {
        self.told_spared = true;
    }

    /// The next circuit to open, if one more is wanted now.
    pub(super) fn next(&self, cx: &Context, view: &View) -> Option<Next> {
        let sharer = view.source.peer?;
        let FetchKey::Secret(_) = &view.source.key else {
            return None;
        };
        let (fresh, opening) = (view.fresh(cx), self.dials.len());
        let all = view.links.circuits().count() + opening;
        if fresh + opening >= self.wanted(cx, view) || all >= cx.limits.circuits.max(2) {
            return None;
        }
        let alone = fresh + opening == 0 && all <= 1;
        let (relay, address) = self.next_relay(cx, view, alone)?;
        Some(Next {
            sharer,
            relay,
            address,
        })
    }

    /// How many circuits are of use at once.
    fn wanted(&self, cx: &Context, view: &View) -> usize {
        let transfer = view.transfer;
        let over = transfer.is_stream() || transfer.files.is_complete();
        if over || !transfer.staged || view.paused {
            return 0;
        }
        let best = view.links.best.and_then(|best| cx.links.get(best));
        let Some(bytes) = best.and_then(|best| best.allowance.bytes) else {
            // It is time that ends them, and one carries as much as many.
            return 1;
        };
        // As many as what is left to ask for takes.
        let needed = view.left().div_ceil(bytes.max(1));
        let needed = usize::try_from(needed).unwrap_or(usize::MAX);
        needed.clamp(1, self.aim)
    }

    /// Through which relay the next circuit leads: of those that take one more, the one that has the fewest of this download.
    /// `alone`: it has none that is of use.
    fn next_relay(&self, cx: &Context, view: &View, alone: bool) -> Option<(PeerId, Multiaddr)> {
        let mut relays = view.relays(cx);
        cx.reputations.sort(&mut relays, |(relay, _)| *relay);
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
        let (relay, mut at) = usable.min_by_key(|(relay, _)| self.own_through(view, *relay))?;
        // One address: each would take a circuit. Another one next time, in case that leads nowhere.
        let turn = view.turn.checked_rem(at.len())?;
        Some((relay, at.swap_remove(turn)))
    }

    fn own_through(&self, view: &View, relay: PeerId) -> usize {
        let standing = view.links.circuits();
        let standing = standing.filter(|(_, fetching)| fetching.relay == Some(relay));
        let opening = self.dials.values();
        standing.count() + opening.filter(|opening| opening.relay == relay).count()
    }

    /// Takes note of when something that waits for a relay may go on; without a transfer under way nothing does.
    pub(super) fn wait(&mut self, cx: &Context, view: Option<&View>) {
        self.wake = view.map_or(Time::NEVER, |view| self.next_wake(cx, view));
    }

    fn next_wake(&self, cx: &Context, view: &View) -> Time {
        let links = view.links.iter().map(|(link, _)| link);
        let limited = links.filter(|link| is_limited(cx, *link));
        let open = limited.map(|link| CircuitLimit::of(cx, link, view.transfer).opens_at(cx));
        let open = open.filter(|at| *at > cx.now).min();
        let next = open.unwrap_or(Time::NEVER);
        if !view.links.uses_circuits(cx) {
            return next;
        }
        let standing = view.links.circuits();
        let standing = standing.filter_map(|(link, _)| cx.links.get(link));
        let exhausted = standing
            .map(Link::usable_until)
            .filter(|at| *at > cx.now)
            .min();
        next.min(exhausted.unwrap_or(Time::NEVER))
            .min(self.next_relay_at(cx, view))
    }

    /// When a relay takes one more circuit, if one is wanted that none takes now.
    fn next_relay_at(&self, cx: &Context, view: &View) -> Time {
        if view.fresh(cx) + self.dials.len() >= self.wanted(cx, view) {
            return Time::NEVER;
        }
        let relays = view.relays(cx).into_iter();
        let rested = relays.map(|(relay, _)| {
            let rested = cx.relays.rests_until(relay);
            rested.max(cx.relays.opens_at(relay))
        });
        let next = rested.chain([cx.relays.next_closed(cx.now)]);
        next.filter(|at| *at > cx.now).min().unwrap_or(Time::NEVER)
    }

    /// A circuit is used up. By how long that took it is judged how many are wanted.
    pub(super) fn used_up(&mut self, circuit: Circuit, most: usize, now: Time) {
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
