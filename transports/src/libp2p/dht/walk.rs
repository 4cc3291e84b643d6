//! A walk to the DHT nodes closest to a key: which node to ask next, and when enough of them have answered
//!
//! Slow nodes do not hold it up: several are asked at once, and one that takes much longer than the others is not
//! waited for, though its answer still counts if it comes in time. Nor can one node mislead it: nodes named by one node
//! take turns with those named by others, and once too many of them are silent, no more of that node's are asked.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::kad::{KBucketDistance, KBucketKey};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::wire::PeerAt;

/// Maximum number of nodes asked at once.
const PARALLEL: usize = 8;
/// Number of closest nodes that must answer and that store a record: the DHT's replication factor.
const CLOSEST: usize = 20;
/// A node is slow after this time or [`SLOWER`] times that of the quickest answer, whichever is longer.
const SLOW: Duration = Duration::from_secs(1);
const SLOWER: u32 = 6;
/// A node is unreachable after this time.
const GONE: Duration = Duration::from_secs(6);
/// Maximum number of nodes that a walk asks and remembers.
const MAX_ASKED: usize = 96;
const MAX_NODES: usize = 384;
/// Maximum number of nodes remembered as having named a node.
const NAMED_BY: usize = 4;
/// Number of late nodes among those named by one node after which no more of them are asked. Each one that answers
/// makes up for two.
const LATE: usize = 3;

/// One walk.
#[derive(Debug)]
pub(crate) struct Walk {
    local: PeerId,
    target: KBucketKey<Vec<u8>>,
    nodes: BTreeMap<KBucketDistance, Node>,
    quickest: Option<Duration>,
    asked: usize,
}

#[derive(Debug)]
struct Node {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    /// Nodes that named it. Empty if this side knew it before.
    named_by: Vec<PeerId>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Heard,
    Asked(Instant),
    Answered,
    Failed,
}

/// How the nodes named by one node have answered.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    answered: usize,
    /// Asked, and not late yet.
    open: usize,
    /// Slow or failed.
    late: usize,
}

impl Word {
    fn is_doubted(self) -> bool {
        self.late >= LATE + 2 * self.answered
    }

    /// Priority: nodes with a lower value are asked sooner.
    fn turn(self) -> usize {
        (self.open + self.late).saturating_sub(self.answered)
    }
}

/// A summary of all nodes at one moment.
struct View {
    words: BTreeMap<PeerId, Word>,
    open: usize,
    /// Nodes at this distance or farther do not count: enough closer ones have answered.
    reach: Option<KBucketDistance>,
}

impl Walk {
    pub(crate) fn new(local: PeerId, key: Vec<u8>) -> Self {
        Self {
            local,
            target: KBucketKey::new(key),
            nodes: BTreeMap::new(),
            quickest: None,
            asked: 0,
        }
    }

    /// Adds a node known to this side.
    pub(crate) fn know(&mut self, node: PeerAt) {
        self.hear(node, None);
    }

    /// Makes a node that failed eligible again, now that it is connected.
    pub(crate) fn connected(&mut self, peer: PeerId) {
        if let Some(node) = self.node(peer)
            && node.state == State::Failed
        {
            node.state = State::Heard;
        }
    }

    fn node(&mut self, peer: PeerId) -> Option<&mut Node> {
        let distance = self.distance(peer);
        self.nodes.get_mut(&distance)
    }

    fn distance(&self, peer: PeerId) -> KBucketDistance {
        self.target.distance(&KBucketKey::from(peer))
    }

