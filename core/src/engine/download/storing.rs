//! What came on its way to the disk: written, synced and noted, and given its name.

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{
    DiskDone, DiskError, DiskWork, Event, FetchKey, Origin, Piece, Published, Segment, SinkKind,
    Violation,
};
use super::files;
use super::journal::FILES;
use super::transfer::Transfer;
use super::{Download, Stage};
use crate::code::{MAX_ADDRESSES, Ticket};
use crate::limits::GROUP;
use crate::secret::ShareCodeLabel;

/// Write jobs at once. More than two wait for each other in the kernel, for they mostly write to the same file.
const WRITES: usize = 2;
/// Bytes that one write job takes from those that wait, so that a disk that falls behind is called less often.
const WRITE: usize = 1024 * 1024;

impl Transfer {
    /// What the next write job writes. A pipe takes one job after the other.
    fn next_write(&mut self) -> Option<Vec<Piece>> {
        if self.sink == SinkKind::Pipe && self.writes > 0 {
            return None;
        }
        let mut pieces = self.to_write.pop_front()?;
        let bytes = |pieces: &[Piece]| pieces.iter().map(|piece| piece.data.len()).sum::<usize>();
        let mut total = bytes(&pieces);
        while let Some(more) = self
            .to_write
            .pop_front_if(|more| total + bytes(more) <= WRITE)
        {
            total += bytes(&more);
            pieces.extend(more);
        }
        Some(pieces)
    }

    /// Queues what came for the disk. A pipe takes it in order.
    pub(super) fn queue(&mut self, pieces: Vec<Piece>) {
        let bytes = pieces.iter().map(|piece| piece.data.len() as u64).sum();
        self.unwritten += files::cost_of_bytes(bytes, pieces.len());
        if self.sink == SinkKind::Folder {
            self.to_write.push_back(pieces);
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
            self.to_write.push_back(in_order);
        }
    }
}

