//! Real peers in containers behind emulated NATs, and what gets through.
//!
//! The [`nat`] module says what NATs there are and makes a gateway one of them; the [`probe`] finds out what a NAT is by
//! talking through it, so that none is believed before it was measured ([`verify`]). The [`wire`] makes links slow, lossy
//! and long. A [`topology`] is a network as data, the [`ground`] builds it of containers, and a [`transfer`] hands a file
//! from one of its hosts to another. The [`matrix`] does that for all pairs of [`sites`], and [`play`] for one
//! [`scenario`]. The nodes that peers begin with are handover's own, or [`foreign`] ones. [`results`] is what runs amount to, and [`report`] shows it.

pub mod attend;
pub mod foreign;
pub mod ground;
pub mod matrix;
pub mod nat;
pub mod play;
pub mod probe;
pub mod report;
pub mod results;
pub mod scenario;
pub mod sites;
pub mod topology;
pub mod transfer;
pub mod verify;
pub mod wire;
