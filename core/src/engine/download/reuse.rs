//! A new version of a file of which an older one is here: only what has changed is fetched.
//!
//! The sharer says how its file is cut into chunks, the disk copies those that the older file has too, and the leaves
//! that are covered by them count as here. Nobody vouches for that: a chunk's hash is short, the list may be a lie, and the
//! older file may have changed meanwhile. So what was reused is like what an earlier run has left: if the root is not
//! right in the end, it is thrown away and fetched, and nobody is to blame.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{DiskDone, DiskWork, DownloadId, LinkId, Violation};
use super::files::Files;
use crate::chunk::{self, Chunk, MAX_CHUNKS};
use crate::limits::LEAF;
use crate::merkle::Hash;
use crate::message::Message;
use crate::time::Time;

/// Smaller files are fetched as a whole: 1 MiB.
pub(super) const REUSED: u64 = 64 * LEAF as u64;
/// How long a list is waited for: so long, and a second for so many bytes, which the sharer has to read for it.
const LIST: Duration = Duration::from_secs(5);
const LIST_RATE: u64 = 32 * 1024 * 1024;

/// Older versions, and the one that is made use of: there is one list at a time.
#[derive(Default)]
pub(super) struct Reusing {
    /// Files under whose names an older version may stand.
    older: BTreeSet<u32>,
    queue: BTreeSet<u32>,
    list: Option<List>,
    /// Files whose lists were asked for, so that one may come late.
    asked: BTreeSet<u32>,
    /// Links on which an answer is owed: there is one question at a time.
    owed: BTreeSet<LinkId>,
    /// Bytes that were reused, by file.
    taken: BTreeMap<u32, u64>,
}

/// The list of one file.
struct List {
    entry: u32,
    asked: Option<LinkId>,
    until: Time,
    total: Option<u32>,
    chunks: Vec<Chunk>,
    /// It is whole: the disk is looking for its chunks.
    matching: bool,
}

impl List {
    fn is_whole(&self) -> bool {
        self.total
            .is_some_and(|total| self.chunks.len() as u64 >= u64::from(total))
    }
}

impl Reusing {
    /// Something stands under a file's final name.
    pub(super) fn stands(&mut self, entry: u32) {
        self.older.insert(entry);
    }

    /// Puts a file in line, if something stands under its name that was not looked at yet.
    pub(super) fn queue(&mut self, entry: u32) -> bool {
        let may = self.older.remove(&entry);
        if may {
            self.queue.insert(entry);
        }
        may
    }

    /// Takes a file out of the line, for it may be here as a whole; says whether it is not in use here.
    pub(super) fn give_back(&mut self, entry: u32) -> bool {
        if self.queue.remove(&entry) {
            self.older.insert(entry);
        }
        self.list.as_ref().is_none_or(|list| list.entry != entry)
    }

    /// Bytes of files that are not whole yet, and were reused.
    pub(super) fn bytes(&self) -> u64 {
        self.taken.values().sum()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.list.as_ref().is_some_and(|list| list.matching)
    }

    pub(super) fn deadline(&self) -> Time {
        let list = self.list.as_ref().filter(|list| !list.matching);
        list.map_or(Time::NEVER, |list| list.until)
    }

    /// A file whose list did not come in time, and all that are in line behind it: the sharer has no time for this.
    pub(super) fn late(&mut self, now: Time) -> Vec<u32> {
        let over = |list: &mut List| !list.matching && list.until <= now;
        let Some(list) = self.list.take_if(over) else {
            return Vec::new();
        };
        let mut late = vec![list.entry];
        late.extend(std::mem::take(&mut self.queue));
        late
    }

    /// Bytes of a file that were reused, asked for once.
    pub(super) fn taken(&mut self, entry: u32) -> u64 {
        self.taken.remove(&entry).unwrap_or_default()
    }

