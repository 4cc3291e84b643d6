//! One announce: the walk to the closest nodes, the record sent to each, and the check that they return it
//!
//! Some nodes do not store a record: because it has no addresses, or because they do not like the peer it came from. So
//! each node is asked for the record afterwards. Nodes of rust-libp2p never return a provider's record to the provider
//! itself, so a node that leaves this peer out is asked again by a [witness](super::super::witness), which has another
//! identity.

use std::collections::BTreeMap;
use std::time::Duration;

use handover_core::engine::AnnounceReport;
use handover_core::secret::MeetingPoint;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::walk::Walk;
use super::wire::{Answer, PeerAt, Question};
use super::{Asker, Asking, key};

/// Timeout for a node to confirm a record, after which it is asked for the record anyway.
const KEEP_PATIENCE: Duration = Duration::from_millis(800);
/// How long to wait for other nodes after one has returned the record.
const SETTLE: Duration = Duration::from_millis(300);
/// Timeout for all of them.
const PATIENCE: Duration = Duration::from_secs(4);
/// Maximum number of nodes that the witness asks at once.
const WITNESSED: usize = 4;

/// An announce under way.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) point: MeetingPoint,
    local: PeerId,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Walking(Walk),
    Keeping(Keeping),
}

#[derive(Debug)]
struct Keeping {
    since: Instant,
    addresses: usize,
    nodes: BTreeMap<PeerId, Keeper>,
    /// When a node first returned the record.
    found: Option<Instant>,
}

#[derive(Debug)]
struct Keeper {
    addresses: Vec<Multiaddr>,
    stage: Stage,
}

/// The state of a node that was sent the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The record was sent.
    Given,
    /// The node has read the record and can be asked for it.
    Kept,
    /// This peer has asked for the record.
    Asked,
    /// The answer left this peer out, so a witness should ask.
    LeftOut,
    /// A witness has asked for the record.
    Witnessed,
    /// It returned the record with an address.
    Tells,
    /// It did not return the record, or did not answer.
    Silent,
}

impl Announcement {
    pub(super) fn new(point: MeetingPoint, walk: Walk, local: PeerId) -> Self {
        Self {
            point,
            local,
            phase: Phase::Walking(walk),
        }
    }

    pub(super) fn walk(&mut self) -> Option<&mut Walk> {
        match &mut self.phase {
            Phase::Walking(walk) => Some(walk),
            Phase::Keeping(_) => None,
        }
    }

    /// Called at the end of the walk: the record with these addresses goes to the closest nodes.
    pub(super) fn keep(&mut self, addresses: &[Multiaddr], now: Instant) -> Vec<Asking> {
        let Phase::Walking(walk) = &self.phase else {
            return Vec::new();
        };
        let closest = walk.closest();
        let give = |(peer, at): &PeerAt| Asking {
            node: (*peer, at.clone()),
            question: Question::Keep {
                key: key(self.point).to_vec(),
                provider: self.local,
                addresses: addresses.to_vec(),
            },
            asker: Asker::Local,
        };
        let asked = closest.iter().map(give).collect();
        let keeper = |(peer, addresses)| {
            let stage = Stage::Given;
            (peer, Keeper { addresses, stage })
        };
        self.phase = Phase::Keeping(Keeping {
            since: now,
            addresses: addresses.len(),
            nodes: closest.into_iter().map(keeper).collect(),
            found: None,
        });
        asked
    }

    /// Handles a node's answer. `None`: it failed to answer.
    pub(super) fn told(
        &mut self,
        (node, asker): (PeerId, Asker),
        answer: Option<Answer>,
        now: Instant,
    ) {
        match (&mut self.phase, answer) {
            (Phase::Walking(walk), Some(answer)) => walk.answered(node, answer.closer, now),
            (Phase::Walking(walk), None) => walk.failed(node),
            (Phase::Keeping(keeping), answer) => {
                let tells = answer.map(|answer| answer.tells_of(self.local));
                keeping.told(node, asker, tells, now);
            }
        }
    }

