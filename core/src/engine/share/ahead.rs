//! Bulk requests for roots, by receivers that look for files they already have before they request bytes.
//!
//! Known roots are sent at once, a few batches at a time; the others as soon as they are hashed. A link may request
//! each entry only once, in ascending order, so the most it can cause is one pass over the share's entries.

use std::collections::VecDeque;

use super::super::bits::Bits;
use super::super::context::Context;
use super::super::{LinkId, Violation};
use super::content::{Content, EntryState};
use crate::limits::Limits;
use crate::manifest::MAX_ROOTS;
use crate::merkle::Hash;
use crate::message::Message;

/// Maximum number of batches of roots queued on one link and not yet written.
const FLYING: usize = 4;

/// The roots that one link has requested in bulk.
#[derive(Default)]
pub(super) struct Ahead {
    /// Requested ranges not yet processed, as (first entry, one past the last entry).
    ranges: VecDeque<(u32, u32)>,
    /// One past the last entry requested so far.
    end: u32,
    /// Requested entries that are not hashed yet.
    owed: Bits,
    owes: usize,
    /// Sequence numbers of the batches that the link has not written yet.
    flying: VecDeque<u64>,
}

impl Ahead {
    /// Queues a request for the roots of `count` entries from `first`.
    pub(super) fn want(
        &mut self,
        (first, count): (u32, u32),
        content: &Content,
        limits: &Limits,
    ) -> Result<(), Violation> {
        let end = first.checked_add(count);
        let Some(end) = end.filter(|end| count > 0 && *end <= content.entry_count()) else {
            return Err(Violation::new("the roots of what is not there"));
        };
        if first < self.end {
            return Err(Violation::new("asks for the same roots twice"));
        }
        if self.ranges.len() >= limits.requests {
            return Err(Violation::new("too many roots at once"));
        }
        self.end = end;
        self.ranges.push_back((first, end));
        Ok(())
    }

    /// Sends the known roots among those requested, as fast as the link takes them. `told`: entries whose root was sent
    /// on it.
    pub(super) fn pay(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        content: &Content,
        told: &mut Bits,
    ) {
        while self.flying.len() < FLYING && !self.ranges.is_empty() {
            let roots = self.next(content);
            if roots.is_empty() {
                return;
            }
            if told.bound() == 0 {
                *told = Bits::new(content.entry_count() as usize);
            }
            for (entry, _) in &roots {
                told.insert(*entry as usize);
            }
            if let Some(signed) = content.sign_roots(&roots, &cx.identity) {
                let seq = cx.send(link, Message::Roots(signed));
                self.flying.extend(seq);
            }
        }
    }

    /// Sends the roots of newly hashed files to a link that has requested them.
    pub(super) fn pay_owed(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        content: &Content,
        fresh: &[u32],
    ) {
        let owed = fresh.iter().copied();
        let due: Vec<_> = owed
            .filter(|entry| self.owed.remove(*entry as usize))
            .filter_map(|entry| Some((entry, content.root(entry)?)))
            .collect();
        self.owes = self.owes.saturating_sub(due.len());
        for batch in due.chunks(MAX_ROOTS) {
            if let Some(signed) = content.sign_roots(batch, &cx.identity) {
                cx.send(link, Message::Roots(signed));
            }
        }
    }

    /// True if requested roots are not known yet.
    pub(super) fn is_owed(&self) -> bool {
        self.owes > 0
    }

    /// Handles that the link has written its frames up to `seq`.
    pub(super) fn sent(&mut self, seq: u64) {
        while self.flying.pop_front_if(|first| *first <= seq).is_some() {}
    }

    /// Returns the next batch of known roots. Files passed on the way that are not hashed yet are marked as owed.
    fn next(&mut self, content: &Content) -> Vec<(u32, Hash)> {
        let mut roots = Vec::new();
        while roots.len() < MAX_ROOTS
            && let Some((next, end)) = self.ranges.front_mut()
        {
            let entry = *next;
            *next += 1;
            if *next >= *end {
                self.ranges.pop_front();
            }
            match (content.entry(entry), content.root(entry)) {
                (_, Some(root)) => roots.push((entry, root)),
                (Some(EntryState::File { .. }), None) => {
                    if self.owed.bound() == 0 {
                        self.owed = Bits::new(content.entry_count() as usize);
                    }
                    self.owes += usize::from(self.owed.insert(entry as usize));
                }
                _ => {}
            }
        }
        roots
    }
}
