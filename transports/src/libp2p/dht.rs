//! Announces and lookups in the Kademlia DHT, by provider records
//!
//! The DHT key of a rendezvous point is a SHA-256 multihash, as the nodes of the public network require. This module
//! decides what to ask for each announce and lookup; [`walk`] finds the closest nodes. libp2p keeps the routing table
//! and answers other nodes.

mod announcement;
mod look_up;
mod walk;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use handover_core::engine::{AnnounceReport, LookUpId};
use handover_core::secret::MeetingPoint;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{self, KBucketKey, RecordKey};
use libp2p::swarm::StreamProtocol;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use self::announcement::Announcement;
use self::look_up::LookUp;
use self::walk::Walk;
use self::wire::{Answer, PeerAt, Question};
use super::store::Store;
use crate::TransportEvent;

/// The protocol of the public network.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");

/// How long to wait for a first node, and for a first answer, while bootstrap nodes may still come up.
const PATIENCE: Duration = Duration::from_secs(6);

/// Maximum number of lookups at once. Any further one ends at once as having reached no node.
const LOOK_UPS: usize = 64;
/// Maximum number of announces under way or queued. Any further one ends at once as having reached no node.
const ANNOUNCEMENTS: usize = 256;
/// Maximum number of announces under way at once.
const ANNOUNCING: usize = 16;
/// Maximum number of addresses of one node in the routing table.
const NODE_ADDRESSES: usize = 8;

/// libp2p's Kademlia, which keeps the routing table and serves other nodes.
pub(crate) type Kad = kad::Behaviour<Store>;

/// Creates libp2p's Kademlia. It is a client until set to server mode.
pub(crate) fn behaviour(local: PeerId) -> Kad {
    let mut config = kad::Config::new(PROTOCOL);
    config
        .set_caching(kad::Caching::Disabled)
        // Others' announces go to the store together with the network that they came from.
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_publication_interval(None)
        .set_replication_interval(None)
        // This side announces its own records again itself, with the addresses of that moment.
        .set_provider_publication_interval(None);
    let mut kad = Kad::with_config(local, Store::new(local), config);
    kad.set_mode(Some(kad::Mode::Client));
    kad
}

/// Adds a node that says it serves the DHT at these addresses.
pub(crate) fn add_node(kad: &mut Kad, node: PeerId, addresses: &[Multiaddr]) {
    let room = NODE_ADDRESSES.saturating_sub(addresses_of(kad, node).unwrap_or(0));
    for address in addresses.iter().take(room) {
        kad.add_address(&node, address.clone());
    }
}

/// True if the routing table has this peer.
pub(crate) fn knows(kad: &mut Kad, peer: PeerId) -> bool {
    addresses_of(kad, peer).is_some()
}

/// Returns the number of this node's addresses in the routing table, or `None` if the node is not there.
fn addresses_of(kad: &mut Kad, node: PeerId) -> Option<usize> {
    let bucket = kad.kbucket(node)?;
    let mut entries = bucket.iter();
    let entry = entries.find(|entry| *entry.node.key.preimage() == node)?;
    Some(entry.node.value.len())
}

/// Number of nodes in the routing table.
pub(crate) fn nodes(kad: &mut Kad) -> usize {
    kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
}

/// The DHT key of a rendezvous point.
pub(crate) fn key(point: MeetingPoint) -> RecordKey {
    let mut bytes = vec![0x12, 0x20];
    bytes.extend(point.0);
    RecordKey::from(bytes)
}

/// Id of one walk or one announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunId(u64);

/// The identity under which a node is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// This peer's own.
    Local,
    /// A second identity that tells the node nothing about this peer.
    Witness,
}

/// A question for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asking {
    pub(crate) node: PeerAt,
    pub(crate) question: Question,
    pub(crate) asker: Asker,
}

/// An action for the transport.
#[derive(Debug)]
pub(crate) enum Step {
    /// Ask a node. The answer goes to [`Dht::told`].
    Ask(RunId, Asking),
    Tell(TransportEvent),
}

/// Inputs from the rest of the transport.
#[derive(Debug)]
pub(crate) struct Around {
    /// A bootstrap node may still come up.
    pub(crate) nodes_may_come: bool,
    /// The addresses to announce.
    pub(crate) addresses: Vec<Multiaddr>,
}

