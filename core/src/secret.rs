//! The secret of a share, the keys derived from it, and the share's public label.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{CryptoRng, SeedableRng};
use sha2::Sha256;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// The secret of a share: 32 bytes of full entropy. Anyone who has it may fetch the share.
///
/// It is wiped on drop, and `Debug` does not show it. Links carry only values derived from it by HKDF-SHA256 (RFC 5869,
/// no salt), one for each purpose. The one exception is the sealed `secret` message to a receiver with a short code.
#[derive(Clone, ZeroizeOnDrop)]
pub struct ShareSecret([u8; 32]);

impl ShareSecret {
    /// Creates the secret from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Draws a new secret.
    pub fn draw(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Self([0; 32]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// Returns the share tag, which identifies the share to peers that know its secret. No link carries the tag itself.
    pub fn tag(&self) -> [u8; 16] {
        let mut tag = [0; 16];
        self.derive(b"handover/1 share tag", &mut tag);
        tag
    }

    /// Returns the pre-shared key that both ends of a link prove to each other.
    pub fn psk(&self) -> Zeroizing<[u8; 32]> {
        let mut psk = Zeroizing::new([0; 32]);
        self.derive(b"handover/1 link psk", psk.as_mut());
        psk
    }

    /// Returns the share's rendezvous point in the DHT. Only peers that know the secret can compute it.
    pub fn meeting_point(&self) -> MeetingPoint {
        let mut point = [0; 32];
        self.derive(b"handover/1 meeting point", &mut point);
        MeetingPoint(point)
    }

    fn derive(&self, purpose: &[u8], key: &mut [u8]) {
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(purpose, key)
            .expect("HKDF-SHA256 gives up to 8160 bytes");
    }
}

/// A rendezvous point in the DHT: a key of 32 bytes. It reveals nothing to those who do not know what it stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeetingPoint(pub [u8; 32]);

impl fmt::Debug for MeetingPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, _) = self.0.split_at(4);
        write!(f, "MeetingPoint({}..)", HEXLOWER.encode(start))
    }
}

/// Compares in constant time.
impl PartialEq for ShareSecret {
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        pairs.fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }
}

impl Eq for ShareSecret {}

impl fmt::Debug for ShareSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShareSecret(..)")
    }
}

/// Characters of a label: no easily confused ones, and no `U`.
const ALPHABET: &[u8] = b"ABCDEFGHJKMNPQRSTVWXYZ23456789";
/// Number of characters in a label, and in each of its groups.
const LABEL: usize = 12;
const GROUP: usize = 4;

/// A share's public label, `GAZ3-VTDS-YQP7`, by which people tell shares apart. It opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareCodeLabel(String);

impl ShareCodeLabel {
    /// Draws a new label with 58 random bits.
    pub fn draw(rng: &mut impl CryptoRng) -> Self {
        let mut drawn = String::with_capacity(LABEL);
        while drawn.len() < LABEL {
            let mut byte = [0];
            rng.fill_bytes(&mut byte);
            // Of the 32 values of five bits, those beyond the alphabet are drawn again, to keep the distribution uniform.
            if let Some(letter) = ALPHABET.get(usize::from(byte[0] & 31)) {
                drawn.push(char::from(*letter));
            }
        }
        Self::grouped(&drawn)
    }

    /// Derives the label of the share with this secret: always the same, and useless for finding the secret.
    pub fn of(secret: &ShareSecret) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        secret.derive(b"handover/1 share label", seed.as_mut());
        Self::draw(&mut ChaCha20Rng::from_seed(*seed))
    }

    /// Parses a label. Case does not matter.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let letters: String = text.split('-').collect();
        let in_groups =
            text.split('-').count() == LABEL / GROUP && text.split('-').all(|g| g.len() == GROUP);
        let letters = letters.to_ascii_uppercase();
        if in_groups && letters.bytes().all(|letter| ALPHABET.contains(&letter)) {
            Ok(Self::grouped(&letters))
        } else {
            Err(LabelError)
        }
    }

    /// Returns the label in upper case, with hyphens between its groups.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn grouped(letters: &str) -> Self {
        let mut label = String::with_capacity(LABEL + LABEL / GROUP);
        for (at, letter) in letters.chars().enumerate() {
            if at > 0 && at % GROUP == 0 {
                label.push('-');
            }
            label.push(letter);
        }
        Self(label)
    }
}

impl fmt::Display for ShareCodeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ShareCodeLabel {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::parse(text)
    }
}

/// The text is not a [`ShareCodeLabel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a share's label is three groups of four letters and digits (no I, L, O, U, 0 or 1), such as GAZ3-VTDS-YQP7"
)]
pub struct LabelError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_purpose_has_its_own_key() {
        let secret = ShareSecret::from_bytes([7; 32]);
        let keys = [
            HEXLOWER.encode(&secret.tag()),
            HEXLOWER.encode(secret.psk().as_ref()),
            HEXLOWER.encode(&secret.meeting_point().0),
            ShareCodeLabel::of(&secret).to_string(),
        ];
        insta::assert_snapshot!(keys.join("\n"));
        assert_ne!(secret.tag(), ShareSecret::from_bytes([8; 32]).tag());
    }

    /// Row 25.
    #[test]
    fn a_secret_is_not_shown() {
        let secret = ShareSecret::from_bytes([0xab; 32]);
        assert_eq!(format!("{secret:?}"), "ShareSecret(..)");
    }

    #[test]
    fn secrets_are_equal_only_if_every_byte_is() {
        let mut bytes = [1; 32];
        let secret = ShareSecret::from_bytes(bytes);
        assert_eq!(secret, ShareSecret::from_bytes(bytes));
        bytes[31] = 2;
        assert_ne!(secret, ShareSecret::from_bytes(bytes));
    }

    #[test]
    fn what_is_drawn_depends_on_the_seed_alone() {
        let draw = |seed| {
            let mut rng = ChaCha20Rng::from_seed([seed; 32]);
            (ShareSecret::draw(&mut rng), ShareCodeLabel::draw(&mut rng))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1).0, draw(2).0);
        assert_ne!(draw(1).1, draw(2).1);
    }

    #[test]
    fn a_label_is_read_in_any_case_and_written_in_capitals() {
        let label = ShareCodeLabel::parse("gaz3-VTDS-yqp7").unwrap();
        assert_eq!(label.to_string(), "GAZ3-VTDS-YQP7");
        for bad in [
            "",
            "GAZ3VTDSYQP7",
            "GAZ3-VTDS",
            "GAZ3-VTDS-YQP7-AAAA",
            "GAZ3-VTD-SYQP7",
            "GAZ0-VTDS-YQP7",
            "GAZI-VTDS-YQP7",
            "GAé-VTDS-YQP7",
        ] {
            assert_eq!(ShareCodeLabel::parse(bad), Err(LabelError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_drawn_label_is_read_back(seed: [u8; 32]) {
            let label = ShareCodeLabel::draw(&mut ChaCha20Rng::from_seed(seed));
            prop_assert_eq!(ShareCodeLabel::parse(label.as_str()), Ok(label.clone()));
        }

        #[test]
        fn no_text_breaks_the_parser(text: String) {
            if let Ok(label) = ShareCodeLabel::parse(&text) {
                prop_assert_eq!(label.as_str(), text.to_ascii_uppercase());
            }
        }
    }
}
