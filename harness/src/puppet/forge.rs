//! Manifests that core refuses to create: paths that lead out of the folder, invalid signatures.
//!
//! Encoded by hand, according to PROTOCOL.md, because core's own types can't represent them.

use bytes::Bytes;
use ciborium::Value;
use handover_core::Keypair;
use handover_core::manifest::ManifestId;
use sha2::{Digest, Sha256};

/// Prefix of a manifest's body for signing.
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

/// Prefix of a manifest's body for hashing.
const HASHED: &[u8] = b"handover manifest id v1\0";

/// A forged manifest in its encoded form, and its id.
#[derive(Debug, Clone)]
pub(super) struct Forged {
    pub(super) encoded: Bytes,
    pub(super) id: ManifestId,
}

/// A manifest of files with these paths, 100 bytes each, with a valid signature.
pub(super) fn manifest_of(paths: &[&str], keys: &Keypair) -> Forged {
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

/// A manifest with an invalid signature.
pub(super) fn unsigned(paths: &[&str], keys: &Keypair) -> Forged {
    let signed = manifest_of(paths, keys).encoded;
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

fn envelope(body: Vec<u8>, keys: &Keypair, signature: Vec<u8>) -> Forged {
    let hash = Sha256::new().chain_update(HASHED).chain_update(&body);
    let id = Value::Bytes(hash.finalize().to_vec());
    let envelope = map([
        ("m", Value::Bytes(body)),
        ("k", Value::Bytes(keys.public().encode_protobuf())),
        ("s", Value::Bytes(signature)),
    ]);
    Forged {
        encoded: encode(&envelope).into(),
        id: id.deserialized().expect("32 bytes are an id"),
    }
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
        let decode =
            |forged: Forged| SignedManifest::decode(forged.encoded, &peer, &Limits::default());
        let good = manifest_of(&["good", "link -> good"], &keys);
        let id = good.id;
        let taken = decode(good).expect("a good one is taken");
        assert_eq!(taken.id(), id);
        assert!(decode(unsigned(&["good"], &keys)).is_err());
        for paths in EVIL {
            assert!(decode(manifest_of(paths, &keys)).is_err(), "{paths:?}");
        }
    }
}
