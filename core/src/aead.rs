//! AES-256-GCM for the frames of a link, with two interchangeable implementations.
//!
//! [`aws_lc`] uses assembler and is the default; [`rust_crypto`] is pure Rust, for targets that the former does not
//! support. Both produce the same bytes. A nonce is four zero bytes and the frame's sequence number as a big-endian
//! u64, as in Noise's AESGCM (Noise specification, section 12). There is no associated data.
//!
//! A key does not track its nonces: the caller must never use a sequence number twice with one key
//! (see [`crate::frame`]).

#![allow(
    clippy::missing_panics_doc,
    reason = "the panics here are ciphers that break their own contract"
)]

use crate::limits::TAG;

#[cfg(feature = "aws-lc")]
pub use aws_lc::AeadKey;
#[cfg(not(feature = "aws-lc"))]
pub use rust_crypto::AeadKey;

/// Length of a key, in bytes.
pub const KEY: usize = 32;
/// Maximum number of frames per key: this sequence number and higher ones are refused. At 256 KiB a frame that is
/// 1 PiB, far below the limit for one key in NIST SP 800-38D, section 8.3.
pub const MAX_SEQ: u64 = 1 << 32;

/// The authentication tag of a ciphertext.
pub type Tag = [u8; TAG as usize];

/// Why sealing or opening failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AeadError {
    /// The sequence number is [`MAX_SEQ`] or more: the link needs a new handshake.
    #[error("the key has sealed all it may")]
    Exhausted,
    /// The text was not sealed with this key and sequence number.
    #[error("the seal is broken")]
    Forged,
}

fn nonce(seq: u64) -> Result<[u8; 12], AeadError> {
    if seq >= MAX_SEQ {
        return Err(AeadError::Exhausted);
    }
    let mut nonce = [0; 12];
    if let Some((_, counter)) = nonce.split_last_chunk_mut() {
        *counter = seq.to_be_bytes();
    }
    Ok(nonce)
}

/// Implementation with aws-lc-rs.
#[cfg(feature = "aws-lc")]
pub mod aws_lc {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use zeroize::Zeroizing;

    use super::{AeadError, KEY, Tag, nonce};

    /// A key that seals or opens. It is wiped on drop.
    pub struct AeadKey(LessSafeKey);

    impl AeadKey {
        /// Creates a key from its bytes.
        pub fn new(key: [u8; KEY]) -> Self {
            let key = Zeroizing::new(key);
            let key = UnboundKey::new(&AES_256_GCM, key.as_slice())
                .expect("AES-256 takes any key of 32 bytes");
            Self(LessSafeKey::new(key))
        }

        /// Encrypts `text` in place and returns its tag. The length does not change.
        pub fn seal_in_place(&self, seq: u64, text: &mut [u8]) -> Result<Tag, AeadError> {
            let nonce = Nonce::assume_unique_for_key(nonce(seq)?);
            let tag = self
                .0
                .seal_in_place_separate_tag(nonce, Aad::empty(), text)
                .expect("AES-GCM seals any text that fits a frame");
            Ok(tag
                .as_ref()
                .try_into()
                .expect("the tag of AES-GCM has 16 bytes"))
        }

        /// Decrypts `sealed` (ciphertext followed by its tag) in place and returns the length of the plaintext at its
        /// start. After an error, the contents of `sealed` are meaningless.
        pub fn open_in_place(&self, seq: u64, sealed: &mut [u8]) -> Result<usize, AeadError> {
            let nonce = Nonce::assume_unique_for_key(nonce(seq)?);
            let plain = self.0.open_in_place(nonce, Aad::empty(), sealed);
            plain
                .map(|plain| plain.len())
                .map_err(|_| AeadError::Forged)
        }
    }
}

/// Implementation with the aes-gcm crate of the `RustCrypto` project.
pub mod rust_crypto {
    use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
    use zeroize::Zeroizing;

    use super::{AeadError, KEY, Tag, nonce};
    use crate::limits::TAG;

    /// A key that seals or opens. It is wiped on drop.
    pub struct AeadKey(Aes256Gcm);

    impl AeadKey {
        /// Creates a key from its bytes.
        pub fn new(key: [u8; KEY]) -> Self {
            let key = Zeroizing::new(key);
            Self(Aes256Gcm::new((&*key).into()))
        }

        /// Encrypts `text` in place and returns its tag. The length does not change.
        pub fn seal_in_place(&self, seq: u64, text: &mut [u8]) -> Result<Tag, AeadError> {
            let tag = self
                .0
                .encrypt_inout_detached(&nonce(seq)?.into(), &[], text.into())
                .expect("AES-GCM seals any text that fits a frame");
            Ok(tag.into())
        }

