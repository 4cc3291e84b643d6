//! Decides at which relays to hold reservations: how many, which ones, and what to do when one is lost.
//!
//! Does not make or renew reservations itself. The caller reports the known relays, the result of each attempt and the
//! time, and is told where to reserve and what to give up.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::circuit::Status;

/// Maximum number of known relays. Configured ones come first and are never forgotten.
const RELAYS: usize = 32;
/// Maximum number of addresses per relay.
const ADDRESSES: usize = 8;
/// Timeout for an attempt.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Timeout for an attempt at a relay of the last run, before others are tried instead: it may be gone.
const TAKE_UP: Duration = Duration::from_secs(3);
/// Back-off after the first failure of a relay; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// Back-off after a relay's first refusal; doubled after each further failure. Most relays that refuse are full or
/// limit a peer's reservations per half hour, so there is no hurry.
const FIRST_REFUSAL: Duration = Duration::from_secs(30);
/// Number of consecutive failures after which a relay that is not configured may be forgotten to make room.
const HOPELESS: u32 = 3;

/// An action for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Reserve at this relay.
    Reserve {
        /// The relay.
        relay: PeerId,
        /// Its known addresses, without `/p2p`.
        addresses: Vec<Multiaddr>,
    },
    /// Give up the reservation at this relay.
    GiveUp(PeerId),
}

/// The known relays and the state of each.
#[derive(Debug)]
pub(crate) struct Reservations {
    wanted: usize,
    needed: bool,
    relays: BTreeMap<PeerId, Relay>,
    /// Counter that orders the relays, so that the first one met is asked first.
    met: u32,
}

#[derive(Debug)]
struct Relay {
    addresses: Vec<Multiaddr>,
    configured: bool,
    /// True if it was used in the last run and has not been tried in this one.
    remembered: bool,
    order: u32,
    failures: u32,
    /// The status of its last answer, if that was a refusal.
    refusal: Option<Status>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not in use; may be asked from this time on.
    Free(Instant),
    /// A request is pending and fails at this time.
    Asked(Instant),
    /// Holds a reservation for this peer since this time.
    Held(Instant),
}

impl Reservations {
    /// Maintains `wanted` reservations while they are [needed](Self::set_needed).
    pub(crate) fn new(
        wanted: usize,
        configured: Vec<(PeerId, Vec<Multiaddr>)>,
        now: Instant,
    ) -> Self {
        let mut this = Self {
            wanted,
            needed: false,
            relays: BTreeMap::new(),
            met: 0,
        };
        for (relay, addresses) in configured {
            this.insert(relay, addresses, true, now);
        }
        this
    }

    /// Sets whether this peer has to be reachable through relays.
    pub(crate) fn set_needed(&mut self, needed: bool) {
        self.needed = needed;
    }

    /// Adds a relay named by the user.
    pub(crate) fn add(&mut self, relay: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        self.wanted = self.wanted.max(1);
        if let Some(known) = self.relays.get_mut(&relay) {
            known.configured = true;
            return;
        }
        if self.relays.len() < RELAYS || self.forget_one() {
            self.insert(relay, addresses, true, now);
        }
    }

    /// Adds a relay of the last run.
    pub(crate) fn remembered(&mut self, relay: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        if self.wanted == 0 || self.relays.contains_key(&relay) {
            return;
        }
        self.insert(relay, addresses, false, now);
        if let Some(relay) = self.relays.get_mut(&relay) {
            relay.remembered = true;
        }
    }

    /// Adds a node that offers to relay.
    pub(crate) fn met(&mut self, relay: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        if self.wanted == 0 || addresses.is_empty() {
            return;
        }
        if let Some(known) = self.relays.get_mut(&relay) {
            if !known.configured {
                known.addresses = addresses;
                known.addresses.truncate(ADDRESSES);
            }
            return;
        }
        if self.relays.len() >= RELAYS && !self.forget_one() {
            return;
        }
        self.insert(relay, addresses, false, now);
    }

