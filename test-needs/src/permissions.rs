//! Root without what sets root apart on a disk.

use std::thread;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// What lets root open what permissions keep it out of.
const ABOVE_PERMISSIONS: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER);

/// Does this as who is held back by a folder's permissions, be it root.
///
/// # Panics
///
/// If the kernel does not let a thread give up capabilities, or the work panics.
pub fn obeying_permissions<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        // They are this thread's own.
        let mut sets = capabilities(None).expect("a thread may see what it may do");
        sets.effective.remove(ABOVE_PERMISSIONS);
        set_capabilities(None, sets).expect("a thread may give up what it may do");
        work()
    };
    thread::scope(|scope| scope.spawn(work).join()).expect("no panic")
}