    /// The questions to ask now.
    pub(super) fn next(&mut self, now: Instant) -> Vec<Asking> {
        match &mut self.phase {
            Phase::Walking(walk) => {
                let question = Question::Closest(key(self.point).to_vec());
                let ask = |node| Asking {
                    node,
                    question: question.clone(),
                    asker: Asker::Local,
                };
                std::iter::from_fn(|| walk.next(now)).map(ask).collect()
            }
            Phase::Keeping(keeping) => keeping.next(self.point, now),
        }
    }

    /// Returns the result, if the announce is complete.
    pub(super) fn report(&self, now: Instant) -> Option<AnnounceReport> {
        match &self.phase {
            Phase::Walking(_) => None,
            Phase::Keeping(keeping) => keeping.is_over(now).then(|| keeping.report()),
        }
    }

    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::Walking(walk) => walk.next_wake(now),
            Phase::Keeping(keeping) => {
                let ends = [KEEP_PATIENCE, PATIENCE].map(|wait| keeping.since + wait);
                let settled = keeping.found.map(|found| found + SETTLE);
                let ends = ends.into_iter().chain(settled);
                ends.filter(|at| *at > now).min()
            }
        }
    }
}

impl Keeping {
    /// `tells`: whether the answer contains this peer's record with an address. `None`: no answer.
    fn told(&mut self, node: PeerId, asker: Asker, tells: Option<bool>, now: Instant) {
        let Some(keeper) = self.nodes.get_mut(&node) else {
            return;
        };
        keeper.stage = match (keeper.stage, asker, tells) {
            (Stage::Given, Asker::Local, Some(_)) => Stage::Kept,
            (Stage::Asked, Asker::Local, Some(false)) => Stage::LeftOut,
            (Stage::Asked, Asker::Local, Some(true))
            | (Stage::Witnessed, Asker::Witness, Some(true)) => Stage::Tells,
            (Stage::Given | Stage::Asked, Asker::Local, None)
            | (Stage::Witnessed, Asker::Witness, None | Some(false)) => Stage::Silent,
            // A late confirmation of the record itself.
            (stage, _, _) => stage,
        };
        if keeper.stage == Stage::Tells {
            self.found.get_or_insert(now);
        }
    }

    fn next(&mut self, point: MeetingPoint, now: Instant) -> Vec<Asking> {
        let has_waited = now.duration_since(self.since) >= KEEP_PATIENCE;
        let is_witnessed = |keeper: &&Keeper| keeper.stage == Stage::Witnessed;
        let mut room = match self.found {
            Some(_) => 0,
            None => WITNESSED.saturating_sub(self.nodes.values().filter(is_witnessed).count()),
        };
        let mut questions = Vec::new();
        for (node, keeper) in &mut self.nodes {
            let asker = match keeper.stage {
                Stage::Kept => Asker::Local,
                Stage::Given if has_waited => Asker::Local,
                Stage::LeftOut if room > 0 => Asker::Witness,
                _ => continue,
            };
            keeper.stage = match asker {
                Asker::Local => Stage::Asked,
                Asker::Witness => Stage::Witnessed,
            };
            room -= usize::from(asker == Asker::Witness);
            questions.push(Asking {
                node: (*node, keeper.addresses.clone()),
                question: Question::Providers(key(point).to_vec()),
                asker,
            });
        }
        questions
    }

    fn is_over(&self, now: Instant) -> bool {
        let is_settled = self
            .found
            .is_some_and(|found| now.duration_since(found) >= SETTLE);
        is_settled || now.duration_since(self.since) >= PATIENCE || self.all_have_answered()
    }

    fn all_have_answered(&self) -> bool {
        self.nodes.values().all(|keeper| match keeper.stage {
            Stage::Tells | Stage::Silent => true,
            // The record was found elsewhere, so no witness is needed.
            Stage::LeftOut | Stage::Witnessed => self.found.is_some(),
            Stage::Given | Stage::Kept | Stage::Asked => false,
        })
    }

