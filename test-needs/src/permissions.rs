//! Running as root without the capabilities that override file permissions.

use std::thread;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// The capabilities that let root bypass file permissions.
const ABOVE_PERMISSIONS: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER);

/// Runs `work` subject to file permissions, even as root.
///
/// # Panics
///
/// If the kernel does not let a thread give up capabilities, or the work panics.
pub fn obeying_permissions<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        // They belong to this thread only.
        let mut sets = capabilities(None).expect("a thread may see what it may do");
        sets.effective.remove(ABOVE_PERMISSIONS);
        set_capabilities(None, sets).expect("a thread may give up what it may do");
        work()
    };
    thread::scope(|scope| scope.spawn(work).join()).expect("no panic")
}
