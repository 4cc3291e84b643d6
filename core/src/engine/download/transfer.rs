//! An accepted download: asking for ranges, taking what comes, staging, publishing, finishing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::gate::cost;
use super::super::{
    DiskDone, DiskError, DiskWork, Event, FetchKey, LinkId, Origin, PathKind, Piece, Published,
    Segment, SinkKind, Violation,
};
use super::answer::{Data, Sorted, check, sort, verified};
use super::files::{self, Files, Settled, Size};
use super::journal::{FILES, Journal};
use super::known::Known;
use super::swarm::Swarm;
use super::window::{Rate, Window};
use super::{Download, Stage, end_search};
use crate::PeerId;
use crate::code::{MAX_ADDRESSES, Ticket};
use crate::limits::{GROUP, Limits};
use crate::manifest::{EntryKind, SignedManifest, SignedRoots};
use crate::message::{Failure, MAX_SEGMENTS, Message};
use crate::secret::ShareCodeLabel;
use crate::time::Time;

/// Requests that are outstanding on one link at the most, whatever room the window has.
const REQUESTS: usize = 64;
/// Write jobs at once. More than two wait for each other in the kernel, for they mostly write to the same file.
const WRITES: usize = 2;
/// Bytes that one write job takes from those that wait, so that a disk that falls behind is called less often.
const WRITE: usize = 1024 * 1024;

/// An accepted download.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Transfer {
    pub(super) signed: SignedManifest,
    pub(super) files: Files,
    pub(super) journal: Journal,
    pub(super) known: Known,
    sink: SinkKind,
    /// The staging folder stands.
    pub(super) staged: bool,
    /// To be written, in the order in which it came.
    pub(super) to_write: VecDeque<Vec<Piece>>,
    /// For a pipe: what came early, and where the pipe stands.
    early: BTreeMap<u64, Piece>,
    pipe_at: u64,
    pub(super) writes: usize,
    /// What is received and not on disk yet costs so much of a window.
    unwritten: u64,
    pub(super) publishing: bool,
    pub(super) finishing: bool,
    /// Symlinks that were to be made at the end.
    pub(super) symlinks: u64,
    /// Roots that were asked for, with the link that was asked.
    asked_roots: BTreeMap<u32, LinkId>,
    /// Several sources serve: ranges are asked for as they have them, and not in order.
    pub(super) several: bool,
    pub(super) started: Time,
    pub(super) rate: Rate,
    pub(super) report_due: Time,
    pub(super) have_due: Time,
}

/// What is asked for on one link.
#[derive(Default)]
pub(super) struct Flow {
    pub(super) window: Option<Window>,
    outstanding: BTreeMap<u64, Asked>,
    next_id: u64,
    /// Roots that a mate was asked for.
    asked_roots: BTreeSet<u32>,
}

struct Asked {
    segments: Vec<Segment>,
    cost: u64,
    at: Time,
}

impl Flow {
    pub(super) fn start(&mut self, limits: &Limits, path: PathKind, now: Time) {
        self.window = Some(Window::new(limits, path, now));
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Bytes asked for and not here yet.
    pub(super) fn ahead(&self) -> u64 {
        self.window.as_ref().map_or(0, Window::outstanding)
    }

    /// The entry that is asked for first of all.
    pub(super) fn first_asked(&self) -> Option<u32> {
        let asked = self.outstanding.values().next()?;
        asked.segments.first().map(|segment| segment.entry)
    }
}

impl Transfer {
    pub(super) fn new(
        signed: SignedManifest,
        files: Files,
        journal: Journal,
        sink: SinkKind,
        now: Time,
    ) -> Self {
        Self {
            signed,
            files,
            journal,
            known: Known::default(),
            sink,
            staged: sink == SinkKind::Pipe,
            to_write: VecDeque::new(),
            early: BTreeMap::new(),
            pipe_at: 0,
            writes: 0,
            unwritten: 0,
            publishing: false,
            finishing: false,
            symlinks: 0,
            asked_roots: BTreeMap::new(),
            several: false,
            started: now,
            rate: Rate::default(),
            report_due: now,
            have_due: now,
        }
    }