    fn report(&self) -> AnnounceReport {
        let tells = |keeper: &&Keeper| keeper.stage == Stage::Tells;
        AnnounceReport {
            addresses: self.addresses,
            nodes: self.nodes.len(),
            found_at: self.nodes.values().filter(tells).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: MeetingPoint = MeetingPoint([7; 32]);

    fn address() -> Multiaddr {
        "/ip4/192.0.2.1/tcp/1".parse().unwrap()
    }

    /// An announce whose record was sent to this many nodes.
    fn given(nodes: usize, now: Instant) -> (Announcement, Vec<PeerId>) {
        let local = PeerId::random();
        let mut walk = Walk::new(local, vec![7; 34]);
        let nodes: Vec<_> = (0..nodes).map(|_| PeerId::random()).collect();
        for node in &nodes {
            walk.know((*node, Vec::new()));
        }
        let mut announcement = Announcement::new(POINT, walk, local);
        for asking in announcement.next(now) {
            let told = (asking.node.0, asking.asker);
            announcement.told(told, Some(Answer::default()), now);
        }
        let asked = announcement.keep(&[address()], now);
        assert_eq!(asked.len(), nodes.len());
        (announcement, nodes)
    }

    fn tells(announcement: &Announcement, addresses: Vec<Multiaddr>) -> Answer {
        Answer {
            closer: Vec::new(),
            providers: vec![(announcement.local, addresses)],
        }
    }

    /// Regression test: a record counted as found once it had been sent.
    #[test]
    fn a_record_that_a_node_was_given_and_does_not_tell_of_is_not_found_there() {
        let now = Instant::now();
        let (mut announcement, nodes) = given(1, now);
        let (local, witness) = ((nodes[0], Asker::Local), (nodes[0], Asker::Witness));
        announcement.told(local, Some(Answer::default()), now);
        assert_eq!(announcement.report(now), None, "it was not asked for it");
        assert_eq!(announcement.next(now).len(), 1);
        announcement.told(local, Some(Answer::default()), now);
        assert_eq!(announcement.report(now), None, "nor by another");
        let asked = announcement.next(now);
        assert_eq!(asked[0].asker, Asker::Witness);
        let empty = Some(tells(&announcement, Vec::new()));
        announcement.told(witness, empty, now);
        let report = announcement.report(now).unwrap();
        assert_eq!((report.nodes, report.found_at), (1, 0));
    }

    #[test]
    fn a_record_is_found_where_it_is_told_to_this_peer_or_to_a_witness() {
        for by_witness in [false, true] {
            let now = Instant::now();
            let (mut announcement, nodes) = given(1, now);
            let node = nodes[0];
            announcement.told((node, Asker::Local), Some(Answer::default()), now);
            announcement.next(now);
            let mut asker = Asker::Local;
            if by_witness {
                announcement.told((node, Asker::Local), Some(Answer::default()), now);
                asker = announcement.next(now)[0].asker;
            }
            let answer = Some(tells(&announcement, vec![address()]));
            announcement.told((node, asker), answer, now);
            let report = announcement.report(now).unwrap();
            assert_eq!((report.addresses, report.found_at), (1, 1));
        }
    }

    #[test]
    fn nodes_that_hang_are_not_waited_for_when_the_record_is_found_at_another() {
        let now = Instant::now();
        let (mut announcement, nodes) = given(3, now);
        announcement.told((nodes[1], Asker::Local), Some(Answer::default()), now);
        announcement.next(now);
        let answer = Some(tells(&announcement, vec![address()]));
        announcement.told((nodes[1], Asker::Local), answer, now);
        assert_eq!(announcement.report(now), None);
        assert_eq!(announcement.next_wake(now), Some(now + SETTLE));
        let report = announcement.report(now + SETTLE).unwrap();
        assert_eq!((report.nodes, report.found_at), (3, 1));
    }

    #[test]
    fn a_node_that_does_not_say_that_it_has_read_the_record_is_asked_for_it_in_the_end() {
        let now = Instant::now();
        let (mut announcement, _) = given(1, now);
        assert!(announcement.next(now).is_empty());
        let later = announcement.next_wake(now).unwrap();
        assert_eq!(announcement.next(later).len(), 1);
        let late = announcement.next_wake(later).unwrap();
        assert_eq!(announcement.report(late).unwrap().found_at, 0);
    }
}
