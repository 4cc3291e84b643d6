//! Looking for the peer: who is dialled where and when, and when to give up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::context::Context;
use super::super::{DialId, DownloadId, LookUpId};
use super::lookups::{LookUps, Round};
use super::proofs::{Proofs, Way};
use crate::dial::{by_relay, ways};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// QUIC is dialled this much later than TCP, unless TCP fails before: where both work TCP moves bytes faster.
const QUIC_AFTER: Duration = Duration::from_millis(250);
/// Relays are dialled this much later again, unless all that fails before: most of what they carry, somebody pays for.
const RELAYED_AFTER_QUIC: Duration = Duration::from_millis(250);
/// Relays are dialled one after the other, so long apart: each counts who comes, and lets only so many through.
const EACH_RELAY: Duration = Duration::from_secs(1);
/// Pauses between attempts, doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(4);

/// Peers on the local network that one attempt asks, where a code does not say whom.
const NEARBY: usize = 16;

/// Why nobody was dialled.
const NOBODY_NEAR: &str = "nobody was found on the local network, and the code names no address";
const NOBODY: &str = "nobody who has this code was found";
const NO_DHT: &str = "no node of the DHT answers, so only this network was searched";

/// Why a link was given up whose peer is alive.
pub(super) const NOTHING_CAME: &str = "it was connected, but sent nothing of what it was asked for";

/// Where somebody may be; without a peer, whoever answers there is it.
pub(super) type Target = (Option<PeerId>, Vec<Multiaddr>);

/// A search, from the loss of the last link (or the start) until a link proves the key, and on from there if that link
/// is lost before it brought anything: so a peer that only ever hangs up is dialled ever more rarely, and then given up.
#[derive(Debug)]
pub(super) struct Search {
    /// Whom a link must lead to, if that is known.
    peer: Option<PeerId>,
    /// Where the code, or a link that stood before, says that it is.
    known: Vec<Multiaddr>,
    /// Which of several relays comes first: each its turn.
    turn: usize,
    /// See [`Search::asking_near`].
    asks_near: bool,
    /// Whom look-ups have found, and where.
    found: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Of those the ones that were found under another day than today's, and by how many they are ahead at the least.
    ahead: BTreeMap<PeerId, i32>,
    lookups: LookUps,
    began: Time,
    /// When it is given up.
    ends: Time,
    /// When the next attempt is due.
    due: Time,
    attempt: u32,
    /// Neighbours that this attempt may still dial.
    near_left: usize,
    /// Neighbours that were dialled since all were. Where there are more than one attempt dials, the others come next.
    near_dialled: BTreeSet<PeerId>,
    dials: BTreeMap<DialId, Way>,
    /// What this attempt dials later.
    later: VecDeque<(Time, Target, Way)>,
    pause: Duration,
    last_failure: Option<String>,
    /// A link stands: what is left of the patience.
    resting: Option<Duration>,
}

/// How a search goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing new.
    Wait,
    /// Attempt so and so begins.
    Attempt(u32),
    /// Whoever has the code has it with other words.
    WrongWords,
    /// There may be no more proofs of the code's words.
    NoMoreProofs,
    /// Time is over.
    GiveUp(String),
}

impl Search {
    pub(super) fn new(
        (peer, known): Target,
        lookups: LookUps,
        turn: usize,
        now: Time,
        patience: Duration,
    ) -> Self {
        Self {
            peer,
            known,
            turn,
            asks_near: true,
            found: BTreeMap::new(),
            ahead: BTreeMap::new(),
            lookups,
            began: now,
            ends: now + patience,
            due: now,
            attempt: 0,
            near_left: NEARBY,
            near_dialled: BTreeSet::new(),
            dials: BTreeMap::new(),
            later: VecDeque::new(),
            pause: FIRST_PAUSE,
            last_failure: None,
            resting: None,
        }
    }

    /// Whether peers on the local network are asked too: not by who hides.
    pub(super) fn asking_near(mut self, asks: bool) -> Self {
        self.asks_near = asks;
        self
    }

    pub(super) fn began(&self) -> Time {
        self.began
    }

    /// Nothing is tried or looked up now.
    pub(super) fn is_idle(&self) -> bool {
        let looks = self.lookups.is_under_way();
        self.dials.is_empty() && self.later.is_empty() && !looks && self.resting.is_none()
    }

    pub(super) fn deadline(&self) -> Time {
        if self.resting.is_some() {
            return Time::NEVER;
        }
        let later = self.later.front().map_or(Time::NEVER, |(at, ..)| *at);
        let next = self.due.min(later).min(self.lookups.deadline());
        next.min(self.ends)
    }

