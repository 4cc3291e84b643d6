//! `handover-core` as used by the simulator.
//!
//! `build.rs` copies core's sources and makes two changes to the copy, both listed in `mutants.rs`: leaves are small,
//! so that a scenario consists of thousands of events rather than millions of bytes; and the copy contains every mutant
//! of the engine, inactive until [`mutant::wake`] is called on the thread that runs it. Core itself knows nothing of
//! either.

// The copied sources are linted in core itself.
#![allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, unused)]

pub mod mutant;

include!(concat!(env!("OUT_DIR"), "/core/lib.rs"));
