//! The links to all peers: the peer, the keys, liveness and message budget of each.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Allowance, DialId, DownloadId, LinkId, PathKind, ShareId};
use crate::handshake::Initiator;
use crate::limits::Limits;
use crate::network::{Network, has_room};
use crate::pake::{Pake, PakeKey};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// Number of messages without progress that a link may send per second on average.
const IDLE_MESSAGES_PER_SECOND: u64 = 16;

/// A check that runs later than its deadline by more than this is taken to follow a suspend: messages received
/// meanwhile may still be unread.
const SLEPT: Duration = Duration::from_millis(100);
/// Time that a link then has to receive something.
const GRACE: Duration = Duration::from_secs(5);

/// Time before a relay closes a link at which requests on that link stop.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Factor by which the per-address link limits are raised for a relay.
const PEERS_OF_A_RELAY: usize = 2;

/// State of a link and what it is used for.
pub(super) enum Role {
    /// Incoming link that awaits the handshake request.
    AwaitingRequest,
    /// Incoming link with a short code: our PAKE point is sent and the password proof, made with this key, is awaited.
    AwaitingProof(ShareId, PakeKey),
    /// Outgoing link of a download with a short code: the request is sent and the sharer's PAKE point is awaited.
    AwaitingPoint(DownloadId, DialId, Box<Pake>),
    /// The sharer's point has arrived. The password proof is ready and is sent once it has been counted on disk.
    CountingProof(DownloadId, DialId, Box<(Initiator, Vec<u8>)>),
    /// Outgoing link of a download: the handshake request or password proof is sent and the handshake reply is awaited.
    AwaitingReply(DownloadId, DialId, Box<Initiator>),
    /// Keyed: the peer fetches from this share.
    Serving(ShareId),
    /// Keyed: this download fetches from the peer.
    Fetching(DownloadId),
    /// Keyed: the peer fetches from this seeding download.
    Seeding(DownloadId),
}

/// One link to one peer.
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) path: PathKind,
    pub(super) role: Role,
    /// Network origin of an incoming link. Empty for outgoing links.
    origin: Origin,
    pub(super) rtt: Option<Duration>,
    /// The relay, if the link was dialled through one.
    pub(super) relay: Option<PeerId>,
    /// Limits that the relay sets for this link.
    pub(super) allowance: Allowance,
    /// Number of bytes carried so far: frames in both directions.
    pub(super) carried: u64,
    /// Best path of any connection to this peer that came up by itself before the link was keyed.
    pub(super) better: Option<PathKind>,
    pub(super) opened: Time,
    last_in: Time,
    /// True if the link has had its grace period after a suspend and nothing has arrived since.
    excused: bool,
    next_seq: u64,
    /// Nonce and time of the unanswered ping.
    ping: Option<(u64, Time)>,
    ping_due: Time,
    /// Number of messages without progress that the peer may still send.
    budget: u64,
    /// Time of the last budget refill.
    counted: Time,
}

/// Network origin of an incoming link.
#[derive(Debug, Default)]
pub(super) struct Origin {
    networks: Vec<Network>,
    is_relay: bool,
}

impl Origin {
    pub(super) fn of(remote: &Multiaddr, path: PathKind) -> Self {
        Self {
            networks: Network::of(remote),
            is_relay: path == PathKind::Relayed,
        }
    }

    /// True if `links` leave room for one more from this origin, with a limit of `of_one` per address. A relay gets a
    /// multiple of the limit, since many peers come through it.
    fn has_room<'a>(&self, links: impl Iterator<Item = &'a Link>, of_one: usize) -> bool {
        let peers = if self.is_relay { PEERS_OF_A_RELAY } else { 1 };
        let taken = links.map(|link| &link.origin.networks);
        has_room(&self.networks, taken, of_one.saturating_mul(peers))
    }
}

/// Action that a link needs now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// The link was not keyed before the timeout.
    HandshakeOver,
    /// Nothing has arrived for too long.
    Dead,
    /// Send a ping with this nonce.
    Ping(u64),
}

/// All links, by id.
#[derive(Default)]
pub(super) struct Links {
    links: BTreeMap<LinkId, Link>,
}

