//! Decides what happens to each frame under given conditions. Uses no socket and no clock; callers pass the time.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::conditions::Conditions;

/// Maximum delay. Keeps sums of times in range.
const LONGEST: Duration = Duration::from_hours(1);
/// Minimum size of the default queue, in bytes: ten full frames.
const SMALLEST_QUEUE: u64 = 10 * 1514;

/// What happens to a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It leaves the line at this time, never before the frame ahead of it.
    Out(Instant),
    /// It is lost.
    Lost,
    /// It is dropped because the queue is full.
    Full,
}

/// One direction of a wire.
pub(super) struct Line {
    conditions: Conditions,
    rng: ChaCha8Rng,
    /// When the last bit of all frames so far is sent.
    busy_until: Option<Instant>,
    /// When the last frame leaves the line.
    last_out: Option<Instant>,
}

impl Line {
    /// Creates a line. Its random decisions are derived from `seed` and `number`, which differs for every line.
    pub(super) fn new(conditions: Conditions, seed: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        Self {
            conditions,
            rng,
            busy_until: None,
            last_out: None,
        }
    }

    /// Decides about a frame of `bytes` bytes that arrives at `now`.
    pub(super) fn fate(&mut self, now: Instant, bytes: usize) -> Fate {
        // Both values are drawn for every frame, so that the decision about one frame does not affect the next.
        let (loss, jitter) = (self.chance(), self.chance());
        if loss < self.conditions.loss {
            return Fate::Lost;
        }
        let Some(left) = self.send(now, u64::try_from(bytes).unwrap_or(u64::MAX)) else {
            return Fate::Full;
        };
        let out = left
            + self.conditions.delay.min(LONGEST)
            + self.conditions.jitter.min(LONGEST).mul_f64(jitter);
        let out = self.last_out.map_or(out, |last| last.max(out));
        self.last_out = Some(out);
        Fate::Out(out)
    }

    /// Returns when the last bit of a frame is sent, or `None` if the queue is full.
    fn send(&mut self, now: Instant, bytes: u64) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else {
            return Some(now);
        };
        let rate = u128::from(rate.max(1));
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        let waiting = (start - now).as_nanos() * rate / (8 * NANOS);
        let queue = self
            .conditions
            .queue
            .map_or((rate / 80).max(u128::from(SMALLEST_QUEUE)), u128::from);
        if waiting > 0 && waiting + u128::from(bytes) > queue {
            return None;
        }
        let takes = u64::try_from(u128::from(bytes) * 8 * NANOS / rate).unwrap_or(u64::MAX);
        let left = start.checked_add(Duration::from_nanos(takes))?;
        self.busy_until = Some(left);
        Some(left)
    }

    /// Returns a random number from 0 up to, but not including, 1.
    fn chance(&mut self) -> f64 {
        f64::from(self.rng.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn line(conditions: Conditions) -> Line {
        Line::new(conditions, 7, 0)
    }

    #[test]
    fn a_plain_line_lets_frames_out_at_once() {
        let now = Instant::now();
        assert_eq!(line(Conditions::default()).fate(now, 1514), Fate::Out(now));
    }

    #[test]
    fn a_rate_spaces_frames_and_a_delay_adds_to_it() {
        let now = Instant::now();
        // At this rate a thousand bytes take a millisecond.
        let mut line = line(Conditions {
            rate: Some(8_000_000),
            delay: 20 * MS,
            ..Conditions::default()
        });
        assert_eq!(line.fate(now, 1000), Fate::Out(now + 21 * MS));
        assert_eq!(line.fate(now, 500), Fate::Out(now + 21 * MS + MS / 2));
        assert_eq!(line.fate(now + 100 * MS, 1000), Fate::Out(now + 121 * MS));
    }

    #[test]
    fn a_full_queue_takes_no_more_and_empties_at_the_rate() {
        let now = Instant::now();
        let mut line = line(Conditions {
            rate: Some(8_000_000),
            queue: Some(3000),
            ..Conditions::default()
        });
        for n in 1..=3 {
            assert_eq!(line.fate(now, 1000), Fate::Out(now + n * MS));
        }
        assert_eq!(line.fate(now, 1000), Fate::Full);
        assert_eq!(line.fate(now + MS, 1000), Fate::Out(now + 4 * MS));
    }

    #[test]
    fn a_queue_smaller_than_a_frame_passes_one_at_a_time() {
        let now = Instant::now();
        let mut line = line(Conditions {
            rate: Some(8_000_000),
            queue: Some(0),
            ..Conditions::default()
        });
        assert_eq!(line.fate(now, 1000), Fate::Out(now + MS));
        assert_eq!(line.fate(now, 1000), Fate::Full);
        assert_eq!(line.fate(now + MS, 1000), Fate::Out(now + 2 * MS));
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_keeps_the_order() {
        let start = Instant::now();
        let mut line = line(Conditions {
            delay: 10 * MS,
            jitter: 5 * MS,
            ..Conditions::default()
        });
        let mut last = start;
        let mut added = Duration::ZERO;
        for n in 0..1000 {
            let now = start + n * MS;
            let Fate::Out(out) = line.fate(now, 100) else {
                panic!("a frame was dropped")
            };
            assert!(out >= last && out >= now + 10 * MS && out < now + 15 * MS);
            added += out.duration_since(now + 10 * MS);
            last = out;
        }
        assert!(
            added > 2000 * MS,
            "jitter was {:?} on average",
            added / 1000
        );
    }

    #[test]
    fn loss_is_the_share_asked_for_and_follows_from_the_seed() {
        let now = Instant::now();
        let fates = |seed, number| {
            let mut line = Line::new(
                Conditions {
                    loss: 0.3,
                    ..Conditions::default()
                },
                seed,
                number,
            );
            (0..10_000)
                .map(|_| line.fate(now, 100) == Fate::Lost)
                .collect::<Vec<_>>()
        };
        let lost = fates(1, 0).into_iter().filter(|lost| *lost).count();
        assert!((2_800..3_200).contains(&lost), "{lost}");
        assert_eq!(fates(1, 0), fates(1, 0));
        assert_ne!(fates(1, 0), fates(1, 1));
        assert_ne!(fates(1, 0), fates(2, 0));
    }

    #[test]
    fn all_or_nothing_can_be_lost() {
        let now = Instant::now();
        let mut all = line(Conditions {
            loss: 1.0,
            ..Conditions::default()
        });
        let mut none = line(Conditions::default());
        for _ in 0..1000 {
            assert_eq!(all.fate(now, 100), Fate::Lost);
            assert_eq!(none.fate(now, 100), Fate::Out(now));
        }
    }

    #[test]
    fn absurd_conditions_do_not_overflow() {
        let now = Instant::now();
        let (delay, jitter) = (Duration::MAX, Duration::MAX);
        let mut line = line(Conditions {
            delay,
            jitter,
            rate: Some(0),
            queue: Some(u64::MAX),
            ..Conditions::default()
        });
        for _ in 0..1000 {
            let _ = line.fate(now, 100_000);
        }
    }
}
