//! Rate limits, priorities and pauses of shares as set by commands, and continuing transfers that no longer have to wait.

use super::download::Download;
use super::rate_limiter::RateLimiter;
use super::{Engine, ShareId};
use super::{Limited, Priority, TransferId};
use crate::time::Time;

/// Maximum number of times that waiting transfers continue after one input: far more than there are requests to make.
const ROUNDS: u32 = 100_000;

impl Engine {
    /// True if this transfer exists. No limits or other state are kept for one that does not.
    fn has(&self, of: TransferId) -> bool {
        match of {
            TransferId::Share(id) => self.shares.contains_key(&id),
            TransferId::Download(id) => self.downloads.contains_key(&id),
        }
    }

    /// The rate limiter for this transfer's direction.
    fn gate(&mut self, of: TransferId) -> &mut RateLimiter {
        match of {
            TransferId::Share(_) => &mut self.cx.up,
            TransferId::Download(_) => &mut self.cx.down,
        }
    }

    /// Sets, changes or removes a rate limit. Receivers whose pace changes are told.
    pub(super) fn limit(&mut self, limited: Limited, rate: Option<u64>) {
        let now = self.cx.now;
        match limited {
            Limited::Up => self.cx.up.limit(rate, now),
            Limited::Down => self.cx.down.limit(rate, now),
            Limited::One(of) if self.has(of) => {
                self.gate(of).limit_one(of, rate, now);
            }
            Limited::One(_) => {}
        }
        for share in self.shares.values_mut() {
            share.tell_pace(&mut self.cx);
        }
    }

    pub(super) fn pause_share(&mut self, share: ShareId, paused: bool) {
        if let Some(share) = self.shares.get_mut(&share) {
            share.pause(&mut self.cx, paused);
        }
    }

    pub(super) fn weigh(&mut self, of: TransferId, priority: Priority) {
        if self.has(of) {
            self.gate(of).weigh(of, priority);
        }
    }

    /// Continues transfers that no longer have to wait for a rate limit or for the memory budget, each in its turn.
    pub(super) fn go_on(&mut self) {
        let mut rounds = 0;
        while let Some(of) = self.next_to_go_on() {
            // Crashing is better than looping forever: a download can resume from the disk after it.
            assert!(rounds < ROUNDS, "{of:?} may go on and goes nowhere");
            rounds += 1;
            match of {
                TransferId::Share(id) => {
                    if let Some(share) = self.shares.get_mut(&id) {
                        share.pump(&mut self.cx);
                    }
                }
                TransferId::Download(id) => {
                    self.download(id, Download::go_on);
                }
            }
        }
    }

    fn next_to_go_on(&mut self) -> Option<TransferId> {
        let cx = &mut self.cx;
        let limited = cx.up.next(cx.now).or_else(|| cx.down.next(cx.now));
        limited.or_else(|| {
            let roomless = cx.memory.next(cx.limits.window_total);
            roomless.map(TransferId::Download)
        })
    }

    /// The earliest time at which a transfer that waits for a rate limit may continue.
    pub(super) fn flow_deadline(&self) -> Time {
        self.cx.up.deadline().min(self.cx.down.deadline())
    }

    /// Removes limits, priorities and the accounting of transfers that are over.
    pub(super) fn forget_flows(&mut self) {
        let (shares, downloads) = (&self.shares, &self.downloads);
        let is_there = |of| match of {
            TransferId::Share(id) => shares.contains_key(&id),
            TransferId::Download(id) => downloads.contains_key(&id),
        };
        self.cx.up.keep(is_there);
        self.cx.down.keep(is_there);
        self.cx.send_budget.keep(is_there);
    }
}