    fn hear(&mut self, (peer, addresses): PeerAt, named_by: Option<PeerId>) {
        let distance = self.distance(peer);
        let is_full = self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&distance);
        if peer == self.local || is_full {
            return;
        }
        let node = self.nodes.entry(distance).or_insert_with(|| Node {
            peer,
            addresses: Vec::new(),
            named_by: named_by.into_iter().collect(),
            state: State::Heard,
        });
        match named_by {
            // This side knows the node itself, so it depends on no other node's word.
            None => node.named_by.clear(),
            Some(by) if !node.named_by.is_empty() && node.named_by.len() < NAMED_BY => {
                if !node.named_by.contains(&by) {
                    node.named_by.push(by);
                }
            }
            Some(_) => {}
        }
        if node.state == State::Heard && node.addresses.is_empty() {
            node.addresses = addresses;
        }
    }

    /// Handles a node's answer.
    pub(crate) fn answered(&mut self, peer: PeerId, closer: Vec<PeerAt>, now: Instant) {
        let Some(node) = self.node(peer) else {
            return;
        };
        if let State::Asked(since) = std::mem::replace(&mut node.state, State::Answered) {
            let took = now.duration_since(since);
            self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
        }
        for node in closer {
            self.hear(node, Some(peer));
        }
    }

    /// Handles a node that could not be reached or sent an invalid answer.
    pub(crate) fn failed(&mut self, peer: PeerId) {
        if let Some(node) = self.node(peer)
            && node.state != State::Answered
        {
            node.state = State::Failed;
        }
    }

    fn slow_after(&self) -> Duration {
        let quickest = self.quickest.unwrap_or_default();
        SLOW.max(quickest * SLOWER).min(GONE)
    }

    fn view(&self, now: Instant) -> View {
        let slow_after = self.slow_after();
        let mut view = View {
            words: BTreeMap::new(),
            open: 0,
            reach: None,
        };
        let mut answered = 0;
        for (distance, node) in &self.nodes {
            let word = match node.state {
                State::Heard => continue,
                State::Asked(since) if now.duration_since(since) < slow_after => {
                    view.open += 1;
                    |word: &mut Word| word.open += 1
                }
                State::Asked(_) | State::Failed => |word: &mut Word| word.late += 1,
                State::Answered => {
                    answered += 1;
                    if answered == CLOSEST {
                        view.reach = Some(*distance);
                    }
                    |word: &mut Word| word.answered += 1
                }
            };
            for by in &node.named_by {
                word(view.words.entry(*by).or_default());
            }
        }
        view
    }

    /// Returns the node to ask next, if one should be asked now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<PeerAt> {
        let view = self.view(now);
        if view.open >= PARALLEL || self.asked >= MAX_ASKED {
            return None;
        }
        let heard = self
            .nodes
            .iter_mut()
            .filter(|(distance, node)| node.state == State::Heard && view.counts(**distance, node));
        let (_, node) = heard.min_by_key(|(distance, node)| (view.turn(node), **distance))?;
        node.state = State::Asked(now);
        self.asked += 1;
        Some((node.peer, node.addresses.clone()))
    }

    /// True if no node is left that is worth asking or waiting for.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        let view = self.view(now);
        let has_answer = self.has_answer();
        let may_ask = self.asked < MAX_ASKED;
        !self.nodes.iter().any(|(distance, node)| match node.state {
            State::Heard => may_ask && view.counts(*distance, node),
            // Before the first answer, there is nothing to be slower than.
            State::Asked(since) if !has_answer => now.duration_since(since) < GONE,
            State::Asked(since) => {
                now.duration_since(since) < self.slow_after() && view.counts(*distance, node)
            }
            State::Answered | State::Failed => false,
        })
    }

    /// True if any node has answered.
    pub(crate) fn has_answer(&self) -> bool {
        let mut nodes = self.nodes.values();
        nodes.any(|node| node.state == State::Answered)
    }

    /// Time at which the next awaited node becomes late.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let ends = [self.slow_after(), GONE];
        let asked = self.nodes.values().filter_map(|node| match node.state {
            State::Asked(since) => Some(since),
            _ => None,
        });
        let ends = asked.flat_map(|since| ends.map(|after| since + after));
        ends.filter(|at| *at > now).min()
    }

    /// The closest nodes that have answered.
    pub(crate) fn closest(&self) -> Vec<PeerAt> {
        let answered = self.nodes.values();
        let answered = answered.filter(|node| node.state == State::Answered);
        let at = answered.map(|node| (node.peer, node.addresses.clone()));
        at.take(CLOSEST).collect()
    }

    /// The addresses of this node, as named by other nodes or known before. `None` if the walk has not heard of it.
    pub(crate) fn addresses_of(&self, peer: PeerId) -> Option<&[Multiaddr]> {
        let node = self.nodes.get(&self.distance(peer))?;
        Some(&node.addresses)
    }
}

impl View {
    /// True if this node's answer matters.
    fn counts(&self, distance: KBucketDistance, node: &Node) -> bool {
        let in_reach = self.reach.is_none_or(|reach| distance < reach);
        in_reach && (node.named_by.is_empty() || !self.words_for(node).all(Word::is_doubted))
    }

    fn words_for(&self, node: &Node) -> impl Iterator<Item = Word> {
        let word = |by| self.words.get(by).copied().unwrap_or_default();
        node.named_by.iter().map(word)
    }

