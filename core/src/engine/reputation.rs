//! Who has done well before: in which order peers and relays are tried, where there are several.
//!
//! The driver tells what it remembers. It is an order and nothing else: bytes are checked as those of any stranger, and
//! who comes last is tried all the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::PeerId;

/// Peers whose standing is kept. Of more, it is as if nothing were known.
const PEERS: usize = 1024;
/// Who broke the protocol in this run comes behind everybody.
const BLAMED: i32 = i32::MIN;

/// What is known of peers. Who is not in it has a standing of 0.
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

    /// A peer broke the protocol.
    pub(super) fn blamed(&mut self, peer: PeerId) {
        self.set(peer, BLAMED);
    }

    /// Puts those first who have done best. Those who are alike stay in their order.
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
