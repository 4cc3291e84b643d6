//! Reputation of peers: the order in which peers and relays are tried.
//!
//! The driver supplies remembered values. They affect the order and nothing else: data from a peer with a good
//! reputation is verified like any other, and a peer with a bad one is still tried.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::PeerId;

/// Maximum number of peers whose reputation is kept. Any others count as unknown.
const PEERS: usize = 1024;
/// Reputation of a peer that broke the protocol in this run: below all others.
const BLAMED: i32 = i32::MIN;

/// Known reputations. Unknown peers have 0.
#[derive(Debug, Default)]
pub(super) struct Reputations {
    known: BTreeMap<PeerId, i32>,
}

impl Reputations {
    pub(super) fn set(&mut self, peer: PeerId, standing: i32) {
        if self.known.len() < PEERS || self.known.contains_key(&peer) {
            self.known.insert(peer, standing);
        }
    }

    /// Notes that a peer broke the protocol.
    pub(super) fn blamed(&mut self, peer: PeerId) {
        self.set(peer, BLAMED);
    }

    /// Sorts by reputation, best first. Equal ones keep their order.
    pub(super) fn sort<T>(&self, some: &mut [T], peer: impl Fn(&T) -> PeerId) {
        some.sort_by_key(|one| Reverse(self.of(peer(one))));
    }

    fn of(&self, peer: PeerId) -> i32 {
        self.known.get(&peer).copied().unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn peer(number: u16) -> PeerId {
        let [high, low] = number.to_be_bytes();
        PeerId::from_bytes(&[0, 2, high, low]).unwrap()
    }

    fn sorted(reputations: &Reputations, numbers: &[u16]) -> Vec<PeerId> {
        let mut peers: Vec<_> = numbers.iter().copied().map(peer).collect();
        reputations.sort(&mut peers, |peer| *peer);
        peers
    }

    #[test]
    fn better_ones_come_first_strangers_between_and_who_was_blamed_last() {
        let mut reputations = Reputations::default();
        reputations.set(peer(1), -5);
        reputations.set(peer(2), 7);
        reputations.set(peer(3), 100);
        reputations.blamed(peer(3));
        let wanted = [2, 8, 9, 1, 3].map(peer);
        assert_eq!(sorted(&reputations, &[3, 8, 1, 9, 2]), wanted);
    }

    /// Row 14.
    #[test]
    fn only_so_many_are_kept() {
        let mut reputations = Reputations::default();
        for number in 0..=1024 {
            reputations.set(peer(number), 1);
        }
        assert_eq!(reputations.known.len(), 1024);
        assert_eq!(sorted(&reputations, &[1024, 1023]), [1023, 1024].map(peer));
        reputations.set(peer(7), 2);
        assert_eq!(sorted(&reputations, &[1, 7]), [7, 1].map(peer));
    }
}
