//! Relays that end each circuit after some bytes: what each was seen to let one carry, how many circuits it takes, and how
//! many bytes it may be asked to carry in an hour.
//!
//! Such a relay belongs to somebody who has not been asked. What goes through it is bounded over all downloads of this side.
//! Which relay a circuit is opened through is left to the [downloads](super::download).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::PeerId;
use crate::limits::{LEAF, Limits};
use crate::time::Time;

/// Relays that are kept account of.
const RELAYS: usize = 64;
/// Two circuits that were cut within so many bytes of each other were cut by one rule.
const ALIKE: u64 = 2 * LEAF as u64;
/// A circuit that was cut before so many bytes was cut by accident.
const LEAST: u64 = 4 * LEAF as u64;
/// How long a closed circuit still counts where its round trip is not known; the relay hears of it later than this side.
const CLOSING: Duration = Duration::from_millis(200);
/// Pauses after a relay has refused a circuit, doubling from the first to the last.
const FIRST_REST: Duration = Duration::from_secs(1);
const LAST_REST: Duration = Duration::from_secs(32);
/// How long it is believed to take no more circuits than stood when it refused one.
const FULL: Duration = Duration::from_mins(1);

/// A byte, as levels count it: what flows in a nanosecond at one byte an hour, so many times.
const BYTE: i128 = 3_600_000_000_000;

/// All relays that were met.
#[derive(Debug)]
pub(super) struct Relays {
    accounts: BTreeMap<PeerId, Account>,
    /// Those that the user has named: how much they carry is between them.
    named: BTreeSet<PeerId>,
    at_once: u64,
    an_hour: u64,
}

/// One relay.
#[derive(Debug)]
struct Account {
    /// After how many bytes a circuit was cut whose limit was not stated.
    cut_at: Option<u64>,
    /// After how many it cuts each, as two cuts have shown.
    learnt: Option<u64>,
    /// What may go at `at`; below zero, what went ahead of its time.
    level: i128,
    at: Time,
    /// When closed circuits are closed there too.
    closing: Vec<Time>,
    /// It refused a circuit: when it may be tried again, and how long to wait if it does so again.
    rests_until: Time,
    rest: Duration,
    /// It takes no more circuits than so many, until then.
    full_at: Option<(usize, Time)>,
}

