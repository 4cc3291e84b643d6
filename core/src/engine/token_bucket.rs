//! How fast bytes may go: a token bucket on the engine's clock, in whole numbers that lose nothing.
//!
//! It knows one rate and what has gone under it. Who shares it with whom is left to [`gate`](super::rate_limiter).

use std::time::Duration;

use crate::limits::{GROUP, LEAF};
use crate::time::Time;

/// What may be saved up while nothing goes, as time: it makes up for who looks a little later than it could go on, and
/// is too little to be felt as a burst.
const SAVED: Duration = Duration::from_millis(50);
/// One request asks for a tenth of a second's worth at the most, so that the flow is smooth.
const PIECES_A_SECOND: u64 = 10;
/// The level is counted in billionths of a byte: a rate times nanoseconds, without a remainder.
const BYTE: i128 = 1_000_000_000;

/// Lets so many bytes a second go.
///
/// Whatever is under way goes whole, and what went ahead of its time is waited for after it. So the first goes at once,
/// and in any span of time no more goes than the rate gives, what was saved, and one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    rate: u64,
    /// What may go at `at`; below zero, what went ahead of its time.
    level: i128,
    at: Time,
}

impl Bucket {
    pub(super) fn new(rate: u64, now: Time) -> Self {
        Self {
            rate,
            level: 0,
            at: now,
        }
    }

    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// From now on it is another rate. What was saved is gone; what went ahead is paid back in bytes or in time,
    /// whichever is over sooner.
    pub(super) fn set(&mut self, rate: u64, now: Time) {
        let owed = self.level(now).min(0).saturating_neg();
        let in_time = match self.rate {
            0 => owed,
            before => owed.saturating_mul(rate.into()) / i128::from(before),
        };
        self.level = -owed.min(in_time);
        self.at = now;
        self.rate = rate;
    }

    fn level(&self, now: Time) -> i128 {
        let came = i128::from(self.rate).saturating_mul(nanos(now.since(self.at)));
        let most = i128::from(self.rate).saturating_mul(nanos(SAVED));
        self.level.saturating_add(came).min(most)
    }

    /// Whether anything may go now.
    pub(super) fn is_open(&self, now: Time) -> bool {
        self.opens_at() <= now
    }

