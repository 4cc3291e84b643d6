//! One lookup: the peers announced at a rendezvous point and their addresses, as named by the nodes on the walk to it

use std::collections::BTreeMap;

use handover_core::engine::LookUpId;
use libp2p::{Multiaddr, PeerId};

use super::super::dials::split;
use super::wire::PeerAt;
use crate::TransportEvent;

/// Maximum number of peers that one lookup reports.
const FOUND: usize = 64;
/// Beyond [`FREE`] peers, a node may add one only while it was the first to name fewer than [`FROM_ONE`]: a node that
/// makes peers up leaves room for what others know.
const FREE: usize = 20;
const FROM_ONE: usize = 2;
/// Maximum number of addresses reported for one peer, and of those from one node.
const ADDRESSES: usize = 16;
const ADDRESSES_FROM_ONE: usize = 8;
/// Maximum number of nodes reported as having named a peer.
const NAMED_BY: usize = 4;
/// Maximum number of peers without addresses whose addresses one lookup asks for.
const FOLLOW_UPS: usize = 8;

/// The state of a lookup.
#[derive(Debug, Default)]
pub(super) struct LookUp {
    pub(super) reached: bool,
    /// Number of its walks under way.
    pub(super) open: usize,
    follow_ups: usize,
    found: BTreeMap<PeerId, Found>,
    /// Number of found peers that each node was the first to name.
    named: BTreeMap<PeerId, usize>,
}

/// A peer that was reported.
#[derive(Debug, Default)]
struct Found {
    addresses: Vec<Multiaddr>,
    /// Nodes that have named it.
    by: Vec<PeerId>,
}

impl LookUp {
    /// Creates a lookup with one walk.
    pub(super) fn new() -> Self {
        Self {
            open: 1,
            ..Self::default()
        }
    }

    /// Handles a peer named by the node `by`. Returns an event if there is anything new about the peer.
    pub(super) fn tell(
        &mut self,
        lookup: LookUpId,
        by: PeerId,
        (peer, addresses): PeerAt,
    ) -> Option<TransportEvent> {
        let is_new = !self.found.contains_key(&peer);
        if is_new && !self.has_room_for(by) {
            return None;
        }
        if is_new {
            *self.named.entry(by).or_default() += 1;
        }
        let Found {
            addresses: known,
            by: nodes,
        } = self.found.entry(peer).or_default();
        let is_another = nodes.len() < NAMED_BY && !nodes.contains(&by);
        if is_another {
            nodes.push(by);
        }
        let before = known.len();
        for address in &addresses {
            let (plain, named) = split(address);
            let of_peer = named.is_none_or(|named| named == peer) && !plain.is_empty();
            let has_room = known.len() < ADDRESSES && known.len() - before < ADDRESSES_FROM_ONE;
            if of_peer && has_room && !known.contains(&plain) {
                known.push(plain);
            }
        }
        let addresses = known.clone();
        (is_another || known.len() > before).then_some(TransportEvent::Found {
            lookup,
            peer,
            addresses,
            by,
        })
    }

    fn has_room_for(&self, by: PeerId) -> bool {
        let named = self.named.get(&by).copied().unwrap_or_default();
        self.found.len() < FREE || (self.found.len() < FOUND && named < FROM_ONE)
    }

    /// True if nodes should be asked for this peer's addresses. The caller then asks them, once.
    pub(super) fn begin_follow_up(&mut self, peer: PeerId) -> bool {
        let found = self.found.get(&peer);
        let is_unknown = found.is_some_and(|found| found.addresses.is_empty());
        let begins = is_unknown && self.follow_ups < FOLLOW_UPS;
        self.follow_ups += usize::from(begins);
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LookUpId = LookUpId(1);

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    fn told(look_up: &mut LookUp, by: PeerId, node: PeerAt) -> Option<Vec<Multiaddr>> {
        match look_up.tell(ID, by, node)? {
            TransportEvent::Found { addresses, .. } => Some(addresses),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_look_up_tells_is_bounded_and_never_twice_the_same() {
        let mut look_up = LookUp::default();
        let (by, peer) = (PeerId::random(), PeerId::random());
        let many: Vec<_> = (0..100).map(at).collect();
        let first = told(&mut look_up, by, (peer, many[..20].to_vec())).unwrap();
        assert_eq!(first.len(), ADDRESSES_FROM_ONE);
        assert!(told(&mut look_up, by, (peer, first.clone())).is_none());
        let again = told(&mut look_up, PeerId::random(), (peer, first.clone()));
        assert_eq!(again, Some(first), "another node has named it");
        let more = told(&mut look_up, PeerId::random(), (peer, many[50..].to_vec()));
        assert_eq!(more.unwrap().len(), ADDRESSES);
        assert!(told(&mut look_up, by, (peer, many)).is_none());
        let nodes = (0..100).map(|_| PeerId::random());
        let told = nodes.filter(|by| told(&mut look_up, *by, (PeerId::random(), vec![])).is_some());
        assert_eq!(told.count(), FOUND - 1);
    }

    /// Regression test: the first nodes to answer could use up all places.
    #[test]
    fn peers_that_nodes_make_up_leave_room_for_the_one_that_is_there() {
        let mut look_up = LookUp::default();
        for _ in 0..7 {
            let liar = PeerId::random();
            for _ in 0..20 {
                told(&mut look_up, liar, (PeerId::random(), vec![at(1)]));
            }
        }
        let real = (PeerId::random(), vec![at(2)]);
        assert!(told(&mut look_up, PeerId::random(), real).is_some());
    }

    #[test]
    fn addresses_are_told_without_the_peer_and_not_those_of_another() {
        let mut look_up = LookUp::default();
        let (peer, other) = (PeerId::random(), PeerId::random());
        let named =
            |peer: PeerId| -> Multiaddr { format!("{}/p2p/{peer}", at(1)).parse().unwrap() };
        let addresses = vec![named(peer), named(other), at(2)];
        let told = told(&mut look_up, PeerId::random(), (peer, addresses));
        assert_eq!(told.unwrap(), [at(1), at(2)]);
    }

    #[test]
    fn where_a_peer_is_that_told_no_addresses_is_asked_once_for_a_few_of_them() {
        let mut look_up = LookUp::default();
        let by = PeerId::random();
        let mut begun = 0;
        for _ in 0..2 * FOLLOW_UPS {
            let peer = PeerId::random();
            look_up.tell(ID, by, (peer, vec![]));
            begun += usize::from(look_up.begin_follow_up(peer));
        }
        assert_eq!(begun, FOLLOW_UPS);
        look_up.tell(ID, by, (by, vec![at(1)]));
        assert!(!look_up.begin_follow_up(by));
    }
}
