//! A manifest's encoding and signature.
//!
//! CBOR (RFC 8949): a map of `m`, a byte string with the encoded manifest ("the body"); `k`, the signer's Ed25519 public
//! key in libp2p's protobuf; and `s`, the signature over [`SIGNED`] and the body. The body is kept as bytes so that the
//! signature covers what was actually signed, including fields of later versions.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ciborium::de::{Error, from_reader_with_recursion_limit};
use data_encoding::HEXLOWER;
use libp2p_identity::{KeyType, Keypair, PeerId, PublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Manifest, ManifestError, ManifestParts};
use crate::limits::Limits;

/// Prefix of the body for signing. It separates this signature from those for other purposes.
const SIGNED: &[u8] = b"handover manifest v1\0";
/// Prefix of the body for hashing.
const HASHED: &[u8] = b"handover manifest id v1\0";
/// Maximum nesting depth of a manifest's CBOR. Ours nests 5 deep; fields of later versions may nest deeper.
const MAX_NESTING: usize = 16;
/// Maximum length of the decoder's message in an error, in characters. The message may quote the peer.
const MAX_WORDS: usize = 200;

/// The id of a manifest: SHA-256 over a fixed prefix and the encoded manifest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ManifestId(#[serde(with = "serde_bytes")] [u8; 32]);

impl ManifestId {
    /// Returns its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(body: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(HASHED).chain_update(body);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestId({self})")
    }
}

/// A validated manifest with its signature. Only [`sign`](Self::sign) and [`decode`](Self::decode) create one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    manifest: Arc<Manifest>,
    encoded: Bytes,
    id: ManifestId,
    signer: PeerId,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    #[serde(rename = "m", with = "serde_bytes")]
    body: Vec<u8>,
    #[serde(rename = "k", with = "serde_bytes")]
    key: Vec<u8>,
    #[serde(rename = "s", with = "serde_bytes")]
    signature: Vec<u8>,
}

impl SignedManifest {
    /// Validates, encodes and signs a manifest of our own. The same parts always give the same bytes.
    ///
    /// # Errors
    /// Anything that a receiver would refuse, and a key that is not Ed25519.
    pub fn sign(
        parts: ManifestParts,
        keys: &Keypair,
        limits: &Limits,
    ) -> Result<Self, ManifestError> {
        let manifest = Manifest::new(parts);
        manifest.validate(limits)?;
        let body = encode(&manifest);
        let id = ManifestId::of(&body);
        let signature = sign(keys, &[SIGNED, &body])?;
        let encoded = encode(&Envelope {
            body,
            key: keys.public().encode_protobuf(),
            signature,
        });
        check_length(encoded.len(), limits)?;
        Ok(Self {
            manifest: Arc::new(manifest),
            encoded: encoded.into(),
            id,
            signer: keys.public().to_peer_id(),
        })
    }