    /// The link that this dial led to has proved the key.
    pub(super) fn rest(&mut self, cx: &mut Context, dial: DialId) {
        self.dials.remove(&dial);
        self.resting = Some(self.resting.unwrap_or(self.ends.since(cx.now)));
        self.lookups.stop(cx);
        self.later.clear();
    }

    /// That link was lost, and brought nothing.
    pub(super) fn resume(&mut self, now: Time) {
        if let Some(left) = self.resting.take() {
            self.ends = now + left;
            self.lookups.go_on(now);
            self.wait(now);
        }
    }

    /// Nobody is looked for any more.
    pub(super) fn end(&mut self, cx: &mut Context) {
        self.lookups.stop(cx);
    }

    /// A link stood for so long and nothing came of it: that was no better than looking.
    pub(super) fn charge(&mut self, time: Duration) {
        if let Some(left) = &mut self.resting {
            *left = left.saturating_sub(time);
            self.last_failure = Some(NOTHING_CAME.to_string());
        }
    }

    /// The next attempt comes after a pause.
    fn wait(&mut self, now: Time) {
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }

    /// Why the last dial failed.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.last_failure.clone()
    }

    /// A dial failed, or its link did before it proved the key.
    pub(super) fn failed(&mut self, dial: DialId, reason: String, now: Time) {
        self.last_failure = Some(reason);
        self.over(dial, now);
    }

    /// A dial came to an end, and did not lead to the peer. If it was the last of them, what comes next is due.
    pub(super) fn over(&mut self, dial: DialId, now: Time) {
        let ours = self.dials.remove(&dial).is_some();
        if !ours || !self.dials.is_empty() || self.resting.is_some() {
            return;
        }
        match self.later.front_mut() {
            Some((at, ..)) => *at = (*at).min(now),
            None => self.wait(now),
        }
    }

    /// How the peer was come by that this dial leads to; `None` if it is none of these.
    pub(super) fn way(&self, dial: DialId) -> Option<Way> {
        self.dials.get(&dial).copied()
    }

    /// A whole round of look-ups has ended, and no other peer that was found may be sent a proof before this one.
    pub(super) fn is_alone(&self, peer: PeerId, proofs: &Proofs) -> bool {
        let mut others = self.found.keys().filter(|other| **other != peer);
        self.lookups.are_exhausted()
            && !others.any(|other| proofs.may_send(*other, Way::Dht, false))
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, cx: &mut Context, download: DownloadId, proofs: &Proofs) -> Step {
        if self.resting.is_some() {
            return Step::Wait;
        }
        if proofs.are_used_up() {
            // One peer alone that has the number, and other words: those are wrong.
            let is_mistyped = proofs.are_words_wrong() && proofs.is_one_tried();
            return if is_mistyped {
                Step::WrongWords
            } else {
                Step::NoMoreProofs
            };
        }
        if proofs.are_words_wrong()
            && self.dials.is_empty()
            && self.later.is_empty()
            && !self.lookups.is_under_way()
        {
            return Step::WrongWords;
        }
        if cx.now >= self.ends {
            let reason = self.last_failure.clone();
            return Step::GiveUp(reason.unwrap_or_else(|| "no answer".to_string()));
        }
        self.lookups.tick(cx, download);
        while self.later.front().is_some_and(|(at, ..)| *at <= cx.now) {
            if let Some((_, target, way)) = self.later.pop_front() {
                self.dial(cx, download, target, way);
            }
        }
        if cx.now < self.due {
            return Step::Wait;
        }
        self.due = Time::NEVER;
        let dialled = self.try_all(cx, download, proofs);
        if !dialled && self.attempt > 0 {
            return Step::Wait;
        }
        self.attempt += 1;
        Step::Attempt(self.attempt)
    }

    /// One attempt: everything that is known. Whether that is anything.
    fn try_all(&mut self, cx: &mut Context, download: DownloadId, proofs: &Proofs) -> bool {
        self.near_left = NEARBY;
        self.try_target(cx, download, (self.peer, self.known.clone()), Way::Code);
        let mut found: Vec<_> = self.found.keys().copied().collect();
        cx.reputations.sort(&mut found, |peer| *peer);
        for peer in found {
            if !proofs.is_answered(peer) {
                self.try_found(cx, download, peer);
            }
        }
        for peer in self.neighbours(cx) {
            self.nearby(cx, download, peer, proofs);
        }
        let dialled = !(self.dials.is_empty() && self.later.is_empty());
        if !dialled {
            // Nobody to ask yet.
            if self.last_failure.is_none() && !self.lookups.is_under_way() {
                self.last_failure = Some(NOBODY_NEAR.to_string());
            }
            self.wait(cx.now);
        }
        dialled
    }

    /// Everybody on the local network, in the order in which they have their turns.
    fn neighbours(&mut self, cx: &Context) -> Vec<PeerId> {
        let mut near: Vec<_> = cx.nearby.keys().copied().collect();
        cx.reputations.sort(&mut near, |peer| *peer);
        self.near_dialled
            .retain(|peer| cx.nearby.contains_key(peer));
        if near.iter().all(|peer| self.near_dialled.contains(peer)) {
            self.near_dialled.clear();
        }
        near.sort_by_key(|peer| self.near_dialled.contains(peer));
        near
    }

    /// TCP at once, QUIC and then one relay after the other a little later.
    fn try_target(&mut self, cx: &mut Context, download: DownloadId, (peer, at): Target, way: Way) {
        let ways = ways(&at);
        let mut relays = by_relay(ways.relayed);
        cx.reputations.sort(&mut relays, |(relay, _)| *relay);
        let turn = self.turn.checked_rem(relays.len()).unwrap_or_default();
        relays.rotate_left(turn);
        let straight = [(ways.tcp, QUIC_AFTER), (ways.quic, RELAYED_AFTER_QUIC)];
        let relays = relays.into_iter().map(|(_, at)| (at, EACH_RELAY));
        let mut after = Duration::ZERO;
        for (addresses, next) in straight.into_iter().chain(relays) {
            if addresses.is_empty() {
                continue;
            }
            let target = (peer, addresses);
            if after.is_zero() {
                self.dial(cx, download, target, way);
            } else {
                self.dial_later(cx.now + after, target, way);
            }
            after += next;
        }
    }

    fn dial_later(&mut self, at: Time, target: Target, way: Way) {
        let place = self.later.partition_point(|(other, ..)| *other <= at);
        self.later.insert(place, (at, target, way));
    }

    /// Somebody is on the local network: dialled, if it is the peer, or if nothing else says who that is.
    pub(super) fn nearby(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
        peer: PeerId,
        proofs: &Proofs,
    ) {
        let anybody = self.peer.is_none() && self.known.is_empty();
        let is_wanted = (anybody || self.peer == Some(peer)) && !proofs.is_answered(peer);
        if self.resting.is_some() || !is_wanted || !self.asks_near || self.near_left == 0 {
            return;
        }
        if let Some(addresses) = cx.nearby.get(&peer).cloned() {
            // Neighbours come, go and change as they like.
            self.near_left -= 1;
            self.near_dialled.insert(peer);
            self.dial(cx, download, (Some(peer), addresses), Way::Near);
        }
    }

    /// This look-up has found somebody, and under which day tells of the date there.
    pub(super) fn found_by(&mut self, lookup: LookUpId, peer: PeerId) {
        let ahead = self.lookups.days_ahead(lookup);
        if ahead == 0 {
            self.ahead.remove(&peer);
        } else if self.found.contains_key(&peer) {
            self.ahead.entry(peer).or_insert(ahead);
        }
    }

    /// By how many days the date of a peer is ahead at the least, if it can't be this side's.
    pub(super) fn days_ahead(&self, peer: PeerId) -> Option<i32> {
        self.ahead.get(&peer).copied()
    }

    /// A look-up has found somebody, at addresses that may be dialled. Those that are new are, at once.
    pub(super) fn found(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
        peer: PeerId,
        addresses: &[Multiaddr],
    ) {
        let is_wanted = self.peer.is_none_or(|wanted| wanted == peer);
        let has_room = self.found.len() < cx.limits.found || self.found.contains_key(&peer);
        if !is_wanted || !has_room || self.resting.is_some() {
            return;
        }
        let known = self.found.entry(peer).or_default();
        let before = known.len();
        for address in addresses {
            if !known.contains(address) && known.len() < cx.limits.addresses {
                known.push(address.clone());
            }
        }
        let new = known.split_at(before).1.to_vec();
        if self.attempt > 0 && !new.is_empty() {
            self.try_target(cx, download, (Some(peer), new), Way::Dht);
            // The next attempt comes when these have failed.
            self.due = Time::NEVER;
        }
    }

    fn try_found(&mut self, cx: &mut Context, download: DownloadId, peer: PeerId) {
        if let Some(addresses) = self.found.get(&peer).cloned() {
            self.try_target(cx, download, (Some(peer), addresses), Way::Dht);
        }
    }

    /// Where this peer is, by all that is known.
    pub(super) fn addresses_of(&self, peer: PeerId) -> Vec<Multiaddr> {
        self.found.get(&peer).cloned().unwrap_or_default()
    }

    /// A look-up has ended. If that was the last of its round: what came of that.
    pub(super) fn looked_up(
        &mut self,
        lookup: LookUpId,
        reached: bool,
        now: Time,
    ) -> Option<Round> {
        let round = self.lookups.ended(lookup, reached, now)?;
        if self.dials.is_empty() && self.later.is_empty() && self.found.is_empty() {
            let reason = if round.reached { NOBODY } else { NO_DHT };
            self.last_failure = Some(reason.to_string());
        }
        Some(round)
    }

    fn dial(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
        (peer, addresses): Target,
        way: Way,
    ) {
        let dial = cx.dial(download, peer, addresses);
        self.dials.insert(dial, way);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::Output;
    use super::*;
    use crate::Keypair;
    use crate::limits::Limits;

    const ID: DownloadId = DownloadId(1);

    fn peer(seed: u8) -> PeerId {
        let keys = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        keys.public().to_peer_id()
    }

    fn context() -> Context {
        let identity = Keypair::ed25519_from_bytes([9; 32]).unwrap();
        Context::new(Limits::default(), identity, [2; 32], Time::ZERO)
    }

    fn search(known: Vec<Multiaddr>) -> Search {
        let patience = Duration::from_mins(1);
        Search::new((None, known), LookUps::default(), 0, Time::ZERO, patience)
    }

    /// The dials of everything that is due within a while, in order.
    fn dials(cx: &mut Context, search: &mut Search) -> Vec<(Option<PeerId>, Vec<Multiaddr>)> {
        for _ in 0..4 {
            search.tick(cx, ID, &Proofs::default());
            cx.now = cx.now + EACH_RELAY;
        }
        let dial = |output| match output {
            Output::Dial {
                peer, addresses, ..
            } => Some((peer, addresses)),
            _ => None,
        };
        std::iter::from_fn(|| cx.pop()).filter_map(dial).collect()
    }

    #[test]
    fn of_several_peers_that_are_found_those_are_dialled_first_who_have_done_well() {
        let mut cx = context();
        let mut search = search(Vec::new());
        for (number, standing) in [(1, -3), (2, 0), (3, 4)] {
            let address = format!("/ip4/192.0.2.{number}/tcp/1").parse().unwrap();
            search.found(&mut cx, ID, peer(number), &[address]);
            if standing != 0 {
                cx.reputations.set(peer(number), standing);
            }
        }
        cx.reputations.blamed(peer(3));
        let order: Vec<_> = dials(&mut cx, &mut search)
            .into_iter()
            .filter_map(|(peer, _)| peer)
            .collect();
        assert_eq!(order, [2, 1, 3].map(peer));
    }

    /// The dial of a link that had come up counted as under way for ever: once the link was lost, one more attempt was made.
    #[test]
    fn after_a_link_that_brought_nothing_attempts_go_on_until_the_end() {
        let mut cx = context();
        let mut search = search(vec!["/ip4/192.0.2.1/tcp/1".parse().unwrap()]);
        for attempt in 1..=6 {
            cx.now = search.deadline();
            let step = search.tick(&mut cx, ID, &Proofs::default());
            assert_eq!(step, Step::Attempt(attempt));
            let Some(Output::Dial { dial, .. }) = cx.pop() else {
                panic!("nobody is dialled");
            };
            if attempt % 3 == 1 {
                search.rest(&mut cx, dial);
                search.resume(cx.now);
            } else if attempt % 3 == 2 {
                search.over(dial, cx.now);
            } else {
                search.failed(dial, "refused".to_owned(), cx.now);
            }
        }
    }

    #[test]
    fn of_several_relays_that_is_tried_first_that_has_done_well() {
        let at = |relay: u8| -> Multiaddr {
            let relay = peer(relay);
            let address = format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit");
            address.parse().unwrap()
        };
        let mut cx = context();
        cx.reputations.set(peer(3), 5);
        cx.reputations.set(peer(1), -5);
        let mut search = search([1, 2, 3].map(at).to_vec());
        let order: Vec<_> = dials(&mut cx, &mut search)
            .into_iter()
            .flat_map(|(_, addresses)| addresses)
            .collect();
        assert_eq!(order, [3, 2, 1].map(at));
    }
}
