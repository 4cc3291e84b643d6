//! The rate at which something grows, over the last few seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Period over which a rate is averaged.
const WINDOW: Duration = Duration::from_secs(4);
/// Maximum number of samples kept.
const SAMPLES: usize = 32;

/// Measures a rate from totals.
#[derive(Debug, Default)]
pub(crate) struct Meter(VecDeque<(Instant, u64)>);

impl Meter {
    /// Adds a sample of the total. Returns the rate in bytes a second, or 0 while it is unknown.
    pub(crate) fn sample(&mut self, now: Instant, done: u64) -> u64 {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back((now, done));
        // One sample older than the window is kept, so that infrequent reports still have a previous one.
        while self.0.len() > 2
            && self
                .0
                .get(1)
                .is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.0.pop_front();
        }
        let Some((since, before)) = self.0.front() else {
            return 0;
        };
        let millis = now.duration_since(*since).as_millis();
        let grown = u128::from(done.saturating_sub(*before)) * 1000;
        grown
            .checked_div(millis)
            .map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_last_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Meter::default();
        assert_eq!(meter.sample(start, 0), 0);
        assert_eq!(meter.sample(at(1), 100), 100);
        for second in 2..20 {
            meter.sample(at(second), 100);
        }
        assert_eq!(meter.sample(at(20), 100), 0);
        assert_eq!(meter.sample(at(21), 500), 80);
    }
}
