//! Peers on the local network, as reported by mDNS: one address at a time, and not authenticated.

use std::collections::{BTreeMap, BTreeSet};

use handover_core::dial::ip_of;
use libp2p::mdns::Event;
use libp2p::{Multiaddr, PeerId};

use super::dials::split;
use super::mdns::Heard;
use crate::TransportEvent;

/// Maximum number of remembered peers. Further peers are ignored.
const PEERS: usize = 64;
/// Maximum number of remembered addresses per peer.
const ADDRESSES: usize = 16;

/// Peers on the local network, and their addresses.
#[derive(Debug, Default)]
pub(super) struct Neighbours(BTreeMap<PeerId, Vec<Multiaddr>>);

impl Neighbours {
    /// Applies an mDNS event and returns one event for each peer that has changed. `ipv6`: true if it came over IPv6.
    pub(super) fn heard(&mut self, heard: Heard, ipv6: bool) -> Vec<TransportEvent> {
        let mut changed = BTreeSet::new();
        match heard {
            Heard::Forgotten => {
                for (peer, known) in &mut self.0 {
                    let before = known.len();
                    known.retain(|address| ip_of(address).is_some_and(|ip| ip.is_ipv6() != ipv6));
                    if known.len() < before {
                        changed.insert(*peer);
                    }
                }
            }
            Heard::Event(Event::Discovered(found)) => {
                for (peer, address) in found {
                    if self.add(peer, split(&address).0) {
                        changed.insert(peer);
                    }
                }
            }
            Heard::Event(Event::Expired(gone)) => {
                for (peer, address) in gone {
                    let (address, _) = split(&address);
                    if let Some(known) = self.0.get_mut(&peer) {
                        known.retain(|other| *other != address);
                        changed.insert(peer);
                    }
                }
            }
        }
        changed.into_iter().map(|peer| self.tell(peer)).collect()
    }

    /// Adds an address. Returns true if it was new and there was room for it.
    fn add(&mut self, peer: PeerId, address: Multiaddr) -> bool {
        if self.0.len() >= PEERS && !self.0.contains_key(&peer) {
            return false;
        }
        let known = self.0.entry(peer).or_default();
        let new = known.len() < ADDRESSES && !known.contains(&address);
        if new {
            known.push(address);
        }
        new
    }

    fn tell(&mut self, peer: PeerId) -> TransportEvent {
        match self.0.get(&peer) {
            Some(addresses) if !addresses.is_empty() => TransportEvent::Nearby {
                peer,
                addresses: addresses.clone(),
            },
            _ => {
                self.0.remove(&peer);
                TransportEvent::NearbyGone { peer }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/192.168.1.2/tcp/{port}").parse().unwrap()
    }

    fn hear(neighbours: &mut Neighbours, event: Event) -> Vec<TransportEvent> {
        neighbours.heard(Heard::Event(event), false)
    }

    #[test]
    fn what_is_forgotten_of_one_family_leaves_the_other() {
        let mut neighbours = Neighbours::default();
        let (both, one) = (PeerId::random(), PeerId::random());
        let v6: Multiaddr = "/ip6/fe80::1/tcp/1".parse().unwrap();
        hear(
            &mut neighbours,
            Event::Discovered(vec![(both, at(1)), (one, at(2))]),
        );
        let found = Event::Discovered(vec![(both, v6.clone())]);
        neighbours.heard(Heard::Event(found), true);
        let told = neighbours.heard(Heard::Forgotten, false);
        let gone = |event: &TransportEvent| matches!(event, TransportEvent::NearbyGone { peer } if *peer == one);
        let stays = |event: &TransportEvent| matches!(event, TransportEvent::Nearby { peer, addresses } if *peer == both && *addresses == [v6.clone()]);
        assert!(
            told.len() == 2 && told.iter().any(gone) && told.iter().any(stays),
            "{told:?}"
        );
        assert_eq!(neighbours.heard(Heard::Forgotten, true).len(), 1);
        assert!(neighbours.heard(Heard::Forgotten, false).is_empty());
    }

    #[test]
    fn each_change_is_told_once_with_all_that_is_known() {
        let mut neighbours = Neighbours::default();
        let peer = PeerId::random();
        let told = hear(
            &mut neighbours,
            Event::Discovered(vec![(peer, at(1)), (peer, at(2))]),
        );
        assert!(
            matches!(&told[..], [TransportEvent::Nearby { addresses, .. }] if *addresses == [at(1), at(2)]),
            "{told:?}"
        );
        assert!(hear(&mut neighbours, Event::Discovered(vec![(peer, at(1))])).is_empty());
        let told = hear(&mut neighbours, Event::Expired(vec![(peer, at(1))]));
        assert!(
            matches!(&told[..], [TransportEvent::Nearby { addresses, .. }] if *addresses == [at(2)]),
            "{told:?}"
        );
        let told = hear(&mut neighbours, Event::Expired(vec![(peer, at(2))]));
        assert!(
            matches!(&told[..], [TransportEvent::NearbyGone { .. }]),
            "{told:?}"
        );
    }

    /// Row 17 of the table of threats.
    #[test]
    fn a_crowd_is_not_remembered() {
        let mut neighbours = Neighbours::default();
        for _ in 0..PEERS {
            let found = Event::Discovered(vec![(PeerId::random(), at(1))]);
            assert_eq!(hear(&mut neighbours, found).len(), 1);
        }
        let one_more = Event::Discovered(vec![(PeerId::random(), at(1))]);
        assert!(hear(&mut neighbours, one_more).is_empty());
        let peer = *neighbours.0.keys().next().unwrap();
        let many = (0..100).map(|port| (peer, at(port))).collect();
        hear(&mut neighbours, Event::Discovered(many));
        assert_eq!(neighbours.0[&peer].len(), ADDRESSES);
    }
}
