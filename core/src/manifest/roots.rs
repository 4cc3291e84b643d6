//! The roots of a share's files, signed as they become known.

use libp2p_identity::{Keypair, PeerId, PublicKey};
use serde::{Deserialize, Serialize};

use super::signed::sign;
use super::{ManifestError, ManifestId};
use crate::bounded::Bounded;
use crate::merkle::Hash;

/// Maximum number of roots in one [`SignedRoots`].
pub const MAX_ROOTS: usize = 256;
/// Prefix of the signed bytes, before the manifest's id and the roots.
const SIGNED: &[u8] = b"handover roots v1\0";

/// Merkle roots of some entries of one manifest, with the sharer's signature. Nothing is verified before
/// [`verify`](Self::verify).
///
/// The signature is Ed25519 over `SIGNED`, the manifest's id, and for each root the entry's index (4 bytes,
/// big-endian) and the root (32 bytes), in ascending order of the indexes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRoots {
    #[serde(rename = "r")]
    roots: Bounded<(u32, Hash), MAX_ROOTS>,
    #[serde(rename = "s", with = "serde_bytes")]
    signature: [u8; 64],
}

impl SignedRoots {
    /// Signs roots of our own, in any order.
    ///
    /// # Errors
    /// More than [`MAX_ROOTS`] roots, a duplicate entry, or a key that is not Ed25519.
    pub fn sign(
        manifest: &ManifestId,
        roots: &[(u32, Hash)],
        keys: &Keypair,
    ) -> Result<Self, ManifestError> {
        if roots.len() > MAX_ROOTS {
            return Err(ManifestError::TooManyRoots(roots.len()));
        }
        let mut roots = roots.to_vec();
        roots.sort_unstable_by_key(|(entry, _)| *entry);
        check_order(&roots)?;
        let signature = sign(keys, &[&signed_bytes(manifest, &roots)])?;
        let signature = signature.try_into().map_err(|_| ManifestError::KeyKind)?;
        Ok(Self {
            roots: roots.into(),
            signature,
        })
    }

    /// Returns the indexes of the entries, unverified.
    pub(crate) fn entries(&self) -> Vec<u32> {
        self.roots.iter().map(|(entry, _)| *entry).collect()
    }

    /// Returns the root of an entry, unverified.
    pub(crate) fn root(&self, entry: u32) -> Option<Hash> {
        let root = self.roots.iter().find(|(of, _)| *of == entry)?;
        Some(root.1)
    }

    /// Returns the roots with their entries' indexes, in ascending order, if `signer` signed them for this manifest. Does
    /// not check that the entries exist and are files.
    pub fn verify(
        &self,
        manifest: &ManifestId,
        signer: &PeerId,
    ) -> Result<Vec<(u32, Hash)>, ManifestError> {
        check_order(&self.roots)?;
        let key = ed25519_key(signer).ok_or(ManifestError::KeyKind)?;
        let bytes = signed_bytes(manifest, &self.roots);
        if key.verify(&bytes, &self.signature) {
            Ok(self.roots.to_vec())
        } else {
            Err(ManifestError::BadRootSignature)
        }
    }
}

fn check_order(roots: &[(u32, Hash)]) -> Result<(), ManifestError> {
    if roots.is_sorted_by(|(a, _), (b, _)| a < b) {
        Ok(())
    } else {
        Err(ManifestError::RootOrder)
    }
}

fn signed_bytes(manifest: &ManifestId, roots: &[(u32, Hash)]) -> Vec<u8> {
    let mut bytes = [SIGNED, manifest.as_bytes()].concat();
    for (entry, root) in roots {
        bytes.extend(entry.to_be_bytes());
        bytes.extend(root.0);
    }
    bytes
}

/// Returns the key inside a peer id. An Ed25519 key is short enough to be included as a whole, as an identity multihash
/// (libp2p's peer id specification): code 0, length, the key's protobuf.
fn ed25519_key(peer: &PeerId) -> Option<PublicKey> {
    let bytes = peer.to_bytes();
    let [0, _, key @ ..] = bytes.as_slice() else {
        return None;
    };
    let key = PublicKey::try_decode_protobuf(key).ok()?;
    // A key of another type or with a non-canonical encoding would give another id.
    (key.key_type() == libp2p_identity::KeyType::Ed25519 && key.to_peer_id() == *peer)
        .then_some(key)
}

