//! The simulator as part of every test run: regressions, the fuzzer's corpus, checks of the simulator itself, and a
//! range of seeds that is the same every time. `explore` uses fresh seeds.

#![allow(clippy::print_stdout, reason = "what it amounted to is to be seen")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use std::{fs, thread};

use handover_harness::explore::{Tally, Until, explore};
use handover_harness::ledger::Promise;
use handover_harness::plan::{Plan, file};
use handover_harness::sim::run;
use handover_harness::{report, sim::Class};
use libtest_mimic::{Arguments, Failed, Trial};

/// The first seed of the range, and the number of seeds: enough that every kind of fault takes effect and every
/// invariant is checked. The tests of mutants count from 0.
const FIRST: u64 = 1_000_000;
const SEEDS: u64 = 8_000;

fn main() {
    let mut arguments = Arguments::from_args();
    // The seeds use all cores anyway, and come last.
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("regressions_stay_mended", regressions),
        Trial::test("the_corpus_is_clean", corpus),
        Trial::test("the_canary_dies", canary),
        Trial::test("another_process_gives_the_same_run", another_process),
        Trial::test("a_range_of_seeds_keeps_every_promise", a_range_of_seeds),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn folder(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// Each plan is named after the bug it revealed.
fn regressions() -> Result<(), Failed> {
    for path in folder("regressions") {
        let plan = file::read(&path)?;
        if let Err(failure) = run(&plan) {
            return Err(format!("{}: {failure}", path.display()).into());
        }
    }
    Ok(())
}

/// Inputs that a fuzzer has found worth keeping.
fn corpus() -> Result<(), Failed> {
    let files = folder("corpus");
    let next = Mutex::new(files.iter());
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some(path) = next.lock().map_or(None, |mut next| next.next()) {
            let bytes = fs::read(path).expect("a file of the corpus");
            if let Err(failure) = run(&Plan::decode(&bytes)) {
                let words = format!("{}: {failure}", path.display());
                failed.lock().expect("no thread panics").push(words);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("no thread panics");
    println!("corpus: {} plans", files.len());
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}

/// A simulator that can't fail proves nothing: this disk publishes files before they are synced.
fn canary() -> Result<(), Failed> {
    for path in folder("canaries") {
        let Err(failure) = run(&file::read(&path)?) else {
            return Err(format!("{} lives", path.display()).into());
        };
        let rightly = failure.class == Class::Safety
            && matches!(failure.promise, Some(Promise::Verified | Promise::Kept));
        if !rightly {
            return Err(format!("{} dies of something else: {failure}", path.display()).into());
        }
    }
    Ok(())
}

fn another_process() -> Result<(), Failed> {
    for seed in [3_u64, 17, 99, 12_345, 999_999_999] {
        let here = run(&Plan::draw(seed)).map_err(|failure| failure.to_string())?;
        let there = Command::new(env!("CARGO_BIN_EXE_handover-harness"))
            .args(["replay", "--quiet", &seed.to_string()])
            .output()?;
        let there = String::from_utf8(there.stdout)?;
        if !there.contains(&format!("trace {:016x}", here.trace)) {
            return Err(format!("seed {seed}: {:016x} here, there {there}", here.trace).into());
        }
    }
    Ok(())
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn a_range_of_seeds() -> Result<(), Failed> {
    let until = Until {
        twice: true,
        seeds: SEEDS,
        time: Duration::MAX,
        failures: 3,
    };
    let tally = explore(FIRST, until, cores(), |_| {});
    println!("{SEEDS} seeds from {FIRST} on, each run twice");
    print!("{}", report::coverage(&tally.ledger));
    println!("{}", report::summary(&tally));
    judge(&tally)
}

fn judge(tally: &Tally) -> Result<(), Failed> {
    if let Some((seed, failure)) = tally.failures.first() {
        return Err(format!(
            "seed {seed}: {failure}\nto see it:  cargo run -p handover-harness -- replay {seed}\nto make it small:  cargo run -p handover-harness -- shrink {seed}"
        )
        .into());
    }
    if tally.scenarios != SEEDS {
        return Err(format!("{} of {SEEDS} plans were run", tally.scenarios).into());
    }
    let missed = report::never_met(&tally.ledger);
    if !missed.is_empty() {
        return Err(format!("never met: {}", missed.join(", ")).into());
    }
    Ok(())
}