    fn insert(
        &mut self,
        relay: PeerId,
        mut addresses: Vec<Multiaddr>,
        configured: bool,
        now: Instant,
    ) {
        addresses.truncate(ADDRESSES);
        self.met = self.met.saturating_add(1);
        let relay_state = Relay {
            addresses,
            configured,
            remembered: false,
            order: self.met,
            failures: 0,
            refusal: None,
            state: State::Free(now),
        };
        self.relays.insert(relay, relay_state);
    }

    /// Makes room by forgetting a relay that has failed repeatedly. Returns false if there is none.
    fn forget_one(&mut self) -> bool {
        let hopeless = |relay: &Relay| {
            !relay.configured && relay.failures >= HOPELESS && matches!(relay.state, State::Free(_))
        };
        let found = self.relays.iter().find(|(_, relay)| hopeless(relay));
        let Some(peer) = found.map(|(peer, _)| *peer) else {
            return false;
        };
        self.relays.remove(&peer).is_some()
    }

    /// A relay has accepted or renewed a reservation.
    pub(crate) fn accepted(&mut self, relay: PeerId, now: Instant) {
        if let Some(relay) = self.relays.get_mut(&relay) {
            relay.failures = 0;
            relay.refusal = None;
            relay.remembered = false;
            if !matches!(relay.state, State::Held(_)) {
                relay.state = State::Held(now);
            }
        }
    }

    /// A relay could not be reached, gave an invalid answer, or is gone.
    pub(crate) fn failed(&mut self, relay: PeerId, now: Instant) {
        self.lost(relay, None, now);
    }

    /// A relay has refused with this status.
    pub(crate) fn refused(&mut self, relay: PeerId, status: Status, now: Instant) {
        self.lost(relay, Some(status), now);
    }

    fn lost(&mut self, relay: PeerId, refusal: Option<Status>, now: Instant) {
        if let Some(relay) = self.relays.get_mut(&relay)
            && !matches!(relay.state, State::Free(_))
        {
            relay.remembered = false;
            relay.refusal = refusal;
            relay.state = State::Free(now + pause(refusal, relay.failures));
            relay.failures = relay.failures.saturating_add(1);
        }
    }

    /// Relays whose last answer was a refusal, with its status.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (PeerId, Status)> {
        let relays = self.relays.iter();
        relays.filter_map(|(peer, relay)| Some((*peer, relay.refusal?)))
    }

    /// When [`wake`](Self::wake) has something to do.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let lacking = self.needed && self.occupied() < self.wanted;
        let due = |relay: &Relay| match relay.state {
            State::Free(at) if lacking => Some(at),
            State::Asked(until) => Some(until),
            _ => None,
        };
        self.relays.values().filter_map(due).min()
    }

    /// Returns the actions due now.
    pub(crate) fn wake(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.needed {
            for (peer, relay) in &mut self.relays {
                if !matches!(relay.state, State::Free(_)) {
                    relay.state = State::Free(now);
                    steps.push(Step::GiveUp(*peer));
                }
            }
            return steps;
        }
        let overdue = |relay: &Relay| matches!(relay.state, State::Asked(until) if until <= now);
        let late: Vec<PeerId> = self
            .relays
            .iter()
            .filter(|(_, relay)| overdue(relay))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            self.failed(peer, now);
            steps.push(Step::GiveUp(peer));
        }
        while self.occupied() < self.wanted {
            let Some((peer, relay)) = self.next_free(now) else {
                break;
            };
            let patience = if relay.remembered { TAKE_UP } else { ATTEMPT };
            relay.state = State::Asked(now + patience);
            steps.push(Step::Reserve {
                relay: peer,
                addresses: relay.addresses.clone(),
            });
        }
        steps
    }

    /// The best relay that may be asked: configured ones first, then by number of failures, then in the order in which
    /// they were met.
    fn next_free(&mut self, now: Instant) -> Option<(PeerId, &mut Relay)> {
        let free = |relay: &Relay| matches!(relay.state, State::Free(at) if at <= now);
        self.relays
            .iter_mut()
            .filter(|(_, relay)| free(relay))
            .min_by_key(|(_, relay)| (!relay.configured, relay.failures, relay.order))
            .map(|(peer, relay)| (*peer, relay))
    }

    fn occupied(&self) -> usize {
        let free = |relay: &&Relay| matches!(relay.state, State::Free(_));
        self.relays.len() - self.relays.values().filter(free).count()
    }

    /// True if this relay is being asked or holds a reservation for this peer.
    pub(crate) fn is_at(&self, relay: PeerId) -> bool {
        let relay = self.relays.get(&relay);
        relay.is_some_and(|relay| !matches!(relay.state, State::Free(_)))
    }

    /// Relays that hold a reservation, and since when.
    pub(crate) fn held(&self) -> impl Iterator<Item = (PeerId, Instant)> {
        self.relays
            .iter()
            .filter_map(|(peer, relay)| match relay.state {
                State::Held(since) => Some((*peer, since)),
                _ => None,
            })
    }
}

