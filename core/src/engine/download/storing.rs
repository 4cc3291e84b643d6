//! What came on its way to the disk: what waits to be written, what is being written, and what a pipe takes in order.

use std::collections::{BTreeMap, VecDeque};

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{DiskWork, DownloadId, Piece, Segment, SinkKind};
use super::files;
use crate::limits::GROUP;

/// Write jobs at once. More than two wait for each other in the kernel, for they mostly write to the same file.
const WRITES: usize = 2;
/// Bytes that one write job takes from those that wait, so that a disk that falls behind is called less often.
const WRITE: usize = 1024 * 1024;

/// Bytes that are received and not on disk yet.
pub(super) struct Writes {
    sink: SinkKind,
    /// To be written, in the order in which it came.
    waiting: VecDeque<Vec<Piece>>,
    /// For a pipe: what came early, and where the pipe stands.
    early: BTreeMap<u64, Piece>,
    pipe_at: u64,
    /// Jobs under way.
    jobs: usize,
    /// What all of it costs of a window.
    cost: u64,
}

impl Writes {
    pub(super) fn new(sink: SinkKind) -> Self {
        Self {
            sink,
            waiting: VecDeque::new(),
            early: BTreeMap::new(),
            pipe_at: 0,
            jobs: 0,
            cost: 0,
        }
    }

    /// What is received and not on disk yet costs so much of a window.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Whether nothing is on its way to the disk. For a pipe, what came early may still wait for what comes before it.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs == 0 && self.waiting.is_empty()
    }

    /// Queues what came for the disk. A pipe takes it in order.
    pub(super) fn queue(&mut self, pieces: Vec<Piece>) {
        let bytes = pieces.iter().map(|piece| piece.data.len() as u64).sum();
        self.cost += files::cost_of_bytes(bytes, pieces.len());
        if self.sink == SinkKind::Folder {
            self.waiting.push_back(pieces);
            return;
        }
        for piece in pieces {
            self.early.insert(piece.offset, piece);
        }
        let mut in_order = Vec::new();
        while let Some(piece) = self.early.remove(&self.pipe_at) {
            self.pipe_at += piece.data.len() as u64;
            in_order.push(piece);
        }
        if !in_order.is_empty() {
            self.waiting.push_back(in_order);
        }
    }

    /// Starts what write jobs there may be.
    pub(super) fn start(&mut self, cx: &mut Context, download: DownloadId) {
        while self.jobs < WRITES.min(cx.limits.disk_jobs)
            && let Some(pieces) = self.next()
        {
            self.jobs += 1;
            let range = |piece: &Piece| Segment {
                entry: piece.entry,
                offset: piece.offset,
                len: u32::try_from(piece.data.len()).unwrap_or(GROUP),
            };
            let job = DownloadJob::Write {
                pieces: pieces.iter().map(range).collect(),
            };
            cx.disk(
                JobOwner::Download(download, job),
                DiskWork::Write { download, pieces },
            );
        }
    }

    /// A job has ended, well or not.
    pub(super) fn ended(&mut self, pieces: &[Segment]) {
        self.jobs -= 1;
        self.cost = self.cost.saturating_sub(files::cost_of(pieces));
    }

    /// What the next write job writes. A pipe takes one job after the other.
    fn next(&mut self) -> Option<Vec<Piece>> {
        if self.sink == SinkKind::Pipe && self.jobs > 0 {
            return None;
        }
        let mut pieces = self.waiting.pop_front()?;
        let bytes = |pieces: &[Piece]| pieces.iter().map(|piece| piece.data.len()).sum::<usize>();
        let mut total = bytes(&pieces);
        while let Some(more) = self
            .waiting
            .pop_front_if(|more| total + bytes(more) <= WRITE)
        {
            total += bytes(&more);
            pieces.extend(more);
        }
        Some(pieces)
    }
}
