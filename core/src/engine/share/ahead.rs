//! Roots in bulk: for receivers that look what they have already before they ask for bytes.
//!
//! What is known goes out at once, a few batches at a time; what is not is owed until it is hashed. Each link asks for
//! each entry once, in rising order: so all that one can make this side do is to go through its entries once.

use std::collections::VecDeque;

use super::super::bits::Bits;
use super::super::context::Context;
use super::super::{LinkId, Violation};
use super::content::{Content, EntryState};
use crate::limits::Limits;
use crate::manifest::MAX_ROOTS;
use crate::merkle::Hash;
use crate::message::Message;

/// Batches that may wait for a link.
const FLYING: usize = 4;

/// What one link has asked for in bulk.
#[derive(Default)]
pub(super) struct Ahead {
    /// Entries that were asked for and not looked at yet: from, and to before which.
    ranges: VecDeque<(u32, u32)>,
    /// Behind the last entry that was asked for.
    end: u32,
    /// Entries that are not hashed yet.
    owed: Bits,
    owes: usize,
    /// Batches that are on their way out.
    flying: VecDeque<u64>,
}

impl Ahead {
    /// The roots of some entries are wanted before bytes are.
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

    /// Sends what is known of what was asked for, as the link takes it. `told`: entries whose root went out on it.
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

    /// These files have come to be hashed: sends the roots of those that were waited for.
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

    /// Whether roots are waited for that are not known yet.
    pub(super) fn is_owed(&self) -> bool {
        self.owes > 0
    }

    /// The link has written a frame.
    pub(super) fn sent(&mut self, seq: u64) {
        while self.flying.pop_front_if(|first| *first <= seq).is_some() {}
    }

    /// The next roots that are known. What is passed on the way is owed.
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
