//! Announcing a share in the DHT, repeating that, and checking whether its short code's number is free.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::{Context, LookUpOwner};
use super::super::{AnnounceReport, Event, Findable, LookUpId, Output, Place, ShareId};
use crate::PeerId;
use crate::time::Time;

/// Delay before an announcement, so that further addresses that arrive one by one are included.
const SETTLE: Duration = Duration::from_millis(200);
/// First and last back-off after an announcement that did not make the share findable. The pauses double.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_mins(1);
/// How long a share may lack an address, or a node that keeps its record, before the user is told. A relay supplies the
/// first address only after a moment.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// Maximum number of draws for a free number. In a DHT that reports every number as taken, the last one is used:
/// whoever else has it lets nobody in without the words.
const DRAWS: u32 = 4;

/// Announcements of one share.
pub(super) struct Announcing {
    share: ShareId,
    places: BTreeMap<Place, Standing>,
    check: Option<Check>,
    draws: u32,
    /// What the user was last told about whether the share can be found.
    told: Option<Findable>,
    /// Since when the share cannot be found although nodes of the DHT answer.
    missing: Option<Time>,
}

/// State of the announcement under one DHT key.
struct Standing {
    /// When the next announcement is due.
    due: Time,
    under_way: bool,
    /// Result of the last announcement.
    findable: Option<Findable>,
    /// Back-off if the next announcement does not make the share findable.
    pause: Duration,
}

/// The lookup of a number that is not yet shown to anybody.
struct Check {
    lookup: LookUpId,
    ends: Time,
}

/// Result of checking a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// Not known yet.
    Unknown,
    /// No other sharer was found, or the draws are used up.
    Free,
    /// Another sharer has it.
    Taken,
}

impl Announcing {
    pub(super) fn new(share: ShareId) -> Self {
        Self {
            share,
            places: BTreeMap::new(),
            check: None,
            draws: 0,
            told: None,
            missing: None,
        }
    }

    /// Announces under these DHT keys and withdraws all others.
    pub(super) fn set(&mut self, cx: &mut Context, places: &[Place]) {
        let gone: Vec<_> = self.places.keys().copied().collect();
        for place in gone.into_iter().filter(|place| !places.contains(place)) {
            self.places.remove(&place);
            cx.push(Output::Withdraw { place });
        }
        for place in places {
            self.places.entry(*place).or_insert(Standing {
                due: cx.now + SETTLE,
                under_way: false,
                findable: None,
                pause: FIRST_PAUSE,
            });
        }
    }

    /// Schedules new announcements, because the addresses known to the DHT are out of date.
    pub(super) fn moved(&mut self, now: Time) {
        for standing in self.places.values_mut() {
            standing.due = standing.due.min(now + SETTLE);
        }
    }

    /// Handles the report of a finished announcement.
    pub(super) fn announced(&mut self, cx: &mut Context, place: Place, report: &AnnounceReport) {
        let Some(standing) = self.places.get_mut(&place).filter(|place| place.under_way) else {
            return;
        };
        standing.under_way = false;
        let findable = Findable::of(report);
        standing.findable = Some(findable);
        let again = if findable.is_found() {
            standing.pause = FIRST_PAUSE;
            cx.limits.announce_again
        } else {
            let pause = standing.pause;
            standing.pause = (pause * 2).min(LAST_PAUSE);
            pause
        };
        // It may be due earlier already, if the addresses changed during the announcement.
        standing.due = standing.due.min(cx.now + again);
        self.tell(cx);
    }

    /// Reports to the user whether the share can be found, if that has changed. One DHT key is enough, because a
    /// receiver looks under all those it knows.
    fn tell(&mut self, cx: &mut Context) {
        let known = self
            .places
            .iter()
            .filter(|(place, _)| self.is_known_by(**place));
        let Some(findable) = known.filter_map(|(_, standing)| standing.findable).max() else {
            return;
        };
        let is_early = match findable {
            Findable::NoAddress | Findable::NotKept => {
                cx.now < *self.missing.get_or_insert(cx.now) + TELL_AFTER
            }
            Findable::NoNode | Findable::Found => {
                self.missing = None;
                false
            }
        };
        if !is_early && self.told != Some(findable) {
            self.told = Some(findable);
            cx.event(Event::Announced {
                share: self.share,
                findable,
            });
        }
    }

    /// True if holders of the shortest code look under this DHT key. An announcement under any other is of no use to
    /// them.
    fn is_known_by(&self, place: Place) -> bool {
        let is_number = |place: &Place| matches!(place, Place::Number { .. });
        is_number(&place) || !(self.is_checking() || self.places.keys().any(is_number))
    }

