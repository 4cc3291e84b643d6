//! Proofs of a short code's words: how many were sent, to whom, and whether one more may be.
//!
//! Each proof lets the peer that gets it check one guess at the words, and pose as the sharer if the guess was right. So
//! a code has few of them, on this device and over restarts, and each counts when it is sent, whatever is answered. One
//! that succeeds went to the sharer, and does not count.
//!
//! Neighbours on the local network and peers that one node of the DHT has named get two of them, so that they can't use
//! up all there are: the others are kept for peers that somebody else knows of, until a round of look-ups has found nobody
//! else.

use std::collections::BTreeMap;

use crate::PeerId;

/// Proofs for peers that one source has named, while there may be others.
const OF_ONE_SOURCE: u32 = 2;
/// Nodes that are remembered to have named one peer, and peers of which that is remembered.
const NODES: usize = 4;
const NAMED: usize = 256;
/// Peers that are remembered for what they answered without having had a proof.
const REFUSERS: usize = 256;

/// How the peer was come by that a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// The user's code, or an earlier run that has proved it there, says where it is.
    Code,
    /// It is on the local network.
    Near,
    /// Nodes of the DHT have named it.
    Dht,
}

/// Who has named a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// The local network.
    Near,
    /// This node of the DHT.
    Node(PeerId),
    /// Nodes that are not remembered.
    Others,
}

/// What came of the last proof that one peer was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing yet.
    Awaited,
    /// The connection broke, or nothing came in time. It may have been the network.
    Broken,
    /// It was answered, and not as the sharer does: another one would be another guess and nothing else.
    Answered,
}

/// The proofs of one short code. By default there is none to be proved.
#[derive(Debug, Default)]
pub(in super::super) struct Proofs {
    /// How many there may be.
    most: u32,
    /// How many were sent and did not succeed, by earlier runs too.
    sent: u32,
    /// Peers that were sent some, and others that said no before.
    peers: BTreeMap<PeerId, Outcome>,
    /// Somebody has the code with other words, by its own account.
    words_differ: bool,
    /// How many went to peers that a source has named.
    by_source: BTreeMap<Source, u32>,
    /// Nodes that have named a peer.
    named: BTreeMap<PeerId, Vec<PeerId>>,
}

impl Proofs {
    /// There may be `most`, and earlier runs have sent `sent`.
    pub(super) fn new(most: u32, sent: u32) -> Self {
        Self {
            most,
            sent,
            ..Self::default()
        }
    }

    /// A node of the DHT has named a peer.
    pub(super) fn named(&mut self, peer: PeerId, by: PeerId) {
        if self.named.len() >= NAMED && !self.named.contains_key(&peer) {
            return;
        }
        let nodes = self.named.entry(peer).or_default();
        if nodes.len() < NODES && !nodes.contains(&by) {
            nodes.push(by);
        }
    }

    /// Whether this peer may get one. `alone`: nobody else is left to be tried.
    pub(super) fn may_send(&self, peer: PeerId, way: Way, alone: bool) -> bool {
        let is_open = matches!(self.peers.get(&peer), None | Some(Outcome::Broken));
        let has_room = match self.source(peer, way) {
            None => true,
            Some(source) => alone || self.sent_for(source) < OF_ONE_SOURCE,
        };
        self.sent < self.most && is_open && has_room
    }

    /// A peer is sent one, once that is counted.
    pub(super) fn send(&mut self, peer: PeerId, way: Way) {
        if let Some(source) = self.source(peer, way) {
            *self.by_source.entry(source).or_default() += 1;
        }
        self.sent = self.sent.saturating_add(1);
        self.peers.insert(peer, Outcome::Awaited);
    }

    /// With one of these the device has sent so many, those of other downloads included. Whether that one may go out.
    pub(in super::super) fn counted(&mut self, sent: u32) -> bool {
        self.sent = self.sent.max(sent);
        self.sent <= self.most
    }

    /// The words are needed no more: the share's secret is known.
    pub(super) fn end(&mut self) {
        self.most = 0;
    }

    /// The peer has answered, and has not proved that it knows the words.
    pub(in super::super) fn answered(&mut self, peer: PeerId) {
        if self.peers.len() < REFUSERS || self.peers.contains_key(&peer) {
            self.peers.insert(peer, Outcome::Answered);
        }
    }

    /// The peer says that it has the code with other words.
    pub(super) fn refused_words(&mut self, peer: PeerId) {
        self.words_differ = true;
        self.answered(peer);
    }

    /// The link is gone on which the peer's answer was awaited.
    pub(in super::super) fn broke(&mut self, peer: PeerId) {
        if let Some(outcome @ Outcome::Awaited) = self.peers.get_mut(&peer) {
            *outcome = Outcome::Broken;
        }
    }

    /// The peer knows the words: the proof that it was sent does not count. Whether it was sent one.
    pub(super) fn succeeded(&mut self, peer: PeerId) -> bool {
        let sent = self.peers.get(&peer) == Some(&Outcome::Awaited);
        if sent {
            self.peers.remove(&peer);
            self.sent = self.sent.saturating_sub(1);
        }
        sent
    }

    /// This peer was sent a proof and has not answered it.
    pub(super) fn is_awaited(&self, peer: PeerId) -> bool {
        self.peers.get(&peer) == Some(&Outcome::Awaited)
    }

    /// Whether this peer has answered, so that it is of no use any more.
    pub(super) fn is_answered(&self, peer: PeerId) -> bool {
        self.peers.get(&peer) == Some(&Outcome::Answered)
    }

