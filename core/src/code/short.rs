//! Short codes, to be read out: `4827193-amber-otter`.
//!
//! The number is public: it names the share to whom the code is tried on, and where to look for it. The words are
//! secret, nine bits each, two of them or, where the sharer wants it so, up to four; and they only ever go into a PAKE
//! ([`crate::pake`]): who guesses has to ask the sharer, who counts. So nothing that leaves this machine may be derived from
//! them in any other way.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use rand_chacha::rand_core::CryptoRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::words::PLACES;
use super::{CodeError, words};
use crate::secret::MeetingPoint;

/// Words of a code: as many as it usually has, and at the most.
const WORDS: std::ops::RangeInclusive<usize> = 2..=MAX_WORDS;
const MAX_WORDS: usize = PLACES.len();
/// Stands where a code has no word.
const NONE: u16 = u16::MAX;

/// The least and the greatest number.
const NUMBERS: std::ops::RangeInclusive<u32> = 1_000_000..=9_999_999;

/// A short code.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct ShortCode {
    #[zeroize(skip)]
    number: u32,
    /// The words come first, then [`NONE`].
    words: [u16; MAX_WORDS],
}

impl ShortCode {
    /// A new code, with so many words: two to four, and other numbers are taken for the nearest of these.
    pub fn draw(rng: &mut impl CryptoRng, words: usize) -> Self {
        let number = NUMBERS.start() + below(rng, 9_000_000);
        let count = words.clamp(*WORDS.start(), *WORDS.end());
        let mut words = [NONE; MAX_WORDS];
        for word in words.iter_mut().take(count) {
            *word = u16::try_from(below(rng, 512)).unwrap_or_default();
        }
        Self { number, words }
    }

    /// A code with this number and other words.
    #[must_use]
    pub fn with_new_words(&self, rng: &mut impl CryptoRng) -> Self {
        let mut other = Self::draw(rng, self.drawn().count());
        other.number = self.number;
        other
    }

    /// Reads a code without anything around it. Small and capital letters are the same.
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

    /// The code as it is read out.
    pub fn encode(&self) -> String {
        format!("{}-{}", self.number, self.password().as_str())
    }

    /// Its public part.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its secret part, as it goes into the PAKE: its words, in small letters.
    pub(crate) fn password(&self) -> Zeroizing<String> {
        let words: Vec<&str> = self.drawn().filter_map(words::word).collect();
        Zeroizing::new(words.join("-"))
    }

    /// The numbers of its words.
    fn drawn(&self) -> impl Iterator<Item = u16> {
        self.words.into_iter().filter(|word| *word != NONE)
    }
}

/// Shows its public part only.
impl fmt::Debug for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortCode({}-..)", self.number)
    }
}

/// Where peers who know this number meet in the DHT on this day (since 1970, UTC).
///
/// Slow (Argon2id, 32 MiB, two passes), and another every day: who wants to know which numbers are in use has to spend
/// that on each of nine million, again and again. It tells where a sharer is, and opens nothing.
///
/// # Panics
/// Never: what it hashes is always in the range that Argon2 takes.
pub fn meeting_point(number: u32, day: u32) -> MeetingPoint {
    let mut point = [0; 32];
    let salt = format!("handover/1 meeting point, day {day}");
    let params = Params::new(32 * 1024, 2, 1, Some(32)).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(number.to_string().as_bytes(), salt.as_bytes(), &mut point)
        .expect("the salt and the length are in range");
    MeetingPoint(point)
}

/// A number below `most`, all of them equally likely.
fn below(rng: &mut impl CryptoRng, most: u32) -> u32 {
    loop {
        let drawn = rng.next_u32();
        // Beyond the last whole multiple, small numbers would be a little more likely.
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