/// The announces and lookups of this peer.
#[derive(Debug)]
pub(crate) struct Dht {
    local: PeerId,
    /// Nodes may be asked for the addresses of a provider.
    follow_up: bool,
    /// Announces that wait until others are done.
    queue: VecDeque<MeetingPoint>,
    runs: BTreeMap<RunId, Running>,
    next_run: u64,
    look_ups: BTreeMap<LookUpId, LookUp>,
    points: BTreeSet<MeetingPoint>,
    /// Something has happened since the last [`go_on`](Self::go_on).
    has_changed: bool,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    run: Run,
}

#[derive(Debug)]
enum Run {
    Announcement(Announcement),
    Providers {
        lookup: LookUpId,
        point: MeetingPoint,
        walk: Walk,
    },
    /// Finds the addresses of a provider that was named without any.
    Addresses {
        lookup: LookUpId,
        peer: PeerId,
        walk: Walk,
    },
}

impl Dht {
    pub(crate) fn new(local: PeerId, follow_up: bool) -> Self {
        Self {
            local,
            follow_up,
            queue: VecDeque::new(),
            runs: BTreeMap::new(),
            next_run: 0,
            look_ups: BTreeMap::new(),
            points: BTreeSet::new(),
            has_changed: false,
        }
    }

    /// True if anything is announced.
    pub(crate) fn announces(&self) -> bool {
        !self.points.is_empty()
    }

    fn announcing(&self) -> usize {
        let announces = |running: &&Running| matches!(running.run, Run::Announcement(_));
        self.runs.values().filter(announces).count()
    }

    /// Starts an announce. Returns its result if it is refused.
    pub(crate) fn announce(
        &mut self,
        point: MeetingPoint,
        kad: &mut Kad,
    ) -> Option<TransportEvent> {
        if self.announcing() + self.queue.len() >= ANNOUNCEMENTS {
            let report = AnnounceReport::default();
            return Some(TransportEvent::Announced { point, report });
        }
        self.points.insert(point);
        self.queue.push_back(point);
        self.has_changed = true;
        // This peer's own store answers others, with the addresses of that moment.
        let record = kad::ProviderRecord::new(key(point), self.local, vec![]);
        kad.store_mut().add_provider(record).ok();
        None
    }

    pub(crate) fn withdraw(&mut self, point: MeetingPoint, kad: &mut Kad) {
        self.points.remove(&point);
        self.queue.retain(|queued| *queued != point);
        self.runs.retain(|_, running| match &running.run {
            Run::Announcement(announcement) => announcement.point != point,
            Run::Providers { .. } | Run::Addresses { .. } => true,
        });
        self.has_changed = true;
        kad.stop_providing(&key(point));
    }

    /// Starts a lookup. Returns its result if it is refused.
    pub(crate) fn look_up(
        &mut self,
        lookup: LookUpId,
        point: MeetingPoint,
        kad: &mut Kad,
        now: Instant,
    ) -> Option<TransportEvent> {
        if self.look_ups.len() >= LOOK_UPS || self.look_ups.contains_key(&lookup) {
            let reached = false;
            return Some(TransportEvent::LookedUp { lookup, reached });
        }
        let walk = self.walk(key(point).to_vec(), kad);
        self.look_ups.insert(lookup, LookUp::new());
        let run = Run::Providers {
            lookup,
            point,
            walk,
        };
        self.run(run, now);
        None
    }

    pub(crate) fn end_look_up(&mut self, lookup: LookUpId) {
        self.look_ups.remove(&lookup);
        self.runs.retain(|_, running| match &running.run {
            Run::Announcement(_) => true,
            Run::Providers { lookup: of, .. } | Run::Addresses { lookup: of, .. } => *of != lookup,
        });
    }

    fn run(&mut self, run: Run, now: Instant) {
        self.next_run += 1;
        let running = Running { since: now, run };
        self.runs.insert(RunId(self.next_run), running);
        self.has_changed = true;
    }

    /// Creates a walk that begins at the closest known nodes.
    fn walk(&self, key: Vec<u8>, kad: &mut Kad) -> Walk {
        let mut walk = Walk::new(self.local, key.clone());
        for node in kad.find_closest_local_peers(&KBucketKey::new(key), &self.local) {
            walk.know((node.node_id, node.multiaddrs));
        }
        walk
    }

    fn walks(&mut self) -> impl Iterator<Item = &mut Walk> {
        let runs = self.runs.values_mut();
        runs.filter_map(|running| match &mut running.run {
            Run::Announcement(announcement) => announcement.walk(),
            Run::Providers { walk, .. } | Run::Addresses { walk, .. } => Some(walk),
        })
    }

