//! Announcing and looking up in the Kademlia DHT, by provider records.
//!
//! A meeting point is the SHA-256 multihash of the key, which is what nodes of the public network take. This module
//! knows which queries run for whom; which nodes are known is Kademlia's own affair.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::Duration;

use handover_core::engine::LookUpId;
use handover_core::secret::MeetingPoint;
use libp2p::core::Endpoint;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{
    self, AddProviderError, GetProvidersOk, PeerInfo, QueryId, QueryResult, QueryStats, RecordKey,
};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, StreamProtocol};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::dials::split;
use super::store::Store;
use crate::TransportEvent;

/// What the public network speaks.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");

/// How long a first node is waited for.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long an announcement waits for an address that it can tell.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(8);
/// How long a query may take: on the public network one takes some seconds, an announcement up to a minute.
const QUERY_TIMEOUT: Duration = Duration::from_mins(1);

/// Look-ups at once; one more has reached nobody.
const LOOK_UPS: usize = 64;
/// Announcements that are under way or waiting at once; one more has reached nobody.
const ANNOUNCEMENTS: usize = 256;
/// Peers that one look-up tells of.
const FOUND: usize = 64;
/// Addresses that are told of one peer.
const ADDRESSES: usize = 16;
/// Peers without addresses that one look-up asks for.
const FOLLOW_UPS: usize = 8;
/// Addresses of one node that go into the routing table.
const NODE_ADDRESSES: usize = 8;

/// The behaviour that speaks with the DHT.
pub(crate) type Kad = kad::Behaviour<Store>;

/// Kademlia as this peer uses it; a client until told otherwise.
pub(crate) fn behaviour(local: PeerId) -> Kad {
    let mut config = kad::Config::new(PROTOCOL);
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .disjoint_query_paths(true)
        .set_caching(kad::Caching::Disabled)
        .set_publication_interval(None)
        .set_replication_interval(None)
        // Whoever announces says when to do it again, with the addresses of then.
        .set_provider_publication_interval(None);
    if let Some(parallelism) = NonZeroUsize::new(4) {
        config.set_parallelism(parallelism);
    }
    let mut kad = Kad::with_config(local, Store::new(local), config);
    kad.set_mode(Some(kad::Mode::Client));
    kad
}

/// A node says that it serves the DHT, at these addresses.
pub(crate) fn add_node(kad: &mut Kad, node: PeerId, addresses: &[Multiaddr]) {
    let room = NODE_ADDRESSES.saturating_sub(addresses_of(kad, node).unwrap_or(0));
    for address in addresses.iter().take(room) {
        kad.add_address(&node, address.clone());
    }
}

/// Whether this is a node of the DHT, as far as is known.
pub(crate) fn knows(kad: &mut Kad, peer: PeerId) -> bool {
    addresses_of(kad, peer).is_some()
}

/// How many addresses of this node the routing table has, if it has the node.
fn addresses_of(kad: &mut Kad, node: PeerId) -> Option<usize> {
    let bucket = kad.kbucket(node)?;
    let mut entries = bucket.iter();
    let entry = entries.find(|entry| *entry.node.key.preimage() == node)?;
    Some(entry.node.value.len())
}

/// How many nodes are known.
pub(crate) fn nodes(kad: &mut Kad) -> usize {
    kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
}

/// What a record of the DHT is filed under.
pub(crate) fn key(point: MeetingPoint) -> RecordKey {
    let mut bytes = vec![0x12, 0x20];
    bytes.extend(point.0);
    RecordKey::from(bytes)
}

/// Whether it is time for a query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    /// A node of the DHT is known.
    pub(crate) nodes: bool,
    /// One may still turn up.
    pub(crate) nodes_may_come: bool,
    /// A relay is being asked for this peer's first address.
    pub(crate) address_may_come: bool,
}

