//! Where a share is announced in the DHT, when again, and whether its short code's number is free.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::{Context, LookUpOwner};
use super::super::{Event, LookUpId, Output, Place, ShareId};
use crate::PeerId;
use crate::time::Time;

/// Addresses come one by one: an announcement waits so long for the next.
const SETTLE: Duration = Duration::from_millis(200);
/// The pause after an announcement that nobody took, doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_mins(1);
/// Numbers that are drawn in search of one that is free. In a DHT that calls each one taken, the last is as good as any:
/// who has it lets nobody in without the words.
const DRAWS: u32 = 4;

/// What is announced of one share.
pub(super) struct Announcing {
    share: ShareId,
    places: BTreeMap<Place, Standing>,
    check: Option<Check>,
    draws: u32,
    /// Whether any node of the DHT knows, as it was told last.
    told: Option<bool>,
}

/// How it stands with one place.
struct Standing {
    /// When it is announced (again).
    due: Time,
    under_way: bool,
    /// Nobody has taken it; the next pause.
    pause: Duration,
}

/// A number that is looked up before anybody is told of it.
struct Check {
    lookup: LookUpId,
    ends: Time,
}

/// What became of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// Not known yet.
    Unknown,
    /// Nobody else has it, as far as can be told.
    Free,
    /// Somebody has.
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
        }
    }

    /// Announces at these places, and at no others any more.
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
                pause: FIRST_PAUSE,
            });
        }
    }

    /// The addresses have changed: what nodes of the DHT know is out of date.
    pub(super) fn moved(&mut self, now: Time) {
        for standing in self.places.values_mut() {
            standing.due = standing.due.min(now + SETTLE);
        }
    }

    /// An announcement has gone round.
    pub(super) fn announced(&mut self, cx: &mut Context, place: Place, reached: bool) {
        let Some(standing) = self.places.get_mut(&place).filter(|place| place.under_way) else {
            return;
        };
        standing.under_way = false;
        let again = if reached {
            standing.pause = FIRST_PAUSE;
            cx.limits.announce_again
        } else {
            let pause = standing.pause;
            standing.pause = (pause * 2).min(LAST_PAUSE);
            pause
        };
        // It may be due already: the addresses changed meanwhile.
        standing.due = standing.due.min(cx.now + again);
        if self.is_known_by(place) && self.told != Some(reached) {
            self.told = Some(reached);
            cx.event(Event::Announced {
                share: self.share,
                reached,
            });
        }
    }

    /// Whether this is where who has the shortest code looks: that it is announced elsewhere is of no use to them.
    fn is_known_by(&self, place: Place) -> bool {
        let is_number = |place: &Place| matches!(place, Place::Number { .. });
        is_number(&place) || !(self.is_checking() || self.places.keys().any(is_number))
    }

    /// Looks whether anybody has this number.
    pub(super) fn check(&mut self, cx: &mut Context, place: Place) {
        self.draws += 1;
        self.check = Some(Check {
            lookup: cx.look_up(LookUpOwner::Share(self.share), place),
            ends: cx.now + cx.limits.number_check,
        });
    }

    /// Whether a number is being looked up.
    pub(super) fn is_checking(&self) -> bool {
        self.check.is_some()
    }

    /// A look-up has found somebody.
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

    /// A look-up has ended.
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

    /// Announces what is due; says what became of a number that was waited for long enough.
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

    /// Withdraws all of it.
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

    /// Lets time pass up to the next thing due; the outputs of that.
    fn next(cx: &mut Context, announcing: &mut Announcing) -> Vec<Output> {
        cx.now = announcing.deadline();
        announcing.tick(cx);
        std::iter::from_fn(|| cx.pop()).collect()
    }

    #[test]
    fn what_nobody_took_is_announced_again_ever_more_rarely() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        announcing.set(&mut cx, &[PLACE]);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let outputs = next(&mut cx, &mut announcing);
            assert!(matches!(outputs[..], [Output::Announce { place: PLACE }]));
            assert_eq!(announcing.deadline(), Time::NEVER, "one at a time");
            let at = cx.now;
            announcing.announced(&mut cx, PLACE, false);
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
        announcing.announced(&mut cx, PLACE, true);
        assert_eq!(announcing.deadline(), cx.now + SETTLE);
        next(&mut cx, &mut announcing);
        announcing.announced(&mut cx, PLACE, true);
        let again = cx.limits.announce_again;
        assert_eq!(announcing.deadline(), cx.now + again);
    }

    #[test]
    fn a_short_code_counts_as_announced_only_by_its_number() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        let number = Place::Number { number: 7, day: 1 };
        announcing.set(&mut cx, &[PLACE]);
        announcing.check(&mut cx, number);
        next(&mut cx, &mut announcing);
        announcing.announced(&mut cx, PLACE, true);
        assert!(cx.pop().is_none(), "the number is not known to be free");
        announcing.looked_up(LookUpId(1));
        announcing.check = None;
        announcing.set(&mut cx, &[PLACE, number]);
        next(&mut cx, &mut announcing);
        announcing.announced(&mut cx, number, true);
        let told = cx.pop();
        assert!(
            matches!(
                told,
                Some(Output::Event(Event::Announced { reached: true, .. }))
            ),
            "{told:?}"
        );
    }

    #[test]
    fn what_is_not_to_be_found_any_more_is_withdrawn() {
        let mut cx = context();
        let mut announcing = Announcing::new(ShareId(1));
        announcing.set(&mut cx, &[PLACE]);
        announcing.end(&mut cx);
        assert!(matches!(cx.pop(), Some(Output::Withdraw { place: PLACE })));
        assert_eq!(announcing.deadline(), Time::NEVER);
        // An answer that comes late changes nothing.
        announcing.announced(&mut cx, PLACE, true);
        assert!(cx.pop().is_none());
    }
}