    /// A part of a list came. Says whether it was of use; without a list to be had the file is fetched.
    pub(super) fn part(
        &mut self,
        files: &mut Files,
        link: LinkId,
        (entry, first, total): (u32, u32, u32),
        payload: &[u8],
    ) -> Result<bool, Violation> {
        if !self.owed.remove(&link) || !self.asked.contains(&entry) {
            return Err(Violation::new("chunks that were not asked for"));
        }
        let part = chunk::decode(payload);
        let part = part.ok_or_else(|| Violation::new("chunks that are none"))?;
        let Some(list) = self.list.as_mut().filter(|list| list.entry == entry) else {
            return Ok(false); // It came too late.
        };
        if list.matching || first as usize != list.chunks.len() {
            return Ok(false); // Asked for on a link that is gone, too.
        }
        if total == 0 {
            self.list = None;
            files.release(entry);
            return Ok(true);
        }
        let behind = list.chunks.len().saturating_add(part.len());
        let same = list.total.is_none_or(|before| before == total);
        if part.is_empty() || !same || total > MAX_CHUNKS || behind > total as usize {
            return Err(Violation::new("chunks that do not fit their list"));
        }
        list.total = Some(total);
        list.chunks.extend(part);
        list.asked = None;
        let size = files.size(entry).unwrap_or_default();
        if list.is_whole() && !chunk::fits(&list.chunks, size) {
            return Err(Violation::new("chunks that are not those of the file"));
        }
        Ok(true)
    }
}

impl Reusing {
    /// Asks for the next list, or the next part of one. `is_up`: whether a link still stands.
    pub(super) fn ask(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        files: &Files,
        is_up: impl Fn(&LinkId) -> bool,
    ) {
        while self.list.is_none()
            && let Some(entry) = self.queue.pop_first()
        {
            if !files.is_deferred(entry) {
                continue;
            }
            let reading = files.size(entry).unwrap_or_default() / LIST_RATE;
            self.list = Some(List {
                entry,
                asked: None,
                until: cx.now + LIST + Duration::from_secs(reading),
                total: None,
                chunks: Vec::new(),
                matching: false,
            });
        }
        let Some(list) = &mut self.list else {
            return;
        };
        if list.matching || list.is_whole() || list.asked == Some(link) {
            return;
        }
        self.owed.retain(is_up);
        if !self.owed.insert(link) {
            return;
        }
        list.asked = Some(link);
        self.asked.insert(list.entry);
        let (entry, first) = (list.entry, u32::try_from(list.chunks.len()));
        let first = first.unwrap_or(u32::MAX);
        cx.send(link, Message::GetChunks { entry, first });
    }

    /// Has the disk look for the chunks of a list that is here.
    pub(super) fn match_chunks(&mut self, cx: &mut Context, download: DownloadId, files: &Files) {
        let whole = |list: &&mut List| !list.matching && list.is_whole();
        let Some(list) = self.list.as_mut().filter(whole) else {
            return;
        };
        let entry = list.entry;
        let file = files.seek(entry);
        let Some(file) = file.filter(|_| files.is_deferred(entry)) else {
            self.list = None;
            return;
        };
        list.matching = true;
        let chunks = std::mem::take(&mut list.chunks);
        cx.disk(
            JobOwner::Download(download, DownloadJob::Reuse { entry }),
            DiskWork::Reuse {
                download,
                file,
                chunks,
            },
        );
    }

    /// The disk has staged what the older version has of a file; the rest is asked for. The groups that are whole by that.
    pub(super) fn matched(
        &mut self,
        files: &mut Files,
        entry: u32,
        done: DiskDone,
    ) -> Vec<(u64, Hash)> {
        self.list = None;
        let parts = match done {
            DiskDone::Reused(parts) => parts,
            _ => Vec::new(),
        };
        if parts.is_empty() {
            files.release(entry);
            return Vec::new();
        }
        let (groups, bytes) = files.reuse(entry, &parts);
        self.taken.insert(entry, bytes);
        groups
    }
}
