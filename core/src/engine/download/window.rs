//! How much a download asks for ahead on one link, and how fast it is. Its bytes are those of `cost_of` in `files`:
//! of content, and something for each segment.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::PathKind;
use crate::limits::{GROUP, LEAF, Limits, RELAYED_PIECE};
use crate::time::Time;

/// How long the rate on the screen looks back.
const RATE_SPAN: Duration = Duration::from_secs(3);
/// The least window: two requests of the least length, so that the link never idles for a round trip.
const LEAST: u64 = 4 * LEAF as u64;

/// The least time's worth of bytes to ask for ahead: what disks and threads at both ends take.
const LEAST_AHEAD: Duration = Duration::from_millis(20);
/// The most: everything asked ahead on a path may have to be asked for again on the next one.
const MOST_AHEAD: Duration = Duration::from_secs(2);
/// A round of measuring lasts a round trip, and at least so long.
const LEAST_ROUND: Duration = Duration::from_millis(5);
/// After so long without a shorter round trip, the path may have become longer.
const ROUND_TRIP_AGE: Duration = Duration::from_secs(10);

/// The adaptive window of one link.
///
/// It goes for three times what the path holds (rate x least round trip). While it is the window that limits the rate,
/// what the path seems to hold grows with it, so it doubles with each round trip; once the path is full it stays. On a
/// slow path it is a few leaves.
#[derive(Debug)]
pub(super) struct Window {
    size: u64,
    most: u64,
    /// Bytes of one request at the most.
    piece: u32,
    /// Bytes asked for and not here yet.
    outstanding: u64,
    /// The round now measured: since when, and how many bytes came in it.
    since: Time,
    came: u64,
    /// The least round trip of a request, and when it was seen.
    round_trip: Option<(Duration, Time)>,
}

impl Window {
    pub(super) fn new(limits: &Limits, path: PathKind, now: Time) -> Self {
        let piece = match path {
            PathKind::Relayed => RELAYED_PIECE,
            PathKind::Loopback | PathKind::Lan | PathKind::Direct => GROUP,
        };
        Self {
            piece,
            size: limits.window_start,
            most: limits.window,
            outstanding: 0,
            since: now,
            came: 0,
            round_trip: None,
        }
    }

    /// Bytes that may be asked for now.
    pub(super) fn room(&self) -> u64 {
        self.size.saturating_sub(self.outstanding)
    }

    /// Bytes asked for and not here yet.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Bytes of whole files that one request may ask for.
    pub(super) fn piece(&self) -> u32 {
        self.piece
    }

    /// Bytes that one request should ask for: a quarter of the window, in whole leaves, a piece at the most.
    pub(super) fn request_len(&self) -> u32 {
        let quarter = u32::try_from(self.size / 4)
            .unwrap_or(GROUP)
            .min(self.piece);
        (quarter / LEAF).max(1) * LEAF
    }

    /// A request went out.
    pub(super) fn asked(&mut self, bytes: u64, now: Time) {
        if self.outstanding == 0 {
            // The link was idle; that time says nothing about its rate.
            self.since = now;
            self.came = 0;
        }
        self.outstanding += bytes;
    }

    /// A request was answered (`came` of its bytes), or given up.
    pub(super) fn answered(&mut self, asked: u64, came: u64, took: Duration, now: Time) {
        self.outstanding = self.outstanding.saturating_sub(asked);
        self.came += came;
        self.round_trip = Some(match self.round_trip {
            Some((least, seen)) if took > least && now.since(seen) <= ROUND_TRIP_AGE => {
                (least, seen)
            }
            Some((least, _)) if took > least => ((least + least / 4).min(took), now),
            _ => (took, now),
        });
        let least = self.round_trip.map_or(took, |(least, _)| least);
        if now.since(self.since) >= least.max(LEAST_ROUND) {
            self.end_round(now, least);
        }
    }

    fn end_round(&mut self, now: Time, round_trip: Duration) {
        let rate = per_second(self.came, now.since(self.since));
        let ahead = (round_trip * 3).clamp(LEAST_AHEAD, MOST_AHEAD);
        let aim = bytes_in(rate, ahead);
        if aim > self.size {
            self.size = aim.min(self.size.saturating_mul(2));
        } else {
            self.size -= (self.size - aim) / 4;
        }
        self.size = self.size.clamp(LEAST.min(self.most), self.most);
        self.since = now;
        self.came = 0;
    }
}

fn per_second(bytes: u64, span: Duration) -> u64 {
    let nanos = span.as_nanos().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

fn bytes_in(rate: u64, span: Duration) -> u64 {
    u64::try_from(u128::from(rate) * span.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Bytes a second over the last few seconds, for the screen.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(Time, u64)>,
}

impl Rate {
    /// Takes note of how many bytes are here by now.
    pub(super) fn sample(&mut self, now: Time, done: u64) {
        while self.samples.len() > 1
            && self
                .samples
                .front()
                .is_some_and(|(at, _)| now.since(*at) > RATE_SPAN)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, done));
    }

    /// Bytes a second.
    pub(super) fn now(&self) -> u64 {
        match (self.samples.front(), self.samples.back()) {
            (Some((first, before)), Some((last, after))) if last > first => {
                per_second(after.saturating_sub(*before), last.since(*first))
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a link that serves `rate` bytes a second after `delay` and returns the window it settles at.
    fn settle(rate: u64, delay: Duration) -> u64 {
        let limits = Limits::default();
        let mut now = Time::ZERO;
        let mut window = Window::new(&limits, PathKind::Direct, now);
        let mut line_free = now;
        let mut in_flight: VecDeque<(Time, Time, u64)> = VecDeque::new();
        for _ in 0..4000 {
            while window.room() >= u64::from(window.request_len()) {
                let len = u64::from(window.request_len());
                window.asked(len, now);
                let starts = line_free.max(now + delay / 2);
                line_free = starts + Duration::from_nanos(len * 1_000_000_000 / rate);
                in_flight.push_back((now, line_free + delay / 2, len));
            }
            let (asked, arrives, len) = in_flight.pop_front().expect("the window is never closed");
            now = arrives;
            window.answered(len, len, arrives.since(asked), now);
        }
        window.size
    }

    #[test]
    fn holds_a_long_fat_path_and_keeps_small_on_a_slow_one() {
        let fat = settle(25_000_000, Duration::from_millis(100));
        assert!(fat >= 2_500_000, "{fat} bytes for 2.5 MB in flight");
        let slow = settle(8_000, Duration::from_millis(300));
        assert!(slow <= 128 * 1024, "{slow} bytes ahead at 8 kB/s");
    }

    #[test]
    fn rate_looks_back_a_few_seconds() {
        let mut rate = Rate::default();
        for tenth in 0..100 {
            rate.sample(
                Time::ZERO + Duration::from_millis(tenth * 100),
                tenth * 1000,
            );
        }
        assert_eq!(rate.now(), 10_000);
    }
}
