//! Pipes: a stream shared while it is read, and a stream that a download is written to.
//!
//! A pipe's lock is held during reads and writes: any other user would have to wait for those bytes anyway.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Mutex;

use bytes::Bytes;
use handover_core::engine::{DiskError, Piece};
use handover_core::limits::GROUP;

use super::error::disk_error;
use super::lock;

/// Maximum number of bytes of a stream held for a second reading. The engine keeps 16 MiB, and reads on from there.
const HELD: u64 = 17 * 1024 * 1024;

/// A stream that is shared.
pub(super) struct PipeSource {
    /// The entry's name.
    pub(super) name: String,
    state: Mutex<Source>,
}

struct Source {
    reader: Box<dyn Read + Send>,
    /// Blocks as they were read, contiguous from `start` on.
    held: VecDeque<Bytes>,
    start: u64,
    end: u64,
    ended: bool,
}

impl PipeSource {
    pub(super) fn new(reader: Box<dyn Read + Send>, name: String) -> Self {
        Self {
            name,
            state: Mutex::new(Source {
                reader,
                held: VecDeque::new(),
                start: 0,
                end: 0,
                ended: false,
            }),
        }
    }

    /// Returns the `len` bytes at `offset`, fewer at the end of the stream, and true if the stream ends with them.
    pub(super) fn read(
        &self,
        offset: u64,
        len: u32,
        keep_from: u64,
    ) -> Result<(Bytes, bool), DiskError> {
        if len > GROUP {
            return Err(DiskError::Other("this is more than one group".to_owned()));
        }
        let mut source = lock(&self.state);
        source.release(keep_from.min(offset));
        let end = offset.saturating_add(len.into());
        if offset < source.start {
            return Err(DiskError::Other(format!(
                "the stream's bytes at {offset} are gone"
            )));
        }
        if end - source.start > HELD {
            return Err(DiskError::Other(
                "too much of the stream would have to be held".to_owned(),
            ));
        }
        source
            .read_to(end)
            .map_err(|error| disk_error(error, &self.name))?;
        let end = end.min(source.end);
        Ok((source.range(offset, end), source.ended && end == source.end))
    }
}

impl Source {
    fn release(&mut self, keep_from: u64) {
        while let Some(first) = self.held.front() {
            let next = self.start + first.len() as u64;
            if next > keep_from {
                break;
            }
            self.start = next;
            self.held.pop_front();
        }
    }

    /// Reads until `end` bytes of the stream have been read, or the stream ends.
    fn read_to(&mut self, end: u64) -> io::Result<()> {
        if self.ended || end <= self.end {
            return Ok(());
        }
        let mut block = Vec::new();
        let result = self
            .reader
            .by_ref()
            .take(end - self.end)
            .read_to_end(&mut block);
        // Bytes read before an error are part of the stream all the same.
        self.end += block.len() as u64;
        self.ended = result.is_ok() && self.end < end;
        if !block.is_empty() {
            self.held.push_back(block.into());
        }
        result.map(drop)
    }

    /// Returns held bytes. They are copied only if they span blocks, as with a second reading at other offsets.
    fn range(&self, from: u64, to: u64) -> Bytes {
        let mut gathered = Vec::new();
        let mut at = self.start;
        for block in &self.held {
            let next = at + block.len() as u64;
            if from < next && at < to {
                let first = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX);
                let last = usize::try_from(to.min(next) - at).unwrap_or(usize::MAX);
                if at <= from && to <= next {
                    return block.slice(first..last);
                }
                gathered.extend_from_slice(&block[first..last]);
            }
            at = next;
        }
        gathered.into()
    }
}

/// A pipe that a download is written to.
pub(super) struct PipeSink(Mutex<Sink>);

struct Sink {
    writer: Box<dyn Write + Send>,
    position: u64,
}

impl PipeSink {
    pub(super) fn new(writer: Box<dyn Write + Send>) -> Self {
        Self(Mutex::new(Sink {
            writer,
            position: 0,
        }))
    }

    /// Writes pieces, each of which must follow on the one before, and flushes at once: the reader is waiting.
    pub(super) fn write(&self, pieces: &[Piece]) -> Result<(), DiskError> {
        let mut sink = lock(&self.0);
        for piece in pieces {
            if piece.offset != sink.position {
                return Err(DiskError::Other(format!(
                    "bytes for {} came where those for {} should",
                    piece.offset, sink.position
                )));
            }
            let written = sink.writer.write_all(&piece.data);
            written.map_err(|error| disk_error(error, "the pipe"))?;
            sink.position += piece.data.len() as u64;
        }
        sink.flush()
    }