    /// From when on something may go, if nothing goes before.
    pub(super) fn opens_at(&self) -> Time {
        if self.rate == 0 {
            return Time::NEVER;
        }
        let owed = self.level.min(0).unsigned_abs();
        let wait = owed.div_ceil(u128::from(self.rate));
        self.at + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// So many bytes go.
    pub(super) fn take(&mut self, bytes: u64, now: Time) {
        let went = i128::from(bytes).saturating_mul(BYTE);
        self.level = self.level(now).saturating_sub(went);
        self.at = self.at.max(now);
    }
}

/// What one request may ask for under a rate: whole leaves, one at least, a group at the most.
pub(super) fn piece(rate: u64) -> u32 {
    let most = u32::try_from(rate / PIECES_A_SECOND).unwrap_or(GROUP);
    (most.min(GROUP) / LEAF).max(1) * LEAF
}

fn nanos(span: Duration) -> i128 {
    i128::try_from(span.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    /// Takes `piece` bytes whenever it may, from `from` to `to`; who looks is late by what `late` says. When each went.
    fn drain(
        bucket: &mut Bucket,
        piece: u64,
        (from, to): (u64, u64),
        mut late: impl FnMut() -> u64,
    ) -> Vec<u64> {
        let mut went = Vec::new();
        let mut now = from;
        while now < to {
            if bucket.is_open(at(now)) {
                bucket.take(piece, at(now));
                went.push(now);
            } else {
                now = bucket.opens_at().as_nanos() + late();
            }
        }
        went
    }

    /// The most pieces that went in any span of this length.
    fn most_in(went: &[u64], span: u64) -> u64 {
        let counts = went.iter().enumerate().map(|(first, start)| {
            let rest = went.iter().skip(first);
            rest.take_while(|time| **time - start < span).count() as u64
        });
        counts.max().unwrap_or_default()
    }

    #[test]
    fn any_ten_seconds_hold_what_the_rate_says() {
        for rate in [20_000, 164_000, 1_000_003, 40_000_000] {
            let piece = u64::from(piece(rate)).min(rate / PIECES_A_SECOND);
            let mut bucket = Bucket::new(rate, Time::ZERO);
            let went = drain(&mut bucket, piece, (0, 60 * SECOND), || 0);
            for start in (0..50).map(|second| second * SECOND) {
                let span = start..start + 10 * SECOND;
                let many = went.iter().filter(|time| span.contains(*time)).count() as u64;
                let off = (many * piece).abs_diff(10 * rate);
                assert!(off <= rate / 10, "{off} bytes off at {rate} a second");
            }
        }
    }

    #[test]
    fn who_waited_long_has_saved_next_to_nothing() {
        let mut bucket = Bucket::new(1_000_000, Time::ZERO);
        let went = drain(&mut bucket, 1000, (3600 * SECOND, 3601 * SECOND), || 0);
        let bytes = went.len() as u64 * 1000;
        assert!(
            (1_000_000..=1_051_000).contains(&bytes),
            "{bytes} bytes in the first second"
        );
    }

    #[test]
    fn a_new_rate_holds_from_now_on_without_what_was_saved() {
        let mut bucket = Bucket::new(10_000_000, Time::ZERO);
        bucket.set(1000, at(SECOND));
        let went = drain(&mut bucket, 100, (SECOND, 2 * SECOND), || 0);
        assert_eq!(went.len(), 10);
        // What went ahead at a rate is no more time at a lower one.
        let mut bucket = Bucket::new(10_000_000, Time::ZERO);
        bucket.take(1_000_000, Time::ZERO);
        bucket.set(1000, Time::ZERO);
        assert_eq!(bucket.opens_at(), at(SECOND / 10));
        // And no more bytes at a higher one.
        bucket.set(1_000_000_000, Time::ZERO);
        assert!(bucket.opens_at() <= at(SECOND / 1000));
    }

    #[test]
    fn at_a_rate_of_nothing_nothing_goes_until_there_is_another() {
        let mut bucket = Bucket::new(0, Time::ZERO);
        assert!(!bucket.is_open(at(u64::MAX - 1)));
        assert_eq!(bucket.opens_at(), Time::NEVER);
        bucket.set(1, at(SECOND));
        assert!(bucket.is_open(at(SECOND)));
    }

    #[test]
    fn a_request_is_whole_leaves_and_a_tenth_of_a_second_at_the_most() {
        assert_eq!(piece(0), LEAF);
        assert_eq!(piece(2000), LEAF);
        assert_eq!(piece(1_000_000), 6 * LEAF);
        assert_eq!(piece(u64::MAX), GROUP);
    }

    proptest! {
        #[test]
        fn nothing_goes_too_fast_and_no_demand_is_left_waiting(
            rate in 1..50_000_000_u64,
            piece in 1..300_000_u64,
            lateness in proptest::collection::vec(0..20_000_000_u64, 1..20),
        ) {
            let seconds = (100 * piece / rate).clamp(1, 100);
            let mut turn = lateness.iter().cycle();
            let mut bucket = Bucket::new(rate, Time::ZERO);
            let late = || turn.next().copied().unwrap_or_default();
            let end = seconds * SECOND;
            let went = drain(&mut bucket, piece.max(rate / 5000), (0, end), late);
            let piece = piece.max(rate / 5000);
            let most = rate + rate / 20 + piece;
            prop_assert!(most_in(&went, SECOND) * piece <= most + 1);
            // Who is late by less than what is saved loses nothing but the last moment.
            let bytes = went.len() as u64 * piece;
            prop_assert!(bytes + rate / 20 + piece >= rate * seconds, "{} of {}", bytes, rate * seconds);
        }

        #[test]
        fn no_numbers_make_it_panic_or_go_back(
            steps in proptest::collection::vec((any::<u64>(), any::<u64>(), 0..3), 1..40),
        ) {
            let mut bucket = Bucket::new(u64::MAX, Time::ZERO);
            for (number, time, what) in steps {
                match what {
                    0 => bucket.set(number, at(time)),
                    1 => bucket.take(number, at(time)),
                    _ => {}
                }
                let opens = bucket.opens_at();
                prop_assert!(bucket.is_open(opens) || opens == Time::NEVER);
            }
        }
    }
}
