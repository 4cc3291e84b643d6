//! Hashing ahead of what receivers request, so that every file gets its root.

use super::super::context::{Context, JobOwner, ShareJob};
use super::super::{DiskDone, DiskError, DiskWork, Event, GroupHash, Segment};
use super::content::Content;
use super::{REPORT_EVERY, Share};
use crate::limits::GROUP;

/// Number of groups hashed ahead in one job: 4 MiB.
const HASH_AHEAD: u64 = 16;

impl Share {
    /// Starts a job that hashes the next part of the share that is not hashed yet.
    pub(super) fn start_hashing(&mut self, cx: &mut Context) {
        let busy = self.hashing;
        let Some(content) = &mut self.content else {
            return;
        };
        if busy || self.jobs >= cx.limits.disk_jobs {
            return;
        }
        let Some(job) = next_to_hash(content, self.id, cx.limits.segments) else {
            return;
        };
        self.hashing = true;
        self.jobs += 1;
        let (job, work) = job;
        cx.disk(JobOwner::Share(self.id, job), work);
    }

    pub(super) fn groups_hashed(
        &mut self,
        cx: &mut Context,
        entry: u32,
        first: u64,
        done: DiskDone,
    ) {
        self.hashing = false;
        let Some(content) = &mut self.content else {
            return;
        };
        match done {
            DiskDone::Hashed { hashes } => {
                for (group, hash) in (first..).zip(hashes) {
                    content.insert(entry, group, hash);
                }
            }
            DiskDone::Failed(error) => {
                content.fail(entry, &error);
                self.report_failed(cx, vec![(entry, error)]);
            }
            _ => {
                content.fail(entry, &DiskError::NotFound);
            }
        }
        self.hashed(cx);
    }

    pub(super) fn files_hashed(&mut self, cx: &mut Context, entries: &[u32], done: DiskDone) {
        self.hashing = false;
        let Some(content) = &mut self.content else {
            return;
        };
        let results = match done {
            DiskDone::Read { segments, .. } => segments,
            DiskDone::Failed(error) => vec![Err(error); entries.len()],
            _ => Vec::new(),
        };
        let mut failed = Vec::new();
        for (entry, result) in entries.iter().zip(results) {
            match result {
                Ok(Some(GroupHash { hash, .. })) => {
                    content.insert(*entry, 0, hash);
                }
                Ok(None) => {}
                Err(error) => {
                    content.fail(*entry, &error);
                    failed.push((*entry, error));
                }
            }
        }
        self.report_failed(cx, failed);
        self.hashed(cx);
    }

    /// Reports the progress of hashing at intervals, and sends roots that were requested earlier.
    pub(super) fn hashed(&mut self, cx: &mut Context) {
        if let Some(content) = &self.content
            && content.hashed != self.reported
            && (cx.now >= self.report_due || content.hashed == content.total)
        {
            self.reported = content.hashed;
            self.report_due = cx.now + REPORT_EVERY;
            cx.event(Event::ShareHashed {
                share: self.id,
                done: content.hashed,
                total: content.total,
            });
        }
        self.pay_roots(cx);
        self.tell_fresh(cx);
    }
}

/// Returns the next hashing job: groups of one large file, or a few small files.
fn next_to_hash(
    content: &mut Content,
    share: super::ShareId,
    most: usize,
) -> Option<(ShareJob, DiskWork)> {
    let mut segments = Vec::new();
    let mut bytes = 0;
    while content.cursor < content.entry_count() && segments.len() < most {
        let entry = content.cursor;
        if let Some((size, first)) = content.unhashed(entry) {
            if size > u64::from(GROUP) {
                if segments.is_empty() {
                    return Some(large_job(share, entry, size, first));
                }
                break;
            }
            if bytes + size > u64::from(GROUP) {
                break;
            }
            bytes += size;
            let len = u32::try_from(size).unwrap_or(GROUP);
            segments.push(Segment {
                entry,
                offset: 0,
                len,
            });
        }
        content.cursor += 1;
    }
    if segments.is_empty() {
        return None;
    }
    let entries = segments.iter().map(|segment| segment.entry).collect();
    let work = DiskWork::Read {
        share,
        segments,
        hash: true,
    };
    Some((ShareJob::HashFiles { entries }, work))
}

fn large_job(share: super::ShareId, entry: u32, size: u64, first: u64) -> (ShareJob, DiskWork) {
    let groups = size.div_ceil(u64::from(GROUP));
    let count = (groups - first).min(HASH_AHEAD);
    let count = u32::try_from(count).unwrap_or(1);
    let work = DiskWork::HashGroups {
        share,
        entry,
        first,
        count,
    };
    (ShareJob::HashGroups { entry, first }, work)
}
