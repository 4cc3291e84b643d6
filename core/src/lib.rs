//! The handover protocol, sans-IO.
//!
//! This crate knows what a share is, how two peers prove a key to each other, what goes over a link, and what to do
//! next. It does not know sockets, files, clocks, threads or the operating system's randomness: those come in as
//! [`engine::Input`]s and arguments, and what is wanted of them goes out as [`engine::Output`]s.
//!
//! - [`code`]: what one person reads out to the other (tickets, legacy codes).
//! - [`path`], [`manifest`], [`merkle`]: what is shared, and how every byte of it is checked.
//! - [`secret`], [`pair`], [`pake`], [`handshake`], [`aead`], [`frame`]: how a link is keyed and what a frame looks like.
//! - [`message`]: the messages inside the frames.
//! - [`engine`]: the state machine that decides everything.
//! - [`dial_back`]: what nodes say that were asked whether they get through to this peer.
//! - [`network`]: which addresses one party may have to itself.
//! - [`limits`]: the bound of everything that a peer can make grow.
//!
//! PROTOCOL.md beside this crate is the wire format, written for a second implementation.

// Peer data never panics.
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