    /// What is received and not on disk yet costs so much of a window.
    pub(super) fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// A link is gone with what was asked for on it.
    pub(super) fn lost(&mut self, flow: Flow) {
        for asked in flow.outstanding.into_values() {
            self.files.lost(asked.segments);
        }
    }

    pub(super) fn report_due(&self) -> Time {
        self.report_due
    }

    /// Whether nothing is on its way to the disk.
    pub(super) fn is_waiting(&self) -> bool {
        self.writes == 0 && self.to_write.is_empty() && !self.publishing
    }

    /// Whether nothing goes on before one more request is made, however full the window is: nothing is on its way to
    /// disk, and nothing is outstanding; or, where bytes have to come in order, what comes next stands before all that is.
    /// What came early for a pipe, and what a stream was asked for early, waits for that.
    fn is_stuck(&self, outstanding: &BTreeMap<u64, Asked>) -> bool {
        // A file that gets its name makes room.
        if self.files.nameless() > 0 {
            return false;
        }
        let in_order = self.sink == SinkKind::Pipe || self.files.is_stream(0);
        if self.several || !in_order {
            return outstanding.is_empty() && self.unwritten == 0;
        }
        let outstanding = outstanding.values();
        let first = outstanding.filter_map(|asked| asked.segments.first()).min();
        let overdue = match (self.files.first_again(), first) {
            (Some(again), Some(first)) => again < first,
            (Some(_), None) => true,
            // What is held waits for something that is outstanding on another link, which comes or is lost with it.
            (None, None) => self.unwritten == 0,
            (None, Some(_)) => false,
        };
        overdue && self.writes == 0 && self.to_write.is_empty()
    }

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

    /// Whole files whose root is to be asked for on this link now, so that no more than `most` are awaited there.
    fn roots_to_ask(
        &mut self,
        link: LinkId,
        is_mate: bool,
        asked_of_mate: &mut BTreeSet<u32>,
        most: usize,
    ) -> Vec<u32> {
        let rootless = self.files.rootless();
        let asked = |entry: &u32| {
            if is_mate {
                asked_of_mate.contains(entry)
            } else {
                self.asked_roots.get(entry) == Some(&link)
            }
        };
        let (awaited, new): (Vec<u32>, Vec<u32>) = rootless.into_iter().partition(asked);
        let room = most.saturating_sub(awaited.len());
        let new: Vec<u32> = new.into_iter().take(room).collect();
        for entry in &new {
            if is_mate {
                asked_of_mate.insert(*entry);
            } else {
                self.asked_roots.insert(*entry, link);
            }
        }
        new
    }

