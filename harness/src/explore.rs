//! Runs many plans, spread over the given number of threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::sim::{Class, Failure, Run, run};

/// Results of a number of runs.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Number of plans that ran to their end.
    pub scenarios: u64,
    /// Number of engine inputs and outputs.
    pub events: u64,
    /// Total simulated time.
    pub simulated: Duration,
    /// Total real time, summed over all threads.
    pub spent: Duration,
    /// Faults and invariants met.
    pub ledger: Ledger,
    /// Runs that violated an invariant: the seed and the failure.
    pub failures: Vec<(u64, Failure)>,
}

impl Tally {
    /// Runs a seed's plan, twice if `twice` is set, and adds the result.
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

/// Describes how two runs of one plan differ, if they do.
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
    /// Run each plan twice, and require identical results.
    pub twice: bool,
    /// Maximum number of seeds.
    pub seeds: u64,
    /// Maximum real time.
    pub time: Duration,
    /// Maximum number of failures.
    pub failures: usize,
}

/// Runs the plans of consecutive seeds from `first`, on this many threads. Reports progress to `told` from time to
/// time.
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

/// Number of seeds that a thread runs before it reports.
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
