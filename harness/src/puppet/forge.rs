//! Manifests that core refuses to make: names that lead elsewhere, signatures that are none.
//!
//! Encoded here by hand, after PROTOCOL.md, because core's own types can't hold them.

use bytes::Bytes;
use ciborium::Value;
use handover_core::Keypair;

/// What stands before the body of a manifest when it is signed.
const SIGNED: &[u8] = b"handover manifest v1\0";

/// Lists of paths, none of which may be shown to a user; a path with an arrow is a symlink.
pub const EVIL: &[&[&str]] = &[
    &[".."],
    &["../above"],
    &["a/../../above"],
    &["/etc/absolute"],
    &["C:/drive"],
    &["back\\slash"],
    &["nul\0"],
    &["a//b"],
    &["./here"],
    &["CON"],
    &["COM1.txt"],
    &["trailing."],
    &["same", "SAME"],
    &["file", "file/below"],
    &["out -> .."],
    &["out -> /etc"],
    &["in/out -> ../.."],
    &["link -> folder", "link/below"],
    &["a -> b/../../.."],
];

/// A manifest of files with these paths, 100 bytes each, signed as it should be.
pub(super) fn manifest_of(paths: &[&str], keys: &Keypair) -> Bytes {
    let time = map([("s", Value::from(1_700_000_000))]);
    let entries = paths.iter().map(|path| entry(path, &time)).collect();
    let body = map([
        ("n", Value::from("forged")),
        ("t", time.clone()),
        ("e", Value::Array(entries)),
    ]);
    let body = encode(&body);
    let signature = keys.sign(&[SIGNED, &body].concat());
    envelope(body, keys, signature.expect("Ed25519 signs"))
}

/// A manifest with a signature that is none.
pub(super) fn unsigned(paths: &[&str], keys: &Keypair) -> Bytes {
    let signed = manifest_of(paths, keys);
    let value: Value = ciborium::from_reader(&signed[..]).expect("it was just encoded");
    let body = value.as_map().and_then(|fields| fields[0].1.as_bytes());
    let body = body.expect("the body comes first").clone();
    envelope(body, keys, vec![7; 64])
}

fn entry(path: &str, time: &Value) -> Value {
    if let Some((path, target)) = path.split_once(" -> ") {
        let link = map([("l", map([("h", Value::from(target))]))]);
        return map([("p", Value::from(path)), ("k", link)]);
    }
    let file = map([
        ("s", Value::from(100)),
        ("m", Value::from(0o644)),
        ("t", time.clone()),
    ]);
    map([("p", Value::from(path)), ("k", map([("f", file)]))])
}

fn envelope(body: Vec<u8>, keys: &Keypair, signature: Vec<u8>) -> Bytes {
    let envelope = map([
        ("m", Value::Bytes(body)),
        ("k", Value::Bytes(keys.public().encode_protobuf())),
        ("s", Value::Bytes(signature)),
    ]);
    encode(&envelope).into()
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.map(|(name, value)| (Value::from(name), value));
    Value::Map(fields.into())
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("CBOR in memory");
    bytes
}

#[cfg(test)]
mod tests {
    use handover_core::limits::Limits;
    use handover_core::manifest::SignedManifest;

    use super::*;

    #[test]
    fn what_is_forged_is_refused_for_its_paths_or_its_signature_and_nothing_else() {
        let keys = Keypair::ed25519_from_bytes([1; 32]).expect("a key");
        let peer = keys.public().to_peer_id();
        let decode = |bytes| SignedManifest::decode(bytes, &peer, &Limits::default());
        decode(manifest_of(&["good", "link -> good"], &keys)).expect("a good one is taken");
        assert!(decode(unsigned(&["good"], &keys)).is_err());
        for paths in EVIL {
            assert!(decode(manifest_of(paths, &keys)).is_err(), "{paths:?}");
        }
    }
}
