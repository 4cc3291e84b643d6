//! Looking in the DHT for whoever has a share, as long as nobody was reached.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::{Context, LookUpOwner};
use super::super::{DownloadId, FetchKey, LookUpId, Place};
use crate::secret::MeetingPoint;
use crate::time::Time;

/// The pause between rounds, doubling from the first to the last: the sharer may still be coming up.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(8);
/// How long addresses that are known may take before the DHT is asked for more, where a link over them stood before.
const AFTER_LOSS: Duration = Duration::from_secs(2);

/// How many days before today a short code is looked for in each round after the first, beside today and yesterday: the
/// sharer's clock, or this side's, may be off by up to a week. A sharer announces two days, so every second will do.
const FURTHER: [[i32; 2]; 3] = [[3, -2], [5, -4], [7, -6]];

/// The look-ups of one search: round after round, at all places where the share may be announced.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    wanted: Wanted,
    /// Each with how many days before today its place is.
    under_way: BTreeMap<LookUpId, i32>,
    /// Rounds that have begun.
    rounds: usize,
    /// Whether any node of the DHT has answered in this round.
    reached: bool,
    /// When the next round begins.
    due: Time,
    pause: Duration,
}

/// Where to look.
#[derive(Debug, Default)]
enum Wanted {
    #[default]
    Nowhere,
    Share(MeetingPoint),
    /// Where a short code's number meets, which is another place every day.
    Number(u32),
}

/// A round of look-ups that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// Anybody was there to ask.
    pub(super) reached: bool,
    /// The days around today have all been looked under.
    pub(super) all_days: bool,
}

impl LookUps {
    /// For whoever has this key. `day`: the date is known, which short codes need. `again`: a link stood before.
    pub(super) fn new(key: &FetchKey, day: Option<u32>, now: Time, again: bool) -> Self {
        let wanted = match key {
            FetchKey::Secret(secret) => Wanted::Share(secret.meeting_point()),
            FetchKey::Short(code) if day.is_some() => Wanted::Number(code.number()),
            FetchKey::Short(_) => Wanted::Nowhere,
        };
        let due = if again { now + AFTER_LOSS } else { now };
        Self {
            due: if wanted.is_nowhere() {
                Time::NEVER
            } else {
                due
            },
            wanted,
            pause: FIRST_PAUSE,
            ..Self::default()
        }
    }

    pub(super) fn deadline(&self) -> Time {
        self.due
    }

    /// Whether somebody may still be found in this round.
    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether nobody is looked for, or a whole round has ended.
    pub(super) fn are_exhausted(&self) -> bool {
        self.wanted.is_nowhere() || self.rounds > 1 || (self.rounds == 1 && !self.is_under_way())
    }

    /// Begins a round if one is due.
    pub(super) fn tick(&mut self, cx: &mut Context, download: DownloadId) {
        if cx.now < self.due {
            return;
        }
        self.due = Time::NEVER;
        self.reached = false;
        let round = self.rounds;
        self.rounds += 1;
        for (before, place) in self.wanted.places(cx.day, round) {
            let lookup = cx.look_up(LookUpOwner::Download(download), place);
            self.under_way.insert(lookup, before);
        }
    }

    /// By how many days, at the least, the date of a peer that this look-up found is ahead of this side's, or behind it if
    /// that is negative. 0: the dates may be the same.
    pub(super) fn days_ahead(&self, lookup: LookUpId) -> i32 {
        match self.under_way.get(&lookup) {
            // It announces its own date and the day before.
            Some(before @ 2..) => 1 - before,
            Some(before) => (-before).max(0),
            None => 0,
        }
    }

    /// A look-up has ended. If that was the last of its round: what came of that.
    pub(super) fn ended(&mut self, lookup: LookUpId, reached: bool, now: Time) -> Option<Round> {
        self.under_way.remove(&lookup)?;
        self.reached |= reached;
        if !self.under_way.is_empty() {
            return None;
        }
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        let by_number = matches!(self.wanted, Wanted::Number(_));
        Some(Round {
            reached: self.reached,
            all_days: by_number && self.rounds > FURTHER.len(),
        })
    }

    /// Nobody is looked for any more, for now or for good.
    pub(super) fn stop(&mut self, cx: &mut Context) {
        for (lookup, _) in std::mem::take(&mut self.under_way) {
            cx.end_look_up(lookup);
        }
        self.due = Time::NEVER;
    }

    /// The look-ups go on after a pause.
    pub(super) fn go_on(&mut self, now: Time) {
        if !self.wanted.is_nowhere() && self.under_way.is_empty() {
            self.due = now + self.pause;
        }
    }
}

impl Wanted {
    fn is_nowhere(&self) -> bool {
        matches!(self, Self::Nowhere)
    }

    /// The places of this round, each with how many days before today it is. Today and yesterday are in every round: of
    /// two clocks that are right one may be past midnight.
    fn places(&self, day: Option<u32>, round: usize) -> Vec<(i32, Place)> {
        let (number, today) = match (self, day) {
            (Self::Share(point), _) => return vec![(0, Place::Share(*point))],
            (Self::Number(number), Some(day)) => (*number, day),
            (Self::Nowhere, _) | (Self::Number(_), None) => return Vec::new(),
        };
        let later = round.checked_sub(1);
        let further = later.and_then(|later| FURTHER.iter().cycle().nth(later % FURTHER.len()));
        let days = [0, 1]
            .into_iter()
            .chain(further.into_iter().flatten().copied());
        let place = |before: i32| {
            let day = today.saturating_add_signed(-before);
            (before, Place::Number { number, day })
        };
        days.map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days that a sharer announces, whose clock is so many days ahead.
    fn announced(today: u32, ahead: i32) -> [u32; 2] {
        let date = today.saturating_add_signed(ahead);
        [date, date - 1]
    }

    #[test]
    fn clocks_that_are_a_week_apart_still_meet() {
        let today = 20_000;
        let wanted = Wanted::Number(7_654_321);
        for ahead in -7..=7 {
            let meets = |round: &usize| {
                let mut places = wanted.places(Some(today), *round).into_iter();
                places.any(|(_, place)| match place {
                    Place::Number { day, .. } => announced(today, ahead).contains(&day),
                    Place::Share(_) => false,
                })
            };
            let round = (0..=FURTHER.len()).find(meets);
            let later = usize::try_from(i32::abs(ahead) / 2);
            assert_eq!(round, later.ok(), "{ahead}");
        }
    }

    #[test]
    fn a_day_that_a_peer_is_found_under_says_how_far_its_date_is_off_at_the_least() {
        let today: u32 = 20_000;
        for before in [0, 1, 3, -2, 5, -4, 7, -6] {
            let mut lookups = LookUps::default();
            lookups.under_way.insert(LookUpId(1), before);
            let told = lookups.days_ahead(LookUpId(1));
            let day = today.saturating_add_signed(-before);
            let possible = (-9_i32..=9).filter(|ahead| announced(today, *ahead).contains(&day));
            let least = possible.min_by_key(|ahead| ahead.abs());
            assert_eq!(Some(told), least, "{before}");
        }
    }
}
