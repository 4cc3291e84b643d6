//! Rate limits for sending and receiving. Each direction has one [`RateLimiter`] with a common token bucket, plus one
//! bucket for each transfer that has a limit of its own.
//!
//! Waiting transfers are scheduled by weight (start-time fair queueing): the one that has transferred the fewest bytes
//! for its weight goes next. A transfer that wants nothing leaves its part to the others. Shares and downloads decide
//! what to send or request.

use std::collections::BTreeMap;

use super::token_bucket::{Bucket, piece};
use super::{Priority, Segment, TransferId};
use crate::limits::{GROUP, LEAF};
use crate::time::Time;

/// Minimum number of bytes that a segment counts for, so that a hundred thousand files of a few bytes have a cost.
const LEAST: u32 = LEAF / 32;
/// Weight of [`Priority::High`]. Virtual time counts bytes at this weight. All other weights divide it.
const SCALE: u64 = 16;

impl Priority {
    fn weight(self) -> u64 {
        match self {
            Self::Low => 1,
            Self::Normal => 4,
            Self::High => SCALE,
        }
    }
}

/// Rate limits of one direction.
#[derive(Debug, Default)]
pub(super) struct RateLimiter {
    common: Option<Bucket>,
    flows: BTreeMap<TransferId, Flow>,
    /// Start of the latest transfer's last turn, in virtual time.
    turn: u64,
}

/// State of one transfer.
#[derive(Debug, Default)]
struct Flow {
    own: Option<Bucket>,
    priority: Priority,
    /// Start of its next turn, in virtual time.
    turn: u64,
    /// True if it wanted to transfer and was not allowed to.
    waits: bool,
}

impl Flow {
    fn is_open(&self, now: Time) -> bool {
        self.own.as_ref().is_none_or(|own| own.is_open(now))
    }
}

impl RateLimiter {
    /// Sets the limit on all transfers together, in bytes per second. `None` removes it.
    pub(super) fn limit(&mut self, rate: Option<u64>, now: Time) {
        set(&mut self.common, rate, now);
    }

    /// Sets the limit of one transfer, in bytes per second. `None` removes it.
    pub(super) fn limit_one(&mut self, of: TransferId, rate: Option<u64>, now: Time) {
        set(&mut self.flows.entry(of).or_default().own, rate, now);
    }

    /// Sets the priority of one transfer.
    pub(super) fn weigh(&mut self, of: TransferId, priority: Priority) {
        self.flows.entry(of).or_default().priority = priority;
    }

    /// True if this transfer may go ahead: both buckets are open and no other transfer is first. Otherwise marks it as
    /// waiting, for [`RateLimiter::next`] to return later.
    pub(super) fn may(&mut self, of: TransferId, now: Time) -> bool {
        let common = self.common.as_ref();
        let open = common.is_none_or(|common| common.is_open(now));
        let ahead = match common {
            None => false,
            Some(_) => self
                .first(now)
                .is_some_and(|first| self.is_before(first, of)),
        };
        let flow = self.flows.entry(of).or_default();
        let may = open && !ahead && flow.is_open(now);
        flow.waits |= !may;
        may
    }

    /// Counts bytes of a transfer that goes ahead.
    pub(super) fn went(&mut self, of: TransferId, bytes: u64, now: Time) {
        let flow = self.flows.entry(of).or_default();
        for bucket in flow.own.iter_mut().chain(&mut self.common) {
            bucket.take(bytes, now);
        }
        self.turn = self.turn.max(flow.turn);
        let cost = bytes.saturating_mul(SCALE / flow.priority.weight());
        flow.turn = self.turn.saturating_add(cost);
    }

    /// Returns the next waiting transfer that may go ahead, and clears its mark. It waits again only once it is refused
    /// again.
    pub(super) fn next(&mut self, now: Time) -> Option<TransferId> {
        if self
            .common
            .as_ref()
            .is_some_and(|common| !common.is_open(now))
        {
            return None;
        }
        let first = self.first(now)?;
        self.flows.get_mut(&first)?.waits = false;
        Some(first)
    }

    /// Time at which the first waiting transfer may go ahead.
    pub(super) fn deadline(&self) -> Time {
        let opens = |bucket: &Option<Bucket>| bucket.as_ref().map_or(Time::ZERO, Bucket::opens_at);
        let waiting = self.flows.values().filter(|flow| flow.waits);
        let first = waiting.map(|flow| opens(&flow.own)).min();
        first.map_or(Time::NEVER, |first| first.max(opens(&self.common)))
    }

    /// Maximum number of bytes per request of this transfer.
    pub(super) fn piece(&self, of: TransferId) -> u32 {
        self.rate(of).map_or(GROUP, piece)
    }

    /// The lower of the two limits on this transfer, in bytes per second.
    pub(super) fn rate(&self, of: TransferId) -> Option<u64> {
        let own = self.flows.get(&of).and_then(|flow| flow.own.as_ref());
        let both = own.into_iter().chain(&self.common);
        both.map(Bucket::rate).min()
    }

    /// Removes the transfers for which `is_there` is false.
    pub(super) fn keep(&mut self, is_there: impl Fn(TransferId) -> bool) {
        self.flows.retain(|of, _| is_there(*of));
    }

    /// The first of the waiting transfers whose own bucket is open.
    fn first(&self, now: Time) -> Option<TransferId> {
        let waiting = self.flows.iter();
        let waiting = waiting.filter(|(_, flow)| flow.waits && flow.is_open(now));
        let first = waiting.min_by_key(|(of, flow)| (flow.turn.max(self.turn), **of));
        first.map(|(of, _)| *of)
    }

