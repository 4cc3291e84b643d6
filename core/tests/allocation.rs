//! Row 13: no decoder allocates more than a small multiple of the bytes received, whatever length they declare.
//!
//! The counters cover the whole process, so this file contains a single test.

use std::alloc::System;

use bytes::Bytes;
use handover_core::Keypair;
use handover_core::code::ShareCode;
use handover_core::frame::{self, Decoder, LinkKeys};
use handover_core::limits::{Limits, MAX_SEALED_FRAME};
use handover_core::manifest::SignedManifest;
use handover_core::message::{self, HandshakeReply, HandshakeRequest, Message};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that any call may allocate regardless of its input: error texts, a decoder's scratch space, a table.
const CONSTANT: usize = 24 * 1024;
/// Maximum number of bytes allocated per byte received.
const MULTIPLE: usize = 64;

fn costs<T>(what: &str, received: usize, decode: impl FnOnce() -> T) {
    let region = Region::new(ALLOCATOR);
    let decoded = decode();
    let allocated = region.change().bytes_allocated;
    drop(decoded);
    let most = CONSTANT + MULTIPLE * received;
    assert!(
        allocated <= most,
        "{what}: {allocated} bytes allocated for {received} received"
    );
}

/// Returns CBOR that declares a list, map, text or byte string of enormous length, after the bytes in `before`.
fn promising(before: &[u8]) -> Vec<Vec<u8>> {
    let lengths: [&[u8]; 3] = [
        &[0x1a, 0xff, 0xff, 0xff, 0xff],
        &[0x1b, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x1b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    let kinds = [0x40, 0x60, 0x80, 0xa0];
    let promise = |kind: u8, length: &[u8]| {
        let mut bytes = before.to_vec();
        bytes.push(kind | length[0]);
        bytes.extend_from_slice(&length[1..]);
        bytes.extend_from_slice(&[0; 40]);
        bytes
    };
    let pairs = kinds
        .into_iter()
        .flat_map(|kind| lengths.map(|length| (kind, length)));
    pairs.map(|(kind, length)| promise(kind, length)).collect()
}

fn text(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x60 | u8::try_from(name.len()).expect("a short name")];
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// Returns the start of a map with one key, up to its value.
fn key(name: &str) -> Vec<u8> {
    [vec![0xa1], text(name)].concat()
}

#[test]
fn nothing_is_set_aside_for_what_is_only_promised() {
    // Creates lazily initialised tables first, so that they are not counted.
    let keys = Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a key");
    let peer = keys.public().to_peer_id();
    let limits = Limits::default();
    let _ = message::decode::<Message>(&[0xa0]);

    let places = [
        Vec::new(),
        key("hello"),
        [key("hello"), key("name")].concat(),
        [key("request"), key("segments")].concat(),
        [key("forget"), key("ids")].concat(),
        [key("data"), key("segments")].concat(),
        [key("data"), key("roots")].concat(),
        [key("data"), key("roots"), key("r")].concat(),
        [key("roots"), key("r")].concat(),
        [key("roots"), key("s")].concat(),
        key("noise"),
        key("m"),
        key("k"),
        key("e"),
        key("n"),
        key("t"),
    ];
    for bytes in places.iter().flat_map(|place| promising(place)) {
        costs("a message", bytes.len(), || {
            message::decode::<Message>(&bytes)
        });
        costs("a knock", bytes.len(), || {
            message::decode::<HandshakeRequest>(&bytes)
        });
        costs("a reply", bytes.len(), || {
            message::decode::<HandshakeReply>(&bytes)
        });
        let encoded = Bytes::from(bytes.clone());
        costs("a manifest", bytes.len(), || {
            SignedManifest::decode(encoded, &peer, &limits)
        });
    }
    for length in [1, 1000, MAX_SEALED_FRAME, MAX_SEALED_FRAME + 1, u32::MAX] {
        let prefix = length.to_be_bytes();
        costs("a frame's length", prefix.len(), || {
            let mut decoder = Decoder::new();
            decoder.set_limit(MAX_SEALED_FRAME);
            decoder.feed(&prefix);
            decoder.next().map(|_| decoder)
        });
    }
    // A header that declares a length beyond its frame.
    let link = LinkKeys::new([1; 32], [1; 32]);
    for promised in [0, 5, 0xffff, u32::MAX] {
        let mut body = promised.to_be_bytes().to_vec();
        let key = handover_core::aead::AeadKey::new([1; 32]);
        let tag = key.seal_in_place(0, &mut body).expect("the key is fresh");
        body.extend_from_slice(&tag);
        costs("a frame", body.len(), || {
            frame::open(&link.receive, 0, body.clone())
        });
    }
    costs("a code", 20_000, || ShareCode::parse(&"A".repeat(20_000)));
}