#[cfg(test)]
mod tests {
    use super::super::{ManifestParts, SignedManifest};
    use super::*;
    use crate::limits::Limits;
    use crate::message;

    fn keys(seed: u8) -> Keypair {
        Keypair::ed25519_from_bytes([seed; 32]).unwrap()
    }

    fn signer() -> PeerId {
        keys(1).public().to_peer_id()
    }

    fn manifest(name: &str) -> ManifestId {
        let parts = ManifestParts {
            name: name.into(),
            ..ManifestParts::default()
        };
        let signed = SignedManifest::sign(parts, &keys(1), &Limits::default());
        signed.unwrap().id()
    }

    fn roots(count: u32) -> Vec<(u32, Hash)> {
        let hash = |entry: u32| Hash([u8::try_from(entry % 251).unwrap(); 32]);
        (0..count).map(|entry| (entry, hash(entry))).collect()
    }

    #[test]
    fn roots_are_read_back_in_the_order_of_their_entries() {
        let id = manifest("a");
        let mut shuffled = roots(5);
        shuffled.swap(0, 3);
        let signed = SignedRoots::sign(&id, &shuffled, &keys(1)).unwrap();
        let read: SignedRoots = message::decode(&message::encode(&signed)).unwrap();
        assert_eq!(read, signed);
        assert_eq!(read.verify(&id, &signer()), Ok(roots(5)));
        let none = SignedRoots::sign(&id, &[], &keys(1)).unwrap();
        assert_eq!(none.verify(&id, &signer()), Ok(vec![]));
    }

    /// Row 27.
    #[test]
    fn roots_of_another_signer_or_manifest_are_refused() {
        let (id, refused) = (manifest("a"), Err(ManifestError::BadRootSignature));
        let signed = SignedRoots::sign(&id, &roots(2), &keys(2)).unwrap();
        assert_eq!(signed.verify(&id, &signer()), refused);
        let signed = SignedRoots::sign(&manifest("b"), &roots(2), &keys(1)).unwrap();
        assert_eq!(signed.verify(&id, &signer()), refused);

        let mut changed = SignedRoots::sign(&id, &roots(2), &keys(1)).unwrap();
        changed.roots = vec![(0, Hash([9; 32])), (1, Hash([1; 32]))].into();
        assert_eq!(changed.verify(&id, &signer()), refused);
    }

    /// A SHA-256 peer id does not contain its key, so such peers cannot be sharers.
    #[test]
    fn a_signer_whose_id_does_not_hold_its_key_is_refused() {
        let signed = SignedRoots::sign(&manifest("a"), &[], &keys(1)).unwrap();
        for bytes in [[&[0x12, 32][..], &[7; 32]].concat(), vec![0, 2, 8, 1]] {
            let hidden = PeerId::from_bytes(&bytes).unwrap();
            let refused = signed.verify(&manifest("a"), &hidden);
            assert_eq!(refused, Err(ManifestError::KeyKind));
        }
    }

    /// Row 14.
    #[test]
    fn so_many_roots_at_the_most_each_once() {
        let id = manifest("a");
        let full = SignedRoots::sign(&id, &roots(256), &keys(1)).unwrap();
        assert_eq!(
            full.verify(&id, &signer()).map(|roots| roots.len()),
            Ok(256)
        );
        assert!(message::encode(&full).len() < 16 * 1024);
        let over = SignedRoots::sign(&id, &roots(257), &keys(1));
        assert_eq!(over, Err(ManifestError::TooManyRoots(257)));

        let twice = [(1, Hash([1; 32])), (1, Hash([2; 32]))];
        let refused = SignedRoots::sign(&id, &twice, &keys(1));
        assert_eq!(refused, Err(ManifestError::RootOrder));
        let mut signed = full;
        signed.roots = twice.to_vec().into();
        assert_eq!(signed.verify(&id, &signer()), Err(ManifestError::RootOrder));
    }
}
