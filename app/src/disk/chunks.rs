//! Splits files into chunks: `FastCDC` of 2020, with the chunk lengths of the protocol.

use std::io::{self, Read};

use fastcdc::v2020::{Error, StreamCDC};
use handover_core::chunk::{AVERAGE, Chunk, MAX, MAX_CHUNKS, MIN};

/// Calls `each` with every chunk of the input, its offset and its bytes.
pub(super) fn cut(
    from: impl Read,
    mut each: impl FnMut(Chunk, u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let cutter = StreamCDC::new(from, MIN as usize, AVERAGE as usize, MAX as usize);
    for chunk in cutter {
        let chunk = chunk.map_err(|error| match error {
            Error::IoError(error) => error,
            other => io::Error::other(other.to_string()),
        })?;
        each(Chunk::of(&chunk.data), chunk.offset, &chunk.data)?;
    }
    Ok(())
}

/// Returns all chunks. Fails if there are more than a list may hold.
pub(super) fn list(from: impl Read) -> io::Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    cut(from, |chunk, _, _| {
        if chunks.len() >= MAX_CHUNKS as usize {
            return Err(io::Error::other("too many chunks"));
        }
        chunks.push(chunk);
        Ok(())
    })?;
    Ok(chunks)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bytes without repetitions (xorshift64, Marsaglia 2003).
    pub(in super::super) fn bytes(len: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.take(len.div_ceil(8)).flatten().take(len).collect()
    }

    /// PROTOCOL.md has these numbers: a peer that splits differently finds nothing.
    #[test]
    fn files_are_cut_where_the_protocol_says() {
        let file = bytes(1 << 20);
        let chunks = list(file.as_slice()).unwrap();
        let lens: Vec<u32> = chunks.iter().map(|chunk| chunk.len).collect();
        assert!(handover_core::chunk::fits(&chunks, 1 << 20));
        insta::assert_snapshot!(format!("{lens:?}"));
    }

    #[test]
    fn what_is_put_in_changes_the_chunks_around_it() {
        let old = bytes(1 << 20);
        let mut new = old.clone();
        new.splice(500_000..500_000, [1, 2, 3]);
        let before = list(old.as_slice()).unwrap();
        let after = list(new.as_slice()).unwrap();
        let fresh = after.iter().filter(|chunk| !before.contains(chunk));
        assert!(fresh.count() <= 2);
        assert_eq!(list([].as_slice()).unwrap(), []);
    }
}
