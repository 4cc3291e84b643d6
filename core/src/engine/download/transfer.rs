//! An accepted download, and what it makes of answers: bytes, roots, failures.
//!
//! What is asked for is in [`asking`](super::asking), what becomes of the bytes in [`storing`](super::storing).

use std::collections::{BTreeMap, VecDeque};

use super::super::context::Context;
use super::super::{Event, LinkId, Piece, SinkKind, Violation};
use super::answer::{Data, Sorted, check, sort, verified};
use super::asking::Flow;
use super::earlier::Earlier;
use super::files::{self, Files, Settled};
use super::journal::Journal;
use super::known::Known;
use super::window::Rate;
use super::{Download, Stage, end_search};
use crate::limits::LEAF;
use crate::manifest::{Entry, EntryKind, SignedManifest, SignedRoots};
use crate::message::Failure;
use crate::time::Time;

/// An accepted download.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Transfer {
    pub(super) signed: SignedManifest,
    pub(super) files: Files,
    pub(super) journal: Journal,
    pub(super) known: Known,
    pub(super) earlier: Earlier,
    pub(super) sink: SinkKind,
    /// The staging folder stands.
    pub(super) staged: bool,
    /// To be written, in the order in which it came.
    pub(super) to_write: VecDeque<Vec<Piece>>,
    /// For a pipe: what came early, and where the pipe stands.
    pub(super) early: BTreeMap<u64, Piece>,
    pub(super) pipe_at: u64,
    pub(super) writes: usize,
    /// What is received and not on disk yet costs so much of a window.
    pub(super) unwritten: u64,
    pub(super) publishing: bool,
    pub(super) finishing: bool,
    /// Symlinks that were to be made at the end.
    pub(super) symlinks: u64,
    /// Roots that were asked for, with the link that was asked.
    pub(super) asked_roots: BTreeMap<u32, LinkId>,
    /// Several sources serve: ranges are asked for as they have them, and not in order.
    pub(super) several: bool,
    /// Hashes of the longest proof that a leaf of any file may have.
    pub(super) proof_hashes: u64,
    pub(super) started: Time,
    pub(super) rate: Rate,
    pub(super) report_due: Time,
    pub(super) have_due: Time,
}

impl Transfer {
    pub(super) fn new(
        signed: SignedManifest,
        (files, earlier): (Files, Earlier),
        journal: Journal,
        sink: SinkKind,
        now: Time,
    ) -> Self {
        let sizes = signed.manifest().entries().iter().filter_map(Entry::size);
        let leaves = sizes.max().unwrap_or_default().div_ceil(u64::from(LEAF));
        let proof_hashes = u64::from(u64::BITS - leaves.saturating_sub(1).leading_zeros());
        Self {
            proof_hashes,
            signed,
            files,
            journal,
            known: Known::default(),
            earlier,
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
        self.writes == 0 && self.to_write.is_empty() && !self.publishing && !self.earlier.is_busy()
    }
}

impl Download {
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
            shown,
        } = sorted;
        if let Some(state) = cx.links.get(link) {
            let bytes: u64 = pieces.iter().map(|piece| piece.data.len() as u64).sum();
            let bytes = bytes + shown.bytes;
            self.delivered.add(state.peer, bytes, bad, asked.at, cx.now);
            if let (Some(relay), true) = (state.relay, bytes > 0) {
                self.delivered.carried(relay, bytes);
            }
        }
        transfer.known.spared += shown.spared;
        let brings = !pieces.is_empty() || shown.bytes > 0;
        if !pieces.is_empty() {
            transfer.queue(pieces);
        }
        if brings && mate.is_none() {
            end_search(&mut self.search, cx);
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

    pub(super) fn give_up(&mut self, cx: &mut Context, entry: u32, reason: String) {
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
        if let Some(path) = transfer.files.place(entry) {
            cx.event(Event::FileFailed {
                download: self.id,
                path,
                reason,
            });
        }
    }
}

fn judge_mate(bad: u32, most: u32) -> Result<(), Violation> {
    if bad < most {
        return Ok(());
    }
    Err(Violation::new(format!(
        "{bad} pieces that do not match their root"
    )))
}