    /// Starts a lookup of this number.
    pub(super) fn check(&mut self, cx: &mut Context, place: Place) {
        self.draws += 1;
        self.check = Some(Check {
            lookup: cx.look_up(LookUpOwner::Share(self.share), place),
            ends: cx.now + cx.limits.number_check,
        });
    }

    /// True while a number is being looked up.
    pub(super) fn is_checking(&self) -> bool {
        self.check.is_some()
    }

    /// Handles a peer found by a lookup.
    pub(super) fn found(&mut self, cx: &mut Context, lookup: LookUpId, peer: PeerId) -> Number {
        let ours = self
            .check
            .as_ref()
            .is_some_and(|check| check.lookup == lookup);
        if !ours || peer == cx.peer {
            return Number::Unknown;
        }
        self.check = None;
        cx.end_look_up(lookup);
        if self.draws < DRAWS {
            Number::Taken
        } else {
            Number::Free
        }
    }

    /// Handles the end of a lookup.
    pub(super) fn looked_up(&mut self, lookup: LookUpId) -> Number {
        match self.check.take_if(|check| check.lookup == lookup) {
            Some(_) => Number::Free,
            None => Number::Unknown,
        }
    }

    pub(super) fn deadline(&self) -> Time {
        let waiting = self.places.values().filter(|place| !place.under_way);
        let due = waiting.map(|place| place.due).min();
        let check = self.check.as_ref().map(|check| check.ends);
        due.unwrap_or(Time::NEVER).min(check.unwrap_or(Time::NEVER))
    }

    /// Starts due announcements. Returns the result for a number whose lookup has timed out.
    pub(super) fn tick(&mut self, cx: &mut Context) -> Number {
        for (place, standing) in &mut self.places {
            if !standing.under_way && standing.due <= cx.now {
                standing.under_way = true;
                standing.due = Time::NEVER;
                cx.push(Output::Announce { place: *place });
            }
        }
        match self.check.take_if(|check| check.ends <= cx.now) {
            Some(check) => {
                cx.end_look_up(check.lookup);
                Number::Free
            }
            None => Number::Unknown,
        }
    }

