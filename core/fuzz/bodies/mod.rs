//! The bodies of the fuzz targets. The ordinary tests run them on the committed corpus (`core/tests/corpus.rs`), so
//! that nothing found once can return unnoticed.

// Each target uses only one of these.
#![allow(dead_code, unused_imports, unreachable_pub)]

mod engine;

use bytes::{Bytes, BytesMut};
use handover_core::code::ShareCode;
use handover_core::frame::{self, Decoder, LinkKeys};
use handover_core::limits::{Limits, MAX_PLAIN_FRAME, MAX_SEALED_FRAME};
use handover_core::manifest::SignedManifest;
use handover_core::message::{self, HandshakeReply, HandshakeRequest, Message};
use handover_core::path::SafePath;
use handover_core::{Keypair, dial};

pub(crate) use engine::engine;

/// Parses codes, addresses and paths. A parsed code must survive encoding and parsing again.
pub(crate) fn codes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(code) = ShareCode::parse(text) {
        let again = ShareCode::parse(&code.encode()).expect("what was written can be read");
        assert_eq!(code.encode(), again.encode());
        let vetted = dial::vet(code.addresses().as_ref(), false, &Limits::default());
        assert!(vetted.dial.len() <= Limits::default().addresses);
    }
    if let Ok(path) = SafePath::parse(text) {
        assert!(
            path.components()
                .all(|part| !part.is_empty() && part != "." && part != "..")
        );
        let _ = (path.fold_key(), path.numbered(1), path.parent());
    }
}

/// Decodes manifests, with wrong and right signatures.
pub(crate) fn manifest(data: &[u8]) {
    let keys = keys(7);
    let peer = keys.public().to_peer_id();
    let limits = Limits {
        manifest_entries: 1000,
        ..Limits::default()
    };
    if let Ok(signed) = SignedManifest::decode(Bytes::copy_from_slice(data), &peer, &limits) {
        let manifest = signed.manifest();
        assert!(manifest.entries().len() <= 1000);
        let _ = manifest.summary();
    }
    // The input as the body, with a valid signature, so that the fuzzer gets past the check.
    if let Ok(signed) = SignedManifest::decode(sign_body(data, &keys), &peer, &limits) {
        let _ = signed.manifest().summary();
    }
}

/// Wraps a manifest's body in a signed envelope: see PROTOCOL.md.
fn sign_body(body: &[u8], keys: &Keypair) -> Bytes {
    let mut signed = b"handover manifest v1\0".to_vec();
    signed.extend_from_slice(body);
    let signature = keys.sign(&signed).expect("an Ed25519 key signs");
    let mut envelope = vec![0xa3];
    for (key, value) in [
        (b'm', body.to_vec()),
        (b'k', keys.public().encode_protobuf()),
        (b's', signature),
    ] {
        envelope.extend_from_slice(&[0x61, key, 0x5a]);
        envelope.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        envelope.extend_from_slice(&value);
    }
    envelope.into()
}

/// Decodes frames from a stream, unsealed and sealed, and the messages in them.
pub(crate) fn frames(data: &[u8]) {
    let _ = message::decode::<HandshakeRequest>(data);
    let _ = message::decode::<HandshakeReply>(data);
    if let Ok(message) = message::decode::<Message>(data) {
        let again = message::decode::<Message>(&message::encode(&message));
        assert_eq!(again.as_ref(), Ok(&message));
    }
    let keys = LinkKeys::new([1; 32], [1; 32]);
    for max in [MAX_PLAIN_FRAME, MAX_SEALED_FRAME] {
        let mut decoder = Decoder::new();
        decoder.set_limit(max);
        for piece in data.chunks(7) {
            decoder.feed(piece);
            while let Ok(Some(body)) = decoder.next() {
                let _ = frame::open(&keys.receive, 0, body);
            }
        }
    }
    // A validly sealed frame with `data` as its plaintext, so that the fuzzer gets past the seal.
    if let Ok(tag) = handover_core::aead::AeadKey::new([1; 32]).seal_in_place(0, &mut data.to_vec())
    {
        let mut sealed = data.to_vec();
        let _ = handover_core::aead::AeadKey::new([1; 32]).seal_in_place(0, &mut sealed);
        sealed.extend_from_slice(&tag);
        let _ = frame::open(&keys.receive, 0, BytesMut::from(&sealed[..]));
    }
}

fn keys(byte: u8) -> Keypair {
    Keypair::ed25519_from_bytes([byte; 32]).expect("32 bytes are a key")
}
