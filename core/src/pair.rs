//! Pairing: a secret that only two peers know, for later transfers without a code.
//!
//! Each peer contributes one half over a link that is already keyed. The two halves give the pair's secret, from which
//! the share secret of each direction is derived, so that no code has to be read aloud again.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::PeerId;
use crate::secret::ShareSecret;

/// The secret of two paired peers. It is wiped on drop, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct PairSecret([u8; 32]);

impl PairSecret {
    /// Creates the secret from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives the secret of two peers from the halves that they drew. The order of the arguments does not matter.
    pub fn join(one: (&PeerId, &[u8; 32]), other: (&PeerId, &[u8; 32])) -> Self {
        let mut sides = [one, other].map(|(peer, half)| (peer.to_bytes(), half));
        sides.sort_by(|one, other| one.0.cmp(&other.0));
        let [(first, first_half), (second, second_half)] = sides;
        let mut halves = Zeroizing::new([0; 64]);
        let (low, high) = halves.split_at_mut(32);
        low.copy_from_slice(first_half);
        high.copy_from_slice(second_half);
        let mut secret = Self([0; 32]);
        let purpose = [
            b"handover/1 pair",
            &with_len(&first)[..],
            &with_len(&second),
        ]
        .concat();
        derive(halves.as_ref(), &purpose, &mut secret.0);
        secret
    }

    /// Derives the secret of shares by `sharer`, one of the two, for the other.
    pub fn shared_by(&self, sharer: &PeerId) -> ShareSecret {
        let mut secret = Zeroizing::new([0; 32]);
        let purpose = [
            &b"handover/1 share for a known peer"[..],
            &with_len(&sharer.to_bytes()),
        ];
        derive(&self.0, &purpose.concat(), &mut secret);
        ShareSecret::from_bytes(*secret)
    }
}

impl fmt::Debug for PairSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairSecret(..)")
    }
}

/// Prefixes an id with its length, so that no two pairs of ids have the same encoding.
fn with_len(id: &[u8]) -> Vec<u8> {
    let len = u8::try_from(id.len()).expect("a peer id is 42 bytes at the most");
    [&[len], id].concat()
}

fn derive(from: &[u8], purpose: &[u8], key: &mut [u8; 32]) {
    Hkdf::<Sha256>::new(None, from)
        .expand(purpose, key)
        .expect("HKDF-SHA256 gives up to 8160 bytes");
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::Keypair;

    fn peer(seed: u8) -> PeerId {
        let keys = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        keys.public().to_peer_id()
    }

    #[test]
    fn both_sides_have_the_same_secret_and_each_direction_its_own() {
        let (alice, bob) = ((&peer(1), &[3; 32]), (&peer(2), &[4; 32]));
        let pair = PairSecret::join(alice, bob);
        assert_eq!(pair, PairSecret::join(bob, alice));
        let keys = [
            *pair.as_bytes(),
            *pair.shared_by(alice.0).as_bytes(),
            *pair.shared_by(bob.0).as_bytes(),
        ];
        insta::assert_snapshot!(keys.map(|key| HEXLOWER.encode(&key)).join("\n"));
    }

    #[test]
    fn other_halves_or_other_peers_make_another_secret() {
        let pair = |alice, one, bob, other| {
            PairSecret::join((&peer(alice), &[one; 32]), (&peer(bob), &[other; 32]))
        };
        let secret = pair(1, 3, 2, 4);
        for other in [pair(1, 4, 2, 3), pair(1, 3, 2, 5), pair(1, 3, 5, 4)] {
            assert_ne!(secret, other);
        }
    }

    /// Row 25.
    #[test]
    fn a_pairs_secret_is_not_shown() {
        let secret = PairSecret::from_bytes([0xab; 32]);
        assert_eq!(format!("{secret:?}"), "PairSecret(..)");
    }
}
