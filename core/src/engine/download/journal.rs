//! When received data is made safe for a later run, and what is recorded of it in the journal.
//!
//! Written groups accumulate. From time to time they are synced, then recorded. Complete files are recorded before they
//! are published, so that a crash in between leaves no unknown file. A download that ends quickly is never recorded:
//! that would cost more than it saves.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{DiskDone, DiskWork, DownloadId, Groups, Record, Whole};
use super::files::{Files, cost_of_bytes};
use crate::limits::Limits;
use crate::merkle::{Hash, group_len};
use crate::path::SafePath;
use crate::time::Time;

/// Maximum time for which data on disk goes unrecorded, however little it is.
const EVERY: Duration = Duration::from_secs(2);
/// Maximum number of files in one step.
pub(super) const FILES: usize = 256;

/// A download's data that is on disk and not yet in its journal.
pub(super) struct Journal {
    state: State,
    /// Groups written but not synced, by file.
    fresh: BTreeMap<u32, BTreeMap<u64, Hash>>,
    /// Window cost of `fresh`.
    fresh_cost: u64,
    published: Vec<(u32, SafePath)>,
    dropped: Vec<u32>,
    under_way: Option<Step>,
    /// When the download began.
    began: Time,
    /// When something was last recorded.
    last: Time,
}

/// State of the journal file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There can be none.
    Never,
    /// Not created yet: the download may end before it is worth one.
    NotYet,
    /// It exists.
    Kept,
    /// It exists, but nothing more can be recorded in it.
    Broken,
}

/// A step that is being synced or recorded.
struct Step {
    record: Record,
    /// Entries to publish once the step is recorded.
    ready: Vec<u32>,
    /// Window cost of the data that it makes safe.
    cost: u64,
    /// True if it records that files start again.
    drops: bool,
}

impl Journal {
    /// `can`: the download goes to a folder, and its size is known. `before`: an earlier run has left a journal.
    pub(super) fn new(can: bool, before: bool, files: &Files, limits: &Limits, now: Time) -> Self {
        let large = files.count.bytes.is_none_or(|bytes| bytes > limits.window);
        let many = files.count.wanted > FILES as u64;
        let state = match (can, before || large || many) {
            (false, _) => State::Never,
            (true, false) => State::NotYet,
            (true, true) => State::Kept,
        };
        Self {
            state,
            fresh: BTreeMap::new(),
            fresh_cost: 0,
            published: Vec::new(),
            dropped: Vec::new(),
            under_way: None,
            began: now,
            last: now,
        }
    }

    /// True if a later run can resume with what is there.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self.state, State::Kept | State::Broken)
    }

    /// True if something may be recorded, now or later.
    fn notes(&self) -> bool {
        matches!(self.state, State::NotYet | State::Kept)
    }

    /// True if files are recorded before they are published.
    pub(super) fn comes_first(&self) -> bool {
        self.state == State::Kept
    }

    /// True if files start again whose old data the journal lists. Nothing may be written over that data until this is
    /// recorded.
    pub(super) fn comes_before_writes(&self) -> bool {
        let drops = |step: &Step| step.drops;
        let under_way = self.under_way.as_ref().is_some_and(drops);
        self.state == State::Kept && (under_way || !self.dropped.is_empty())
    }

    /// True if a step is being synced or recorded.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Window cost of the data on disk that a crash would lose.
    pub(super) fn at_risk(&self) -> u64 {
        let under_way = self.under_way.as_ref().map_or(0, |step| step.cost);
        if self.state == State::Kept {
            self.fresh_cost + under_way
        } else {
            0
        }
    }

    /// Records that a group is written.
    pub(super) fn wrote(&mut self, files: &Files, entry: u32, group: u64, node: Hash) {
        if !self.notes() {
            return;
        }
        if let Some(size) = files.size(entry) {
            self.fresh.entry(entry).or_default().insert(group, node);
            self.fresh_cost += cost_of_bytes(group_len(size, group).into(), 1);
        }
    }

    /// Handles a file that leaves staging without having been recorded.
    pub(super) fn leaves(&mut self, files: &Files, entry: u32) {
        self.take_fresh(files, entry);
    }

    /// Handles a file that is published.
    pub(super) fn published(&mut self, files: &Files, entry: u32, path: &SafePath) {
        if self.notes() {
            self.take_fresh(files, entry);
            self.published.push((entry, path.clone()));
        }
    }

    /// Handles a file that starts again or is given up: what was written of it no longer counts.
    pub(super) fn dropped(&mut self, files: &Files, entry: u32) {
        if self.notes() {
            self.take_fresh(files, entry);
            self.dropped.push(entry);
        }
    }

    fn take_fresh(&mut self, files: &Files, entry: u32) -> (u64, BTreeMap<u64, Hash>) {
        let groups = self.fresh.remove(&entry).unwrap_or_default();
        let size = files.size(entry).unwrap_or_default();
        let lens = groups
            .keys()
            .map(|group| u64::from(group_len(size, *group)));
        let cost = cost_of_bytes(lens.sum(), groups.len());
        self.fresh_cost = self.fresh_cost.saturating_sub(cost);
        (cost, groups)
    }

    fn is_due(&self, limits: &Limits, now: Time) -> bool {
        let enough = limits.sync_every.min(limits.window / 3).max(1);
        let begins_anew = !self.dropped.is_empty();
        begins_anew || self.fresh_cost >= enough || (self.has_news() && now >= self.last + EVERY)
    }

    fn has_news(&self) -> bool {
        self.fresh_cost > 0 || !self.published.is_empty()
    }

    /// When something has to be recorded, if nothing happens before.
    pub(super) fn deadline(&self) -> Time {
        let idle = !self.has_news() || self.is_busy() || !self.notes();
        if idle { Time::NEVER } else { self.last + EVERY }
    }

    /// Collects what is to be recorded next.
    fn take(&mut self, files: &Files, ready: Vec<(u32, Option<Hash>)>) -> Step {
        let mut step = Step {
            record: Record {
                dropped: std::mem::take(&mut self.dropped),
                published: std::mem::take(&mut self.published),
                ..Record::default()
            },
            ready: ready.iter().map(|(entry, _)| *entry).collect(),
            cost: 0,
            drops: false,
        };
        step.drops = !step.record.dropped.is_empty();
        for (entry, root) in ready {
            step.cost += self.take_fresh(files, entry).0;
            // Without a root, an earlier run has recorded it.
            if let (Some(root), Some(path)) = (root, files.place(entry)) {
                step.record.whole.push(Whole {
                    entry,
                    path,
                    size: files.size(entry).unwrap_or_default(),
                    root,
                });
            }
        }
        let fresh: Vec<u32> = self.fresh.keys().copied().collect();
        for entry in fresh {
            let (cost, groups) = self.take_fresh(files, entry);
            step.cost += cost;
            let size = files.size(entry).unwrap_or_default();
            step.record.groups.extend(runs(entry, size, groups));
        }
        step
    }
}