    /// Priority: nodes with a lower value are asked sooner.
    fn turn(&self, node: &Node) -> usize {
        self.words_for(node).map(Word::turn).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn walk() -> Walk {
        Walk::new(PeerId::random(), vec![7; 34])
    }

    fn peers(count: usize) -> Vec<PeerId> {
        (0..count).map(|_| PeerId::random()).collect()
    }

    fn named(peers: &[PeerId]) -> Vec<PeerAt> {
        peers.iter().map(|peer| (*peer, Vec::new())).collect()
    }

    /// All nodes that are asked now.
    fn ask(walk: &mut Walk, now: Instant) -> Vec<PeerId> {
        std::iter::from_fn(|| walk.next(now))
            .map(|(peer, _)| peer)
            .collect()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_closest_are_found_in_a_crowd_and_not_everybody_is_asked() {
        let crowd = peers(200);
        let mut walk = walk();
        let mut by_distance: Vec<_> = crowd.clone();
        by_distance.sort_by_key(|peer| walk.distance(*peer));
        walk.know((by_distance[199], Vec::new()));
        let mut now = Instant::now();
        let mut asked = BTreeSet::new();
        while !walk.is_settled(now) {
            for peer in ask(&mut walk, now) {
                asked.insert(peer);
                now += MS;
                // Like a real node, it knows nodes half as far from the key.
                let at = by_distance.iter().position(|known| *known == peer).unwrap();
                let closer = &by_distance[at / 2..(at / 2 + 20).min(200)];
                walk.answered(peer, named(closer), now);
            }
        }
        let found: Vec<_> = walk.closest().into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(found, by_distance[..CLOSEST]);
        assert!(asked.len() < 100, "{}", asked.len());
    }

    /// Regression test: each of them delayed everything by ten seconds.
    #[test]
    fn nodes_that_hang_are_not_waited_for_once_another_has_answered() {
        let mut walk = walk();
        let nodes = peers(4);
        for node in named(&nodes) {
            walk.know(node);
        }
        let now = Instant::now();
        assert_eq!(ask(&mut walk, now).len(), 4, "all at once");
        walk.answered(nodes[2], Vec::new(), now + 20 * MS);
        assert!(
            !walk.is_settled(now + 20 * MS),
            "they may be a little slower"
        );
        let late = walk.next_wake(now + 20 * MS).unwrap();
        assert_eq!(late, now + SLOW);
        assert!(walk.is_settled(late));
        // One of them was only slow.
        walk.answered(nodes[1], Vec::new(), late + MS);
        assert_eq!(walk.closest().len(), 2);
    }

    #[test]
    fn where_nobody_is_quick_nobody_is_slow() {
        let mut walk = walk();
        for node in named(&peers(2)) {
            walk.know(node);
        }
        let now = Instant::now();
        let asked = ask(&mut walk, now);
        assert!(!walk.is_settled(now + 2 * SLOW), "nobody has answered");
        walk.answered(asked[0], Vec::new(), now + SLOW);
        assert!(!walk.is_settled(now + 2 * SLOW));
        assert!(walk.is_settled(now + GONE));
    }

    #[test]
    fn who_is_not_there_ends_the_walk_at_once_or_after_a_while() {
        let mut walk = walk();
        let nodes = peers(2);
        for node in named(&nodes) {
            walk.know(node);
        }
        let now = Instant::now();
        ask(&mut walk, now);
        walk.failed(nodes[0]);
        assert!(!walk.is_settled(now));
        assert!(walk.is_settled(now + GONE), "it never said anything");
        walk.failed(nodes[1]);
        assert!(walk.is_settled(now));
        assert!(!walk.has_answer());
        walk.connected(nodes[1]);
        assert_eq!(ask(&mut walk, now), [nodes[1]]);
    }

    /// The liar's nodes are closer to the key than any real one, and none of them exists.
    #[test]
    fn a_liar_costs_no_more_than_a_few_of_its_nodes() {
        let mut walk = walk();
        let mut crowd = peers(400);
        crowd.sort_by_key(|peer| walk.distance(*peer));
        let (lies, real) = crowd.split_at(100);
        let (liar, honest) = (real[0], real[1]);
        walk.know((liar, Vec::new()));
        walk.know((honest, Vec::new()));
        let start = Instant::now();
        let mut now = start;
        ask(&mut walk, now);
        walk.answered(liar, named(&lies[..20]), now);
        walk.answered(honest, named(&real[2..22]), now);
        let mut wasted = 0;
        while !walk.is_settled(now) {
            let asked = ask(&mut walk, now);
            if asked.is_empty() {
                now = walk.next_wake(now).unwrap();
            }
            for peer in asked {
                if lies.contains(&peer) {
                    wasted += 1;
                } else {
                    walk.answered(peer, Vec::new(), now);
                }
            }
        }
        assert!(wasted <= PARALLEL, "{wasted}");
        assert!(now - start <= SLOW, "{:?}", now - start);
        assert!(walk.closest().len() >= CLOSEST);
        assert!(!walk.closest().iter().any(|(peer, _)| lies.contains(peer)));
    }

    #[test]
    fn what_one_walk_asks_and_remembers_is_bounded() {
        let mut walk = walk();
        let mut now = Instant::now();
        walk.know((PeerId::random(), Vec::new()));
        let mut asked = 0;
        while let Some((peer, _)) = walk.next(now) {
            asked += 1;
            now += MS;
            walk.answered(peer, named(&peers(20)), now);
        }
        assert!(asked <= MAX_ASKED && walk.nodes.len() <= MAX_NODES);
        assert!(walk.is_settled(now + GONE));
    }
}
