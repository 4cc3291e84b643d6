//! Dial-backs by nodes: which node is asked about which address, and what its answer proves.
//!
//! Nodes that speak only `AutoNAT` v1 dial back from the address that this peer has dialled. Routers and firewalls that
//! admit any address dialled before let that through, so a success is a hint for users and proves nothing. A failure
//! proves more: not even a known address gets in. A single node may lie or have no path, so an address counts as denied
//! when nodes of several networks report a failure and none reports a success.
//!
//! How a question is sent is not part of this module. It receives questions, answers and the time.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// How long an answer counts, and interval before a node is asked about the same address again.
const LASTS: Duration = Duration::from_hours(1);
/// Maximum number of questions within that time, about all addresses and to all nodes.
const IN_ALL: usize = 32;
/// Maximum number of questions about one address within that time.
const OF_AN_ADDRESS: usize = 8;
/// Maximum number of questions to one node within that time: two transports, each with IPv4 and IPv6.
const TO_A_NODE: usize = 4;
/// Maximum number of unanswered questions.
const AT_ONCE: usize = 3;
/// Number of networks whose nodes must agree.
const SEVERAL: usize = 3;

/// A node that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its identity.
    pub peer: PeerId,
    /// The IP address of the connection to it.
    pub ip: IpAddr,
}

/// A node's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It reached this address.
    Reached(Multiaddr),
    /// It tried and failed.
    NotReached,
    /// It did not try, or did not answer.
    Nothing,
}

/// The state of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Awaited,
    Reached,
    NotReached,
    Nothing,
}

#[derive(Debug)]
struct Question {
    node: Node,
    address: Multiaddr,
    asked: Time,
    word: Word,
}

/// Answers of nodes about one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The address.
    pub address: Multiaddr,
    /// Nodes that report a success.
    pub reached: Vec<PeerId>,
    /// Nodes that report a failure.
    pub not_reached: Vec<PeerId>,
    /// See [`DialBacks::is_denied`].
    pub is_denied: bool,
}

/// Questions of the last hour and their answers.
#[derive(Debug, Default)]
pub struct DialBacks {
    /// Oldest first, at most [`IN_ALL`].
    questions: VecDeque<Question>,
}

impl DialBacks {
    /// True if this node may be asked about this address now.
    pub fn may_ask(&self, node: Node, address: &Multiaddr, now: Time) -> bool {
        let count =
            |wanted: &dyn Fn(&Question) -> bool| self.fresh(now).filter(|it| wanted(it)).count();
        let about = |it: &Question| it.address == *address;
        let again = |it: &Question| about(it) && share_a_network(it.node.ip, node.ip);
        let is_clear = self.is_denied(address, now)
            || count(&|it| about(it) && it.word == Word::Reached) >= SEVERAL;
        !is_clear
            && count(&again) == 0
            && count(&about) < OF_AN_ADDRESS
            && count(&|it| it.node.peer == node.peer) < TO_A_NODE
            && count(&|it| it.word == Word::Awaited) < AT_ONCE
            && count(&|_| true) < IN_ALL
    }

    /// Records that a node was asked.
    pub fn asked(&mut self, node: Node, address: Multiaddr, now: Time) {
        self.questions.retain(|it| it.is_fresh(now));
        if self.questions.len() >= IN_ALL {
            self.questions.pop_front();
        }
        self.questions.push_back(Question {
            node,
            address,
            asked: now,
            word: Word::Awaited,
        });
    }

    /// Records a node's answer about this address. An answer about another address, or to no question, is ignored.
    pub fn answered(&mut self, peer: PeerId, address: &Multiaddr, answer: &Answer) {
        let mut questions = self.questions.iter_mut();
        let awaited = questions
            .find(|it| it.word == Word::Awaited && it.node.peer == peer && it.address == *address);
        if let Some(question) = awaited {
            question.word = match answer {
                Answer::Reached(reached) if reached == address => Word::Reached,
                Answer::NotReached => Word::NotReached,
                Answer::Reached(_) | Answer::Nothing => Word::Nothing,
            };
        }
    }

    /// True if nodes of several networks failed to reach this address and none succeeded.
    pub fn is_denied(&self, address: &Multiaddr, now: Time) -> bool {
        let said = |word| {
            let about = self.fresh(now).filter(|it| it.address == *address);
            about.filter(|it| it.word == word).count()
        };
        said(Word::NotReached) >= SEVERAL && said(Word::Reached) == 0
    }

    /// Returns the answers so far, by address.
    pub fn hints(&self, now: Time) -> Vec<Hint> {
        let mut hints: Vec<Hint> = Vec::new();
        for question in self.fresh(now) {
            let is_reached = match question.word {
                Word::Reached => true,
                Word::NotReached => false,
                Word::Awaited | Word::Nothing => continue,
            };
            let at = hints.iter().position(|it| it.address == question.address);
            let at = at.unwrap_or_else(|| {
                hints.push(Hint {
                    address: question.address.clone(),
                    reached: Vec::new(),
                    not_reached: Vec::new(),
                    is_denied: self.is_denied(&question.address, now),
                });
                hints.len().saturating_sub(1)
            });
            if let Some(hint) = hints.get_mut(at) {
                let nodes = if is_reached {
                    &mut hint.reached
                } else {
                    &mut hint.not_reached
                };
                nodes.push(question.node.peer);
            }
        }
        hints
    }

    fn fresh(&self, now: Time) -> impl Iterator<Item = &Question> {
        self.questions.iter().filter(move |it| it.is_fresh(now))
    }
}

