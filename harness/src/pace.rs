//! How fast it goes: for benchmarks, which know what that takes on a real clock.

use std::ops::Range;

use crate::plan::Plan;
use crate::sim::run;

/// What a number of runs amounted to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Whole scenarios, from the first host to the last shutdown.
    pub scenarios: u64,
    /// Inputs and outputs of all engines.
    pub events: u64,
}

/// Runs the plans of some seeds, one after the other on this thread.
pub fn pace(seeds: Range<u64>) -> Pace {
    let runs = seeds.filter_map(|seed| run(&Plan::draw(seed)).ok());
    runs.fold(Pace::default(), |pace, run| Pace {
        scenarios: pace.scenarios + 1,
        events: pace.events + run.events,
    })
}
