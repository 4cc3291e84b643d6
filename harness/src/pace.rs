//! Amount of simulated work per run, for benchmarks that measure the real time it takes.

use std::ops::Range;

use crate::plan::Plan;
use crate::sim::run;

/// Results of a number of runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Number of complete scenarios, from the first host to the last shutdown.
    pub scenarios: u64,
    /// Number of inputs and outputs of all engines.
    pub events: u64,
}

/// Runs the plans of these seeds one after the other on this thread.
pub fn pace(seeds: Range<u64>) -> Pace {
    let runs = seeds.filter_map(|seed| run(&Plan::draw(seed)).ok());
    runs.fold(Pace::default(), |pace, run| Pace {
        scenarios: pace.scenarios + 1,
        events: pace.events + run.events,
    })
}
