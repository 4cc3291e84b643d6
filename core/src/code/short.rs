//! Short codes, to be read aloud: `4827193-amber-otter`.
//!
//! The number is public: it tells a peer which share a code is meant for, and determines the rendezvous point. The
//! words are secret, nine bits each: two, or up to four if the sharer wants more. They are used only as the password of
//! a PAKE ([`crate::pake`]), so each guess needs an exchange with the sharer, which counts the guesses. Nothing else that
//! leaves this machine may be derived from the words.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use rand_chacha::rand_core::CryptoRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::words::PLACES;
use super::{CodeError, words};
use crate::secret::MeetingPoint;

/// Number of words in a code: the usual number, which is the minimum, and the maximum.
const WORDS: std::ops::RangeInclusive<usize> = 2..=MAX_WORDS;
const MAX_WORDS: usize = PLACES.len();
/// Marks an unused element of `words` in [`ShortCode`].
const NONE: u16 = u16::MAX;

/// Smallest and largest number of a code.
const NUMBERS: std::ops::RangeInclusive<u32> = 1_000_000..=9_999_999;

/// A short code.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct ShortCode {
    #[zeroize(skip)]
    number: u32,
    /// Numbers of the words, padded with [`NONE`].
    words: [u16; MAX_WORDS],
}

impl ShortCode {
    /// Draws a new code with `words` words, clamped to two to four.
    pub fn draw(rng: &mut impl CryptoRng, words: usize) -> Self {
        let number = NUMBERS.start() + below(rng, 9_000_000);
        let count = words.clamp(*WORDS.start(), *WORDS.end());
        let mut words = [NONE; MAX_WORDS];
        for word in words.iter_mut().take(count) {
            *word = u16::try_from(below(rng, 512)).unwrap_or_default();
        }
        Self { number, words }
    }

    /// Draws a code with this number and new words.
    #[must_use]
    pub fn with_new_words(&self, rng: &mut impl CryptoRng) -> Self {
        let mut other = Self::draw(rng, self.drawn().count());
        other.number = self.number;
        other
    }

    /// Parses a code with nothing around it. Case does not matter.
    pub(super) fn parse(code: &str) -> Result<Self, CodeError> {
        let mut parts = code.split('-');
        let number = parts.next().unwrap_or_default();
        let number = number
            .parse()
            .ok()
            .filter(|number| NUMBERS.contains(number));
        let number = number.ok_or(CodeError::ShortNumber)?;
        let parts: Vec<&str> = parts.take(WORDS.end() + 1).collect();
        if !WORDS.contains(&parts.len()) {
            return Err(CodeError::ShortParts);
        }
        let mut words = [NONE; MAX_WORDS];
        for ((part, place), word) in parts.iter().zip(PLACES).zip(&mut words) {
            *word = words::number(part).ok_or(CodeError::ShortWord(place))?;
        }
        Ok(Self { number, words })
    }

    /// Returns the code as text.
    pub fn encode(&self) -> String {
        format!("{}-{}", self.number, self.password().as_str())
    }

    /// Returns its public part.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns its secret part, the password for the PAKE: the words in lower case, joined by `-`.
    pub(crate) fn password(&self) -> Zeroizing<String> {
        let words: Vec<&str> = self.drawn().filter_map(words::word).collect();
        Zeroizing::new(words.join("-"))
    }

    /// Returns the numbers of its words.
    fn drawn(&self) -> impl Iterator<Item = u16> {
        self.words.into_iter().filter(|word| *word != NONE)
    }
}

/// Shows only the public part.
impl fmt::Debug for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortCode({}-..)", self.number)
    }
}

/// Returns the rendezvous point in the DHT of peers that know this number on this day (days since 1970-01-01, UTC).
///
/// Slow on purpose (Argon2id, 32 MiB, two passes), and different every day: finding out which numbers are in use takes
/// this work for each of nine million numbers, every day again. The point reveals where a sharer is, and opens nothing.
///
/// # Panics
/// Never: the hashed values are always within Argon2's limits.
pub fn meeting_point(number: u32, day: u32) -> MeetingPoint {
    let mut point = [0; 32];
    let salt = format!("handover/1 meeting point, day {day}");
    let params = Params::new(32 * 1024, 2, 1, Some(32)).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(number.to_string().as_bytes(), salt.as_bytes(), &mut point)
        .expect("the salt and the length are in range");
    MeetingPoint(point)
}

/// Draws a number below `most`, uniformly.
fn below(rng: &mut impl CryptoRng, most: u32) -> u32 {
    loop {
        let drawn = rng.next_u32();
        // Values beyond the last whole multiple of `most` would make small numbers slightly more likely.
        if drawn < u32::MAX - u32::MAX % most {
            return drawn % most;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::super::ShareCode;
    use super::*;

    fn parse(text: &str) -> Result<ShortCode, CodeError> {
        match ShareCode::parse(text)? {
            ShareCode::Short(code) => Ok(code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_drawn_is_read_again() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        for round in 0..500 {
            let words = round % 6;
            let code = ShortCode::draw(&mut rng, words);
            assert_eq!(parse(&code.encode()), Ok(code.clone()));
            let drawn = code.encode().matches('-').count();
            assert_eq!(drawn, words.clamp(2, 4));
            assert!(NUMBERS.contains(&code.number()));
            let other = code.with_new_words(&mut rng);
            assert_eq!(other.number(), code.number());
            assert_eq!(other.drawn().count(), drawn);
        }
    }

    #[test]
    fn it_is_read_as_people_write_it() {
        let code = parse("4827193-amber-otter").unwrap();
        assert_eq!(code.number(), 4_827_193);
        assert_eq!(code.password().as_str(), "amber-otter");
        for text in [
            " 4827193-Amber-OTTER \n",
            "handover get 4827193-amber-otter",
            "“4827193-amber-otter”",
            "4827193 - amber - otter",
        ] {
            assert_eq!(parse(text), Ok(code.clone()), "{text}");
        }
    }

    #[test]
    fn a_slip_is_noticed_before_anything_goes_out() {
        let cases = [
            ("4827193-ambre-otter", CodeError::ShortWord("first")),
            ("4827193-amber-oter", CodeError::ShortWord("second")),
            ("482719-amber-otter", CodeError::ShortNumber),
            ("48271930-amber-otter", CodeError::ShortNumber),
            ("4827193-amber-otter-ottr", CodeError::ShortWord("third")),
            ("4827193-amber", CodeError::ShortParts),
            ("4827193-a-b-c-d-e", CodeError::ShortParts),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    /// Row 10.
    #[test]
    fn its_meeting_point_is_the_number_s_and_the_day_s() {
        let point = meeting_point(4_827_193, 20_782);
        assert_eq!(point, meeting_point(4_827_193, 20_782));
        assert_ne!(point, meeting_point(4_827_193, 20_783));
        assert_ne!(point, meeting_point(4_827_194, 20_782));
        let hex = data_encoding::HEXLOWER.encode(&point.0);
        insta::assert_snapshot!(hex, @"3a071a6e807f871b82ff8cf0d8a88b215e0652b1771ddb8aef86553ba387c518");
    }

    #[test]
    fn its_words_are_not_shown() {
        let code = parse("4827193-amber-otter").unwrap();
        assert_eq!(format!("{code:?}"), "ShortCode(4827193-..)");
    }
}
