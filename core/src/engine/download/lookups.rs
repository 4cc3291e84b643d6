//! DHT lookups for peers that have a share, while none has been reached.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::{Context, LookUpOwner};
use super::super::{DownloadId, FetchKey, LookUpId, Place};
use crate::secret::MeetingPoint;
use crate::time::Time;

/// First and last pause between rounds; it doubles in between. The sharer may still be starting.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(8);
/// Pause before the first lookup if a link existed before: until then only the known addresses are dialled.
const AFTER_LOSS: Duration = Duration::from_secs(2);

/// Further days under which a short code is looked up in each round after the first, as the number of days before
/// today, besides today and yesterday. The clock of either side may be off by up to a week. A sharer announces two
/// days, so every second day is enough.
const FURTHER: [[i32; 2]; 3] = [[3, -2], [5, -4], [7, -6]];

/// The lookups of one search: round after round, under all DHT keys that the share may be announced under.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    wanted: Wanted,
    /// Lookups under way, with how many days before today the day of their DHT key is.
    under_way: BTreeMap<LookUpId, i32>,
    /// Number of rounds that have begun.
    rounds: usize,
    /// True if any DHT node has answered in this round.
    reached: bool,
    /// When the next round begins.
    due: Time,
    pause: Duration,
}

/// What to look up.
#[derive(Debug, Default)]
enum Wanted {
    #[default]
    Nowhere,
    Share(MeetingPoint),
    /// The number of a short code. Its DHT key changes every day.
    Number(u32),
}

/// Result of a round of lookups.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// True if any DHT node has answered.
    pub(super) reached: bool,
    /// True if all days around today have been looked up.
    pub(super) all_days: bool,
}

impl LookUps {
    /// Creates the lookups for a key. `day`: today's date, if known; short codes need it. `again`: a link existed
    /// before.
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

    /// True if lookups of this round are running.
    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// True if there is nothing to look up, or a whole round has ended.
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

    /// The minimum number of days by which the date of a peer found by this lookup is ahead of this side's, or behind
    /// it if negative. 0: the dates may be the same.
    pub(super) fn days_ahead(&self, lookup: LookUpId) -> i32 {
        match self.under_way.get(&lookup) {
            // A sharer announces its own date and the day before.
            Some(before @ 2..) => 1 - before,
            Some(before) => (-before).max(0),
            None => 0,
        }
    }

    /// Records that a lookup has ended. Returns the result of the round if this was its last lookup.
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

    /// Stops all lookups, for now or for good.
    pub(super) fn stop(&mut self, cx: &mut Context) {
        for (lookup, _) in std::mem::take(&mut self.under_way) {
            cx.end_look_up(lookup);
        }
        self.due = Time::NEVER;
    }

    /// Resumes the lookups after a pause.
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

    /// The DHT keys of this round, each with how many days before today its day is. Today and yesterday are in every
    /// round: of two clocks that are right, one may be past midnight.
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

    /// The days announced by a sharer whose clock is `ahead` days ahead.
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
