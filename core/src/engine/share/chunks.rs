//! Chunk lists of files, for receivers that have an older version of a file.
//!
//! A list costs a read of the whole file, so lists are made on request, one at a time. The last few are kept, because a
//! receiver requests a long list in parts.

use std::collections::{BTreeMap, VecDeque};

use super::super::context::Context;
use super::super::serving::FrameKind;
use super::super::{DiskDone, LinkId, PathKind, Violation};
use super::content::{Content, EntryState};
use super::receiver::ReceiverLink;
use crate::chunk::{Chunk, ENCODED, MAX_CHUNKS, encode};
use crate::limits::{MAX_PAYLOAD, RELAYED_PIECE};
use crate::message::Message;

/// Maximum number of chunks in all lists that are kept. The newest list is kept whatever its length.
const KEPT: usize = 2 * MAX_CHUNKS as usize;

/// The chunk lists of a share.
#[derive(Default)]
pub(super) struct Chunks {
    /// Lists by entry, newest last. An empty list means that none is available.
    lists: VecDeque<(u32, Vec<Chunk>)>,
    /// The file whose list is being made.
    cutting: Option<u32>,
    /// The pending request of each link, at most one: the entry and the first chunk.
    waiting: BTreeMap<LinkId, (u32, u32)>,
}

impl Chunks {
    fn of(&self, entry: u32) -> Option<&[Chunk]> {
        let found = self.lists.iter().find(|(of, _)| *of == entry);
        found.map(|(_, list)| list.as_slice())
    }

    fn keep(&mut self, entry: u32, list: Vec<Chunk>) {
        self.lists.push_back((entry, list));
        let total = |lists: &VecDeque<(u32, Vec<Chunk>)>| -> usize {
            lists.iter().map(|(_, list)| list.len().max(1)).sum()
        };
        while self.lists.len() > 1 && total(&self.lists) > KEPT {
            self.lists.pop_front();
        }
    }

    /// Registers a receiver's request for the chunks of a file.
    pub(super) fn want(
        &mut self,
        link: LinkId,
        (entry, first): (u32, u32),
        content: Option<&Content>,
    ) -> Result<(), Violation> {
        let state = content.and_then(|content| content.entry(entry));
        if !matches!(
            state,
            Some(EntryState::File { .. } | EntryState::Failed { .. })
        ) {
            return Err(Violation::new("the chunks of what has none"));
        }
        if self.waiting.insert(link, (entry, first)).is_some() {
            return Err(Violation::new("asks for chunks before the last ones came"));
        }
        Ok(())
    }

    /// Returns the next requested file to chunk, unless one is in progress. `is_up`: true if a link still exists.
    pub(super) fn next(&mut self, is_up: impl Fn(LinkId) -> bool) -> Option<u32> {
        self.waiting.retain(|link, _| is_up(*link));
        if self.cutting.is_some() {
            return None;
        }
        self.waiting.values().next().map(|(entry, _)| *entry)
    }

    /// Marks a file as being chunked.
    pub(super) fn cuts(&mut self, entry: u32) {
        self.cutting = Some(entry);
    }

    /// Stores the list of a file. After a failure the list is empty; what the failure means for the file shows when it
    /// is read.
    pub(super) fn cut(&mut self, entry: u32, done: DiskDone) {
        self.cutting = None;
        let list = match done {
            DiskDone::Chunked(list) if list.len() <= MAX_CHUNKS as usize => list,
            _ => Vec::new(),
        };
        self.keep(entry, list);
    }

    /// Answers all pending requests for an entry's chunks, if its list is available.
    pub(super) fn pay(
        &mut self,
        cx: &mut Context,
        entry: u32,
        links: &mut BTreeMap<LinkId, ReceiverLink>,
    ) -> Result<(), Violation> {
        let Some(list) = self.of(entry) else {
            return Ok(());
        };
        let total = u32::try_from(list.len()).unwrap_or(u32::MAX);
        let waiting = self.waiting.iter();
        let due: Vec<_> = waiting
            .filter(|(_, (of, _))| *of == entry)
            .map(|(link, (_, first))| (*link, *first))
            .collect();
        let mut answers = Vec::new();
        let mut beyond = false;
        for (link, first) in due {
            let rest = list.get(first as usize..).unwrap_or_default();
            beyond |= total > 0 && rest.is_empty();
            let relayed = cx.links.get(link).map(|link| link.path) == Some(PathKind::Relayed);
            let most = if relayed { RELAYED_PIECE } else { MAX_PAYLOAD } as usize / ENCODED;
            let part = encode(rest.get(..most).unwrap_or(rest));
            answers.push((link, first, part));
        }
        for (link, first, part) in answers {
            self.waiting.remove(&link);
            let bytes = part.len() as u64;
            let message = Message::Chunks {
                entry,
                first,
                total,
            };
            let seq = cx.send_with(link, message, part.into());
            if let Some(receiver) = links.get_mut(&link) {
                receiver.serving.sends(seq, bytes, FrameKind::Chunks);
            }
        }
        if beyond {
            return Err(Violation::new("asks for chunks behind the last one"));
        }
        Ok(())
    }
}