    /// Handles a node that has come up: adds it to all walks.
    pub(crate) fn know(&mut self, node: PeerId, addresses: &[Multiaddr]) {
        for walk in self.walks() {
            walk.know((node, addresses.to_vec()));
        }
        self.has_changed = true;
    }

    /// Handles a new connection to this peer.
    pub(crate) fn connected(&mut self, peer: PeerId) {
        for walk in self.walks() {
            walk.connected(peer);
        }
        self.has_changed = true;
    }

    /// Handles a bootstrap node that has come up or failed.
    pub(crate) fn nodes_have_changed(&mut self) {
        self.has_changed = true;
    }

    /// Time at which [`go_on`](Self::go_on) has something to do even if nothing else happens.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let wake = |running: &Running| {
            let walk = match &running.run {
                Run::Announcement(announcement) => announcement.next_wake(now),
                Run::Providers { walk, .. } | Run::Addresses { walk, .. } => walk.next_wake(now),
            };
            let patience = Some(running.since + PATIENCE).filter(|at| *at > now);
            [walk, patience]
        };
        self.runs.values().flat_map(wake).flatten().min()
    }

    /// Handles a node's answer. `None`: it failed to answer.
    pub(crate) fn told(
        &mut self,
        run: RunId,
        (node, asker): (PeerId, Asker),
        answer: Option<Answer>,
        kad: &mut Kad,
        now: Instant,
    ) -> Vec<Step> {
        self.has_changed = true;
        let Some(running) = self.runs.get_mut(&run) else {
            return Vec::new();
        };
        let mut told = Vec::new();
        match (&mut running.run, answer) {
            (Run::Announcement(announcement), answer) => {
                announcement.told((node, asker), answer, now);
            }
            (Run::Providers { walk, .. } | Run::Addresses { walk, .. }, None) => walk.failed(node),
            (Run::Providers { walk, lookup, .. }, Some(answer)) => {
                walk.answered(node, answer.closer, now);
                let lookup = *lookup;
                for provider in answer.providers {
                    told.extend(self.found(lookup, node, provider, kad, now));
                }
            }
            (Run::Addresses { walk, lookup, peer }, Some(answer)) => {
                walk.answered(node, answer.closer, now);
                let addresses = walk.addresses_of(*peer).unwrap_or_default();
                let at = (*peer, addresses.to_vec());
                let look_up = self.look_ups.get_mut(lookup);
                told.extend(look_up.and_then(|look_up| look_up.tell(*lookup, node, at)));
            }
        }
        told.into_iter().map(Step::Tell).collect()
    }

    /// Handles a provider named by a node.
    fn found(
        &mut self,
        lookup: LookUpId,
        by: PeerId,
        provider: PeerAt,
        kad: &mut Kad,
        now: Instant,
    ) -> Option<TransportEvent> {
        let peer = provider.0;
        if peer == self.local {
            return None;
        }
        let search = self.look_ups.get_mut(&lookup)?;
        let told = search.tell(lookup, by, provider);
        if told.is_some() && self.follow_up && search.begin_follow_up(peer) {
            search.open += 1;
            let walk = self.walk(peer.to_bytes(), kad);
            self.run(Run::Addresses { lookup, peer, walk }, now);
        }
        told
    }

    /// Advances all runs.
    pub(crate) fn go_on(&mut self, around: &Around, kad: &mut Kad, now: Instant) -> Vec<Step> {
        self.has_changed = false;
        while self.announcing() < ANNOUNCING
            && let Some(point) = self.queue.pop_front()
        {
            let walk = self.walk(key(point).to_vec(), kad);
            let announcement = Announcement::new(point, walk, self.local);
            self.run(Run::Announcement(announcement), now);
        }
        let mut steps = Vec::new();
        let runs: Vec<_> = self.runs.keys().copied().collect();
        for id in runs {
            let Some(running) = self.runs.get_mut(&id) else {
                continue;
            };
            let (asked, end) = running.go_on(around, now);
            steps.extend(asked.into_iter().map(|asking| Step::Ask(id, asking)));
            if let Some(end) = end {
                self.runs.remove(&id);
                steps.extend(self.ended(end).map(Step::Tell));
            }
        }
        steps
    }

    /// True if [`go_on`](Self::go_on) has something to do.
    pub(crate) fn has_changed(&self) -> bool {
        self.has_changed
    }

    fn ended(&mut self, end: End) -> Option<TransportEvent> {
        // The next announce in the queue may begin.
        self.has_changed = true;
        let (lookup, reached) = match end {
            End::Announced(point, report) => {
                return Some(TransportEvent::Announced { point, report });
            }
            End::Walked(lookup, reached) => (lookup, reached),
        };
        let search = self.look_ups.get_mut(&lookup)?;
        search.reached |= reached;
        search.open = search.open.saturating_sub(1);
        if search.open > 0 {
            return None;
        }
        let reached = search.reached;
        self.look_ups.remove(&lookup);
        Some(TransportEvent::LookedUp { lookup, reached })
    }
}

