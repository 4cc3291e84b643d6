//! The handover protocol, sans-IO.
//!
//! This crate defines shares, how two peers prove a key to each other, what a link carries, and what happens next. It
//! uses no sockets, files, clocks, threads or system randomness: their results come in as [`engine::Input`]s and
//! arguments, and requests for them go out as [`engine::Output`]s.
//!
//! - [`code`]: the codes that one person gives to another (tickets, legacy codes, short codes).
//! - [`path`], [`manifest`], [`merkle`]: what is shared, and how every byte of it is verified.
//! - [`secret`], [`pair`], [`pake`], [`handshake`], [`aead`], [`frame`]: how a link is keyed, and the frame format.
//! - [`message`]: the messages inside the frames.
//! - [`engine`]: the state machine that makes all decisions.
//! - [`dial_back`]: answers of nodes that were asked to dial back to this peer.
//! - [`network`]: the address ranges that one party may have to itself.
//! - [`limits`]: the bounds of everything that a peer can make grow.
//!
//! PROTOCOL.md beside this crate specifies the wire format, for a second implementation.

// Data from a peer must never cause a panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod aead;
pub mod bounded;
pub mod chunk;
pub mod code;
pub mod dial;
pub mod dial_back;
pub mod engine;
pub mod frame;
pub mod handshake;
pub mod limits;
pub mod manifest;
pub mod merkle;
pub mod message;
pub mod network;
pub mod pair;
pub mod pake;
pub mod path;
pub mod secret;
pub mod time;

pub use libp2p_identity::{Keypair, PeerId, PublicKey};
pub use multiaddr::Multiaddr;