impl Question {
    fn is_fresh(&self, now: Time) -> bool {
        now.since(self.asked) < LASTS
    }
}

/// True if two addresses are in one network. One owner can have many addresses in a network, so these count as one.
fn share_a_network(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.to_bits() >> 8 == other.to_bits() >> 8,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() >> 80 == other.to_bits() >> 80,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    const NOW: Time = Time::ZERO;

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/11.0.0.1/tcp/{port}").parse().unwrap()
    }

    /// A node in a network of its own.
    fn node(network: u8) -> Node {
        node_at(network, IpAddr::from([11, 1, network, 1]))
    }

    fn node_at(number: u8, ip: IpAddr) -> Node {
        let keys = Keypair::ed25519_from_bytes([number; 32]).unwrap();
        let peer = keys.public().to_peer_id();
        Node { peer, ip }
    }

    /// Asks these nodes, all of which give this answer.
    fn told(by: impl IntoIterator<Item = u8>, answer: &Answer) -> DialBacks {
        let mut dial_backs = DialBacks::default();
        for network in by {
            tell(&mut dial_backs, network, answer);
        }
        dial_backs
    }

    fn tell(dial_backs: &mut DialBacks, network: u8, answer: &Answer) {
        let node = node(network);
        assert!(dial_backs.may_ask(node, &at(1), NOW), "{network}");
        dial_backs.asked(node, at(1), NOW);
        dial_backs.answered(node.peer, &at(1), answer);
    }

    #[test]
    fn an_address_is_denied_by_nodes_of_several_networks_and_not_by_fewer() {
        let mut dial_backs = told(1..3, &Answer::NotReached);
        assert!(!dial_backs.is_denied(&at(1), NOW));
        let neighbour = node_at(9, IpAddr::from([11, 1, 2, 99]));
        assert!(
            !dial_backs.may_ask(neighbour, &at(1), NOW),
            "of the second's network"
        );
        tell(&mut dial_backs, 3, &Answer::NotReached);
        assert!(dial_backs.is_denied(&at(1), NOW));
        assert!(!dial_backs.is_denied(&at(2), NOW));
    }

    #[test]
    fn who_got_through_outweighs_all_who_did_not() {
        let mut dial_backs = told([1], &Answer::Reached(at(1)));
        for network in 2..9 {
            tell(&mut dial_backs, network, &Answer::NotReached);
        }
        assert!(!dial_backs.is_denied(&at(1), NOW));
        let [hint] = &dial_backs.hints(NOW)[..] else {
            panic!("{dial_backs:?}");
        };
        assert_eq!((hint.reached.len(), hint.not_reached.len()), (1, 7));
        assert!(!hint.is_denied);
    }

    #[test]
    fn silence_denies_nothing() {
        let dial_backs = told(1..=8, &Answer::Nothing);
        assert!(!dial_backs.is_denied(&at(1), NOW));
        assert!(dial_backs.hints(NOW).is_empty());
    }

    #[test]
    fn what_was_not_asked_is_not_heard() {
        let mut dial_backs = DialBacks::default();
        for network in 1..=3 {
            dial_backs.answered(node(network).peer, &at(1), &Answer::NotReached);
        }
        assert!(!dial_backs.is_denied(&at(1), NOW));
        tell(&mut dial_backs, 1, &Answer::Reached(at(2)));
        assert!(dial_backs.hints(NOW).is_empty(), "that was another address");
        dial_backs.answered(node(1).peer, &at(1), &Answer::NotReached);
        assert!(dial_backs.hints(NOW).is_empty(), "one answer a question");
    }

    #[test]
    fn a_word_counts_for_an_hour() {
        let dial_backs = told(1..=3, &Answer::NotReached);
        let last = NOW + LASTS;
        assert!(!dial_backs.is_denied(&at(1), last));
        assert!(dial_backs.hints(last).is_empty());
        assert!(dial_backs.may_ask(node(1), &at(1), last));
    }

    #[test]
    fn nobody_is_asked_about_what_is_clear() {
        let denied = told(1..=3, &Answer::NotReached);
        let open = told(1..=3, &Answer::Reached(at(1)));
        for dial_backs in [denied, open] {
            assert!(!dial_backs.may_ask(node(4), &at(1), NOW));
            assert!(dial_backs.may_ask(node(4), &at(2), NOW));
        }
    }

    #[test]
    fn questions_have_bounds() {
        let mut waiting = DialBacks::default();
        for network in 1..=3 {
            assert!(waiting.may_ask(node(network), &at(1), NOW));
            waiting.asked(node(network), at(1), NOW);
        }
        assert!(!waiting.may_ask(node(4), &at(1), NOW), "three wait");

        let tired = told(1..=8, &Answer::Nothing);
        assert!(
            !tired.may_ask(node(9), &at(1), NOW),
            "eight about one address"
        );

        let mut insistent = DialBacks::default();
        for port in 1..=4 {
            assert!(insistent.may_ask(node(1), &at(port), NOW));
            insistent.asked(node(1), at(port), NOW);
            insistent.answered(node(1).peer, &at(port), &Answer::Nothing);
        }
        assert!(!insistent.may_ask(node(1), &at(5), NOW), "four of one node");

        let mut busy = DialBacks::default();
        let mut asked = 0;
        for number in 0..64_u8 {
            let port = u16::from(number / 8);
            let node = node(number);
            if busy.may_ask(node, &at(port), NOW) {
                busy.asked(node, at(port), NOW);
                busy.answered(node.peer, &at(port), &Answer::Nothing);
                asked += 1;
            }
        }
        assert_eq!(asked, IN_ALL);
    }
}