impl Step {
    /// Files that have to be synced before the step is recorded.
    fn to_sync(&self) -> Vec<u32> {
        let groups = self.record.groups.iter().map(|groups| groups.entry);
        let whole = self.record.whole.iter().map(|whole| whole.entry);
        let mut entries: Vec<u32> = groups.chain(whole).collect();
        entries.sort_unstable();
        entries.dedup();
        entries
    }
}

/// Groups as runs without gaps.
fn runs(entry: u32, size: u64, groups: BTreeMap<u64, Hash>) -> Vec<Groups> {
    let mut runs: Vec<Groups> = Vec::new();
    for (group, node) in groups {
        match runs.last_mut() {
            Some(run) if run.first + run.nodes.len() as u64 == group => run.nodes.push(node),
            _ => runs.push(Groups {
                entry,
                size,
                first: group,
                nodes: vec![node],
            }),
        }
    }
    runs
}

impl Journal {
    /// Syncs and records what is due, and what is to be published. Returns true if there is something to publish: those
    /// files are being published from now on.
    pub(super) fn keep(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
        files: &mut Files,
        is_publishing: bool,
    ) -> bool {
        if self.is_busy() || !self.notes() {
            return false;
        }
        if self.state == State::NotYet && cx.now >= self.began + EVERY {
            self.state = State::Kept;
        }
        if self.state == State::NotYet {
            return false;
        }
        let ready = if is_publishing {
            Vec::new()
        } else {
            files.take_ready(FILES)
        };
        if ready.is_empty() && !self.is_due(&cx.limits, cx.now) {
            return false;
        }
        let publishes = !ready.is_empty();
        let step = self.take(files, ready);
        let entries = step.to_sync();
        self.under_way = Some(step);
        if entries.is_empty() {
            self.note(cx, download);
        } else {
            cx.disk(
                JobOwner::Download(download, DownloadJob::Sync),
                DiskWork::Sync { download, entries },
            );
        }
        publishes
    }

    /// Records the current step, whose data is on disk now.
    pub(super) fn note(&mut self, cx: &mut Context, download: DownloadId) {
        let Some(step) = &mut self.under_way else {
            return;
        };
        let record = std::mem::take(&mut step.record);
        cx.disk(
            JobOwner::Download(download, DownloadJob::Journal),
            DiskWork::Journal { download, record },
        );
    }

    /// Handles the end of a journal write. If it failed, the download continues, and what was recorded before remains
    /// valid. Returns the files that may be published now.
    pub(super) fn noted(&mut self, now: Time, done: &DiskDone) -> Vec<u32> {
        let Some(step) = self.under_way.take() else {
            return Vec::new();
        };
        self.last = now;
        if let DiskDone::Failed(error) = done {
            tracing::warn!(%error, "the journal can't be written; what comes from here on is lost if this run ends");
            self.state = State::Broken;
        }
        step.ready
    }
}
