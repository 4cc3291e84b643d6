//! Mutants: the engine with one deliberate mistake, to see that the simulator notices.

use std::cell::Cell;

include!("../mutants.rs");

thread_local! {
    static AWAKE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Whether the mutant with this index is awake on this thread. The copied sources ask.
pub fn is(index: usize) -> bool {
    AWAKE.get() == index
}

/// Wakes a mutant on this thread, until the returned guard is dropped. `None` if there is none of that name.
pub fn wake(name: &str) -> Option<Awake> {
    let index = MUTANTS.iter().position(|mutant| mutant.name == name)?;
    AWAKE.set(index);
    Some(Awake(()))
}

/// A mutant is awake on this thread for as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct Awake(());

impl Drop for Awake {
    fn drop(&mut self) {
        AWAKE.set(usize::MAX);
    }
}
