//! Chunks: a file cut where its content says so, and not at every so many bytes.
//!
//! What is inserted into a file moves everything behind it, so that no leaf there is what it was; chunks move along. A
//! receiver that has an older version cuts that in the same way, and takes over what both have. Nothing is proved by a
//! chunk's hash: what was taken over is checked as a part of its file, by the root.
//!
//! This module knows how a list of chunks is written. How a file is cut is `FastCDC` with these lengths (PROTOCOL.md §9.5),
//! and is done where the bytes are.

use sha2::{Digest, Sha256};

use crate::limits::LEAF;

/// Bytes in a chunk at the least, but for the last one of a file: 8 KiB.
pub const MIN: u32 = LEAF / 2;
/// Bytes in a chunk that are aimed at: 32 KiB.
pub const AVERAGE: u32 = 2 * LEAF;
/// Bytes in a chunk at the most: 128 KiB.
pub const MAX: u32 = 8 * LEAF;
/// Chunks of one file at the most: those of 1 GiB where all are as small as they may be. Of a file with more there is
/// no list.
pub const MAX_CHUNKS: u32 = 128 * 1024;
/// Bytes of a chunk in a list.
pub const ENCODED: usize = 4 + HASH;
/// Bytes of a chunk's hash.
const HASH: usize = 16;

/// One chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its bytes.
    pub len: u32,
    /// The first half of their SHA-256.
    pub hash: [u8; HASH],
}

impl Chunk {
    /// The chunk of these bytes.
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

/// Chunks as they stand in a payload: of each its length, big end first, and its hash.
pub fn encode(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chunks.len().saturating_mul(ENCODED));
    for chunk in chunks {
        bytes.extend(chunk.len.to_be_bytes());
        bytes.extend(chunk.hash);
    }
    bytes
}

/// Reads what [`encode`] wrote; `None` if it is not whole chunks, or one has no bytes or more than [`MAX`].
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

/// Whether these are all chunks of a file of `size` bytes.
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
        // SHA-256 of "abc" (FIPS 180-2, B.1), its first half.
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
