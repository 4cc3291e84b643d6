//! Order in which links are served: the link with the fewest bytes goes first.
//!
//! With one request per turn, a link with larger requests would get more bytes, and could then ask for still more. So
//! each link has an account of its bytes. A link that is new, or had nothing to ask for, starts level with the others
//! and gets no credit for the past. (Start-time fair queuing: Goyal, Vin, Chen 1996.)

use std::collections::BTreeMap;

use super::LinkId;

/// Accounts of all links of one share or seeding download.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    /// Virtual time at which each link's next turn starts, in bytes.
    had: BTreeMap<LinkId, u64>,
    /// Virtual time at which the last turn started.
    clock: u64,
    /// Link that had the last turn.
    last: Option<LinkId>,
}

impl RoundRobin {
    /// Sorts links by their next turn.
    pub(super) fn order(&self, links: impl Iterator<Item = LinkId>) -> Vec<LinkId> {
        let mut links: Vec<_> = links.collect();
        links.sort_unstable_by_key(|link| (self.had(*link), Some(*link) <= self.last, *link));
        links
    }

    /// Notes that a link has its turn and gets this many bytes.
    pub(super) fn took(&mut self, link: LinkId, bytes: u64) {
        self.clock = self.had(link);
        self.last = Some(link);
        self.had.insert(link, self.clock.saturating_add(bytes));
    }

    /// Removes a link.
    pub(super) fn leave(&mut self, link: LinkId) {
        self.had.remove(&link);
    }

    fn had(&self, link: LinkId) -> u64 {
        let had = self.had.get(&link).copied().unwrap_or_default();
        had.max(self.clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKS: [LinkId; 3] = [LinkId(1), LinkId(2), LinkId(3)];

    fn next(turns: &RoundRobin, links: &[LinkId]) -> LinkId {
        turns.order(links.iter().copied())[0]
    }

    #[test]
    fn who_asks_for_more_at_once_gets_no_more_of_it() {
        let mut turns = RoundRobin::default();
        let mut got = [0; 3];
        for _ in 0..300 {
            let link = next(&turns, &LINKS);
            let at = LINKS.iter().position(|of| *of == link).unwrap();
            let bytes = [100, 100, 700][at];
            got[at] += bytes;
            turns.took(link, bytes);
        }
        assert!(
            got.iter().all(|had| got[0].abs_diff(*had) <= 700),
            "{got:?}"
        );
    }

    #[test]
    fn who_comes_late_or_had_nothing_to_ask_for_has_no_credit() {
        let mut turns = RoundRobin::default();
        let two = &LINKS[..2];
        for _ in 0..10 {
            turns.took(next(&turns, two), 100);
        }
        let order: Vec<_> = (0..6)
            .map(|_| {
                let link = next(&turns, &LINKS);
                turns.took(link, 100);
                link.0
            })
            .collect();
        assert_eq!(order, [3, 1, 2, 3, 1, 2]);
        turns.leave(LINKS[0]);
        assert_eq!(turns.had.len(), 2);
    }
}
