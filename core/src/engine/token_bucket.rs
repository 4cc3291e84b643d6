//! A token bucket on the engine's clock, in integer arithmetic without rounding losses.
//!
//! A bucket knows one rate and the bytes taken. The [rate limiter](super::rate_limiter) decides which transfers share
//! it.

use std::time::Duration;

use crate::limits::{GROUP, LEAF};
use crate::time::Time;

/// Maximum credit that an idle bucket saves, as a time. It makes up for checks that run slightly late, and is too small
/// to cause a noticeable burst.
const SAVED: Duration = Duration::from_millis(50);
/// A request is for at most a tenth of a second's worth of bytes, so that the flow is smooth.
const PIECES_A_SECOND: u64 = 10;
/// One byte in units of the level. At a billionth of a byte, rate times nanoseconds has no remainder.
const BYTE: i128 = 1_000_000_000;

/// Limits a flow to a rate in bytes per second.
///
/// A request is never split: it goes ahead whole, and the bucket then stays closed until the debt is paid back. So the
/// first request goes at once, and any span of time carries at most the rate, the saved credit and one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    rate: u64,
    /// Credit at time `at`, in units of [`BYTE`]. Negative if bytes were taken in advance.
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

    /// Changes the rate. Saved credit is lost. A debt is kept in bytes or in time, whichever is paid back sooner.
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

    /// True if a request may go ahead now.
    pub(super) fn is_open(&self, now: Time) -> bool {
        self.opens_at() <= now
    }

    /// Time from which a request may go ahead, if none does before.
    pub(super) fn opens_at(&self) -> Time {
        if self.rate == 0 {
            return Time::NEVER;
        }
        let owed = self.level.min(0).unsigned_abs();
        let wait = owed.div_ceil(u128::from(self.rate));
        self.at + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Takes bytes from the bucket.
    pub(super) fn take(&mut self, bytes: u64, now: Time) {
        let went = i128::from(bytes).saturating_mul(BYTE);
        self.level = self.level(now).saturating_sub(went);
        self.at = self.at.max(now);
    }
}

/// Maximum number of bytes per request at this rate: whole leaves, at least one, at most a group.
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

    /// Takes `piece` bytes whenever the bucket allows, from `from` to `to`, with each check late by what `late`
    /// returns. Returns the times.
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

    /// Maximum number of pieces in any span of this length.
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
        // At a lower rate, the debt takes no more time than before.
        let mut bucket = Bucket::new(10_000_000, Time::ZERO);
        bucket.take(1_000_000, Time::ZERO);
        bucket.set(1000, Time::ZERO);
        assert_eq!(bucket.opens_at(), at(SECOND / 10));
        // At a higher rate, it is no more bytes than before.
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
            // Checks that are late by less than the saved credit lose nothing but the last moment.
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
