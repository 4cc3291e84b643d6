//! How files are cut into chunks, for receivers that have an older version of one.
//!
//! A list costs a read of its whole file, so it is made when it is asked for, one at a time, and the last few are kept:
//! a receiver asks for a long one in parts.

use std::collections::{BTreeMap, VecDeque};

use super::super::context::Context;
use super::super::serving::FrameKind;
use super::super::{DiskDone, LinkId, PathKind, Violation};
use super::content::{Content, EntryState};
use super::receiver::ReceiverLink;
use crate::chunk::{Chunk, ENCODED, MAX_CHUNKS, encode};
use crate::limits::{MAX_PAYLOAD, RELAYED_PIECE};
use crate::message::Message;

/// Chunks of all lists that are kept, at the most; the last list is kept whatever it has.
const KEPT: usize = 2 * MAX_CHUNKS as usize;

/// The lists of a share.
#[derive(Default)]
pub(super) struct Chunks {
    /// The youngest stands last. An empty one says that there is none to be had.
    lists: VecDeque<(u32, Vec<Chunk>)>,
    /// The file that is being cut.
    cutting: Option<u32>,
    /// What links wait for, one thing each: an entry, and the first chunk.
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

    /// A receiver would know how a file is cut.
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

    /// The next file to be cut that somebody waits for, one at a time; `is_up`: whether a link still stands.
    pub(super) fn next(&mut self, is_up: impl Fn(LinkId) -> bool) -> Option<u32> {
        self.waiting.retain(|link, _| is_up(*link));
        if self.cutting.is_some() {
            return None;
        }
        self.waiting.values().next().map(|(entry, _)| *entry)
    }

    /// A file is being cut.
    pub(super) fn cuts(&mut self, entry: u32) {
        self.cutting = Some(entry);
    }

    /// A file is cut. Where that failed there is no list; what it means for the file is seen when it is read.
    pub(super) fn cut(&mut self, entry: u32, done: DiskDone) {
        self.cutting = None;
        let list = match done {
            DiskDone::Chunked(list) if list.len() <= MAX_CHUNKS as usize => list,
            _ => Vec::new(),
        };
        self.keep(entry, list);
    }

    /// Answers who waits for an entry's list, if it is here.
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
