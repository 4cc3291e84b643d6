//! Real peers in containers behind emulated NATs, and what gets through.
//!
//! The [`nat`] module says what NATs there are and makes a gateway one of them; the [`probe`] finds out what a NAT is by
//! talking through it, so that none is believed before it was measured. The [`wire`] makes links slow, lossy and long.
//! [`results`] is what runs amount to, and [`report`] shows it.

pub mod nat;
pub mod probe;
pub mod report;
pub mod results;
pub mod wire;
