//! Looking in the DHT for whoever has a share, as long as nobody was reached.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::context::{Context, LookUpOwner};
use super::super::{DownloadId, FetchKey, LookUpId, Place};
use crate::time::Time;

/// The pause between rounds, doubling from the first to the last: the sharer may still be coming up.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(8);
/// How long addresses that are known may take before the DHT is asked for more, where a link over them stood before.
const AFTER_LOSS: Duration = Duration::from_secs(2);

/// The look-ups of one search: round after round, at all places where the share may be announced.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    places: Vec<Place>,
    under_way: BTreeSet<LookUpId>,
    /// Whether any node of the DHT has answered in this round.
    reached: bool,
    /// When the next round begins.
    due: Time,
    pause: Duration,
}

impl LookUps {
    /// For whoever has this key, on this day. `again`: a link stood before.
    pub(super) fn new(key: &FetchKey, day: Option<u32>, now: Time, again: bool) -> Self {
        let places = match (key, day) {
            (FetchKey::Secret(secret), _) => vec![Place::Share(secret.meeting_point())],
            (FetchKey::Short(code), Some(day)) => {
                let number = code.number();
                // The sharer's clock may be behind.
                let days = [day, day.saturating_sub(1)];
                days.map(|day| Place::Number { number, day }).into()
            }
            (FetchKey::Short(_), None) => Vec::new(),
        };
        let due = if again { now + AFTER_LOSS } else { now };
        Self {
            due: if places.is_empty() { Time::NEVER } else { due },
            places,
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

    /// Begins a round if one is due.
    pub(super) fn tick(&mut self, cx: &mut Context, download: DownloadId) {
        if cx.now < self.due {
            return;
        }
        self.due = Time::NEVER;
        self.reached = false;
        for place in &self.places {
            let lookup = cx.look_up(LookUpOwner::Download(download), *place);
            self.under_way.insert(lookup);
        }
    }

    /// A look-up has ended. If that was the last of its round: whether anybody was there to ask.
    pub(super) fn ended(&mut self, lookup: LookUpId, reached: bool, now: Time) -> Option<bool> {
        if !self.under_way.remove(&lookup) {
            return None;
        }
        self.reached |= reached;
        if !self.under_way.is_empty() {
            return None;
        }
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        Some(self.reached)
    }

    /// Nobody is looked for any more, for now or for good.
    pub(super) fn stop(&mut self, cx: &mut Context) {
        for lookup in std::mem::take(&mut self.under_way) {
            cx.end_look_up(lookup);
        }
        self.due = Time::NEVER;
    }

    /// The look-ups go on after a pause.
    pub(super) fn go_on(&mut self, now: Time) {
        if !self.places.is_empty() && self.under_way.is_empty() {
            self.due = now + self.pause;
        }
    }
}
