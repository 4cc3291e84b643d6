//! Chunks: pieces of a file whose boundaries depend on the content, not on fixed offsets.
//!
//! An insertion into a file shifts everything after it, so that no leaf there stays the same; chunk boundaries shift
//! along. A receiver that has an older version cuts it in the same way and reuses the chunks that both versions have.
//! A chunk's hash proves nothing: reused bytes are verified as part of their file, by the root.
//!
//! This module encodes and decodes lists of chunks. Cutting a file (`FastCDC` with these lengths, PROTOCOL.md §9.5) is
//! done by the driver, which has the bytes.

use sha2::{Digest, Sha256};

use crate::limits::LEAF;

/// Minimum length of a chunk, in bytes, except for the last one of a file: 8 KiB.
pub const MIN: u32 = LEAF / 2;
/// Target length of a chunk, in bytes: 32 KiB.
pub const AVERAGE: u32 = 2 * LEAF;
/// Maximum length of a chunk, in bytes: 128 KiB.
pub const MAX: u32 = 8 * LEAF;
/// Maximum number of chunks of one file: 1 GiB in chunks of minimum length. A file with more chunks has no list.
pub const MAX_CHUNKS: u32 = 128 * 1024;
/// Length of one chunk in an encoded list, in bytes.
pub const ENCODED: usize = 4 + HASH;
/// Length of a chunk's hash, in bytes.
const HASH: usize = 16;

/// One chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its length, in bytes.
    pub len: u32,
    /// The first half of the SHA-256 of its bytes.
    pub hash: [u8; HASH],
}

impl Chunk {
    /// Returns the chunk with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; HASH];
        for (to, from) in hash.iter_mut().zip(Sha256::digest(bytes)) {
            *to = from;
        }
        Self {
            len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            hash,
        }
    }
}

/// Encodes chunks for a payload: for each its length, big-endian, and its hash.
pub fn encode(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chunks.len().saturating_mul(ENCODED));
    for chunk in chunks {
        bytes.extend(chunk.len.to_be_bytes());
        bytes.extend(chunk.hash);
    }
    bytes
}

/// Decodes what [`encode`] wrote. `None` if `bytes` is not a whole number of chunks, or a length is 0 or over [`MAX`].
pub fn decode(bytes: &[u8]) -> Option<Vec<Chunk>> {
    let (chunks, rest) = bytes.as_chunks::<ENCODED>();
    if !rest.is_empty() {
        return None;
    }
    let read = |bytes: &[u8; ENCODED]| {
        let (len, hash) = bytes.split_first_chunk::<4>()?;
        let len = u32::from_be_bytes(*len);
        let hash = *hash.first_chunk::<HASH>()?;
        (1..=MAX).contains(&len).then_some(Chunk { len, hash })
    };
    chunks.iter().map(read).collect()
}

/// True if the lengths of these chunks add up to a file of `size` bytes.
pub fn fits(chunks: &[Chunk], size: u64) -> bool {
    chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>() == size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_and_nothing_else_is_one() {
        let chunks = [Chunk::of(b"abc"), Chunk::of(&vec![7; MAX as usize])];
        let bytes = encode(&chunks);
        assert_eq!(decode(&bytes).unwrap(), chunks);
        assert_eq!(decode(&[]).unwrap(), []);
        // The first half of SHA-256("abc") (FIPS 180-2, B.1).
        let abc = data_encoding::HEXLOWER.encode(&bytes[..ENCODED]);
        assert_eq!(abc, "00000003ba7816bf8f01cfea414140de5dae2223");
        assert!(fits(&chunks, 3 + u64::from(MAX)));
        assert!(!fits(&chunks, 3));

        assert_eq!(decode(&bytes[1..]), None);
        let with_len = |len: u32| {
            let mut one = bytes[..ENCODED].to_vec();
            one[..4].copy_from_slice(&len.to_be_bytes());
            decode(&one)
        };
        assert!(with_len(MAX).is_some());
        assert_eq!(with_len(MAX + 1), None);
        assert_eq!(with_len(0), None);
    }
}
