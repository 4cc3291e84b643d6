//! Every mutant of the engine is detected by one of the regression plans, or within its number of seeds.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use handover_core::mutant::{self, MUTANTS, Mutant};
use handover_harness::plan::{Plan, file};
use handover_harness::sim::run;

/// Plans that once revealed a mistake, and reveal the same one again.
fn regressions() -> Vec<Plan> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let entries = fs::read_dir(folder).expect("a folder of plans");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let plans = paths.iter().map(|path| file::read(path).expect("a plan"));
    plans.collect()
}

fn is_noticed(mutant: &Mutant, plans: &[Plan]) -> bool {
    let _awake = mutant::wake(mutant.name).expect("it is in the list");
    let mut drawn = (0..mutant.within).map(Plan::draw);
    plans.iter().any(|plan| run(plan).is_err()) || drawn.any(|plan| run(&plan).is_err())
}

#[test]
fn every_mutant_is_noticed() {
    assert!(MUTANTS.len() >= 15);
    let plans = regressions();
    let next = Mutex::new(MUTANTS.iter());
    let survivors = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(mutant) = next.lock().map_or(None, |mut next| next.next()) {
                    if !is_noticed(mutant, &plans) {
                        survivors
                            .lock()
                            .expect("no thread panics")
                            .push(mutant.name);
                    }
                }
            });
        }
    });
    assert_eq!(
        survivors.into_inner().expect("no thread panics"),
        [] as [&str; 0]
    );
}

#[test]
fn without_a_mutant_the_same_seeds_are_clean() {
    let failed: Vec<_> = (0..600)
        .filter_map(|seed| Some((seed, run(&Plan::draw(seed)).err()?)))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_mutant_sleeps_again_when_its_guard_goes() {
    let awake = mutant::wake("numbers-twice").expect("it is in the list");
    assert!(run(&Plan::draw(0)).is_err());
    drop(awake);
    assert!(run(&Plan::draw(0)).is_ok());
    assert!(mutant::wake("no such mutant").is_none());
}