    fn is_before(&self, one: TransferId, other: TransferId) -> bool {
        let turn = |of: TransferId| {
            let turn = self.flows.get(&of).map_or(0, |flow| flow.turn);
            (turn.max(self.turn), of)
        };
        turn(one) < turn(other)
    }
}

fn set(bucket: &mut Option<Bucket>, rate: Option<u64>, now: Time) {
    match (bucket.as_mut(), rate) {
        (Some(bucket), Some(rate)) => bucket.set(rate, now),
        (_, rate) => *bucket = rate.map(|rate| Bucket::new(rate, now)),
    }
}

/// Number of bytes that these segments count for under a limit.
pub(super) fn cost(segments: &[Segment]) -> u64 {
    let cost = |segment: &Segment| u64::from(segment.len.max(LEAST));
    segments.iter().map(cost).sum()
}

#[cfg(test)]
mod tests {
    use super::super::DownloadId;
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    fn download(id: u64) -> TransferId {
        TransferId::Download(DownloadId(id))
    }

    /// Lets all transfers go ahead for ten seconds in pieces of these sizes. Returns the bytes of each.
    fn share_out(gate: &mut RateLimiter, wants: &[(TransferId, u64)]) -> Vec<u64> {
        let mut got = vec![0; wants.len()];
        let mut now = Time::ZERO;
        let mut go = |gate: &mut RateLimiter, of: TransferId, now: Time| {
            let Some(at) = wants.iter().position(|(other, _)| *other == of) else {
                return;
            };
            while gate.may(of, now) {
                gate.went(of, wants[at].1, now);
                got[at] += wants[at].1;
            }
        };
        for (of, _) in wants {
            go(gate, *of, now);
        }
        while now < at(10 * SECOND) {
            while let Some(of) = gate.next(now) {
                go(gate, of, now);
            }
            let deadline = gate.deadline();
            assert!(deadline > now, "a deadline in the past");
            now = deadline;
        }
        got
    }

    fn near(bytes: u64, wanted: u64) -> bool {
        bytes.abs_diff(wanted) <= wanted / 20
    }

    #[test]
    fn equals_get_equal_parts_whatever_the_size_of_their_requests() {
        let mut gate = RateLimiter::default();
        gate.limit(Some(1_000_000), Time::ZERO);
        let got = share_out(&mut gate, &[(download(1), 5000), (download(2), 20_000)]);
        assert!(got.iter().all(|bytes| near(*bytes, 5_000_000)), "{got:?}");
    }

    #[test]
    fn weights_are_one_four_sixteen_and_nobody_starves() {
        let mut gate = RateLimiter::default();
        gate.limit(Some(2_100_000), Time::ZERO);
        gate.weigh(download(1), Priority::Low);
        gate.weigh(download(3), Priority::High);
        let wants = [1, 2, 3].map(|id| (download(id), 10_000));
        let got = share_out(&mut gate, &wants);
        let wanted = [1_000_000, 4_000_000, 16_000_000];
        for (bytes, wanted) in got.iter().zip(wanted) {
            assert!(near(*bytes, wanted), "{got:?}");
        }
    }

    #[test]
    fn what_one_may_not_take_goes_to_the_others() {
        let mut gate = RateLimiter::default();
        gate.limit(Some(1_000_000), Time::ZERO);
        gate.limit_one(download(1), Some(100_000), Time::ZERO);
        gate.weigh(download(1), Priority::High);
        let got = share_out(&mut gate, &[(download(1), 5000), (download(2), 5000)]);
        assert!(
            near(got[0], 1_000_000) && near(got[1], 9_000_000),
            "{got:?}"
        );
    }

    #[test]
    fn who_wanted_nothing_for_long_has_no_arrears() {
        let mut gate = RateLimiter::default();
        gate.limit(Some(1_000_000), Time::ZERO);
        share_out(&mut gate, &[(download(2), 5000)]);
        // The clock restarts at zero, so the bucket has to be new.
        gate.limit(None, Time::ZERO);
        gate.limit(Some(1_000_000), Time::ZERO);
        let got = share_out(&mut gate, &[(download(1), 5000), (download(2), 5000)]);
        assert!(got.iter().all(|bytes| near(*bytes, 5_000_000)), "{got:?}");
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let mut gate = RateLimiter::default();
        for id in 1..3 {
            gate.went(download(id), 1 << 40, Time::ZERO);
            assert!(gate.may(download(id), Time::ZERO));
        }
        assert_eq!(gate.deadline(), Time::NEVER);
    }

    #[test]
    fn a_limit_that_is_lifted_holds_nobody_back() {
        let mut gate = RateLimiter::default();
        gate.limit_one(download(1), Some(1), Time::ZERO);
        gate.went(download(1), 1000, Time::ZERO);
        assert!(!gate.may(download(1), Time::ZERO));
        assert_eq!(gate.next(Time::ZERO), None);
        gate.limit_one(download(1), None, Time::ZERO);
        assert_eq!(gate.next(Time::ZERO), Some(download(1)));
    }

    #[test]
    fn a_file_of_a_few_bytes_counts_a_little() {
        let segment = |len| Segment {
            entry: 0,
            offset: 0,
            len,
        };
        assert_eq!(cost(&[segment(1), segment(2)]), 1024);
        assert_eq!(cost(&[segment(600), segment(LEAF)]), 600 + u64::from(LEAF));
    }
}