        /// Decrypts `sealed` (ciphertext followed by its tag) in place and returns the length of the plaintext at its
        /// start. After an error, the contents of `sealed` are meaningless.
        pub fn open_in_place(&self, seq: u64, sealed: &mut [u8]) -> Result<usize, AeadError> {
            let nonce = nonce(seq)?;
            let (text, tag) = sealed
                .split_last_chunk_mut::<{ TAG as usize }>()
                .ok_or(AeadError::Forged)?;
            let len = text.len();
            self.0
                .decrypt_inout_detached(&nonce.into(), &[], text.into(), (&*tag).into())
                .map_err(|_| AeadError::Forged)?;
            Ok(len)
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    const KEY_BYTES: [u8; KEY] = [7; KEY];

    fn sealed(key: &AeadKey, seq: u64, text: &[u8]) -> Vec<u8> {
        let mut sealed = text.to_vec();
        let tag = key.seal_in_place(seq, &mut sealed).unwrap();
        [&sealed[..], &tag].concat()
    }

    #[test]
    fn vectors() {
        // The first is test case 13 of the GCM specification (McGrew and Viega, appendix B).
        let zero = sealed(&AeadKey::new([0; KEY]), 0, b"");
        assert_eq!(HEXLOWER.encode(&zero), "530f8afbc74536b9a963b4f1c4cb738b");
        let text = sealed(&AeadKey::new(KEY_BYTES), 0x0102_0304, b"handover");
        insta::assert_snapshot!(HEXLOWER.encode(&text), @"b9920470addc07a21d4ccd1ab27185218625ea023ff05902");
    }

    #[test]
    fn the_nonce_is_that_of_noise() {
        assert_eq!(nonce(0x0102_0304), Ok([0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]));
    }

    #[test]
    fn a_key_ends_at_its_last_number() {
        let key = AeadKey::new(KEY_BYTES);
        let mut last = sealed(&key, MAX_SEQ - 1, b"last");
        assert_eq!(key.open_in_place(MAX_SEQ - 1, &mut last), Ok(4));
        for seq in [MAX_SEQ, MAX_SEQ + 1, u64::MAX] {
            assert_eq!(
                key.seal_in_place(seq, &mut [0; 4]),
                Err(AeadError::Exhausted)
            );
            assert_eq!(
                key.open_in_place(seq, &mut [0; 20]),
                Err(AeadError::Exhausted)
            );
        }
    }

    #[test]
    fn what_is_shorter_than_a_tag_does_not_open() {
        for len in 0..TAG as usize {
            let mut short = vec![0; len];
            assert_eq!(
                AeadKey::new(KEY_BYTES).open_in_place(0, &mut short),
                Err(AeadError::Forged)
            );
            assert_eq!(
                rust_crypto::AeadKey::new(KEY_BYTES).open_in_place(0, &mut short),
                Err(AeadError::Forged)
            );
        }
    }

    proptest! {
        #[test]
        #[cfg(feature = "aws-lc")]
        fn both_implementations_make_the_same_bytes_and_open_them(key: [u8; KEY], seq in 0..MAX_SEQ, text: Vec<u8>) {
            let (aws, rust) = (aws_lc::AeadKey::new(key), rust_crypto::AeadKey::new(key));
            let (mut by_aws, mut by_rust) = (text.clone(), text.clone());
            let tag = aws.seal_in_place(seq, &mut by_aws).unwrap();
            prop_assert_eq!(rust.seal_in_place(seq, &mut by_rust), Ok(tag));
            prop_assert_eq!(&by_aws, &by_rust);
            by_aws.extend(tag);
            by_rust.extend(tag);
            prop_assert_eq!(rust.open_in_place(seq, &mut by_aws), Ok(text.len()));
            prop_assert_eq!(aws.open_in_place(seq, &mut by_rust), Ok(text.len()));
            prop_assert_eq!(&by_aws[..text.len()], &text[..]);
            prop_assert_eq!(&by_rust[..text.len()], &text[..]);
        }

        #[test]
        fn a_changed_text_or_number_does_not_open(text: Vec<u8>, seq in 0..MAX_SEQ, at: prop::sample::Index, bit in 0..8) {
            let key = AeadKey::new(KEY_BYTES);
            let good = sealed(&key, seq, &text);
            let mut wrong = good.clone();
            *at.get_mut(&mut wrong) ^= 1_u8 << bit;
            prop_assert_eq!(key.open_in_place(seq, &mut wrong.clone()), Err(AeadError::Forged));
            prop_assert_eq!(rust_crypto::AeadKey::new(KEY_BYTES).open_in_place(seq, &mut wrong), Err(AeadError::Forged));
            prop_assert_eq!(key.open_in_place(seq ^ 1, &mut good.clone()), Err(AeadError::Forged));
            prop_assert_eq!(AeadKey::new([8; KEY]).open_in_place(seq, &mut good.clone()), Err(AeadError::Forged));
        }
    }
}
