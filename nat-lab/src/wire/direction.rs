//! Forwards frames from one end of a wire to the other.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::end::End;
use super::line::{Fate, Line};
use super::{Tally, WireError};

/// Size of the frame buffer. Also fits a frame so large that only an offload creates it, so that sending it fails with
/// a clear error.
const LARGEST: usize = 1 << 16;
/// Maximum number of frames read before the due ones are sent.
const BATCH: usize = 64;
/// Maximum number of bytes in flight: 32 MiB are 1 Gbit/s for a quarter of a second.
const MOST_BYTES: usize = 32 << 20;
/// Maximum number of frames in flight, a limit for small frames.
const MOST_FRAMES: usize = 1 << 15;

/// One direction of a wire.
pub(super) struct Direction<'a> {
    from: &'a End,
    to: &'a End,
    line: Line,
    tally: &'a Tally,
    under_way: VecDeque<(Instant, Box<[u8]>)>,
    bytes: usize,
}

impl<'a> Direction<'a> {
    pub(super) fn new(from: &'a End, to: &'a End, line: Line, tally: &'a Tally) -> Self {
        Self {
            from,
            to,
            line,
            tally,
            under_way: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Forwards frames until the far end of `stop` is closed.
    pub(super) fn carry(mut self, stop: BorrowedFd<'_>) -> Result<(), WireError> {
        let mut frame = vec![0; LARGEST];
        while self.wait(stop)? {
            self.take_in(&mut frame)?;
            self.let_out()?;
        }
        Ok(())
    }

    /// Waits for a frame, or until one is due. Returns false if `stop` is closed.
    fn wait(&self, stop: BorrowedFd<'_>) -> Result<bool, WireError> {
        let due = self
            .under_way
            .front()
            .map(|(due, _)| due.saturating_duration_since(Instant::now()));
        let timeout = due.map(timespec);
        let from = self.from.as_fd();
        let mut fds = [
            PollFd::from_borrowed_fd(from, PollFlags::IN),
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(fds[1].revents().is_empty()),
            Err(errno) => Err(WireError::Io(self.from.name().to_owned(), errno.into())),
        }
    }

    fn take_in(&mut self, frame: &mut [u8]) -> Result<(), WireError> {
        for _ in 0..BATCH {
            let Some(length) = self.from.receive(frame)? else {
                break;
            };
            self.decide(&frame[..length])?;
        }
        Ok(())
    }

    fn decide(&mut self, frame: &[u8]) -> Result<(), WireError> {
        // Checked before the line decides, so that a frame dropped here takes up none of its rate.
        if self.under_way.len() >= MOST_FRAMES || self.bytes + frame.len() > MOST_BYTES {
            self.tally.overflowed.add();
            return Ok(());
        }
        let now = Instant::now();
        match self.line.fate(now, frame.len()) {
            Fate::Lost => self.tally.lost.add(),
            Fate::Full => self.tally.full.add(),
            Fate::Out(due) if due <= now && self.under_way.is_empty() => self.send(frame)?,
            Fate::Out(due) => {
                self.bytes += frame.len();
                self.under_way.push_back((due, frame.into()));
            }
        }
        Ok(())
    }

    fn let_out(&mut self) -> Result<(), WireError> {
        let now = Instant::now();
        while let Some((_, frame)) = self.under_way.pop_front_if(|(due, _)| *due <= now) {
            self.bytes -= frame.len();
            self.send(&frame)?;
        }
        Ok(())
    }

    fn send(&self, frame: &[u8]) -> Result<(), WireError> {
        let sent = self.to.send(frame)?;
        if sent {
            self.tally.passed.add()
        } else {
            self.tally.overflowed.add()
        }
        Ok(())
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
