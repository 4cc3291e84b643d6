//! When to dial the bootstrap nodes: all at once at the start, then with growing pauses for as long as no node is known

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// First and maximum pause. Each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Interval between checks that nodes are still known.
const LOOK: Duration = Duration::from_secs(30);

/// The bootstrap nodes and the state of their dials.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    nodes: Vec<(PeerId, Vec<Multiaddr>)>,
    connected: BTreeSet<PeerId>,
    /// Nodes whose dial has not failed in this round.
    promising: BTreeSet<PeerId>,
    /// True if none of the known DHT nodes has answered.
    lost: bool,
    /// Time of the next round, and the pause after it.
    next: Instant,
    pause: Duration,
}

impl Bootstrap {
    pub(crate) fn new(nodes: Vec<(PeerId, Vec<Multiaddr>)>, now: Instant) -> Self {
        Self {
            promising: nodes.iter().map(|(node, _)| *node).collect(),
            nodes,
            connected: BTreeSet::new(),
            lost: false,
            next: now,
            pause: FIRST_PAUSE,
        }
    }

    /// The bootstrap nodes with their addresses.
    pub(crate) fn nodes(&self) -> &[(PeerId, Vec<Multiaddr>)] {
        &self.nodes
    }

    /// Number of bootstrap nodes.
    pub(crate) fn configured(&self) -> usize {
        self.nodes.len()
    }

    /// Number of connected bootstrap nodes.
    pub(crate) fn connected(&self) -> usize {
        self.connected.len()
    }

    /// True if a bootstrap node may still come up in this round.
    pub(crate) fn may_come(&self) -> bool {
        !self.promising.is_empty()
    }

    /// Records that a peer could not be dialled.
    pub(crate) fn failed(&mut self, peer: PeerId) {
        self.promising.remove(&peer);
    }

    /// Records that this peer has a connection, or none any more.
    pub(crate) fn set_connected(&mut self, peer: PeerId, connected: bool) {
        if !connected {
            self.connected.remove(&peer);
        } else if self.nodes.iter().any(|(node, _)| *node == peer) {
            self.connected.insert(peer);
            self.lost = false;
        }
    }

    /// Records that none of the known DHT nodes has answered, and makes a round due now.
    pub(crate) fn nobody_answered(&mut self, now: Instant) {
        if !self.lost {
            self.lost = true;
            self.next = self.next.min(now);
        }
    }

    /// Time of the next call to [`wake`](Self::wake).
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        (!self.nodes.is_empty()).then_some(self.next)
    }

    /// Returns the nodes to dial now. `settled`: other DHT nodes are known, so bootstrap nodes are not needed.
    pub(crate) fn wake(&mut self, settled: bool, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        if self.nodes.is_empty() || now < self.next {
            return Vec::new();
        }
        self.next = now + self.pause;
        if (settled && !self.lost) || !self.connected.is_empty() {
            self.pause = FIRST_PAUSE;
            self.next = now + LOOK;
            return Vec::new();
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.promising = self.nodes.iter().map(|(node, _)| *node).collect();
        self.nodes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(now: Instant) -> (Bootstrap, PeerId) {
        let node = PeerId::random();
        let address = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        (Bootstrap::new(vec![(node, vec![address])], now), node)
    }

    #[test]
    fn pauses_grow_up_to_a_bound_while_nobody_answers() {
        let mut now = Instant::now();
        let (mut bootstrap, _) = bootstrap(now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(bootstrap.wake(false, now).len(), 1);
            assert!(bootstrap.wake(false, now).is_empty(), "not twice at once");
            let next = bootstrap.next_wake().unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
    }

    #[test]
    fn where_every_dial_has_failed_nobody_is_waited_for() {
        let now = Instant::now();
        let (mut bootstrap, node) = bootstrap(now);
        assert!(bootstrap.may_come(), "not dialled yet");
        bootstrap.wake(false, now);
        bootstrap.failed(node);
        assert!(!bootstrap.may_come());
        let later = bootstrap.next_wake().unwrap();
        bootstrap.wake(false, later);
        assert!(bootstrap.may_come(), "dialled again");
    }

    #[test]
    fn whoever_is_connected_or_settled_is_left_alone() {
        let now = Instant::now();
        let (mut bootstrap, node) = bootstrap(now);
        bootstrap.set_connected(PeerId::random(), true);
        assert_eq!(bootstrap.connected(), 0);
        bootstrap.set_connected(node, true);
        assert!(bootstrap.wake(false, now).is_empty());
        bootstrap.set_connected(node, false);
        let later = bootstrap.next_wake().unwrap();
        assert!(bootstrap.wake(true, later).is_empty());
        let later = bootstrap.next_wake().unwrap();
        assert_eq!(bootstrap.wake(false, later).len(), 1);
    }

    #[test]
    fn known_nodes_that_do_not_answer_do_not_count() {
        let now = Instant::now();
        let (mut bootstrap, node) = bootstrap(now);
        assert!(bootstrap.wake(true, now).is_empty());
        bootstrap.nobody_answered(now);
        assert_eq!(bootstrap.wake(true, now).len(), 1);
        bootstrap.nobody_answered(now);
        assert!(
            bootstrap.wake(true, now).is_empty(),
            "not at every question"
        );
        bootstrap.set_connected(node, true);
        bootstrap.set_connected(node, false);
        let later = bootstrap.next_wake().unwrap();
        assert!(bootstrap.wake(true, later).is_empty());
    }
}
