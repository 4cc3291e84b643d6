//! A DHT as its users see it: what an announcement comes to, and what a look-up finds.

use std::collections::BTreeMap;
use std::time::Duration;

use handover_core::engine::{self, AnnounceReport, Input, LookUpId};
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::memory::HostId;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use super::World;
use super::run::Task;
use crate::ledger::{Fault, happened, promise};

/// What the DHT does with look-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhtMood {
    /// It tells what was announced last.
    #[default]
    Well,
    /// It finds nothing.
    Empty,
    /// It tells what was announced first.
    Stale,
    /// The nodes nearest to the key belong to somebody who puts in what they like, and leaves the truth behind it.
    Hostile,
    /// No node of it answers.
    Gone,
}

/// Who was announced where, and the addresses of each announcement.
#[derive(Default)]
pub(crate) struct Dht {
    pub(crate) mood: DhtMood,
    records: BTreeMap<engine::Place, BTreeMap<PeerId, Vec<Vec<Multiaddr>>>>,
    /// What hostile nodes tell: peers of theirs, and addresses.
    pub(crate) planted: Vec<(PeerId, Vec<Multiaddr>)>,
    /// Peers that a node of theirs tells wherever a short code is looked for.
    pub(crate) stand_ins: Vec<(PeerId, Vec<Multiaddr>)>,
}

/// A peer that is at a place by what the DHT says, where it is said to be, and the node that says so.
type Found = Vec<(PeerId, Vec<Multiaddr>, PeerId)>;

impl Dht {
    /// A record without addresses is not kept, as by nodes of the public network.
    fn announce(
        &mut self,
        place: engine::Place,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    ) -> AnnounceReport {
        if self.mood == DhtMood::Gone {
            happened(Fault::DhtGone);
            return AnnounceReport::default();
        }
        let told = addresses.len();
        if told > 0 {
            let record = self.records.entry(place).or_default();
            record.entry(peer).or_default().push(addresses);
        }
        let found = self.look_up(place).unwrap_or_default();
        let tells =
            |(found, at, _): &(PeerId, Vec<Multiaddr>, PeerId)| *found == peer && !at.is_empty();
        AnnounceReport {
            addresses: told,
            nodes: 1,
            found_at: usize::from(found.iter().any(tells)),
        }
    }

    /// `None` where nobody answers.
    fn look_up(&self, place: engine::Place) -> Option<Found> {
        let mut found = self.honest(place)?;
        if matches!(place, engine::Place::Number { .. }) {
            let [theirs, also_theirs] = [3, 4].map(node);
            // They may be quicker than the honest ones, or slower.
            for (at, (peer, addresses)) in self.stand_ins.iter().enumerate() {
                match at % 2 {
                    0 => found.insert(0, (*peer, addresses.clone(), theirs)),
                    _ => found.push((*peer, addresses.clone(), also_theirs)),
                }
            }
        }
        Some(found)
    }

    /// What nodes tell that are in nobody's pay, as far as their mood lets them.
    fn honest(&self, place: engine::Place) -> Option<Found> {
        let records = self.records.get(&place).into_iter().flatten();
        let last = |all: &Vec<Vec<Multiaddr>>| all.last().cloned().unwrap_or_default();
        let first = |all: &Vec<Vec<Multiaddr>>| all.first().cloned().unwrap_or_default();
        let [node, hostile] = [1, 2].map(node);
        match self.mood {
            DhtMood::Well => Some(
                records
                    .map(|(peer, all)| (*peer, last(all), node))
                    .collect(),
            ),
            DhtMood::Empty => {
                happened(Fault::DhtEmpty);
                Some(Found::new())
            }
            DhtMood::Stale => {
                happened(Fault::DhtStale);
                Some(
                    records
                        .map(|(peer, all)| (*peer, first(all), node))
                        .collect(),
                )
            }
            DhtMood::Hostile => {
                happened(Fault::DhtHostile);
                let lies = self.planted.iter().flat_map(|(_, at)| at).cloned();
                let lies: Vec<_> = lies.collect();
                let planted = self.planted.iter().cloned();
                let mut found: Found = planted.map(|(peer, at)| (peer, at, hostile)).collect();
                for (peer, all) in records {
                    found.extend([(*peer, lies.clone(), hostile), (*peer, Vec::new(), hostile)]);
                    found.push((*peer, last(all), node));
                }
                Some(found)
            }
            DhtMood::Gone => {
                happened(Fault::DhtGone);
                None
            }
        }
    }
}

/// One of its nodes.
fn node(number: u8) -> PeerId {
    let keys = Keypair::ed25519_from_bytes([number; 32]).expect("32 bytes are a key");
    keys.public().to_peer_id()
}

impl World {
    /// How long the DHT takes: from a moment to some seconds.
    fn dht_takes(&mut self) -> Duration {
        let drawn = self.rng.next_u32();
        let most = if drawn.is_multiple_of(8) { 8000 } else { 400 };
        Duration::from_millis((20 + (drawn >> 3) % most).into())
    }

    /// A host announces itself.
    pub(super) fn announce_at(&mut self, host: HostId, place: engine::Place) {
        let life = self.host(host).life;
        let took = self.dht_takes();
        self.schedule(took, Task::Announced { host, life, place });
    }

    pub(super) fn announced(&mut self, host: HostId, place: engine::Place) {
        let own = self.routes.iter().filter(|(_, (at, _))| *at == host);
        let addresses = own.map(|(address, _)| address.clone()).collect();
        let report = self.dht.announce(place, self.peer(host), addresses);
        self.feed(host, Input::Announced { place, report });
    }

    /// A host looks who is at a place.
    pub(super) fn look_up(&mut self, host: HostId, lookup: LookUpId, place: engine::Place) {
        let state = self.host_mut(host);
        state.lookups.insert(lookup);
        // A share looks under its number for two days, a download with a short code under four at once.
        let most = 2 * (state.shares.len() + 1) + 4 * state.tags.len();
        let under_way = state.lookups.len();
        promise!(Bounded, under_way <= most, "{under_way} look-ups");
        let took = self.dht_takes();
        self.schedule(
            took,
            Task::LookedUp {
                host,
                lookup,
                place,
            },
        );
    }

    pub(super) fn looked_up(&mut self, host: HostId, lookup: LookUpId, place: engine::Place) {
        let found = self.dht.look_up(place);
        let reached = found.is_some();
        let told = found.into_iter().flatten();
        let inputs = told.map(|(peer, addresses, by)| Input::Found {
            lookup,
            peer,
            addresses,
            by,
        });
        for input in inputs.chain([Input::LookedUp { lookup, reached }]) {
            if self.host(host).lookups.contains(&lookup) {
                self.feed(host, input);
            }
        }
        self.host_mut(host).lookups.remove(&lookup);
    }
}
