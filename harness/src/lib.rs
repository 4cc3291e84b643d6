//! Where engines run so that tests can watch them: a network, disks and a clock that are all simulated.
//!
//! A [`World`] holds hosts, each with an [`Engine`](handover_core::engine::Engine) and a [`Disk`] in memory, and puppets,
//! which know the wire and keep no promise. Links between them are byte streams of
//! [`memory::Network`](handover_transports::memory::Network); frames on them are really sealed and opened. Time is
//! virtual, idle time is skipped, and all randomness comes from one seed: the same seed and the same calls give the
//! same run, which [`World::trace`] proves.
//!
//! The world watches while it runs, and panics at the first broken promise:
//!
//! - a file under its final name, and a byte in a pipe, is the model's;
//! - `poll_output` ends in a bounded number of steps, and its timeout is in the future;
//! - no key seals two frames with one number, not over all links, hosts and restarts;
//! - no honest host blames another;
//! - each share and each download ends once, and nothing follows its end;
//! - what waits for a link, and what waits for the disk, stays inside the limits;
//! - a pipe is read in order, and nothing before what the engine said to keep.

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
