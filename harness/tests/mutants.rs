//! Every mutant of the engine is noticed within its number of seeds.

use std::sync::Mutex;
use std::thread;

use handover_core::mutant::{self, MUTANTS, Mutant};
use handover_harness::plan::Plan;
use handover_harness::sim::run;

/// The first seed that notices.
fn hunt(mutant: &Mutant) -> Option<u64> {
    let _awake = mutant::wake(mutant.name).expect("it is in the list");
    (0..mutant.within).find(|seed| run(&Plan::draw(*seed)).is_err())
}

#[test]
fn every_mutant_is_noticed() {
    assert!(MUTANTS.len() >= 15);
    let next = Mutex::new(MUTANTS.iter());
    let survivors = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(mutant) = next.lock().map_or(None, |mut next| next.next()) {
                    if hunt(mutant).is_none() {
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