impl Relays {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            accounts: BTreeMap::new(),
            named: BTreeSet::new(),
            at_once: limits.relay_at_once,
            an_hour: limits.relay_an_hour.max(1),
        }
    }

    /// The user has named these.
    pub(super) fn named(&mut self, relays: &[PeerId]) {
        let room = RELAYS.saturating_sub(self.named.len());
        self.named.extend(relays.iter().take(room));
    }

    fn account(&mut self, relay: PeerId, now: Time) -> &mut Account {
        if self.accounts.len() >= RELAYS && !self.accounts.contains_key(&relay) {
            // One that was not used for the longest time has the most to give.
            let oldest = self.accounts.iter().min_by_key(|(_, account)| account.at);
            if let Some(oldest) = oldest.map(|(relay, _)| *relay) {
                self.accounts.remove(&oldest);
            }
        }
        let level = i128::from(self.at_once).saturating_mul(BYTE);
        self.accounts.entry(relay).or_insert(Account {
            cut_at: None,
            learnt: None,
            level,
            at: now,
            closing: Vec::new(),
            rests_until: Time::ZERO,
            rest: FIRST_REST,
            full_at: None,
        })
    }

    /// After how many bytes this relay cuts each circuit, if that was seen.
    pub(super) fn learnt(&self, relay: PeerId) -> Option<u64> {
        self.accounts.get(&relay)?.learnt
    }

    /// A circuit without a stated limit was cut after so many bytes.
    pub(super) fn cut(&mut self, relay: PeerId, bytes: u64, now: Time) {
        if bytes < LEAST {
            return;
        }
        let account = self.account(relay, now);
        let before = account.cut_at.replace(bytes);
        if let Some(before) = before.filter(|before| before.abs_diff(bytes) <= ALIKE) {
            account.learnt = Some(before.min(bytes));
        }
    }

    /// A circuit of this side is being closed.
    pub(super) fn closing(&mut self, relay: PeerId, rtt: Option<Duration>, now: Time) {
        let over = now + rtt.map_or(CLOSING, |rtt| rtt * 2);
        let account = self.account(relay, now);
        account.closing.retain(|over| *over > now);
        account.closing.push(over);
    }

    /// Circuits that are being closed.
    pub(super) fn closing_now(&self, relay: PeerId, now: Time) -> usize {
        let closing = self.accounts.get(&relay).map(|account| &account.closing);
        closing.map_or(0, |closing| {
            closing.iter().filter(|over| **over > now).count()
        })
    }

    /// When the next of them is closed.
    pub(super) fn next_closed(&self, now: Time) -> Time {
        let closing = self.accounts.values().flat_map(|account| &account.closing);
        let next = closing.filter(|over| **over > now).min();
        next.copied().unwrap_or(Time::NEVER)
    }

    /// It has refused a circuit, while so many others stood.
    pub(super) fn refused(&mut self, relay: PeerId, others: usize, now: Time) {
        let account = self.account(relay, now);
        account.rests_until = now + account.rest;
        account.rest = (account.rest * 2).min(LAST_REST);
        if others > 0 {
            account.full_at = Some((others, now + FULL));
        }
    }

    /// It has opened one.
    pub(super) fn opened(&mut self, relay: PeerId, now: Time) {
        let account = self.account(relay, now);
        account.rest = FIRST_REST;
        account.rests_until = now;
    }

    /// How many circuits it takes, by what it has refused.
    pub(super) fn takes(&self, relay: PeerId, now: Time) -> usize {
        let full = self
            .accounts
            .get(&relay)
            .and_then(|account| account.full_at);
        full.map_or(
            usize::MAX,
            |(most, until)| if now < until { most } else { usize::MAX },
        )
    }

    /// When one may be opened through it.
    pub(super) fn rests_until(&self, relay: PeerId) -> Time {
        let account = self.accounts.get(&relay);
        account.map_or(Time::ZERO, |account| account.rests_until)
    }

    /// So many bytes are about to go through it.
    pub(super) fn carries(&mut self, relay: PeerId, bytes: u64, now: Time) {
        if self.named.contains(&relay) {
            return;
        }
        let (at_once, an_hour) = (self.at_once, self.an_hour);
        let account = self.account(relay, now);
        let level = account.level_at(now, at_once, an_hour);
        account.level = level.saturating_sub(i128::from(bytes).saturating_mul(BYTE));
        account.at = account.at.max(now);
    }

    /// From when on something may go through it.
    pub(super) fn opens_at(&self, relay: PeerId) -> Time {
        let Some(account) = self.accounts.get(&relay) else {
            return Time::ZERO;
        };
        let owed = account.level.min(0).unsigned_abs();
        let wait = owed.div_ceil(u128::from(self.an_hour));
        account.at + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

impl Account {
    fn level_at(&self, now: Time, at_once: u64, an_hour: u64) -> i128 {
        let nanos = i128::try_from(now.since(self.at).as_nanos()).unwrap_or(i128::MAX);
        let came = i128::from(an_hour).saturating_mul(nanos);
        let most = i128::from(at_once).saturating_mul(BYTE);
        self.level.saturating_add(came).min(most)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Keypair;

    fn relay(seed: u8) -> PeerId {
        let keys = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        keys.public().to_peer_id()
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn relays() -> Relays {
        Relays::new(&Limits {
            relay_at_once: 1000,
            relay_an_hour: 3600,
            ..Limits::default()
        })
    }

    #[test]
    fn what_went_ahead_of_its_hour_is_waited_for() {
        let mut relays = relays();
        relays.carries(relay(1), 1000, at(0));
        assert!(relays.opens_at(relay(1)) <= at(0), "nothing is owed yet");
        relays.carries(relay(1), 10, at(0));
        assert_eq!(relays.opens_at(relay(1)), at(10));
        relays.carries(relay(1), 5, at(10));
        assert_eq!(relays.opens_at(relay(1)), at(15));
        assert_eq!(relays.opens_at(relay(2)), at(0), "each has its own");
        // No more is saved than may go at once.
        relays.carries(relay(1), 1001, at(1_000_000));
        assert_eq!(relays.opens_at(relay(1)), at(1_000_001));
    }

    #[test]
    fn a_relay_that_the_user_has_named_is_not_spared() {
        let mut relays = relays();
        relays.named(&[relay(1)]);
        relays.carries(relay(1), 1_000_000, at(0));
        assert!(relays.opens_at(relay(1)) <= at(0));
    }

    #[test]
    fn two_cuts_alike_are_a_rule_and_accidents_are_none() {
        let mut relays = relays();
        relays.cut(relay(1), LEAST - 1, at(0));
        relays.cut(relay(1), LEAST - 1, at(0));
        assert_eq!(relays.learnt(relay(1)), None);
        relays.cut(relay(1), 131_000, at(0));
        relays.cut(relay(1), 131_000 + ALIKE + 1, at(0));
        assert_eq!(relays.learnt(relay(1)), None);
        relays.cut(relay(1), 131_000 + 10, at(0));
        assert_eq!(relays.learnt(relay(1)), Some(131_010));
    }

    #[test]
    fn a_relay_that_refuses_is_left_alone_for_longer_and_longer() {
        let mut relays = relays();
        relays.refused(relay(1), 3, at(0));
        assert_eq!(relays.rests_until(relay(1)), at(1));
        assert_eq!(relays.takes(relay(1), at(1)), 3);
        relays.refused(relay(1), 0, at(1));
        assert_eq!(relays.rests_until(relay(1)), at(3));
        relays.opened(relay(1), at(3));
        relays.refused(relay(1), 0, at(4));
        assert_eq!(relays.rests_until(relay(1)), at(5));
        assert_eq!(relays.takes(relay(1), at(61)), usize::MAX);
    }

    #[test]
    fn only_so_many_relays_are_kept_account_of() {
        let mut relays = relays();
        for seed in 0..200 {
            relays.carries(relay(seed), 1, at(seed.into()));
        }
        assert_eq!(relays.accounts.len(), RELAYS);
        assert!(relays.accounts.contains_key(&relay(199)));
    }
}