    pub(super) fn flush(&self) -> Result<(), DiskError> {
        lock(&self.0).flush()
    }
}

impl Sink {
    fn flush(&mut self) -> Result<(), DiskError> {
        self.writer
            .flush()
            .map_err(|error| disk_error(error, "the pipe"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    /// Returns one byte per read, like a slow terminal.
    struct Trickle(Vec<u8>, usize);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (Some(byte), Some(room)) = (self.0.get(self.1), buffer.first_mut()) else {
                return Ok(0);
            };
            *room = *byte;
            self.1 += 1;
            Ok(1)
        }
    }

    #[test]
    fn a_stream_is_read_in_full_pieces_to_its_end() {
        let all = bytes(1000);
        let pipe = PipeSource::new(Box::new(Trickle(all.clone(), 0)), "-".into());
        assert_eq!(
            pipe.read(0, 400, 0).unwrap(),
            (all[..400].to_vec().into(), false)
        );
        assert_eq!(pipe.read(400, 600, 0).unwrap().0, all[400..]);
        assert_eq!(pipe.read(1000, 100, 400).unwrap(), (Bytes::new(), true));
        // Held bytes again, at other offsets.
        assert_eq!(pipe.read(400, 100, 400).unwrap().0, all[400..500]);
        assert_eq!(
            pipe.read(500, 9000, 400).unwrap(),
            (all[500..].to_vec().into(), true)
        );
    }

    #[test]
    fn a_second_reading_may_span_blocks() {
        let all = bytes(300);
        let pipe = PipeSource::new(Box::new(io::Cursor::new(all.clone())), "-".into());
        for offset in [0, 100, 200] {
            pipe.read(offset, 100, 0).unwrap();
        }
        assert_eq!(pipe.read(50, 200, 0).unwrap().0, all[50..250]);
    }

    #[test]
    fn what_was_let_go_of_is_gone_and_what_is_held_is_bounded() {
        let pipe = PipeSource::new(Box::new(io::repeat(7)), "-".into());
        pipe.read(0, 100, 0).unwrap();
        pipe.read(100, 100, 100).unwrap();
        assert!(matches!(pipe.read(50, 10, 50), Err(DiskError::Other(_))));
        let step = u64::from(GROUP);
        let held = (0..100).map(|n| pipe.read(100 + n * step, GROUP, 100));
        let fine = held.take_while(Result::is_ok).count() as u64;
        assert_eq!(fine, HELD / step);
        let offset = 100 + fine * step;
        assert!(pipe.read(offset, GROUP, offset - HELD / 2).is_ok());
    }

    #[test]
    fn a_reader_that_fails_does_not_look_like_an_end() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("wire cut"))
            }
        }
        let pipe = PipeSource::new(
            Box::new(io::Cursor::new(bytes(10)).chain(Broken)),
            "-".into(),
        );
        assert!(pipe.read(0, 20, 0).is_err());
        assert_eq!(pipe.read(0, 10, 0).unwrap(), (bytes(10).into(), false));
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn piece(offset: u64, data: &'static [u8]) -> Piece {
        Piece {
            entry: 0,
            offset,
            data: Bytes::from_static(data),
        }
    }

    #[test]
    fn pieces_go_out_in_order_or_not_at_all() {
        let out = Shared::default();
        let sink = PipeSink::new(Box::new(out.clone()));
        sink.write(&[piece(0, b"ab"), piece(2, b"c")]).unwrap();
        assert!(matches!(
            sink.write(&[piece(2, b"x")]),
            Err(DiskError::Other(_))
        ));
        sink.write(&[piece(3, b"d")]).unwrap();
        assert_eq!(*lock(&out.0), b"abcd");
    }

    #[test]
    fn a_closed_or_full_output_is_named() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let sink = PipeSink::new(Box::new(writer));
        assert_eq!(sink.write(&[piece(0, b"ab")]), Err(DiskError::PipeClosed));
        if let Ok(full) = File::options().write(true).open("/dev/full") {
            let sink = PipeSink::new(Box::new(full));
            assert_eq!(sink.write(&[piece(0, b"ab")]), Err(DiskError::Full));
        }
    }
}
