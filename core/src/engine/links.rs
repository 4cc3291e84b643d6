//! The links of all peers: who is on them, whether they are keyed, alive, and within their budget.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Allowance, DialId, DownloadId, LinkId, PathKind, ShareId};
use crate::handshake::Initiator;
use crate::limits::Limits;
use crate::network::{Network, has_room};
use crate::pake::{Pake, PakeKey};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// Messages without progress that a link may send in a second, in the long run.
const IDLE_MESSAGES_PER_SECOND: u64 = 16;

/// Who looks so much later than it was due has slept: what peers said meanwhile may still wait to be read.
const SLEPT: Duration = Duration::from_millis(100);
/// How long a link may then take to say something.
const GRACE: Duration = Duration::from_secs(5);

/// How long before a relay ends a link the last thing is asked for on it.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// A relay has as many places as so many addresses.
const PEERS_OF_A_RELAY: usize = 2;

/// What a link is for.
pub(super) enum Role {
    /// The other side dialled; its knock is awaited.
    AwaitingRequest,
    /// The other side knocked with a short code and was told our point; its proof is awaited, under this key.
    AwaitingProof(ShareId, PakeKey),
    /// We dialled for a download and knocked with a short code; the sharer's point is awaited.
    AwaitingPoint(DownloadId, DialId, Box<Pake>),
    /// The sharer's point has come, and with it the proof that is to go out, once it is counted.
    CountingProof(DownloadId, DialId, Box<(Initiator, Vec<u8>)>),
    /// We dialled for a download and knocked; the reply is awaited.
    AwaitingReply(DownloadId, DialId, Box<Initiator>),
    /// Keyed: the other side fetches from this share.
    Serving(ShareId),
    /// Keyed: this download fetches from the other side.
    Fetching(DownloadId),
    /// Keyed: the other side fetches what this download has.
    Seeding(DownloadId),
}

/// One connection to one peer.
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) path: PathKind,
    pub(super) role: Role,
    /// Of a link that came in: from where.
    origin: Origin,
    pub(super) rtt: Option<Duration>,
    /// Who is between, if it was dialled through a relay.
    pub(super) relay: Option<PeerId>,
    /// What that relay lets it carry, and how much has gone over it: frames of both directions.
    pub(super) allowance: Allowance,
    pub(super) carried: u64,
    /// The best connection to its peer that came up by itself before this link was keyed.
    pub(super) better: Option<PathKind>,
    pub(super) opened: Time,
    last_in: Time,
    /// It had its grace after a sleep.
    excused: bool,
    next_seq: u64,
    ping: Option<(u64, Time)>,
    ping_due: Time,
    /// Messages without progress that it may still send, and when that was last counted.
    budget: u64,
    counted: Time,
}

/// From where a link came in.
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

    /// Whether it has a place beside these links, where one address has so many. Many peers come through one relay.
    fn has_room<'a>(&self, links: impl Iterator<Item = &'a Link>, of_one: usize) -> bool {
        let peers = if self.is_relay { PEERS_OF_A_RELAY } else { 1 };
        let taken = links.map(|link| &link.origin.networks);
        has_room(&self.networks, taken, of_one.saturating_mul(peers))
    }
}

/// What a link needs now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// It did not prove a key in time.
    HandshakeOver,
    /// Nothing came for too long, though it was asked.
    Dead,
    /// Ask whether it lives, with this number.
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

    /// A connection to this peer came up by itself. Whose key is being proved over another one may want it after that.
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

    /// Links that this side dialled through a relay.
    pub(super) fn through(&self, relay: PeerId) -> usize {
        let links = self.links.values();
        links.filter(|link| link.relay == Some(relay)).count()
    }

    /// Whether one more link may come in from there.
    pub(super) fn has_place(&self, origin: &Origin, limits: &Limits) -> bool {
        let all = || self.links.values();
        let awaited = || all().filter(|link| link.is_awaited());
        self.len() < limits.links
            && awaited().count() < limits.links_in_handshake
            && origin.has_room(all(), limits.links_of_one)
            && origin.has_room(awaited(), limits.links_in_handshake_of_one)
    }

    /// A link came in from there.
    pub(super) fn comes_from(&mut self, id: LinkId, origin: Origin) {
        if let Some(link) = self.links.get_mut(&id) {
            link.origin = origin;
        }
    }

    /// Whether a download has knocked at this peer and waits for what comes of it.
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

    /// The next sequence number of a keyed link.
    pub(super) fn take_seq(&mut self, id: LinkId) -> Option<u64> {
        let link = self.links.get_mut(&id)?;
        if !link.is_keyed() {
            return None;
        }
        let seq = link.next_seq;
        link.next_seq += 1;
        Some(seq)
    }

    /// What the link needs at `now`, if anything.
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

    /// When the first link needs care.
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

    /// It came in and has not proved a key.
    fn is_awaited(&self) -> bool {
        matches!(self.role, Role::AwaitingRequest | Role::AwaitingProof(..))
    }

    /// A frame has come over it, or is about to go.
    pub(super) fn passed(&mut self, bytes: u64) {
        self.carried = self.carried.saturating_add(bytes);
    }

    /// Whether a relay ends it after so many bytes or so much time.
    pub(super) fn is_limited(&self) -> bool {
        self.allowance != Allowance::default()
    }

    /// Bytes that it may still carry, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        let bytes = self.allowance.bytes?;
        Some(bytes.saturating_sub(self.carried))
    }

    /// When nothing more should be asked for on it: what is on its way then still comes.
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

    /// Whether its silence may be this side's own: it is looked at so much too late. That goes once.
    fn excuse(&mut self, late: Duration) -> bool {
        late > SLEPT && !std::mem::replace(&mut self.excused, true)
    }

    /// Something came.
    pub(super) fn heard(&mut self, now: Time) {
        self.last_in = now;
        self.excused = false;
    }

    /// A pong came: measures the round trip if it answers our last ping.
    pub(super) fn pong(&mut self, nonce: u64, now: Time) {
        if let Some((asked, at)) = self.ping
            && asked == nonce
        {
            self.ping = None;
            self.saw_round_trip(now.since(at));
        }
    }

    fn saw_round_trip(&mut self, took: Duration) {
        // An answer may queue behind bulk bytes, so the least of what was seen lately is nearest to the path's own.
        self.rtt = Some(match self.rtt {
            Some(rtt) if took > rtt => rtt + took.saturating_sub(rtt) / 32,
            _ => took,
        });
    }

    /// Counts a message that brings neither side forward; says whether the link may still send such ones.
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

    /// The link brought somebody forward: its budget is whole again.
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

    /// A keyed link that was heard at zero and has been asked since whether it lives.
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
