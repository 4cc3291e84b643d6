//! A download whose sharer is reached only through relays that end each circuit after some bytes or some time: when to
//! open the next circuit, how many to use at once, and through which relays.
//!
//! Nothing is requested on a circuit that it cannot [carry](super::circuit_limit), so nothing is sent twice; and the
//! next circuit is opened while the last answers are in flight. The bytes through one relay, over all downloads, are
//! limited in [`relays`](super::super::relays).

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

/// Initial number of circuits, before their speed is known: while one is replaced, the other is in use.
const AT_FIRST: usize = 2;
/// If a circuit was used up in less than `QUICK` times the time it takes to open one, it was idle for much of its life,
/// and one more is used from then on. If it lasted more than `SLOW` times as long, circuits are not the bottleneck.
const QUICK: u32 = 2;
const SLOW: u32 = 8;
/// Bytes that opening a circuit costs its relay.
const OPENING: u64 = LEAF as u64 / 2;

/// Circuits of one download.
#[derive(Debug)]
pub(super) struct Circuits {
    dials: BTreeMap<DialId, Opening>,
    /// Number of circuits to use at once.
    aim: usize,
    /// How long the last circuit took to open, from the dial to the sharer's welcome.
    took: Duration,
    /// Relays used since the last time there was another path than circuits.
    relays: BTreeSet<PeerId>,
    /// True once the user was told that no relay may carry more for now.
    told_spared: bool,
    /// When something that waits for a relay may continue.
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

/// State of the download that decisions about circuits depend on.
pub(super) struct View<'a> {
    pub(super) links: &'a FetchLinks,
    pub(super) transfer: &'a Transfer,
    pub(super) source: &'a FetchSource,
    /// Addresses where the sharer was found, in addition to those in the code.
    pub(super) known: &'a [Multiaddr],
    pub(super) options: &'a FetchOptions,
    pub(super) choice: &'a RelayChoice,
    /// Selects which of several addresses is used.
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

    /// Number of circuits on which more can be requested.
    fn fresh(&self, cx: &Context) -> usize {
        let circuits = self.links.circuits();
        circuits
            .filter(|(link, _)| !self.is_exhausted(cx, *link))
            .count()
    }

    /// Number of bytes not yet requested; `u64::MAX` if the size is not known.
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
    /// Deadline of the next action about circuits.
    pub(super) fn wake(&self) -> Time {
        self.wake
    }

    /// Handles a link that has proved the key. Returns its circuit, if this dial was for an extra one.
    pub(super) fn came(&mut self, cx: &mut Context, dial: DialId) -> Option<Circuit> {
        let opening = self.dials.remove(&dial)?;
        cx.relays.opened(opening.relay, cx.now);
        Some(Circuit {
            began: opening.began,
            asked: None,
        })
    }

    /// True if this dial was for an extra circuit and the link that comes up is still of use.
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

    /// Handles the sharer's welcome over a circuit. Returns true if its relay was not used before.
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

    /// Number of relays in use.
    pub(super) fn relays(&self) -> usize {
        self.relays.len()
    }

    /// Handles that there is another path than circuits.
    pub(super) fn unused(&mut self) {
        self.relays.clear();
    }

    /// Handles a failed dial. Returns its relay if it was for an extra circuit.
    pub(super) fn failed(&mut self, dial: DialId) -> Option<PeerId> {
        self.dials.remove(&dial).map(|opening| opening.relay)
    }

    /// Opens a circuit.
    pub(super) fn open(&mut self, cx: &mut Context, download: DownloadId, next: Next) {
        let relay = next.relay;
        let dial = cx.dial(download, Some(next.sharer), vec![next.address]);
        cx.relays.carries(relay, OPENING, cx.now);
        let began = cx.now;
        self.dials.insert(dial, Opening { relay, began });
    }

    /// True if the user must be told, once, that the rate limits of all relays are used up and nothing continues until
    /// they allow more.
    pub(super) fn must_tell_spared(&self, cx: &Context, view: &View) -> bool {
        let idle = |(_, fetching): (LinkId, &Fetching)| fetching.flow.is_idle();
        let waits = view.links.circuits().all(idle) && view.transfer.is_waiting();
        let closed = |(link, _)| CircuitLimit::of(cx, link, view.transfer).opens_at(cx) > cx.now;
        let spared = view.links.circuits().all(closed);
        !self.told_spared && waits && spared && !view.transfer.files.is_complete()
    }

    /// Notes that the user was told.
    pub(super) fn told_spared(&mut self) {
        self.told_spared = true;
    }

    /// Returns the next circuit to open, if one more is wanted now.
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

    /// Number of circuits that are of use at once.
    fn wanted(&self, cx: &Context, view: &View) -> usize {
        let transfer = view.transfer;
        let over = transfer.is_stream() || transfer.files.is_complete();
        if over || !transfer.staged || view.paused {
            return 0;
        }
        let best = view.links.best.and_then(|best| cx.links.get(best));
        let Some(bytes) = best.and_then(|best| best.allowance.bytes) else {
            // The circuits are limited by time, and one carries as much as many.
            return 1;
        };
        // As many as the rest of the download needs.
        let needed = view.left().div_ceil(bytes.max(1));
        let needed = usize::try_from(needed).unwrap_or(usize::MAX);
        needed.clamp(1, self.aim)
    }

    /// Chooses the relay of the next circuit: of those that accept one more, the one with the fewest circuits of this
    /// download. `alone`: the download has no circuit that is of use.
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
        // Only one address, as each would take a circuit. If it fails, another one is used next time.
        let turn = view.turn.checked_rem(at.len())?;
        Some((relay, at.swap_remove(turn)))
    }

    fn own_through(&self, view: &View, relay: PeerId) -> usize {
        let standing = view.links.circuits();
        let standing = standing.filter(|(_, fetching)| fetching.relay == Some(relay));
        let opening = self.dials.values();
        standing.count() + opening.filter(|opening| opening.relay == relay).count()
    }

    /// Sets when something that waits for a relay may continue: never without a transfer in progress.
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

    /// When a relay may accept one more circuit, if one is wanted and none accepts it now.
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

    /// Handles a circuit that is used up, and adjusts the number of circuits to how long it lasted.
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