impl Download {
    pub(super) fn staged(&mut self, cx: &mut Context, done: DiskDone) -> Result<(), Violation> {
        if let DiskDone::Failed(error) = done {
            self.fail(cx, error.into());
            return Ok(());
        }
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Ok(());
        };
        transfer.staged = true;
        let begun = transfer.files.begun();
        self.settle(cx, &begun)?;
        self.look_for_known(cx);
        self.tell_resumable(cx);
        Ok(())
    }

    /// Says by which ticket another run comes to the same.
    fn tell_resumable(&self, cx: &mut Context) {
        let Stage::Transfer(transfer) = &self.stage else {
            return;
        };
        let (FetchKey::Secret(secret), Some(peer)) = (&self.source.key, self.source.peer) else {
            return;
        };
        if self.sink == SinkKind::Pipe {
            return;
        }
        let known = self.source.addresses.iter().chain(&self.known);
        let ticket = Ticket {
            peer,
            addresses: known.take(MAX_ADDRESSES).cloned().collect(),
            secret: secret.clone(),
            share_code: ShareCodeLabel::of(secret),
        };
        cx.event(Event::Resumable {
            download: self.id,
            ticket,
            origin: Origin::of(&transfer.signed),
        });
    }

    /// Pieces are on disk, or could not be written.
    pub(super) fn write_done(
        &mut self,
        cx: &mut Context,
        pieces: &[Segment],
        done: DiskDone,
    ) -> Result<(), Violation> {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Ok(());
        };
        transfer.writes -= 1;
        let cost = files::cost_of(pieces);
        transfer.unwritten = transfer.unwritten.saturating_sub(cost);
        if let DiskDone::Failed(error) = done {
            self.fail(cx, error.into());
            return Ok(());
        }
        for piece in pieces {
            if let Some((group, node)) = transfer.files.written(piece) {
                let files = &transfer.files;
                transfer.journal.wrote(files, piece.entry, group, node);
            }
            if let Some(held) = &mut transfer.files.held {
                held.landed(piece.entry, piece.offset);
            }
        }
        let mut entries: Vec<u32> = pieces.iter().map(|piece| piece.entry).collect();
        entries.dedup();
        self.settle(cx, &entries)
    }

    /// Files stand under their names, or could not be put there.
    pub(super) fn publish_done(&mut self, cx: &mut Context, entries: &[u32], done: DiskDone) {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        transfer.publishing = false;
        let results = match done {
            DiskDone::Published(results) => results,
            DiskDone::Failed(error) => return self.fail(cx, error.into()),
            _ => return,
        };
        for (entry, result) in entries.iter().zip(results) {
            let Stage::Transfer(transfer) = &mut self.stage else {
                return;
            };
            match result {
                Ok(Published::At(path)) => {
                    let size = transfer.files.published(*entry);
                    let files = &transfer.files;
                    transfer.journal.published(files, *entry, &path);
                    transfer.files.stands_at(*entry, &path);
                    self.in_place(*entry, &path);
                    cx.event(Event::FileDone {
                        download: self.id,
                        path,
                        size,
                    });
                }
                Ok(Published::Skipped) => {
                    transfer.files.skip(*entry);
                    self.out_of_place(*entry);
                    let Stage::Transfer(transfer) = &mut self.stage else {
                        return;
                    };
                    if let Some(path) = transfer.files.place(*entry) {
                        cx.event(Event::FileSkipped {
                            download: self.id,
                            path,
                        });
                    }
                }
                // Without room nothing else will fare better.
                Err(DiskError::Full) => return self.fail(cx, DiskError::Full.into()),
                Err(error) => self.give_up(cx, *entry, error.to_string()),
            }
        }
    }

    /// Starts disk work: writes, then publishing, then the end.
    pub(super) fn pump_disk(&mut self, cx: &mut Context) {
        let id = self.id;
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        while transfer.writes < WRITES.min(cx.limits.disk_jobs)
            && !transfer.journal.comes_before_writes()
            && let Some(pieces) = transfer.next_write()
        {
            transfer.writes += 1;
            let range = |piece: &Piece| Segment {
                entry: piece.entry,
                offset: piece.offset,
                len: u32::try_from(piece.data.len()).unwrap_or(GROUP),
            };
            let job = DownloadJob::Write {
                pieces: pieces.iter().map(range).collect(),
            };
            let download = id;
            cx.disk(
                JobOwner::Download(id, job),
                DiskWork::Write { download, pieces },
            );
        }
        self.check_earlier(cx);
        self.match_chunks(cx);
        self.adopt(cx);
        self.keep(cx);
        self.publish(cx);
        self.finish_if_complete(cx);
    }

    fn publish(&mut self, cx: &mut Context) {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        if transfer.publishing || !transfer.staged || transfer.journal.comes_first() {
            return;
        }
        let ready = transfer.files.take_ready(FILES);
        let entries: Vec<u32> = ready.into_iter().map(|(entry, _)| entry).collect();
        if entries.is_empty() {
            return;
        }
        if transfer.sink == SinkKind::Pipe {
            for entry in entries {
                let size = transfer.files.published(entry);
                if let Some(path) = transfer.files.place(entry) {
                    cx.event(Event::FileDone {
                        download: self.id,
                        path,
                        size,
                    });
                }
            }
            return;
        }
        for entry in &entries {
            transfer.journal.leaves(&transfer.files, *entry);
        }
        self.publish_entries(cx, entries, false);
    }

    /// Gives staged files their names. `synced`: their bytes are safe already.
    pub(super) fn publish_entries(&mut self, cx: &mut Context, entries: Vec<u32>, synced: bool) {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let files = entries
            .iter()
            .filter_map(|entry| transfer.files.publication(*entry))
            .collect();
        transfer.publishing = true;
        cx.disk(
            JobOwner::Download(self.id, DownloadJob::Publish { entries }),
            DiskWork::Publish {
                download: self.id,
                files,
                synced,
            },
        );
    }
}