/// What is announced and looked up.
#[derive(Debug)]
pub(crate) struct Dht {
    local: PeerId,
    /// Kademlia may ask peers themselves where they are.
    follow_up: bool,
    waiting: VecDeque<Waiting>,
    queries: HashMap<QueryId, Purpose>,
    look_ups: BTreeMap<LookUpId, LookUp>,
    points: BTreeSet<MeetingPoint>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    want: Want,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Announce(MeetingPoint),
    LookUp(LookUpId, MeetingPoint),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Announce(MeetingPoint),
    Providers(LookUpId),
    Addresses(LookUpId, PeerId),
}

#[derive(Debug, Default)]
struct LookUp {
    reached: bool,
    /// Queries that run for it.
    open: usize,
    follow_ups: usize,
    /// Who was told, with which addresses.
    found: BTreeMap<PeerId, Vec<Multiaddr>>,
}

impl Dht {
    pub(crate) fn new(local: PeerId, follow_up: bool) -> Self {
        Self {
            local,
            follow_up,
            waiting: VecDeque::new(),
            queries: HashMap::new(),
            look_ups: BTreeMap::new(),
            points: BTreeSet::new(),
        }
    }

    /// How much waits.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether this peer is to be found anywhere.
    pub(crate) fn announces(&self) -> bool {
        !self.points.is_empty()
    }

    /// What cannot be taken on is answered at once.
    pub(crate) fn announce(&mut self, point: MeetingPoint, now: Instant) -> Option<TransportEvent> {
        let announcing = |purpose: &&Purpose| matches!(purpose, Purpose::Announce(_));
        let under_way = self.queries.values().filter(announcing).count() + self.waiting.len();
        if under_way >= ANNOUNCEMENTS {
            let reached = false;
            return Some(TransportEvent::Announced { point, reached });
        }
        self.points.insert(point);
        self.wait(Want::Announce(point), now);
        None
    }

    pub(crate) fn withdraw(&mut self, point: MeetingPoint, kad: &mut Kad) {
        self.points.remove(&point);
        self.waiting
            .retain(|waiting| waiting.want != Want::Announce(point));
        self.queries
            .retain(|_, purpose| *purpose != Purpose::Announce(point));
        kad.stop_providing(&key(point));
    }

    /// What cannot be taken on is answered at once.
    pub(crate) fn look_up(
        &mut self,
        lookup: LookUpId,
        point: MeetingPoint,
        now: Instant,
    ) -> Option<TransportEvent> {
        if self.look_ups.len() >= LOOK_UPS || self.look_ups.contains_key(&lookup) {
            let reached = false;
            return Some(TransportEvent::LookedUp { lookup, reached });
        }
        self.look_ups.insert(lookup, LookUp::default());
        self.wait(Want::LookUp(lookup, point), now);
        None
    }

    pub(crate) fn end_look_up(&mut self, lookup: LookUpId, kad: &mut Kad) {
        self.look_ups.remove(&lookup);
        self.waiting
            .retain(|waiting| !matches!(waiting.want, Want::LookUp(id, _) if id == lookup));
        let ended = |purpose: &Purpose| match purpose {
            Purpose::Providers(id) | Purpose::Addresses(id, _) => *id == lookup,
            Purpose::Announce(_) => false,
        };
        self.queries.retain(|query, purpose| {
            if ended(purpose)
                && let Some(mut query) = kad.query_mut(query)
            {
                query.finish();
            }
            !ended(purpose)
        });
    }

    fn wait(&mut self, want: Want, now: Instant) {
        self.waiting.push_back(Waiting { since: now, want });
    }