impl Links {
    pub(super) fn insert(
        &mut self,
        id: LinkId,
        peer: PeerId,
        path: PathKind,
        role: Role,
        now: Time,
        limits: &Limits,
    ) {
        self.links.insert(
            id,
            Link {
                peer,
                path,
                role,
                origin: Origin::default(),
                rtt: None,
                relay: None,
                allowance: Allowance::default(),
                carried: 0,
                better: None,
                opened: now,
                last_in: now,
                excused: false,
                next_seq: 0,
                ping: None,
                ping_due: now,
                budget: u64::from(limits.idle_messages),
                counted: now,
            },
        );
    }

    /// Notes that a connection to this peer came up by itself. A link whose handshake is still running may move to it
    /// once keyed.
    pub(super) fn path_came(&mut self, peer: PeerId, path: PathKind) {
        let links = self.links.values_mut().filter(|link| link.peer == peer);
        for link in links.filter(|link| !link.is_keyed()) {
            link.better = Some(link.better.map_or(path, |known| known.min(path)));
        }
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: LinkId) -> Option<Link> {
        self.links.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn ids(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    /// Number of links that this side dialled through this relay.
    pub(super) fn through(&self, relay: PeerId) -> usize {
        let links = self.links.values();
        links.filter(|link| link.relay == Some(relay)).count()
    }

    /// True if the limits allow one more incoming link from this origin.
    pub(super) fn has_place(&self, origin: &Origin, limits: &Limits) -> bool {
        let all = || self.links.values();
        let awaited = || all().filter(|link| link.is_awaited());
        self.len() < limits.links
            && awaited().count() < limits.links_in_handshake
            && origin.has_room(all(), limits.links_of_one)
            && origin.has_room(awaited(), limits.links_in_handshake_of_one)
    }

    /// Sets the origin of an incoming link.
    pub(super) fn comes_from(&mut self, id: LinkId, origin: Origin) {
        if let Some(link) = self.links.get_mut(&id) {
            link.origin = origin;
        }
    }

    /// True if this download has a handshake in progress with this peer.
    pub(super) fn has_handshake_with(&self, download: DownloadId, peer: PeerId) -> bool {
        self.links.values().any(|link| {
            let ours = match &link.role {
                Role::AwaitingPoint(id, ..)
                | Role::CountingProof(id, ..)
                | Role::AwaitingReply(id, ..) => *id == download,
                _ => false,
            };
            ours && link.peer == peer
        })
    }

    /// Takes the next sequence number of a keyed link. Returns `None` for other links.
    pub(super) fn take_seq(&mut self, id: LinkId) -> Option<u64> {
        let link = self.links.get_mut(&id)?;
        if !link.is_keyed() {
            return None;
        }
        let seq = link.next_seq;
        link.next_seq += 1;
        Some(seq)
    }

    /// Returns the action that the link needs at `now`, if any.
    pub(super) fn care(&mut self, id: LinkId, now: Time, limits: &Limits) -> Option<Care> {
        let link = self.links.get_mut(&id)?;
        if now < link.deadline(limits) {
            return None;
        }
        if !link.is_keyed() {
            return Some(Care::HandshakeOver);
        }
        let dead = link.last_in + limits.dead_after;
        if now >= dead && !link.excuse(now.since(dead)) {
            return Some(Care::Dead);
        }
        if now >= dead {
            let ago = limits.dead_after.saturating_sub(GRACE);
            link.last_in = Time::ZERO + now.since(Time::ZERO).saturating_sub(ago);
        }
        let nonce = now.as_nanos();
        link.ping = Some((nonce, now));
        link.ping_due = now + limits.ping_after;
        Some(Care::Ping(nonce))
    }

    /// Time at which the first link needs an action.
    pub(super) fn deadline(&self, limits: &Limits) -> Time {
        self.links
            .values()
            .map(|link| link.deadline(limits))
            .min()
            .unwrap_or(Time::NEVER)
    }
}

impl Link {
    pub(super) fn is_keyed(&self) -> bool {
        matches!(
            self.role,
            Role::Serving(_) | Role::Fetching(_) | Role::Seeding(_)
        )
    }

    /// True for an incoming link that is not keyed yet.
    fn is_awaited(&self) -> bool {
        matches!(self.role, Role::AwaitingRequest | Role::AwaitingProof(..))
    }

    /// Counts a frame that was received or is about to be sent.
    pub(super) fn passed(&mut self, bytes: u64) {
        self.carried = self.carried.saturating_add(bytes);
    }

    /// True if a relay limits the bytes or the duration of this link.
    pub(super) fn is_limited(&self) -> bool {
        self.allowance != Allowance::default()
    }

    /// Number of bytes that the relay still allows on this link, if known.
    pub(super) fn left(&self) -> Option<u64> {
        let bytes = self.allowance.bytes?;
        Some(bytes.saturating_sub(self.carried))
    }

    /// Time after which nothing more should be requested on this link, so that pending answers still arrive.
    pub(super) fn usable_until(&self) -> Time {
        let Some(time) = self.allowance.time else {
            return Time::NEVER;
        };
        self.opened + time.saturating_sub(LAST_ANSWERS.min(time / 4))
    }

    fn deadline(&self, limits: &Limits) -> Time {
        if !self.is_keyed() {
            return self.opened + limits.handshake;
        }
        let dead = self.last_in + limits.dead_after;
        if self.ping.is_some() {
            dead
        } else {
            dead.min(self.ping_due)
        }
    }

    /// True if the silence may be due to a suspend of this device, because the check runs late by more than [`SLEPT`].
    /// Excuses a link once until something arrives again.
    fn excuse(&mut self, late: Duration) -> bool {
        late > SLEPT && !std::mem::replace(&mut self.excused, true)
    }

    /// Notes that something arrived.
    pub(super) fn heard(&mut self, now: Time) {
        self.last_in = now;
        self.excused = false;
    }

    /// Handles a pong: measures the round-trip time if it answers our last ping.
    pub(super) fn pong(&mut self, nonce: u64, now: Time) {
        if let Some((asked, at)) = self.ping
            && asked == nonce
        {
            self.ping = None;
            self.saw_round_trip(now.since(at));
        }
    }

    fn saw_round_trip(&mut self, took: Duration) {
        // A pong may queue behind bulk data, so the lowest recent value is closest to the path's own round-trip time.
        self.rtt = Some(match self.rtt {
            Some(rtt) if took > rtt => rtt + took.saturating_sub(rtt) / 32,
            _ => took,
        });
    }

    /// Counts a message that brings neither side forward. Returns true if the link may still send such messages.
    pub(super) fn spend(&mut self, now: Time, limits: &Limits) -> bool {
        let millis = u64::try_from(now.since(self.counted).as_millis()).unwrap_or(u64::MAX);
        let refill = millis.saturating_mul(IDLE_MESSAGES_PER_SECOND) / 1000;
        if refill > 0 {
            self.budget = self
                .budget
                .saturating_add(refill)
                .min(u64::from(limits.idle_messages));
            self.counted = now;
        }
        self.budget = self.budget.saturating_sub(1);
        self.budget > 0
    }

    /// Refills the budget after progress.
    pub(super) fn progressed(&mut self, limits: &Limits) {
        self.budget = u64::from(limits.idle_messages);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LINK: LinkId = LinkId(1);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// A keyed link that last received something at time zero and has an unanswered ping.
    fn asked() -> (Links, Limits) {
        let limits = Limits::default();
        let mut links = Links::default();
        let peer = PeerId::from_bytes(&[0, 1, 7]).unwrap();
        let role = Role::Serving(ShareId(1));
        links.insert(LINK, peer, PathKind::Direct, role, Time::ZERO, &limits);
        let ping = links.care(LINK, at(4_000), &limits);
        assert_eq!(ping, Some(Care::Ping(at(4_000).as_nanos())));
        (links, limits)
    }

    #[test]
    fn silence_is_death_at_the_deadline() {
        let (mut links, limits) = asked();
        assert_eq!(links.care(LINK, at(14_999), &limits), None);
        assert_eq!(links.care(LINK, at(15_000), &limits), Some(Care::Dead));
    }

    /// Row 28.
    #[test]
    fn who_has_slept_asks_once_more_and_then_believes_it() {
        let (mut links, limits) = asked();
        let woken = 3_600_000;
        let ping = links.care(LINK, at(woken), &limits);
        assert_eq!(ping, Some(Care::Ping(at(woken).as_nanos())));
        assert_eq!(links.care(LINK, at(woken + 4_999), &limits), None);
        let over = links.care(LINK, at(woken + 5_000), &limits);
        assert_eq!(over, Some(Care::Dead));
    }

    #[test]
    fn who_says_something_after_a_sleep_lives_and_may_be_slept_through_again() {
        let (mut links, limits) = asked();
        assert!(links.care(LINK, at(60_000), &limits).is_some());
        links.get_mut(LINK).unwrap().heard(at(61_000));
        let ping = links.care(LINK, at(900_000), &limits);
        assert_eq!(ping, Some(Care::Ping(at(900_000).as_nanos())));
    }
}