    /// Withdraws all announcements and ends the lookup.
    pub(super) fn end(&mut self, cx: &mut Context) {
        self.set(cx, &[]);
        if let Some(check) = self.check.take() {
            cx.end_look_up(check.lookup);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Keypair;
    use crate::limits::Limits;
    use crate::secret::MeetingPoint;

    const PLACE: Place = Place::Share(MeetingPoint([7; 32]));

    fn context() -> Context {
        let identity = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        Context::new(Limits::default(), identity, [2; 32], Time::ZERO)
    }

    const FOUND: AnnounceReport = AnnounceReport {
        addresses: 1,
        nodes: 2,
        found_at: 1,
    };
    const WITHOUT_ADDRESS: AnnounceReport = AnnounceReport {
        addresses: 0,
        found_at: 0,
        ..FOUND
    };
    const NOBODY: AnnounceReport = AnnounceReport {
        addresses: 0,
        nodes: 0,
        found_at: 0,
    };

    /// Advances the time to the next deadline and returns the outputs.
    fn next(cx: &mut Context, announcing: &mut Announcing) -> Vec<Output> {
        cx.now = announcing.deadline();
        announcing.tick(cx);
        std::iter::from_fn(|| cx.pop()).collect()
    }

    #[test]
    fn what_is_not_found_is_announced_again_ever_more_rarely() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        announcing.set(&mut cx, &[PLACE]);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let outputs = next(&mut cx, &mut announcing);
            assert!(matches!(outputs[..], [Output::Announce { place: PLACE }]));
            assert_eq!(announcing.deadline(), Time::NEVER, "one at a time");
            let at = cx.now;
            announcing.announced(&mut cx, PLACE, &NOBODY);
            while cx.pop().is_some() {}
            pauses.push(announcing.deadline().since(at).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn new_addresses_are_announced_even_if_they_come_during_an_announcement() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        announcing.set(&mut cx, &[PLACE]);
        assert_eq!(next(&mut cx, &mut announcing).len(), 1);
        announcing.moved(cx.now);
        announcing.announced(&mut cx, PLACE, &FOUND);
        assert_eq!(announcing.deadline(), cx.now + SETTLE);
        next(&mut cx, &mut announcing);
        announcing.announced(&mut cx, PLACE, &FOUND);
        let again = cx.limits.announce_again;
        assert_eq!(announcing.deadline(), cx.now + again);
    }

    #[test]
    fn a_short_code_counts_as_announced_only_by_its_number() {
        let mut cx = context();
        cx.limits.number_check = 10 * SETTLE;
        let mut announcing = Announcing::new(ShareId(1));
        let number = Place::Number { number: 7, day: 1 };
        announcing.set(&mut cx, &[PLACE]);
        announcing.check(&mut cx, number);
        next(&mut cx, &mut announcing);
        announcing.announced(&mut cx, PLACE, &FOUND);
        assert!(cx.pop().is_none(), "the number is not known to be free");
        announcing.looked_up(LookUpId(1));
        announcing.check = None;
        announcing.set(&mut cx, &[PLACE, number]);
        next(&mut cx, &mut announcing);
        announcing.announced(&mut cx, number, &FOUND);
        let told = cx.pop();
        assert!(
            matches!(
                told,
                Some(Output::Event(Event::Announced {
                    findable: Findable::Found,
                    ..
                }))
            ),
            "{told:?}"
        );
    }

    /// Returns what the user is told after an announcement with this report.
    fn told(
        announcing: &mut Announcing,
        cx: &mut Context,
        report: &AnnounceReport,
    ) -> Vec<Findable> {
        next(cx, announcing);
        announcing.announced(cx, PLACE, report);
        let told = std::iter::from_fn(|| cx.pop()).filter_map(|output| match output {
            Output::Event(Event::Announced { findable, .. }) => Some(findable),
            _ => None,
        });
        told.collect()
    }

    /// Regression: a share counted as announced once a node had been sent a record, even without an address in it.
    #[test]
    fn a_share_is_announced_when_a_node_tells_of_it_with_an_address_and_not_before() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        announcing.set(&mut cx, &[PLACE]);
        let not_kept = AnnounceReport {
            found_at: 0,
            ..FOUND
        };
        let steps = [
            (NOBODY, vec![Findable::NoNode]),
            (WITHOUT_ADDRESS, vec![]),
            (WITHOUT_ADDRESS, vec![]),
            (WITHOUT_ADDRESS, vec![Findable::NoAddress]),
            (WITHOUT_ADDRESS, vec![]),
            (not_kept, vec![Findable::NotKept]),
            (FOUND, vec![Findable::Found]),
            (FOUND, vec![]),
            (NOBODY, vec![Findable::NoNode]),
        ];
        for (report, expected) in steps {
            assert_eq!(
                told(&mut announcing, &mut cx, &report),
                expected,
                "{report:?}"
            );
        }
    }

    #[test]
    fn an_address_that_comes_is_announced_at_once() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        announcing.set(&mut cx, &[PLACE]);
        for _ in 0..6 {
            told(&mut announcing, &mut cx, &WITHOUT_ADDRESS);
        }
        assert!(announcing.deadline().since(cx.now) > SETTLE);
        announcing.moved(cx.now);
        assert_eq!(announcing.deadline(), cx.now + SETTLE);
        assert_eq!(told(&mut announcing, &mut cx, &FOUND), [Findable::Found]);
    }

    /// A receiver looks for today's number and for yesterday's.
    #[test]
    fn one_of_the_places_where_a_receiver_looks_is_enough() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        let days = [8, 7].map(|day| Place::Number { number: 7, day });
        announcing.set(&mut cx, &days);
        next(&mut cx, &mut announcing);
        announcing.announced(&mut cx, days[0], &FOUND);
        announcing.announced(&mut cx, days[1], &NOBODY);
        let told = std::iter::from_fn(|| cx.pop()).count();
        assert_eq!((told, announcing.told), (1, Some(Findable::Found)));
    }

    /// Regression: where no node of the DHT answered, a code was shown only after three seconds.
    #[test]
    fn a_number_that_nobody_answers_for_is_taken_for_free_before_a_user_notices() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        announcing.check(&mut cx, Place::Number { number: 7, day: 1 });
        let began = cx.now;
        cx.now = announcing.deadline();
        assert_eq!(announcing.tick(&mut cx), Number::Free);
        assert!(cx.now.since(began) < Duration::from_millis(200));
    }

    #[test]
    fn what_is_not_to_be_found_any_more_is_withdrawn() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        announcing.set(&mut cx, &[PLACE]);
        announcing.end(&mut cx);
        assert!(matches!(cx.pop(), Some(Output::Withdraw { place: PLACE })));
        assert_eq!(announcing.deadline(), Time::NEVER);
        // A late report changes nothing.
        announcing.announced(&mut cx, PLACE, &FOUND);
        assert!(cx.pop().is_none());
    }
}
