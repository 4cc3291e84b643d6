//! Runs real peers in containers behind emulated NATs and measures which pairs can connect.
//!
//! The [`nat`] module defines the kinds of NAT and turns a gateway into one of them. The [`probe`] measures a NAT by
//! sending traffic through it, and [`verify`] checks every NAT with it before use. A [`wire`] gives a link delay, loss
//! and a rate. A [`topology`] describes a network as data, the [`ground`] builds it from containers, and a [`transfer`]
//! sends a file between two of its hosts. The [`matrix`] runs transfers between all pairs of [`sites`], and [`play`]
//! runs one [`scenario`]. Peers bootstrap from handover's own nodes or from [`foreign`] ones. [`results`] holds what
//! runs measured, and [`report`] renders it.

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
