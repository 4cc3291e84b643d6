//! Roots in bulk: for receivers that look what they have already before they ask for bytes.
//!
//! What is known goes out at once, a few batches at a time; what is not is owed until it is hashed. Each link asks for
//! each entry once, in rising order: so all that one can make this side do is to go through its entries once.

use std::collections::VecDeque;

use super::super::bits::Bits;
use super::super::context::{Context, JobOwner, ShareJob};
use super::super::{DiskWork, LinkId, Violation};
use super::Share;
use super::content::{Content, EntryState};
use crate::manifest::MAX_ROOTS;
use crate::message::Message;

/// Batches that may wait for a link.
const FLYING: usize = 4;

/// What one link has asked for in bulk.
#[derive(Default)]
pub(in super::super) struct Ahead {
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
    /// The link has written a frame.
    pub(super) fn sent(&mut self, seq: u64) {
        while self.flying.pop_front_if(|first| *first <= seq).is_some() {}
    }

    /// The next roots that are known. What is passed on the way is owed.
    fn next(&mut self, content: &Content) -> Vec<(u32, crate::merkle::Hash)> {
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

impl Share {
    /// Roots are wanted before bytes are.
    pub(super) fn get_roots(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        first: u32,
        count: u32,
    ) -> Result<(), Violation> {
        let (Some(content), Some(serving)) = (&self.content, self.serving.get_mut(&link)) else {
            return Err(Violation::new("roots before there is a manifest"));
        };
        let end = first.checked_add(count);
        let Some(end) = end.filter(|end| count > 0 && *end <= content.entry_count()) else {
            return Err(Violation::new("the roots of what is not there"));
        };
        let ahead = &mut serving.ahead;
        if first < ahead.end {
            return Err(Violation::new("asks for the same roots twice"));
        }
        if ahead.ranges.len() >= cx.limits.requests {
            return Err(Violation::new("too many roots at once"));
        }
        ahead.end = end;
        ahead.ranges.push_back((first, end));
        self.pay_ahead(cx, link);
        Ok(())
    }

    /// Sends what is known of what a link has asked for, as the link takes it.
    pub(super) fn pay_ahead(&mut self, cx: &mut Context, link: LinkId) {
        let (Some(content), Some(serving)) = (&self.content, self.serving.get_mut(&link)) else {
            return;
        };
        while serving.ahead.flying.len() < FLYING && !serving.ahead.ranges.is_empty() {
            let roots = serving.ahead.next(content);
            if roots.is_empty() {
                return;
            }
            if serving.told.bound() == 0 {
                serving.told = Bits::new(content.entry_count() as usize);
            }
            for (entry, _) in &roots {
                serving.told.insert(*entry as usize);
            }
            if let Some(signed) = content.sign_roots(&roots, &cx.identity) {
                let seq = cx.send(link, Message::Roots(signed));
                serving.ahead.flying.extend(seq);
            }
        }
    }

    /// Files have come to be hashed: links that wait for their roots get them.
    pub(super) fn tell_fresh(&mut self, cx: &mut Context) {
        let Some(content) = &mut self.content else {
            return;
        };
        let fresh = std::mem::take(&mut content.fresh);
        for (link, serving) in &mut self.serving {
            let ahead = &mut serving.ahead;
            let owed = fresh.iter().copied();
            let due: Vec<_> = owed
                .filter(|entry| ahead.owed.remove(*entry as usize))
                .filter_map(|entry| Some((entry, content.root(entry)?)))
                .collect();
            ahead.owes = ahead.owes.saturating_sub(due.len());
            for batch in due.chunks(MAX_ROOTS) {
                if let Some(signed) = content.sign_roots(batch, &cx.identity) {
                    cx.send(*link, Message::Roots(signed));
                }
            }
        }
        self.unnoted.extend(fresh);
    }

    /// Whether somebody waits for roots before it asks for bytes.
    pub(super) fn owes_roots(&self) -> bool {
        self.serving.values().any(|serving| serving.ahead.owes > 0)
    }

    /// Has this device note which of its files are what.
    pub(super) fn note_roots(&mut self, cx: &mut Context) {
        let Some(content) = &self.content else {
            return;
        };
        if self.noting || self.unnoted.is_empty() || self.jobs >= cx.limits.disk_jobs {
            return;
        }
        let entries = std::mem::take(&mut self.unnoted);
        let roots = entries
            .into_iter()
            .filter_map(|entry| Some((entry, content.root(entry)?)))
            .collect();
        self.noting = true;
        self.jobs += 1;
        let share = self.id;
        cx.disk(
            JobOwner::Share(share, ShareJob::Note),
            DiskWork::Known { share, roots },
        );
    }
}
