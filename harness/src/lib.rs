//! The simulator: runs engines on a simulated network, simulated disks and a virtual clock, and checks invariants.
//!
//! A [`World`] holds hosts, each with an [`Engine`](handover_core::engine::Engine) and an in-memory [`Disk`], and
//! scripted peers, which speak the wire protocol and may violate it. Links between them are byte streams of
//! [`memory::Network`](handover_transports::memory::Network); frames are really sealed and opened. Time is virtual,
//! idle time is skipped, and all randomness comes from one seed: the same seed and the same calls give the same run,
//! which [`World::trace`] verifies.
//!
//! The world checks these invariants during the run, and panics at the first violation:
//!
//! - every file under its final name, and every byte written to a pipe, equals the model;
//! - `poll_output` finishes in a bounded number of steps, and its timeout is in the future;
//! - no key seals two frames with the same number, across all links, hosts and restarts;
//! - no honest host is blamed by another;
//! - every share and every download ends exactly once, and no event follows its end;
//! - the amount of data queued for a link, or for the disk, stays within the limits;
//! - a pipe is read in order, and never before the offset that the engine asked to keep.

#![allow(
    clippy::missing_panics_doc,
    reason = "a promise that is broken panics: that is what this crate is for"
)]

mod disk;
pub mod explore;
pub mod ledger;
mod limits;
mod network;
mod pace;
pub mod plan;
mod puppet;
pub mod report;
pub mod sim;
mod trace;
mod tree;
mod wire;
mod world;

pub use disk::{Disk, DiskProfile, JobKind, Leftover};
pub use handover_transports::memory::HostId;
pub use limits::small_limits;
pub use pace::{Pace, pace};
pub use puppet::{Attack, EVIL, Lie, PuppetLink, Say, Sharing, StandIn};
pub use tree::{Node, Tree, content};
pub use world::{Answer, Depends, DhtMood, Fetch, Nat, Offering, Relay, Route, World, relay_peer};
