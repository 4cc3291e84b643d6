//! `handover-core` as the simulator runs it.
//!
//! `build.rs` copies core's sources and changes two things in the copy, both listed in `mutants.rs`: leaves are small,
//! so that a scenario is thousands of events and not millions of bytes; and every mutant of the engine is there, asleep
//! until [`mutant::wake`] is called on the thread that runs it. Core itself knows nothing of either.

// The copy is core's; it is linted there.
#![allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, unused)]

pub mod mutant;

include!(concat!(env!("OUT_DIR"), "/core/lib.rs"));