    /// When [`go_on`](Self::go_on) has something to do without anything else happening.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let ends =
            |waiting: &Waiting| [PATIENCE, ADDRESS_PATIENCE].map(|wait| waiting.since + wait);
        let ends = self.waiting.iter().flat_map(ends);
        ends.filter(|at| *at > now).min()
    }

    /// Starts what waits and need not wait any more.
    pub(crate) fn go_on(
        &mut self,
        ready: Ready,
        kad: &mut Kad,
        now: Instant,
    ) -> Vec<TransportEvent> {
        let mut told = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let waited = now.duration_since(waiting.since);
            let for_nodes = !ready.nodes && ready.nodes_may_come && waited < PATIENCE;
            let announces = matches!(waiting.want, Want::Announce(_));
            let for_address = announces && ready.address_may_come && waited < ADDRESS_PATIENCE;
            if for_nodes || for_address {
                self.waiting.push_back(waiting);
            } else if ready.nodes {
                told.extend(self.begin(waiting.want, kad));
            } else {
                told.extend(self.reached_nobody(waiting.want, kad));
            }
        }
        told
    }

    fn begin(&mut self, want: Want, kad: &mut Kad) -> Option<TransportEvent> {
        match want {
            Want::Announce(point) => match kad.start_providing(key(point)) {
                Ok(query) => {
                    self.queries.insert(query, Purpose::Announce(point));
                    None
                }
                Err(error) => {
                    tracing::warn!(%error, "can't announce");
                    let reached = false;
                    Some(TransportEvent::Announced { point, reached })
                }
            },
            Want::LookUp(lookup, point) => {
                let search = self.look_ups.get_mut(&lookup)?;
                search.open += 1;
                let query = kad.get_providers(key(point));
                self.queries.insert(query, Purpose::Providers(lookup));
                None
            }
        }
    }

    fn reached_nobody(&mut self, want: Want, kad: &mut Kad) -> Option<TransportEvent> {
        let reached = false;
        match want {
            Want::Announce(point) => {
                // Whoever asks this peer itself is told all the same.
                kad.store_mut()
                    .add_provider(kad::ProviderRecord::new(key(point), self.local, vec![]))
                    .ok();
                Some(TransportEvent::Announced { point, reached })
            }
            Want::LookUp(lookup, _) => {
                self.look_ups.remove(&lookup)?;
                Some(TransportEvent::LookedUp { lookup, reached })
            }
        }
    }

    /// A query has come further.
    pub(crate) fn progressed(
        &mut self,
        id: QueryId,
        result: QueryResult,
        stats: &QueryStats,
        last: bool,
        kad: &mut Kad,
    ) -> Vec<TransportEvent> {
        let Some(purpose) = self.queries.get(&id).copied() else {
            return Vec::new();
        };
        if last {
            self.queries.remove(&id);
        }
        let answered = stats.num_successes() > 0;
        let mut told = Vec::new();
        match (purpose, result) {
            (Purpose::Announce(point), QueryResult::StartProviding(result)) => {
                // Telling all nodes may take longer than the query lasts, while many of them know already.
                if let Err(AddProviderError::Timeout { .. }) = &result {
                    tracing::debug!("an announcement ran out of time");
                }
                let reached = answered;
                return vec![TransportEvent::Announced { point, reached }];
            }
            (
                Purpose::Providers(lookup),
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { key, providers })),
            ) => {
                for peer in providers {
                    told.extend(self.found(lookup, peer, &key, kad));
                }
            }
            (Purpose::Addresses(lookup, peer), QueryResult::GetClosestPeers(result)) => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                let of_peer = |info: &PeerInfo| info.peer_id == peer;
                let info = peers.into_iter().find(of_peer);
                let addresses = info.map(|info| info.addrs).unwrap_or_default();
                told.extend(self.tell(lookup, peer, &addresses));
            }
            _ => {}
        }
        if last && let Purpose::Providers(lookup) | Purpose::Addresses(lookup, _) = purpose {
            told.extend(self.query_ended(lookup, answered));
        }
        told
    }

    fn query_ended(&mut self, lookup: LookUpId, answered: bool) -> Option<TransportEvent> {
        let search = self.look_ups.get_mut(&lookup)?;
        search.reached |= answered;
        search.open = search.open.saturating_sub(1);
        if search.open > 0 {
            return None;
        }
        let reached = search.reached;
        self.look_ups.remove(&lookup);
        Some(TransportEvent::LookedUp { lookup, reached })
    }

    /// A node has named a provider. Where that is stands in the running query, which only Kademlia's own dials can see.
    fn found(
        &mut self,
        lookup: LookUpId,
        peer: PeerId,
        key: &RecordKey,
        kad: &mut Kad,
    ) -> Option<TransportEvent> {
        let id = ConnectionId::new_unchecked(usize::MAX);
        let mut addresses = kad
            .handle_pending_outbound_connection(id, Some(peer), &[], Endpoint::Dialer)
            .unwrap_or_default();
        let kept = kad.store_mut().providers(key).into_iter();
        addresses.extend(
            kept.filter(|record| record.provider == peer)
                .flat_map(|record| record.addresses),
        );
        let told = self.tell(lookup, peer, &addresses);
        let search = self.look_ups.get_mut(&lookup)?;
        let unknown = search.found.get(&peer).is_some_and(Vec::is_empty);
        if told.is_some() && unknown && self.follow_up && search.follow_ups < FOLLOW_UPS {
            search.follow_ups += 1;
            search.open += 1;
            let query = kad.get_closest_peers(peer);
            self.queries.insert(query, Purpose::Addresses(lookup, peer));
        }
        told
    }

    /// Tells of a peer unless all of it was told before.
    fn tell(
        &mut self,
        lookup: LookUpId,
        peer: PeerId,
        addresses: &[Multiaddr],
    ) -> Option<TransportEvent> {
        let search = self.look_ups.get_mut(&lookup)?;
        let first = !search.found.contains_key(&peer);
        if peer == self.local || (first && search.found.len() >= FOUND) {
            return None;
        }
        let known = search.found.entry(peer).or_default();
        let before = known.len();
        for address in addresses {
            let (plain, named) = split(address);
            let of_peer = named.is_none_or(|named| named == peer) && !plain.is_empty();
            if of_peer && known.len() < ADDRESSES && !known.contains(&plain) {
                known.push(plain);
            }
        }
        let addresses = known.clone();
        (first || known.len() > before).then_some(TransportEvent::Found {
            lookup,
            peer,
            addresses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dht() -> (Dht, Kad) {
        let local = PeerId::random();
        (Dht::new(local, true), behaviour(local))
    }

    const POINT: MeetingPoint = MeetingPoint([7; 32]);

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn a_key_is_a_multihash_of_sha_256() {
        let key = key(POINT);
        assert_eq!(key.as_ref().len(), 34);
        assert_eq!(&key.as_ref()[..3], [0x12, 0x20, 7]);
    }

    #[test]
    fn who_knows_nobody_waits_for_a_while_and_reaches_nobody() {
        let (mut dht, mut kad) = dht();
        let now = Instant::now();
        assert!(dht.look_up(LookUpId(1), POINT, now).is_none());
        assert!(dht.announce(POINT, now).is_none());
        let mut ready = Ready {
            nodes: false,
            nodes_may_come: true,
            address_may_come: false,
        };
        assert!(dht.go_on(ready, &mut kad, now).is_empty());
        let later = dht.next_wake(now).unwrap();
        let told = dht.go_on(ready, &mut kad, later);
        assert!(matches!(
            told[..],
            [
                TransportEvent::LookedUp { reached: false, .. },
                TransportEvent::Announced { reached: false, .. }
            ]
        ));
        ready.nodes_may_come = false;
        dht.look_up(LookUpId(2), POINT, now);
        assert_eq!(dht.go_on(ready, &mut kad, now).len(), 1, "at once");
    }

    #[test]
    fn an_announcement_waits_for_an_address_but_not_for_ever() {
        let (mut dht, mut kad) = dht();
        let now = Instant::now();
        let ready = Ready {
            nodes: true,
            nodes_may_come: true,
            address_may_come: true,
        };
        dht.announce(POINT, now);
        dht.go_on(ready, &mut kad, now);
        assert!(dht.queries.is_empty());
        dht.go_on(ready, &mut kad, now + ADDRESS_PATIENCE);
        assert_eq!(dht.queries.len(), 1);
    }

    #[test]
    fn what_a_look_up_tells_is_bounded_and_never_twice_the_same() {
        let (mut dht, _) = dht();
        let lookup = LookUpId(1);
        dht.look_up(lookup, POINT, Instant::now());
        let peer = PeerId::random();
        let many: Vec<_> = (0..100).map(at).collect();
        let told = dht.tell(lookup, peer, &many);
        assert!(
            matches!(&told, Some(TransportEvent::Found { addresses, .. }) if addresses.len() == ADDRESSES),
            "{told:?}"
        );
        assert!(dht.tell(lookup, peer, &many).is_none());
        assert!(dht.tell(lookup, dht.local, &many).is_none());
        let told = (0..100).filter(|_| dht.tell(lookup, PeerId::random(), &[]).is_some());
        assert_eq!(told.count(), FOUND - 1);
    }

    #[test]
    fn addresses_are_told_without_the_peer_and_not_those_of_another() {
        let (mut dht, _) = dht();
        let lookup = LookUpId(1);
        dht.look_up(lookup, POINT, Instant::now());
        let (peer, other) = (PeerId::random(), PeerId::random());
        let named =
            |peer: PeerId| -> Multiaddr { format!("{}/p2p/{peer}", at(1)).parse().unwrap() };
        match dht.tell(lookup, peer, &[named(peer), named(other), at(2)]) {
            Some(TransportEvent::Found { addresses, .. }) => assert_eq!(addresses, [at(1), at(2)]),
            told => panic!("{told:?}"),
        }
    }

    #[test]
    fn a_crowd_of_look_ups_and_announcements_is_refused() {
        let (mut dht, mut kad) = dht();
        let now = Instant::now();
        let refused = (0..100)
            .filter(|id| dht.look_up(LookUpId(*id), POINT, now).is_some())
            .count();
        assert_eq!(refused, 100 - LOOK_UPS);
        for id in 0..100 {
            dht.end_look_up(LookUpId(id), &mut kad);
        }
        assert!(dht.look_ups.is_empty() && dht.waiting.is_empty());
        let refused = (0..400_u16)
            .filter(|id| {
                let mut point = [0; 32];
                point[..2].copy_from_slice(&id.to_be_bytes());
                dht.announce(MeetingPoint(point), now).is_some()
            })
            .count();
        assert_eq!(refused, 400 - ANNOUNCEMENTS);
    }

    #[test]
    fn where_a_provider_is_that_told_no_addresses_is_asked_of_the_nodes() {
        let (mut dht, mut kad) = dht();
        let (lookup, peer, now) = (LookUpId(1), PeerId::random(), Instant::now());
        dht.look_up(lookup, POINT, now);
        let ready = Ready {
            nodes: true,
            nodes_may_come: false,
            address_may_come: false,
        };
        dht.go_on(ready, &mut kad, now);
        let (&first, _) = dht.queries.iter().next().unwrap();
        let stats = *kad.query(&first).unwrap().stats();
        let found = QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders {
            key: key(POINT),
            providers: [peer].into(),
        }));
        let told = dht.progressed(first, found, &stats, false, &mut kad);
        assert!(
            matches!(&told[..], [TransportEvent::Found { addresses, .. }] if addresses.is_empty()),
            "{told:?}"
        );
        let asks = |purpose: &Purpose| *purpose == Purpose::Addresses(lookup, peer);
        let second = dht.queries.iter().find(|(_, purpose)| asks(purpose));
        let second = *second.expect("a second query").0;

        let ended = QueryResult::GetProviders(Ok(GetProvidersOk::FinishedWithNoAdditionalRecord {
            closest_peers: vec![],
        }));
        let told = dht.progressed(first, ended, &stats, true, &mut kad);
        assert!(told.is_empty(), "the second still runs: {told:?}");
        let closest = QueryResult::GetClosestPeers(Ok(kad::GetClosestPeersOk {
            key: peer.to_bytes(),
            peers: vec![PeerInfo {
                peer_id: peer,
                addrs: vec![at(1)],
            }],
        }));
        let told = dht.progressed(second, closest, &stats, true, &mut kad);
        assert!(
            matches!(
                &told[..],
                [TransportEvent::Found { addresses, .. }, TransportEvent::LookedUp { .. }]
                    if *addresses == [at(1)]
            ),
            "{told:?}"
        );
        assert!(dht.queries.is_empty() && dht.look_ups.is_empty());
    }
}
