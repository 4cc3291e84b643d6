//! A simulated DHT: results of announces and lookups.

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

/// How the DHT answers lookups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhtMood {
    /// Returns the latest announced addresses.
    #[default]
    Well,
    /// Finds nothing.
    Empty,
    /// Returns the addresses announced first.
    Stale,
    /// The nodes closest to the key are hostile: planted records come first, the true ones after them.
    Hostile,
    /// No node answers.
    Gone,
}

/// The records of every DHT key: the peers, and the addresses of each of their announces.
#[derive(Default)]
pub(crate) struct Dht {
    pub(crate) mood: DhtMood,
    records: BTreeMap<engine::Place, BTreeMap<PeerId, Vec<Vec<Multiaddr>>>>,
    /// Records returned by hostile nodes: their own peers with addresses.
    pub(crate) planted: Vec<(PeerId, Vec<Multiaddr>)>,
    /// Impostors that a hostile node returns for every short code.
    pub(crate) stand_ins: Vec<(PeerId, Vec<Multiaddr>)>,
}

/// Found records: the peer, its addresses, and the node that returned them.
type Found = Vec<(PeerId, Vec<Multiaddr>, PeerId)>;

impl Dht {
    /// Stores a record. Like nodes of the public DHT, drops records without addresses.
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

    /// Returns `None` if no node answers.
    fn look_up(&self, place: engine::Place) -> Option<Found> {
        let mut found = self.honest(place)?;
        if matches!(place, engine::Place::Number { .. }) {
            let [theirs, also_theirs] = [3, 4].map(node);
            // Hostile nodes may answer before or after the honest ones.
            for (at, (peer, addresses)) in self.stand_ins.iter().enumerate() {
                match at % 2 {
                    0 => found.insert(0, (*peer, addresses.clone(), theirs)),
                    _ => found.push((*peer, addresses.clone(), also_theirs)),
                }
            }
        }
        Some(found)
    }

    /// Results without impostors, according to the DHT's mood.
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

/// The identity of a DHT node.
fn node(number: u8) -> PeerId {
    let keys = Keypair::ed25519_from_bytes([number; 32]).expect("32 bytes are a key");
    keys.public().to_peer_id()
}

impl World {
    /// Draws the duration of a DHT operation: 20 ms to about 8 s, mostly below 420 ms.
    fn dht_takes(&mut self) -> Duration {
        let drawn = self.rng.next_u32();
        let most = if drawn.is_multiple_of(8) { 8000 } else { 400 };
        Duration::from_millis((20 + (drawn >> 3) % most).into())
    }

    /// Schedules the announce of a host at a DHT key.
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

    /// Starts a lookup of a DHT key.
    pub(super) fn look_up(&mut self, host: HostId, lookup: LookUpId, place: engine::Place) {
        let state = self.host_mut(host);
        state.lookups.insert(lookup);
        // A share looks up the keys of two days for its number, a download with a short code looks up four keys at
        // once.
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
