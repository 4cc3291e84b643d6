//! Content-defined chunking. The algorithm differs from the program's, but the chunk lengths obey the same bounds; the
//! engine cannot tell the difference.

use handover_core::chunk::{AVERAGE, Chunk, MAX, MIN};

/// All chunks of a file.
pub(crate) fn cut(bytes: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(end_of_first(rest));
        chunks.push(Chunk::of(chunk));
        rest = behind;
    }
    chunks
}

/// A rolling hash over the bytes: a chunk ends where its leading bits are zero. (Gear, the basis of `FastCDC`.)
fn end_of_first(bytes: &[u8]) -> usize {
    let mut hash = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(MAX as usize) {
        hash = (hash << 1).wrapping_add(gear(*byte));
        let long = at + 1 >= MIN as usize;
        if long && hash >> (u64::BITS - AVERAGE.ilog2()) == 0 {
            return at + 1;
        }
    }
    bytes.len().min(MAX as usize)
}

/// A pseudorandom number for each byte value (splitmix64).
fn gear(byte: u8) -> u64 {
    let mut z = (u64::from(byte) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