    /// Queues what came for the disk. A pipe takes it in order.
    fn queue(&mut self, pieces: Vec<Piece>) {
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
    /// Asks for as much as the window has room for.
    pub(super) fn ask(&mut self, cx: &mut Context, link: LinkId) {
        // Only the sharer is asked for these.
        if self
            .links
            .get(&link)
            .is_some_and(|link| link.mate.is_none())
        {
            self.ask_roots(cx, link);
            self.ask_chunks(cx, link);
        }
        let (id, of, mut held_in_all) = (self.id, self.of(), self.held());
        let piece = self.piece(cx, link);
        let others = self.asked_of_others(link);
        let has_sharer = self.best.is_some();
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        let Some(fetching) = self.links.get_mut(&link) else {
            return;
        };
        let (mate, flow) = (fetching.mate, &mut fetching.flow);
        let Some(window) = &mut flow.window else {
            return;
        };
        if !transfer.staged || transfer.known.is_looking() {
            return;
        }
        if mate.is_none() || !has_sharer {
            // Whoever serves lets only so many wait.
            let most = (cx.limits.requests / 2).max(1);
            for entry in transfer.roots_to_ask(link, mate.is_some(), &mut flow.asked_roots, most) {
                cx.send(link, Message::GetRoot { entry });
            }
        }
        let most = cx.limits.segments.min(MAX_SEGMENTS);
        // One is kept back for what all the others wait for.
        let at_once = REQUESTS.min(cx.limits.requests.saturating_sub(1)).max(1);
        while flow.outstanding.len() < at_once
            || (flow.outstanding.len() < cx.limits.requests && transfer.is_stuck(&flow.outstanding))
        {
            let len = window.request_len().min(piece);
            // What a crash would lose, now or when it has come, is a window at the most.
            let own = if transfer.journal.comes_first() {
                window.outstanding()
            } else {
                0
            };
            let unsafe_yet = transfer.unwritten + transfer.journal.at_risk() + others + own;
            let held = unsafe_yet + transfer.files.nameless();
            let room = window.room().min(cx.limits.window.saturating_sub(held));
            if room < u64::from(len) && !transfer.is_stuck(&flow.outstanding) {
                break;
            }
            cx.room.holds(id, held_in_all, true);
            // Whole files may be more than a range, and a stream goes by whole groups.
            let at_most = if transfer.files.is_stream(0) {
                GROUP
            } else {
                len.max(piece.min(window.piece()))
            };
            let fits = cx.room.may(id, at_most, cx.limits.window_total);
            if !fits && !transfer.is_stuck(&flow.outstanding) {
                break;
            }
            if !cx.down.may(of, cx.now) {
                break;
            }
            let size = Size {
                range: len,
                batch: window.piece().min(piece),
                segments: most,
            };
            let swarm = self.swarm.as_mut().filter(|_| transfer.several);
            let Some((segments, held)) = next(&mut transfer.files, swarm, mate, size, cx) else {
                break;
            };
            cx.down.went(of, cost(&segments), cx.now);
            held_in_all += held;
            let id = flow.next_id;
            flow.next_id += 1;
            window.asked(held, cx.now);
            let message = Message::Request {
                id,
                segments: segments.clone().into(),
            };
            flow.outstanding.insert(
                id,
                Asked {
                    segments,
                    cost: held,
                    at: cx.now,
                },
            );
            cx.send(link, message);
        }
    }

    /// An answer came.
    pub(super) fn data(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        data: Data,
    ) -> Result<(), Violation> {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Err(Violation::new("bytes that were not asked for"));
        };
        let Some(fetching) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let (mate, flow) = (fetching.mate, &mut fetching.flow);
        let Some(asked) = flow.outstanding.remove(&data.id) else {
            return Err(Violation::new("bytes that were not asked for"));
        };
        if data.served.len() != asked.segments.len() {
            return Err(Violation::new("an answer to another question"));
        }
        if let Some(window) = &mut flow.window {
            let came = files::cost_of_bytes(data.payload.len() as u64, data.served.len());
            window.answered(asked.cost, came, cx.now.since(asked.at), cx.now);
        }
        if !data.payload.is_empty()
            && let Some(state) = cx.links.get_mut(link)
        {
            state.progressed(&cx.limits);
        }
        // What can't be taken at all is asked for again, wherever it is to be had.
        let checked = check(transfer, &asked.segments, &data, mate.is_some());
        if let Err(violation) = checked {
            transfer.files.lost(asked.segments);
            return Err(violation);
        }
        let learned = data.roots.as_ref().map_or(Vec::new(), SignedRoots::entries);
        let sorted = sort(&mut transfer.files, &asked.segments, data)?;
        let Sorted {
            pieces,
            failed,
            bad,
            missing,
        } = sorted;
        if let Some(state) = cx.links.get(link) {
            let bytes = pieces.iter().map(|piece| piece.data.len() as u64).sum();
            self.delivered.add(state.peer, bytes, bad, asked.at, cx.now);
            if let (Some(relay), true) = (state.relay, bytes > 0) {
                self.delivered.carried(relay, bytes);
            }
        }
        if !pieces.is_empty() {
            transfer.queue(pieces);
            if mate.is_none() {
                end_search(&mut self.search, cx);
            }
        }
        if let (Some(peer), Some(swarm)) = (mate, &mut self.swarm) {
            swarm.lacks(peer, &missing);
            let bad = swarm.is_bad(peer, bad);
            return judge_mate(bad, cx.limits.bad_leaves);
        }
        self.bad += bad;
        self.learned(cx, link, &learned);
        if self.bad >= cx.limits.bad_leaves {
            return Err(Violation::new(format!(
                "{} pieces that do not match their root",
                self.bad
            )));
        }
        for (entry, reason) in failed {
            self.entry_failed(cx, entry, reason);
        }
        self.settle_stream(cx)
    }

