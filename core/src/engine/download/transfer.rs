//! An accepted download: its files, and what becomes of the bytes that come for them.
//!
//! It decides what is asked for next, checks and stores what comes, and gives files their names. Over which links the bytes
//! come, and from whom, is not known here. Its parts: [`files`](super::files) (what is wanted and here),
//! [`storing`](super::storing), [`journal`](super::journal), [`earlier`](super::recheck) and [`known`](super::local) (what is
//! here already). What the disk answers is in [`publishing`](super::publishing).

use std::collections::{BTreeMap, BTreeSet};

use super::super::context::Context;
use super::super::{DownloadError, DownloadId, Event, LinkId, SinkKind, Violation};
use super::files::{Files, Settled};
use super::journal::Journal;
use super::local::LocalFiles;
use super::recheck::Recheck;
use super::requests::{Asked, Flow};
use super::storing::Writes;
use super::window::Rate;
use crate::limits::{LEAF, Limits};
use crate::manifest::{Entry, EntryKind, SignedManifest, SignedRoots};
use crate::merkle::Hash;
use crate::message::Failure;
use crate::time::Time;

/// An accepted download.
pub(in super::super) struct Transfer {
    pub(super) id: DownloadId,
    pub(super) signed: SignedManifest,
    pub(super) files: Files,
    pub(super) journal: Journal,
    pub(super) local: LocalFiles,
    pub(super) recheck: Recheck,
    pub(super) writes: Writes,
    pub(super) sink: SinkKind,
    /// The staging folder stands.
    pub(super) staged: bool,
    /// Files are being given their names.
    pub(super) publishing: bool,
    /// The last job of all is under way, or done: so many symlinks it makes.
    pub(super) finishing: Option<u64>,
    /// Roots that were asked for, with the link that was asked.
    asked_roots: BTreeMap<u32, LinkId>,
    /// Several sources serve: ranges are asked for as they have them, and not in order.
    pub(super) several: bool,
    /// Pieces and files that did not match their root, over all links: changing the link does not make them good.
    bad: u32,
    /// Hashes of the longest proof that a leaf of any file may have.
    pub(super) proof_hashes: u64,
    pub(super) started: Time,
    pub(super) rate: Rate,
    pub(super) report_due: Time,
    pub(super) have_due: Time,
}

/// Why a download can't go on as it is.
#[derive(Debug)]
pub(super) enum Stop {
    /// The sharer broke the protocol.
    Violation(Violation),
    /// It fails, and no peer is to blame.
    Failed(DownloadError),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<DownloadError> for Stop {
    fn from(error: DownloadError) -> Self {
        Self::Failed(error)
    }
}

impl Transfer {
    pub(super) fn new(
        id: DownloadId,
        signed: SignedManifest,
        (files, earlier): (Files, Recheck),
        journal: Journal,
        sink: SinkKind,
        now: Time,
    ) -> Self {
        let sizes = signed.manifest().entries().iter().filter_map(Entry::size);
        let leaves = sizes.max().unwrap_or_default().div_ceil(u64::from(LEAF));
        let proof_hashes = u64::from(u64::BITS - leaves.saturating_sub(1).leading_zeros());
        Self {
            id,
            proof_hashes,
            signed,
            files,
            journal,
            local: LocalFiles::default(),
            recheck: earlier,
            writes: Writes::new(sink),
            sink,
            staged: sink == SinkKind::Pipe,
            publishing: false,
            finishing: None,
            asked_roots: BTreeMap::new(),
            several: false,
            bad: 0,
            started: now,
            rate: Rate::default(),
            report_due: now,
            have_due: now,
        }
    }

    /// A link is gone with what was asked for on it.
    pub(super) fn lost(&mut self, flow: Flow) {
        for asked in flow.outstanding.into_values() {
            self.files.lost(asked.segments);
        }
    }

    /// When something is due here.
    pub(super) fn deadline(&self) -> Time {
        let journal = self.journal.deadline();
        self.report_due.min(journal).min(self.local.deadline())
    }

    /// Whether nothing is on its way to the disk.
    pub(super) fn is_waiting(&self) -> bool {
        self.writes.is_idle() && !self.publishing && !self.recheck.is_busy()
    }

    /// Whether it is a stream.
    pub(super) fn is_stream(&self) -> bool {
        self.files.is_stream(0)
    }

    /// What is here and would be lost by a crash, or waits for its name, costs so much of a window.
    pub(super) fn unsafe_yet(&self) -> u64 {
        self.writes.cost() + self.journal.at_risk() + self.files.nameless()
    }

    /// Whether nothing goes on before one more request is made, however full the window is: nothing is on its way to
    /// disk, and nothing is outstanding; or, where bytes have to come in order, what comes next stands before all that is.
    /// What came early for a pipe, and what a stream was asked for early, waits for that.
    pub(super) fn is_stuck(&self, outstanding: &BTreeMap<u64, Asked>, limits: &Limits) -> bool {
        // A file that gets its name makes room; and so does a sync, which is due or under way with so much at risk.
        if self.files.nameless() > 0 || self.journal.at_risk() > limits.window {
            return false;
        }
        let in_order = self.sink == SinkKind::Pipe || self.is_stream();
        if self.several || !in_order {
            return outstanding.is_empty() && self.writes.cost() == 0;
        }
        let outstanding = outstanding.values();
        let first = outstanding.filter_map(|asked| asked.segments.first()).min();
        let overdue = match (self.files.first_again(), first) {
            (Some(again), Some(first)) => again < first,
            (Some(_), None) => true,
            // What is held waits for something that is outstanding on another link, which comes or is lost with it.
            (None, None) => self.writes.cost() == 0,
            (None, Some(_)) => false,
        };
        overdue && self.writes.is_idle()
    }

