//! The PAKE that turns the words of a short code into a key for the handshake: SPAKE2 (RFC 9382) over Ed25519, with the
//! spake2 crate, which follows an earlier draft.
//!
//! A link with a short code begins with three messages, the third of which is the first of the handshake:
//!
//! ```text
//! receiver: the code's number, and a point      sharer: another point
//! receiver: the handshake's first message, keyed by both points and the words
//! ```
//!
//! A point reveals nothing about the words. A receiver with other words than the sharer gets another key, and the sharer
//! cannot open its handshake message. So each guess takes an exchange with the sharer, which learns that the guess was
//! wrong before it has sent anything to check a guess against. Both peer ids, as authenticated by the transport, are
//! inputs, so an attacker that forwards messages between two peers gains nothing.
//!
//! The number of guesses is limited by [`crate::engine`].

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::Sha256;
use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

use crate::PeerId;
use crate::code::ShortCode;

/// Length of a point with its side byte, in bytes.
pub const POINT: usize = 33;

/// The received bytes are not a point of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side did not say what belongs to a short code")]
pub struct PakeError;

/// The key, which is the same at both ends if they have the same words.
pub type PakeKey = Zeroizing<[u8; 32]>;

/// One side's state after sending its point and before receiving the other's.
pub struct Pake(Spake2<Ed25519Group>);

impl fmt::Debug for Pake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pake(..)")
    }
}

impl Pake {
    /// Starts the receiver's side; also returns its point. `seed` is fresh randomness that is used only here.
    pub fn receiver(
        code: &ShortCode,
        receiver: &PeerId,
        sharer: &PeerId,
        seed: [u8; 32],
    ) -> (Self, Vec<u8>) {
        let (password, a, b) = inputs(code, receiver, sharer);
        let (state, point) = Spake2::start_a_with_rng(&password, &a, &b, Seeded::new(seed));
        (Self(state), point)
    }

    /// Starts the sharer's side; also returns its point. `seed` is fresh randomness that is used only here.
    pub fn sharer(
        code: &ShortCode,
        receiver: &PeerId,
        sharer: &PeerId,
        seed: [u8; 32],
    ) -> (Self, Vec<u8>) {
        let (password, a, b) = inputs(code, receiver, sharer);
        let (state, point) = Spake2::start_b_with_rng(&password, &a, &b, Seeded::new(seed));
        (Self(state), point)
    }

    /// Derives the key from the other side's point.
    pub fn finish(self, point: &[u8]) -> Result<PakeKey, PakeError> {
        if point.len() != POINT {
            return Err(PakeError);
        }
        let shared = Zeroizing::new(self.0.finish(point).map_err(|_| PakeError)?);
        let mut key = PakeKey::default();
        hkdf::Hkdf::<Sha256>::new(None, &shared)
            .expand(b"handover/1 short code", key.as_mut())
            .map_err(|_| PakeError)?;
        Ok(key)
    }
}

/// Returns the password and both identities. The receiver's includes the code's number.
fn inputs(code: &ShortCode, receiver: &PeerId, sharer: &PeerId) -> (Password, Identity, Identity) {
    let receiver = [&code.number().to_be_bytes()[..], &receiver.to_bytes()].concat();
    (
        Password::new(code.password().as_bytes()),
        Identity::new(&receiver),
        Identity::new(&sharer.to_bytes()),
    )
}

/// Seeded randomness with the traits that the spake2 crate needs.
struct Seeded(ChaCha20Rng);

impl Seeded {
    fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(*Zeroizing::new(seed)))
    }
}

impl rand_core_06::CryptoRng for Seeded {}

impl rand_core_06::RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::code::ShareCode;

    fn code(text: &str) -> ShortCode {
        match ShareCode::parse(text) {
            Ok(ShareCode::Short(code)) => code,
            other => panic!("{other:?}"),
        }
    }

    fn peer(mark: u8) -> PeerId {
        let keys = crate::Keypair::ed25519_from_bytes([mark; 32]).unwrap();
        keys.public().to_peer_id()
    }

    /// The keys of a receiver and a sharer, for each its code and the marks of both peers as it sees them.
    fn keys(
        (theirs, at_receiver): (&str, [u8; 2]),
        (ours, at_sharer): (&str, [u8; 2]),
    ) -> (PakeKey, PakeKey) {
        let ids = |marks: [u8; 2]| marks.map(peer);
        let ([a, b], [c, d]) = (ids(at_receiver), ids(at_sharer));
        let (receiver, there) = Pake::receiver(&code(theirs), &a, &b, [1; 32]);
        let (sharer, here) = Pake::sharer(&code(ours), &c, &d, [2; 32]);
        assert_eq!((there.len(), here.len()), (POINT, POINT));
        (
            receiver.finish(&here).unwrap(),
            sharer.finish(&there).unwrap(),
        )
    }

    const CODE: &str = "4827193-amber-otter";

    #[test]
    fn the_same_words_make_the_same_key() {
        let (receiver, sharer) = keys((CODE, [1, 2]), (CODE, [1, 2]));
        assert_eq!(receiver, sharer);
    }

    #[test]
    fn other_words_numbers_or_peers_make_another() {
        for other in [
            "4827193-amber-acorn",
            "4827194-amber-otter",
            "4827193-otter-amber",
        ] {
            let (receiver, sharer) = keys((other, [1, 2]), (CODE, [1, 2]));
            assert_ne!(receiver, sharer, "{other}");
        }
        // An attacker in the middle, to whom both talk.
        let (receiver, sharer) = keys((CODE, [1, 3]), (CODE, [3, 2]));
        assert_ne!(receiver, sharer);
    }

    #[test]
    fn what_is_no_point_is_an_error() {
        let start = || Pake::receiver(&code(CODE), &peer(1), &peer(2), [1; 32]);
        for bad in [
            &[][..],
            &[0; POINT],
            &[0x42; POINT],
            &[0x42; POINT + 1],
            &[0xff; 32],
        ] {
            assert!(
                start().0.finish(bad).is_err() || bad.len() == POINT,
                "{bad:?}"
            );
        }
        // Its own point, reflected.
        let (state, own) = start();
        assert!(state.finish(&own).is_err());
    }
}