/// The end of a run.
#[derive(Debug, Clone, Copy)]
enum End {
    Announced(MeetingPoint, AnnounceReport),
    /// The flag is true if any node has answered.
    Walked(LookUpId, bool),
}

impl Running {
    /// True if a walk that began at `since` is complete.
    fn is_through(walk: &Walk, since: Instant, around: &Around, now: Instant) -> bool {
        let may_come = around.nodes_may_come && now.duration_since(since) < PATIENCE;
        walk.is_settled(now) && (walk.has_answer() || !may_come)
    }

    fn go_on(&mut self, around: &Around, now: Instant) -> (Vec<Asking>, Option<End>) {
        let since = self.since;
        let ask = |walk: &mut Walk, question: &Question| {
            let asking = |node| Asking {
                node,
                question: question.clone(),
                asker: Asker::Local,
            };
            std::iter::from_fn(|| walk.next(now))
                .map(asking)
                .collect::<Vec<_>>()
        };
        match &mut self.run {
            Run::Announcement(announcement) => {
                let mut asked = announcement.next(now);
                let point = announcement.point;
                if let Some(walk) = announcement.walk()
                    && Self::is_through(walk, since, around, now)
                {
                    if !walk.has_answer() {
                        let report = AnnounceReport::default();
                        return (asked, Some(End::Announced(point, report)));
                    }
                    asked.extend(announcement.keep(&around.addresses, now));
                }
                let report = announcement.report(now);
                (asked, report.map(|report| End::Announced(point, report)))
            }
            Run::Providers {
                lookup,
                point,
                walk,
            } => {
                let asked = ask(walk, &Question::Providers(key(*point).to_vec()));
                let end = Self::is_through(walk, since, around, now);
                (asked, end.then(|| End::Walked(*lookup, walk.has_answer())))
            }
            Run::Addresses { lookup, peer, walk } => {
                let asked = ask(walk, &Question::Closest(peer.to_bytes()));
                let is_known = walk.addresses_of(*peer).is_some_and(|at| !at.is_empty());
                let end = is_known || Self::is_through(walk, since, around, now);
                (asked, end.then(|| End::Walked(*lookup, walk.has_answer())))
            }
        }
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

    fn around(nodes_may_come: bool) -> Around {
        Around {
            nodes_may_come,
            addresses: vec![at(9)],
        }
    }

    /// The questions among the steps.
    fn asked(steps: &[Step]) -> Vec<(RunId, PeerId, Question)> {
        let asked = steps.iter().filter_map(|step| match step {
            Step::Ask(run, asking) => Some((*run, asking.node.0, asking.question.clone())),
            Step::Tell(_) => None,
        });
        asked.collect()
    }

    fn told(steps: Vec<Step>) -> Vec<TransportEvent> {
        let told = steps.into_iter().filter_map(|step| match step {
            Step::Tell(event) => Some(event),
            Step::Ask(..) => None,
        });
        told.collect()
    }

    #[test]
    fn a_key_is_a_multihash_of_sha_256() {
        let key = key(POINT);
        assert_eq!(key.as_ref().len(), 34);
        assert_eq!(&key.as_ref()[..3], [0x12, 0x20, 7]);
    }

    #[test]
    fn a_peer_that_knows_nobody_waits_for_a_while_and_reaches_nobody() {
        let (mut dht, mut kad) = dht();
        let now = Instant::now();
        assert!(dht.look_up(LookUpId(1), POINT, &mut kad, now).is_none());
        assert!(dht.announce(POINT, &mut kad).is_none());
        assert!(dht.go_on(&around(true), &mut kad, now).is_empty());
        let later = dht.next_wake(now).unwrap();
        let ended = told(dht.go_on(&around(true), &mut kad, later));
        assert!(
            matches!(
                ended[..],
                [
                    TransportEvent::LookedUp { reached: false, .. },
                    TransportEvent::Announced {
                        report: AnnounceReport { nodes: 0, .. },
                        ..
                    }
                ]
            ),
            "{ended:?}"
        );
        dht.look_up(LookUpId(2), POINT, &mut kad, now);
        assert_eq!(dht.go_on(&around(false), &mut kad, now).len(), 1, "at once");
    }

    #[test]
    fn a_node_that_comes_up_is_asked_for_what_waits() {
        let (mut dht, mut kad) = dht();
        let (now, node) = (Instant::now(), PeerId::random());
        dht.look_up(LookUpId(1), POINT, &mut kad, now);
        dht.announce(POINT, &mut kad);
        dht.go_on(&around(true), &mut kad, now);
        dht.know(node, &[at(1)]);
        assert!(dht.has_changed());
        let asked = asked(&dht.go_on(&around(true), &mut kad, now));
        let questions: Vec<_> = asked.into_iter().map(|(_, _, question)| question).collect();
        let key = key(POINT).to_vec();
        let expected = [Question::Providers(key.clone()), Question::Closest(key)];
        assert_eq!(questions, expected);
    }

    #[test]
    fn the_record_has_the_addresses_of_the_moment_when_the_way_has_been_gone() {
        let (mut dht, mut kad) = dht();
        let (now, node) = (Instant::now(), PeerId::random());
        add_node(&mut kad, node, &[at(1)]);
        dht.announce(POINT, &mut kad);
        let begun = asked(&dht.go_on(&around(true), &mut kad, now));
        let (run, _, _) = begun[0];
        let answer = Some(Answer::default());
        dht.told(run, (node, Asker::Local), answer, &mut kad, now);
        let kept = asked(&dht.go_on(&around(true), &mut kad, now));
        let keep = Question::Keep {
            key: key(POINT).to_vec(),
            provider: dht.local,
            addresses: vec![at(9)],
        };
        assert_eq!(kept, [(run, node, keep)]);
    }

    #[test]
    fn a_crowd_of_look_ups_and_announcements_is_refused() {
        let (mut dht, mut kad) = dht();
        let now = Instant::now();
        let refused = (0..100)
            .filter(|id| dht.look_up(LookUpId(*id), POINT, &mut kad, now).is_some())
            .count();
        assert_eq!(refused, 100 - LOOK_UPS);
        for id in 0..100 {
            dht.end_look_up(LookUpId(id));
        }
        assert!(dht.look_ups.is_empty() && dht.runs.is_empty());
        let refused = (0..400_u16)
            .filter(|id| {
                let mut point = [0; 32];
                point[..2].copy_from_slice(&id.to_be_bytes());
                dht.announce(MeetingPoint(point), &mut kad).is_some()
            })
            .count();
        assert_eq!(refused, 400 - ANNOUNCEMENTS);
        dht.go_on(&around(true), &mut kad, now);
        assert_eq!(dht.runs.len(), ANNOUNCING);
        let ended = told(dht.go_on(&around(false), &mut kad, now));
        assert_eq!(ended.len(), ANNOUNCING);
        assert!(dht.has_changed(), "others may begin");
    }

    #[test]
    fn where_a_provider_is_that_told_no_addresses_is_asked_of_the_nodes() {
        let (mut dht, mut kad) = dht();
        let (lookup, peer, now) = (LookUpId(1), PeerId::random(), Instant::now());
        let node = PeerId::random();
        add_node(&mut kad, node, &[at(1)]);
        dht.look_up(lookup, POINT, &mut kad, now);
        let first = asked(&dht.go_on(&around(false), &mut kad, now));
        let (run, _, _) = first[0];
        let answer = Answer {
            closer: Vec::new(),
            providers: vec![(peer, Vec::new())],
        };
        let by = (node, Asker::Local);
        let found = told(dht.told(run, by, Some(answer), &mut kad, now));
        assert!(
            matches!(&found[..], [TransportEvent::Found { addresses, .. }] if addresses.is_empty()),
            "{found:?}"
        );
        let steps = dht.go_on(&around(false), &mut kad, now);
        let second = asked(&steps);
        assert!(told(steps).is_empty(), "the second still runs");
        let (run, _, question) = second[0].clone();
        assert_eq!(question, Question::Closest(peer.to_bytes()));
        let answer = Answer {
            closer: vec![(peer, vec![at(1)])],
            providers: Vec::new(),
        };
        let found = told(dht.told(run, by, Some(answer), &mut kad, now));
        assert!(
            matches!(&found[..], [TransportEvent::Found { addresses, .. }] if *addresses == [at(1)]),
            "{found:?}"
        );
        let ended = told(dht.go_on(&around(false), &mut kad, now));
        assert!(matches!(
            ended[..],
            [TransportEvent::LookedUp { reached: true, .. }]
        ));
        assert!(dht.runs.is_empty() && dht.look_ups.is_empty());
    }
}
