//! Accounts of relays that limit the bytes of each circuit: the limit observed, the number of circuits accepted, and
//! the bytes that may pass through one per hour.
//!
//! Such a relay belongs to somebody who has not been asked. So its use is bounded over all downloads of this side
//! together. The [downloads](super::download) choose the relay of each circuit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::PeerId;
use crate::limits::{LEAF, Limits};
use crate::time::Time;

/// Maximum number of relays with an account.
const RELAYS: usize = 64;
/// Two circuits cut within this many bytes of each other are taken to show the relay's limit.
const ALIKE: u64 = 2 * LEAF as u64;
/// A circuit cut before this many bytes is taken to be an accident.
const LEAST: u64 = 4 * LEAF as u64;
/// Time that a closed circuit still counts if its round-trip time is unknown. The relay learns of the close later than
/// this side.
const CLOSING: Duration = Duration::from_millis(200);
/// First pause after a relay has refused a circuit. The pause doubles with each refusal.
const FIRST_REST: Duration = Duration::from_secs(1);
/// Maximum pause.
const LAST_REST: Duration = Duration::from_secs(32);
/// Time for which a refusing relay is taken to accept no more circuits than it had then.
const FULL: Duration = Duration::from_mins(1);

/// One byte in units of the level. The unit is what one byte per hour yields in a nanosecond.
const BYTE: i128 = 3_600_000_000_000;

/// Accounts of all relays in use.
#[derive(Debug)]
pub(super) struct Relays {
    accounts: BTreeMap<PeerId, Account>,
    /// Relays named by the user. Their use is not limited here.
    named: BTreeSet<PeerId>,
    /// Maximum burst through one relay, in bytes.
    at_once: u64,
    /// Refill rate, in bytes per hour.
    an_hour: u64,
}

/// Account of one relay.
#[derive(Debug)]
struct Account {
    /// Bytes after which the last circuit without a stated limit was cut.
    cut_at: Option<u64>,
    /// The relay's byte limit per circuit, as two cuts have shown it.
    learnt: Option<u64>,
    /// Credit at time `at`, in units of [`BYTE`]. Negative if bytes were taken in advance.
    level: i128,
    at: Time,
    /// Times from which the relay has closed each of our closed circuits too.
    closing: Vec<Time>,
    /// Time until which no circuit is opened, after a refusal.
    rests_until: Time,
    /// Pause after the next refusal.
    rest: Duration,
    /// Number of circuits that the relay accepts, and the time until which that is believed.
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

    /// Adds relays named by the user.
    pub(super) fn named(&mut self, relays: &[PeerId]) {
        let room = RELAYS.saturating_sub(self.named.len());
        self.named.extend(relays.iter().take(room));
    }

    fn account(&mut self, relay: PeerId, now: Time) -> &mut Account {
        if self.accounts.len() >= RELAYS && !self.accounts.contains_key(&relay) {
            // The relay unused for the longest time has the most credit, so it loses least.
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

    /// The relay's observed byte limit per circuit, if known.
    pub(super) fn learnt(&self, relay: PeerId) -> Option<u64> {
        self.accounts.get(&relay)?.learnt
    }

    /// Notes that a circuit without a stated limit was cut after this many bytes.
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

    /// Notes that this side is closing a circuit.
    pub(super) fn closing(&mut self, relay: PeerId, rtt: Option<Duration>, now: Time) {
        let over = now + rtt.map_or(CLOSING, |rtt| rtt * 2);
        let account = self.account(relay, now);
        account.closing.retain(|over| *over > now);
        account.closing.push(over);
    }

    /// Number of circuits being closed.
    pub(super) fn closing_now(&self, relay: PeerId, now: Time) -> usize {
        let closing = self.accounts.get(&relay).map(|account| &account.closing);
        closing.map_or(0, |closing| {
            closing.iter().filter(|over| **over > now).count()
        })
    }

    /// Time at which the next of all circuits being closed is gone.
    pub(super) fn next_closed(&self, now: Time) -> Time {
        let closing = self.accounts.values().flat_map(|account| &account.closing);
        let next = closing.filter(|over| **over > now).min();
        next.copied().unwrap_or(Time::NEVER)
    }

    /// Notes that the relay has refused a circuit while this side had `others` through it.
    pub(super) fn refused(&mut self, relay: PeerId, others: usize, now: Time) {
        let account = self.account(relay, now);
        account.rests_until = now + account.rest;
        account.rest = (account.rest * 2).min(LAST_REST);
        if others > 0 {
            account.full_at = Some((others, now + FULL));
        }
    }

    /// Notes that the relay has opened a circuit, and resets the pause.
    pub(super) fn opened(&mut self, relay: PeerId, now: Time) {
        let account = self.account(relay, now);
        account.rest = FIRST_REST;
        account.rests_until = now;
    }

    /// Number of circuits that the relay accepts, judging by its refusals.
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

    /// Time from which a circuit may be opened through the relay, as far as refusals go.
    pub(super) fn rests_until(&self, relay: PeerId) -> Time {
        let account = self.accounts.get(&relay);
        account.map_or(Time::ZERO, |account| account.rests_until)
    }

    /// Counts bytes that are about to pass through the relay.
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

    /// Time from which bytes may pass through the relay.
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
        // Credit does not grow beyond the maximum burst.
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