    /// Decodes what [`sign`](Self::sign) made, if `expected_signer` signed it.
    ///
    /// The signature is verified before any of the manifest is decoded. All rules for manifests are checked.
    pub fn decode(
        encoded: Bytes,
        expected_signer: &PeerId,
        limits: &Limits,
    ) -> Result<Self, ManifestError> {
        check_length(encoded.len(), limits)?;
        let envelope: Envelope = decode(&encoded)?;
        let key =
            PublicKey::try_decode_protobuf(&envelope.key).map_err(|_| ManifestError::KeyKind)?;
        if key.key_type() != KeyType::Ed25519 {
            return Err(ManifestError::KeyKind);
        }
        if key.to_peer_id() != *expected_signer {
            return Err(ManifestError::OtherSigner);
        }
        if !key.verify(&[SIGNED, &envelope.body].concat(), &envelope.signature) {
            return Err(ManifestError::BadSignature);
        }
        let manifest = Manifest::new(decode(&envelope.body)?);
        manifest.validate(limits)?;
        Ok(Self {
            manifest: Arc::new(manifest),
            encoded,
            id: ManifestId::of(&envelope.body),
            signer: *expected_signer,
        })
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Returns the encoding that links carry: the manifest, its signer's key and the signature.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Returns the id of this manifest.
    pub fn id(&self) -> ManifestId {
        self.id
    }

    /// Returns the signer: the sharer.
    pub fn signer(&self) -> PeerId {
        self.signer
    }
}

/// Signs the concatenation of `bytes` with an Ed25519 key.
pub(super) fn sign(keys: &Keypair, bytes: &[&[u8]]) -> Result<Vec<u8>, ManifestError> {
    if keys.key_type() != KeyType::Ed25519 {
        return Err(ManifestError::KeyKind);
    }
    keys.sign(&bytes.concat())
        .map_err(|_| ManifestError::KeyKind)
}

fn check_length(bytes: usize, limits: &Limits) -> Result<(), ManifestError> {
    let bytes = bytes as u64;
    if bytes > limits.manifest_bytes {
        return Err(ManifestError::TooLarge {
            bytes,
            max: limits.manifest_bytes,
        });
    }
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("writing CBOR to memory does not fail");
    bytes.shrink_to_fit();
    bytes
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, ManifestError> {
    let mut rest = bytes;
    let value = from_reader_with_recursion_limit(&mut rest, MAX_NESTING).map_err(|error| {
        let words = match error {
            Error::Semantic(_, words) => words,
            Error::Io(_) => "it ends too early".to_owned(),
            Error::Syntax(_) => "it is no CBOR".to_owned(),
            Error::RecursionLimitExceeded => "it nests too deep".to_owned(),
        };
        ManifestError::Malformed(words.escape_debug().take(MAX_WORDS).collect())
    })?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(ManifestError::Malformed(format!(
            "{} bytes behind it",
            rest.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use ciborium::Value;
    use proptest::prelude::*;

    use super::super::{Entry, EntryKind, MAX_ENTRIES};
    use super::*;
    use crate::path::SafePath;
    use crate::time::Timestamp;

    fn keys(seed: u8) -> Keypair {
        Keypair::ed25519_from_bytes([seed; 32]).unwrap()
    }

    fn signer() -> PeerId {
        keys(1).public().to_peer_id()
    }

    fn parts() -> ManifestParts {
        let modified = Timestamp {
            seconds: -1,
            nanos: 5,
        };
        let entry = |path: &str, kind| Entry {
            path: SafePath::parse(path).unwrap(),
            kind,
        };
        let file = |size, mode| EntryKind::File {
            size,
            mode,
            modified,
        };
        let target = "../run.sh".into();
        let folder = EntryKind::Folder {
            mode: 0o755,
            modified: Timestamp::default(),
        };
        ManifestParts {
            name: "Holiday".into(),
            description: String::new(),
            author: "Zoë".into(),
            created: Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            },
            entries: vec![
                entry("run.sh", file(1 << 40, 0o755)),
                entry("sub/a.txt", file(3, 0o644)),
                entry("sub/link", EntryKind::Symlink { target }),
                entry("empty", folder),
            ],
        }
    }

    fn signed() -> SignedManifest {
        SignedManifest::sign(parts(), &keys(1), &Limits::default()).unwrap()
    }

    fn read(encoded: impl Into<Bytes>) -> Result<SignedManifest, ManifestError> {
        SignedManifest::decode(encoded.into(), &signer(), &Limits::default())
    }

    /// Signs a body that `sign` would not produce.
    fn forge(body: Vec<u8>) -> Vec<u8> {
        let signature = sign(&keys(1), &[SIGNED, &body]).unwrap();
        let key = keys(1).public().encode_protobuf();
        encode(&Envelope {
            body,
            key,
            signature,
        })
    }

    /// Returns the body as CBOR, for tests to change.
    fn body() -> Vec<(Value, Value)> {
        let envelope: Envelope = decode(&signed().encoded).unwrap();
        let value: Value = decode(&envelope.body).unwrap();
        value.into_map().unwrap()
    }

    fn read_body(body: Vec<(Value, Value)>) -> Result<SignedManifest, ManifestError> {
        read(forge(encode(&Value::Map(body))))
    }

    #[test]
    fn a_manifest_is_written_so() {
        let signed = signed();
        let lines = [HEXLOWER.encode(&signed.encoded), signed.id.to_string()];
        insta::assert_snapshot!(lines.join("\n"));
        insta::assert_debug_snapshot!(signed.manifest.summary());
    }

    #[test]
    fn a_manifest_is_read_back() {
        assert_eq!(read(signed().encoded.clone()), Ok(signed()));
        let mut stream = parts();
        stream.entries.truncate(1);
        stream.entries[0].kind = EntryKind::Stream;
        let stream = SignedManifest::sign(stream, &keys(1), &Limits::default()).unwrap();
        assert_eq!(read(stream.encoded.clone()), Ok(stream.clone()));
        assert_ne!(stream.id, signed().id);
    }

    #[test]
    fn fields_of_later_versions_are_ignored() {
        let mut later = body();
        let nested = Value::Array(vec![Value::Bool(true), Value::Bytes(vec![1; 5000])]);
        later.push((Value::from("later"), nested));
        let read = read_body(later).unwrap();
        assert_eq!(read.manifest, signed().manifest);
        assert_ne!(read.id, signed().id);
    }

    /// Row 27.
    #[test]
    fn a_manifest_that_another_key_signed_is_refused() {
        let other = SignedManifest::sign(parts(), &keys(2), &Limits::default()).unwrap();
        let refused = read(other.encoded.clone());
        assert_eq!(refused, Err(ManifestError::OtherSigner));

        // Another peer's signature with the sharer's key.
        let mut envelope: Envelope = decode(&other.encoded).unwrap();
        envelope.key = keys(1).public().encode_protobuf();
        let refused = read(encode(&envelope));
        assert_eq!(refused, Err(ManifestError::BadSignature));

        // The sharer's own signature over other bytes, such as roots.
        let mut envelope: Envelope = decode(&signed().encoded).unwrap();
        envelope.signature = keys(1).sign(&envelope.body).unwrap();
        let refused = read(encode(&envelope));
        assert_eq!(refused, Err(ManifestError::BadSignature));

        envelope.key = vec![8, 0, 18, 1, 0];
        assert_eq!(read(encode(&envelope)), Err(ManifestError::KeyKind));
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let good = signed().encoded.to_vec();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(read(bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn cut_off_or_followed_by_more_it_is_refused() {
        let good = signed().encoded.clone();
        for end in 0..good.len() {
            let cut = read(good.slice(..end));
            assert!(matches!(cut, Err(ManifestError::Malformed(_))), "{end}");
        }
        let longer = [&good[..], &[0]].concat();
        let refused = Err(ManifestError::Malformed("1 bytes behind it".into()));
        assert_eq!(read(longer), refused);
    }

    /// Row 1: a decoded manifest is validated like one that is signed here.
    #[test]
    fn a_signature_does_not_make_a_bad_path_good() {
        for path in ["../x", "/etc/passwd", "C:x", "con", ".handover-1/0"] {
            let entry = vec![
                (Value::from("p"), Value::from(path)),
                (Value::from("k"), Value::from("z")),
            ];
            let mut bad = body();
            bad.retain(|(key, _)| *key != Value::from("e"));
            bad.push((Value::from("e"), Value::Array(vec![Value::Map(entry)])));
            let why = SafePath::parse(path).unwrap_err().to_string();
            assert_eq!(read_body(bad), Err(ManifestError::Malformed(why)));
        }
    }

    /// Rows 13 and 14: a large declared length allocates nothing, and a list that is too long fails at the bound.
    #[test]
    fn a_claimed_length_is_not_believed() {
        // {"n": "", "t": {"s": 0}, "e": [2^32 entries declared, none present.
        let claim = b"\xa3\x61n\x60\x61t\xa1\x61s\x00\x61e\x9b\x00\x00\x00\x01\x00\x00\x00\x00";
        let refused = read(forge(claim.to_vec()));
        assert!(matches!(refused, Err(ManifestError::Malformed(_))));

        let mut many = b"\xa3\x61n\x60\x61t\xa1\x61s\x00\x61e\x9a".to_vec();
        let count = u32::try_from(MAX_ENTRIES + 1).unwrap();
        many.extend(count.to_be_bytes());
        for _ in 0..count {
            many.extend(b"\xa2\x61p\x61a\x61k\x61z");
        }
        let Err(ManifestError::Malformed(words)) = read(forge(many)) else {
            panic!("too many entries were taken");
        };
        assert!(words.contains("more than 500000 elements"), "{words}");
    }

    /// Row 14.
    #[test]
    fn an_encoding_is_so_long_at_the_most() {
        let good = signed().encoded.clone();
        let limits = |manifest_bytes| Limits {
            manifest_bytes,
            ..Limits::default()
        };
        let (fits, over) = (limits(good.len() as u64), limits(good.len() as u64 - 1));
        assert!(SignedManifest::decode(good.clone(), &signer(), &fits).is_ok());
        assert!(SignedManifest::sign(parts(), &keys(1), &fits).is_ok());
        let refused = [
            SignedManifest::decode(good, &signer(), &over),
            SignedManifest::sign(parts(), &keys(1), &over),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(ManifestError::TooLarge { .. })));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(bytes: Vec<u8>, at: usize, byte: u8) {
            prop_assert!(read(bytes.clone()).is_err());
            let _ = read(forge(bytes));
            let envelope: Envelope = decode(&signed().encoded).unwrap();
            let mut body = envelope.body;
            let at = at % body.len();
            body[at] = byte;
            if let Ok(read) = read(forge(body)) {
                let again = SignedManifest::decode(read.encoded.clone(), &signer(), &Limits::default());
                prop_assert_eq!(again, Ok(read));
            }
        }

        #[test]
        fn every_manifest_is_read_back(
            name in ".{0,20}",
            seconds: i64,
            files in prop::collection::vec((any::<u32>(), 0u32..=0o777, 0u32..1_000_000_000), 0..20),
        ) {
            let entries = files.iter().enumerate().map(|(index, (size, mode, nanos))| Entry {
                path: SafePath::parse(&format!("f{index}")).unwrap(),
                kind: EntryKind::File {
                    size: u64::from(*size),
                    mode: *mode,
                    modified: Timestamp { seconds, nanos: *nanos },
                },
            });
            let parts = ManifestParts { name, entries: entries.collect(), ..ManifestParts::default() };
            let signed = SignedManifest::sign(parts.clone(), &keys(1), &Limits::default()).unwrap();
            prop_assert_eq!(&signed.manifest.entries, &parts.entries);
            prop_assert_eq!(read(signed.encoded.clone()), Ok(signed));
        }
    }
}