    /// A stream can become whole by its end alone, with nothing more to write.
    fn settle_stream(&mut self, cx: &mut Context) -> Result<(), Violation> {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Ok(());
        };
        let first = transfer.signed.manifest().entry(0).map(|entry| &entry.kind);
        if matches!(first, Some(EntryKind::Stream)) {
            return self.settle(cx, &[0]);
        }
        Ok(())
    }

    /// Signed roots came, from the sharer or passed on by a mate.
    pub(super) fn roots(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        is_mate: bool,
        roots: &SignedRoots,
    ) -> Result<(), Violation> {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Err(Violation::new("roots that were not asked for"));
        };
        let learnt = verified(transfer, roots)?;
        let entries: Vec<u32> = learnt.iter().map(|(entry, _)| *entry).collect();
        transfer.files.keep_roots(roots, &learnt);
        let two_faced = transfer.files.learn(learnt);
        if is_mate && two_faced.is_err() {
            // The sharer has signed one thing for us and another for others: what it shares is not to be had of anybody.
            self.hopeless = true;
            self.accused = two_faced.err();
            return Ok(());
        }
        two_faced?;
        self.learned(cx, link, &entries);
        let settled = self.settle(cx, &entries);
        if is_mate {
            // What does not match came from the sharer, without a proof.
            self.accused = settled.err();
            return Ok(());
        }
        settled
    }

    /// Looks which of these entries are whole by now.
    pub(super) fn settle(&mut self, cx: &mut Context, entries: &[u32]) -> Result<(), Violation> {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return Ok(());
        };
        for entry in entries {
            let settled = transfer.files.settle(*entry);
            if settled == Settled::Fine {
                continue;
            }
            transfer.journal.dropped(&transfer.files, *entry);
            transfer.known.reusing.taken(*entry);
            if settled == Settled::Stale {
                continue;
            }
            self.bad += 1;
            if self.gone.is_some() {
                continue;
            }
            // A pipe can't take back what went through it.
            if self.bad >= cx.limits.bad_leaves || self.sink == SinkKind::Pipe {
                return Err(Violation::new("a file that does not match its root"));
            }
        }
        Ok(())
    }

    /// The sharer can't serve an entry. It has no say any more in one that is whole and checked.
    pub(super) fn entry_failed(&mut self, cx: &mut Context, entry: u32, reason: Failure) {
        // Nor yet in one that was not asked for, and may be here already.
        if matches!(&self.stage, Stage::Transfer(transfer)
            if transfer.files.is_whole(entry) || transfer.files.is_apart(entry))
        {
            return;
        }
        let reason = match reason {
            Failure::Changed => "it changed on the other side while it was being sent",
            Failure::Gone => "it is gone on the other side",
            Failure::Unreadable => "the other side can't read it",
            Failure::Passed => "it is a stream, and goes to one receiver once",
        };
        self.give_up(cx, entry, reason.to_string());
    }

    fn give_up(&mut self, cx: &mut Context, entry: u32, reason: String) {
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        if !transfer.files.fail(entry) {
            return;
        }
        transfer.journal.dropped(&transfer.files, entry);
        self.out_of_place(entry);
        let Stage::Transfer(transfer) = &mut self.stage else {
            return;
        };
        if let Some(path) = transfer.files.entry(entry).map(|entry| entry.path.clone()) {
            cx.event(Event::FileFailed {
                download: self.id,
                path,
                reason,
            });
        }
    }

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
                    if let Some(path) = transfer.files.entry(*entry).map(|entry| entry.path.clone())
                    {
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
                if let Some(path) = transfer.files.entry(entry).map(|entry| entry.path.clone()) {
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

/// What is asked for next: what comes next in order, or what a source of several has.
fn next(
    files: &mut Files,
    swarm: Option<&mut Box<Swarm>>,
    mate: Option<PeerId>,
    size: Size,
    cx: &mut Context,
) -> Option<(Vec<Segment>, u64)> {
    let Some(swarm) = swarm else {
        return files.next(size);
    };
    let segments = swarm.next(files, mate, size, cx.rng())?;
    let cost = files::cost_of(&segments);
    Some((segments, cost))
}

fn judge_mate(bad: u32, most: u32) -> Result<(), Violation> {
    if bad < most {
        return Ok(());
    }
    Err(Violation::new(format!(
        "{bad} pieces that do not match their root"
    )))
}
