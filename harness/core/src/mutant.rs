//! Mutants: the engine with one deliberate mistake, to verify that the simulator detects it.

use std::cell::Cell;

include!("../mutants.rs");

thread_local! {
    static AWAKE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// True if the mutant with this index is active on this thread. Called by the copied sources.
pub fn is(index: usize) -> bool {
    AWAKE.get() == index
}

/// Activates a mutant on this thread until the returned guard is dropped. Returns `None` if there is none of that name.
pub fn wake(name: &str) -> Option<Awake> {
    let index = MUTANTS.iter().position(|mutant| mutant.name == name)?;
    AWAKE.set(index);
    Some(Awake(()))
}

/// Keeps a mutant active on this thread until dropped.
#[derive(Debug)]
#[must_use]
pub struct Awake(());

impl Drop for Awake {
    fn drop(&mut self) {
        AWAKE.set(usize::MAX);
    }
}