    /// Whether somebody has said that it has the code with other words.
    pub(super) fn are_words_wrong(&self) -> bool {
        self.words_differ
    }

    /// Exactly one peer was tried.
    pub(super) fn is_one_tried(&self) -> bool {
        self.peers.len() == 1
    }

    /// Whether all were sent, and nothing is awaited any more.
    pub(super) fn are_used_up(&self) -> bool {
        let awaited = self
            .peers
            .values()
            .any(|outcome| *outcome == Outcome::Awaited);
        self.sent >= self.most && self.most > 0 && !awaited
    }

    fn sent_for(&self, source: Source) -> u32 {
        self.by_source.get(&source).copied().unwrap_or_default()
    }

    /// To whom a proof for this peer is put down: of the nodes that have named it, the one with the fewest, so that a node
    /// of somebody else's can't use up the sharer's by naming it too.
    fn source(&self, peer: PeerId, way: Way) -> Option<Source> {
        match way {
            Way::Code => None,
            Way::Near => Some(Source::Near),
            Way::Dht => {
                let nodes = self.named.get(&peer).into_iter().flatten();
                let sources = nodes.map(|node| Source::Node(*node));
                let source = sources.min_by_key(|source| self.sent_for(*source));
                Some(source.unwrap_or(Source::Others))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn peer(seed: u32) -> PeerId {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&seed.to_be_bytes());
        let keys = crate::Keypair::ed25519_from_bytes(bytes).unwrap();
        keys.public().to_peer_id()
    }

    #[test]
    fn each_proof_counts_whatever_is_answered_but_for_one_that_succeeds() {
        let mut proofs = Proofs::new(5, 0);
        for (seed, way) in [(1, Way::Code), (2, Way::Code), (3, Way::Near)] {
            assert!(proofs.may_send(peer(seed), way, false));
            proofs.send(peer(seed), way);
            assert_eq!(proofs.sent, seed);
        }
        proofs.answered(peer(1));
        proofs.broke(peer(2));
        assert_eq!(
            [1, 2, 3].map(|seed| proofs.is_awaited(peer(seed))),
            [false, false, true]
        );
        assert!(!proofs.may_send(peer(1), Way::Code, true), "it answered");
        assert!(proofs.may_send(peer(2), Way::Code, true), "it broke");
        assert!(!proofs.may_send(peer(3), Way::Near, true), "awaited");
        for succeeds in [true, false] {
            assert_eq!(proofs.succeeded(peer(3)), succeeds);
            assert_eq!(proofs.sent, 2);
        }
    }

    /// Two downloads with one code had five each.
    #[test]
    fn those_of_other_downloads_count_too() {
        let mut proofs = Proofs::new(5, 0);
        proofs.send(peer(1), Way::Code);
        assert!(proofs.counted(4));
        assert!(proofs.may_send(peer(2), Way::Code, false));
        proofs.send(peer(2), Way::Code);
        proofs.send(peer(3), Way::Code);
        assert!(!proofs.counted(6), "one was sent by another meanwhile");
        let mut proofs = Proofs::new(5, 0);
        proofs.send(peer(1), Way::Code);
        proofs.end();
        assert!(!proofs.counted(1), "the words are needed no more");
    }

    #[test]
    fn there_are_five_in_all_also_to_one_peer_and_over_restarts() {
        let mut proofs = Proofs::new(5, 3);
        for _ in 0..2 {
            assert!(proofs.may_send(peer(1), Way::Code, false));
            assert!(!proofs.are_used_up());
            proofs.send(peer(1), Way::Code);
            assert!(!proofs.are_used_up(), "it is awaited");
            proofs.broke(peer(1));
        }
        assert!(!proofs.may_send(peer(1), Way::Code, true));
        assert!(proofs.are_used_up());
        assert!(Proofs::new(5, 5).are_used_up());
    }

    #[test]
    fn neighbours_and_one_node_leave_one_for_whom_others_name() {
        let mut proofs = Proofs::new(5, 0);
        let (liar, node) = (peer(100), peer(101));
        for seed in 1..10 {
            proofs.named(peer(seed), liar);
        }
        let mut sent = 0;
        for seed in 1..10 {
            for way in [Way::Near, Way::Dht] {
                if proofs.may_send(peer(seed), way, false) {
                    proofs.send(peer(seed), way);
                    proofs.broke(peer(seed));
                    sent += 1;
                }
            }
        }
        assert_eq!(sent, 4);
        // The liar names the sharer too.
        let sharer = peer(20);
        proofs.named(sharer, liar);
        assert!(!proofs.may_send(sharer, Way::Dht, false));
        proofs.named(sharer, node);
        assert!(proofs.may_send(sharer, Way::Dht, false));
    }

    #[test]
    fn where_nobody_else_is_left_one_source_gets_all_of_them() {
        let mut proofs = Proofs::new(5, 0);
        for _ in 0..2 {
            proofs.send(peer(1), Way::Near);
            proofs.broke(peer(1));
        }
        assert!(!proofs.may_send(peer(1), Way::Near, false));
        assert!(proofs.may_send(peer(1), Way::Near, true));
    }

    #[test]
    fn a_refusal_without_a_proof_uses_none_up_and_is_remembered_within_bounds() {
        let mut proofs = Proofs::new(5, 0);
        for seed in 0..256 {
            proofs.refused_words(peer(seed));
        }
        assert!(proofs.are_words_wrong() && !proofs.are_used_up());
        assert!(!proofs.may_send(peer(7), Way::Code, true));
        let more = peer(256);
        proofs.answered(more);
        assert!(!proofs.is_answered(more));
    }
}