    /// Whole files whose root is to be asked for on this link now, so that no more than `most` are awaited there.
    /// `asked_of_seeder`: what was asked for there, if it does not lead to the sharer.
    pub(super) fn roots_to_ask(
        &mut self,
        link: LinkId,
        mut asked_of_seeder: Option<&mut BTreeSet<u32>>,
        most: usize,
    ) -> Vec<u32> {
        let rootless = self.files.rootless();
        let asked = |entry: &u32| match &asked_of_seeder {
            Some(asked) => asked.contains(entry),
            None => self.asked_roots.get(entry) == Some(&link),
        };
        let (awaited, new): (Vec<u32>, Vec<u32>) = rootless.into_iter().partition(asked);
        let room = most.saturating_sub(awaited.len());
        let new: Vec<u32> = new.into_iter().take(room).collect();
        for entry in &new {
            match &mut asked_of_seeder {
                Some(asked) => {
                    asked.insert(*entry);
                }
                None => {
                    self.asked_roots.insert(*entry, link);
                }
            }
        }
        new
    }

    /// Pieces of the sharer did not match their root.
    pub(super) fn mismatched(&mut self, bad: u32, limits: &Limits) -> Result<(), Violation> {
        self.bad += bad;
        if self.bad < limits.bad_leaves {
            return Ok(());
        }
        let pieces = self.bad;
        Err(Violation::new(format!(
            "{pieces} pieces that do not match their root"
        )))
    }

    /// Roots, if the sharer has signed them for this manifest.
    pub(super) fn verified(&self, roots: &SignedRoots) -> Result<Vec<(u32, Hash)>, Violation> {
        roots
            .verify(&self.signed.id(), &self.signed.signer())
            .map_err(|error| Violation::new(format!("its roots are refused: {error}")))
    }

    /// Takes in roots that were [verified](Self::verified).
    pub(super) fn learn(
        &mut self,
        roots: &SignedRoots,
        learnt: Vec<(u32, Hash)>,
    ) -> Result<(), Violation> {
        self.files.keep_roots(roots, &learnt);
        self.files.learn(learnt)
    }

    /// Chunks of a file came: `part` is the entry, the first chunk's number, and how many there are in all.
    pub(super) fn chunks(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        part: (u32, u32, u32),
        payload: &[u8],
    ) -> Result<(), Violation> {
        let (known, files) = (&mut self.local, &mut self.files);
        let taken = known.reusing.part(files, link, part, payload)?;
        if let Some(state) = cx.links.get_mut(link).filter(|_| taken) {
            state.progressed(&cx.limits);
        }
        Ok(())
    }

    /// A stream can become whole by its end alone, with nothing more to write.
    pub(super) fn settle_stream(
        &mut self,
        limits: &Limits,
        may_blame: bool,
    ) -> Result<(), Violation> {
        let first = self.signed.manifest().entry(0).map(|entry| &entry.kind);
        if matches!(first, Some(EntryKind::Stream)) {
            return self.settle(limits, &[0], may_blame);
        }
        Ok(())
    }

    /// Looks which of these entries are whole by now. `may_blame`: the sharer is there to be blamed for one that is wrong.
    pub(super) fn settle(
        &mut self,
        limits: &Limits,
        entries: &[u32],
        may_blame: bool,
    ) -> Result<(), Violation> {
        for entry in entries {
            let settled = self.files.settle(*entry);
            if settled == Settled::Fine {
                continue;
            }
            self.journal.dropped(&self.files, *entry);
            self.local.reusing.taken(*entry);
            if settled == Settled::Stale {
                continue;
            }
            self.bad += 1;
            if !may_blame {
                continue;
            }
            // A pipe can't take back what went through it.
            if self.bad >= limits.bad_leaves || self.sink == SinkKind::Pipe {
                return Err(Violation::new("a file that does not match its root"));
            }
        }
        Ok(())
    }

    /// The sharer can't serve an entry. It has no say any more in one that is whole and checked.
    pub(super) fn entry_failed(&mut self, cx: &mut Context, entry: u32, reason: Failure) {
        // Nor yet in one that was not asked for, and may be here already.
        if self.files.is_whole(entry) || self.files.is_deferred(entry) {
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

    /// A file will not come.
    pub(super) fn give_up(&mut self, cx: &mut Context, entry: u32, reason: String) {
        if !self.files.fail(entry) {
            return;
        }
        self.journal.dropped(&self.files, entry);
        self.local.out_of_place(&mut self.files, entry);
        if let Some(path) = self.files.place(entry) {
            cx.event(Event::FileFailed {
                download: self.id,
                path,
                reason,
            });
        }
    }
}