fn pause(refusal: Option<Status>, failures: u32) -> Duration {
    let first = match refusal {
        // The relay will not accept this peer a minute later either.
        Some(Status::PermissionDenied) => LONGEST_PAUSE,
        Some(Status::ReservationRefused | Status::ResourceLimitExceeded) => FIRST_REFUSAL,
        _ => FIRST_PAUSE,
    };
    first
        .saturating_mul(1 << failures.min(10))
        .min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Vec<Multiaddr> {
        vec![format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()]
    }

    fn asked(steps: &[Step]) -> Vec<PeerId> {
        let relay = |step: &Step| match step {
            Step::Reserve { relay, .. } => Some(*relay),
            Step::GiveUp(_) => None,
        };
        steps.iter().filter_map(relay).collect()
    }

    fn needed(wanted: usize, configured: &[PeerId], now: Instant) -> Reservations {
        let configured = configured.iter().map(|relay| (*relay, at(1))).collect();
        let mut reservations = Reservations::new(wanted, configured, now);
        reservations.set_needed(true);
        reservations
    }

    #[test]
    fn nothing_is_asked_before_it_is_needed() {
        let now = Instant::now();
        let relay = PeerId::random();
        let mut reservations = needed(1, &[relay], now);
        reservations.set_needed(false);
        assert_eq!(reservations.next_wake(), None);
        assert!(reservations.wake(now).is_empty());
        reservations.set_needed(true);
        assert_eq!(reservations.next_wake(), Some(now));
        assert_eq!(asked(&reservations.wake(now)), [relay]);
    }

    #[test]
    fn configured_relays_come_first_and_no_more_than_wanted_are_asked() {
        let now = Instant::now();
        let (own, first, second) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut reservations = needed(2, &[], now);
        reservations.met(first, at(2), now);
        reservations.met(second, at(3), now);
        let mut with_own = needed(2, &[own], now);
        with_own.met(first, at(2), now);
        with_own.met(second, at(3), now);
        assert_eq!(asked(&reservations.wake(now)), [first, second]);
        assert_eq!(asked(&with_own.wake(now)), [own, first]);
        assert!(with_own.wake(now).is_empty());
    }

    #[test]
    fn those_of_the_last_run_are_taken_up_first_and_do_not_hold_up_for_long() {
        let now = Instant::now();
        let (there, gone, met) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut reservations = needed(2, &[], now);
        reservations.remembered(there, at(1), now);
        reservations.remembered(gone, at(2), now);
        reservations.met(met, at(3), now);
        assert_eq!(asked(&reservations.wake(now)), [there, gone]);
        reservations.accepted(there, now);
        assert_eq!(reservations.next_wake(), Some(now + TAKE_UP));
        let steps = reservations.wake(now + TAKE_UP);
        assert_eq!(asked(&steps), [met]);
        assert!(steps.contains(&Step::GiveUp(gone)));
    }

    #[test]
    fn one_that_goes_is_replaced_and_asked_again_later() {
        let now = Instant::now();
        let (first, second) = (PeerId::random(), PeerId::random());
        let mut reservations = needed(1, &[first, second], now);
        let one = asked(&reservations.wake(now))[0];
        let other = if one == first { second } else { first };
        reservations.accepted(one, now);
        assert_eq!(reservations.held().collect::<Vec<_>>(), [(one, now)]);
        assert!(reservations.wake(now).is_empty());
        reservations.failed(one, now);
        assert_eq!(asked(&reservations.wake(now)), [other]);
        reservations.failed(other, now);
        assert!(reservations.wake(now).is_empty(), "both are left alone");
        let later = reservations.next_wake().unwrap();
        assert_eq!(later, now + FIRST_PAUSE);
        assert_eq!(asked(&reservations.wake(later)).len(), 1);
    }

    #[test]
    fn failures_back_off_and_success_ends_that() {
        let mut now = Instant::now();
        let relay = PeerId::random();
        let mut reservations = needed(1, &[relay], now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(asked(&reservations.wake(now)), [relay]);
            reservations.failed(relay, now);
            let next = reservations.next_wake().unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        reservations.wake(now);
        reservations.accepted(relay, now);
        reservations.failed(relay, now);
        assert_eq!(reservations.next_wake(), Some(now + FIRST_PAUSE));
    }

    #[test]
    fn a_relay_that_refuses_is_left_alone_for_longer_and_another_is_asked_at_once() {
        let now = Instant::now();
        let (first, second) = (PeerId::random(), PeerId::random());
        let mut reservations = needed(1, &[], now);
        reservations.met(first, at(1), now);
        reservations.met(second, at(2), now);
        assert_eq!(asked(&reservations.wake(now)), [first]);
        reservations.refused(first, Status::ReservationRefused, now);
        assert_eq!(asked(&reservations.wake(now)), [second]);
        let refusals: Vec<_> = reservations.refusals().collect();
        assert_eq!(refusals, [(first, Status::ReservationRefused)]);
        reservations.refused(second, Status::PermissionDenied, now);
        let later = now + FIRST_REFUSAL;
        assert_eq!(reservations.next_wake(), Some(later));
        assert_eq!(asked(&reservations.wake(later)), [first]);
        reservations.accepted(first, later);
        let refusals: Vec<_> = reservations.refusals().collect();
        assert_eq!(refusals, [(second, Status::PermissionDenied)]);
        reservations.failed(first, later);
        assert_eq!(reservations.next_wake(), Some(later + FIRST_PAUSE));
    }

    #[test]
    fn a_relay_that_does_not_answer_is_given_up() {
        let now = Instant::now();
        let relay = PeerId::random();
        let mut reservations = needed(1, &[relay], now);
        reservations.wake(now);
        let until = reservations.next_wake().unwrap();
        assert_eq!(reservations.wake(until), [Step::GiveUp(relay)]);
    }

    #[test]
    fn what_is_not_needed_any_more_is_given_up_once() {
        let now = Instant::now();
        let relay = PeerId::random();
        let mut reservations = needed(1, &[relay], now);
        reservations.wake(now);
        reservations.accepted(relay, now);
        reservations.set_needed(false);
        assert_eq!(reservations.wake(now), [Step::GiveUp(relay)]);
        assert!(reservations.wake(now).is_empty());
        assert_eq!(reservations.held().count(), 0);
    }

    #[test]
    fn a_crowd_of_relays_is_not_remembered_but_hopeless_ones_make_room() {
        let mut now = Instant::now();
        let own = PeerId::random();
        let mut reservations = needed(1, &[own], now);
        for port in 0..200 {
            reservations.met(PeerId::random(), at(port), now);
        }
        assert_eq!(reservations.relays.len(), RELAYS);
        for _ in 0..RELAYS * 20 {
            for relay in asked(&reservations.wake(now)) {
                reservations.failed(relay, now);
            }
            now += FIRST_PAUSE;
        }
        let newcomer = PeerId::random();
        reservations.met(newcomer, at(1), now);
        assert!(reservations.relays.contains_key(&newcomer));
        assert!(reservations.relays.contains_key(&own));
        assert_eq!(reservations.relays.len(), RELAYS);
        let many = (0..100).flat_map(at).collect();
        reservations.met(newcomer, many, now);
        assert_eq!(reservations.relays[&newcomer].addresses.len(), ADDRESSES);
    }
}
