//! Running many plans, one after the other, on every core that is given.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::sim::{Class, Failure, Run, run};

/// What a number of runs amounted to.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Plans that were run to their end.
    pub scenarios: u64,
    /// Inputs and outputs of engines.
    pub events: u64,
    /// Time on the simulated clocks.
    pub simulated: Duration,
    /// Time on a real clock, of all threads together.
    pub spent: Duration,
    /// What happened.
    pub ledger: Ledger,
    /// Runs that broke a promise: the seed, and how.
    pub failures: Vec<(u64, Failure)>,
}

impl Tally {
    /// Runs a seed's plan, twice if that is wanted, and adds what came of it.
    pub fn run_seed(&mut self, seed: u64, twice: bool) {
        let plan = Plan::draw(seed);
        let begun = Instant::now();
        let result = run(&plan);
        self.spent += begun.elapsed();
        if twice && let Some(differs) = differs(&result, &run(&plan)) {
            self.failures.push((seed, differs));
        }
        match result {
            Ok(run) => {
                self.scenarios += 1;
                self.events += run.events;
                self.simulated += run.took;
                self.ledger.add(&run.ledger);
            }
            Err(failure) => self.failures.push((seed, failure)),
        }
    }

    fn add(&mut self, other: Self) {
        self.scenarios += other.scenarios;
        self.events += other.events;
        self.simulated += other.simulated;
        self.spent += other.spent;
        self.ledger.add(&other.ledger);
        self.failures.extend(other.failures);
        self.failures.sort_by_key(|(seed, _)| *seed);
    }
}

/// How two runs of one plan differ, if they do.
fn differs(first: &Result<Run, Failure>, second: &Result<Run, Failure>) -> Option<Failure> {
    if first == second {
        return None;
    }
    let trace = |result: &Result<Run, Failure>| match result {
        Ok(run) => format!("{:016x} after {} events", run.trace, run.events),
        Err(failure) => failure.to_string(),
    };
    Some(Failure {
        class: Class::Crash,
        promise: None,
        words: format!(
            "twice the same plan: {}; then {}",
            trace(first),
            trace(second)
        ),
        place: "the simulator is not deterministic".to_owned(),
    })
}

/// When to stop, and how to run.
#[derive(Debug, Clone, Copy)]
pub struct Until {
    /// Each plan is run twice, and both runs must be the same.
    pub twice: bool,
    /// After so many seeds.
    pub seeds: u64,
    /// After so long.
    pub time: Duration,
    /// After so many failures.
    pub failures: usize,
}

/// Runs the plans of the seeds from `first` on, on so many threads; `told` now and then hears how far it is.
pub fn explore(first: u64, until: Until, threads: usize, told: impl Fn(&Tally) + Sync) -> Tally {
    let next = AtomicU64::new(first);
    let total = Mutex::new(Tally::default());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| work(&next, first, until, begun, &total, &told));
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Seeds that a thread runs before it reports.
const BATCH: u64 = 16;

fn work(
    next: &AtomicU64,
    first: u64,
    until: Until,
    begun: Instant,
    total: &Mutex<Tally>,
    told: &(impl Fn(&Tally) + Sync),
) {
    loop {
        let mut tally = Tally::default();
        let start = next.fetch_add(BATCH, Ordering::Relaxed);
        let end = start
            .saturating_add(BATCH)
            .min(first.saturating_add(until.seeds));
        for seed in start..end {
            if begun.elapsed() >= until.time {
                break;
            }
            tally.run_seed(seed, until.twice);
        }
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        total.add(tally);
        told(&total);
        let enough = total.failures.len() >= until.failures;
        if start >= end || enough || begun.elapsed() >= until.time {
            return;
        }
    }
}
