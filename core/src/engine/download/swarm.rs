//! The other sources of a download: who serves what it wants beside the sharer, what each of them has, and what is asked of
//! whom.
//!
//! It decides by what peers say they have; what they send is checked like everything else. How they are reached is in
//! [`seeder_links`](super::seeder_links).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

use super::super::bits::Bits;
use super::super::{DialId, LinkId, LookUpId, Segment, Violation};
use super::files::{Files, Size};
use super::parts::Parts;
use super::upgrade::Followed;
use crate::limits::GROUP;
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// Who is remembered at the most.
const KNOWN: usize = 64;
/// With whom links are kept or tried at once.
pub(super) const AT_ONCE: usize = 8;
/// The pause after a seeder could not be had, doubling with each time; and after how many it is forgotten.
const FIRST_PAUSE: Duration = Duration::from_secs(3);
const TRIES: u32 = 5;
/// How long a peer is not dialled that serves other files with the same secret. It dials too, and each dial brings it back
/// to mind: without a pause, two such peers would dial each other for ever.
const OTHER_FILES_PAUSE: Duration = Duration::from_mins(1);
/// Open parts that are looked at for the rarest of them: from so many places, so many each.
const DRAWS: usize = 16;
const EACH: usize = 4;

/// The other sources.
pub(super) struct Swarm {
    pub(super) parts: Arc<Parts>,
    /// Parts of which nothing was asked for; some that were may still be in.
    open: Bits,
    seeders: BTreeMap<PeerId, Seeder>,
    /// Who has lied, and is not dealt with again.
    banned: BTreeSet<PeerId>,
    /// Peers that serve other files with the same secret, and until when each is not dialled.
    paused: BTreeMap<PeerId, Time>,
    dials: BTreeMap<DialId, PeerId>,
    pub(super) lookup: Option<LookUpId>,
    pub(super) look_due: Time,
    /// Since when nobody who is there has what is missing.
    pub(super) starved: Option<Time>,
}

/// Somebody who serves what it has, or may.
struct Seeder {
    addresses: Vec<Multiaddr>,
    /// Keyed links to it, and the one in use.
    links: BTreeSet<LinkId>,
    best: Option<LinkId>,
    /// Parts that it has, by its own word.
    has: Bits,
    /// Pieces of it that did not match their root.
    bad: u32,
    tries: u32,
    followed: Followed,
    /// When it may be dialled.
    due: Time,
}

impl Swarm {
    /// Nobody yet. `wanted` are the entries that are.
    pub(super) fn new(parts: Arc<Parts>, wanted: impl Iterator<Item = u32>, now: Time) -> Self {
        let mut open = Bits::new(parts.total());
        for entry in wanted {
            open.insert_all(parts.of_entry(entry));
        }
        Self {
            parts,
            open,
            seeders: BTreeMap::new(),
            banned: BTreeSet::new(),
            paused: BTreeMap::new(),
            dials: BTreeMap::new(),
            lookup: None,
            look_due: now,
            starved: None,
        }
    }

    /// Somebody may serve: told, found or near.
    pub(super) fn meet(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Time) {
        self.paused.retain(|_, until| *until > now);
        if self.banned.contains(&peer) || self.paused.contains_key(&peer) {
            return;
        }
        if let Some(seeder) = self.seeders.get_mut(&peer) {
            if !addresses.is_empty() && seeder.addresses != addresses {
                seeder.addresses = addresses;
                seeder.due = seeder.due.min(now);
            }
            return;
        }
        if self.seeders.len() < KNOWN {
            let seeder = Seeder {
                addresses,
                links: BTreeSet::new(),
                best: None,
                has: Bits::new(self.parts.total()),
                bad: 0,
                tries: 0,
                followed: Followed::default(),
                due: now,
            };
            self.seeders.insert(peer, seeder);
        }
    }

    pub(super) fn is_seeder(&self, peer: PeerId) -> bool {
        self.seeders.contains_key(&peer)
    }

    /// Whether anybody is left who serves, or may.
    pub(super) fn is_empty(&self) -> bool {
        self.seeders.is_empty()
    }

    /// How many serve now.
    pub(super) fn sources(&self) -> usize {
        self.bests().count()
    }

    /// The links in use.
    pub(super) fn bests(&self) -> impl Iterator<Item = LinkId> {
        self.seeders.values().filter_map(|seeder| seeder.best)
    }

    /// Takes note of a dial.
    pub(super) fn dials(&mut self, dial: DialId, peer: PeerId) {
        self.dials.insert(dial, peer);
    }

    /// Whom a dial is for, if it is one of these.
    pub(super) fn dialled(&self, dial: DialId) -> Option<PeerId> {
        self.dials.get(&dial).copied()
    }

    /// Whether somebody is being dialled.
    pub(super) fn is_dialled(&self, peer: PeerId) -> bool {
        self.dials.values().any(|dialled| *dialled == peer)
    }

    /// Whether a connection to a seeder that came up by itself is to be followed.
    pub(super) fn follow(&mut self, peer: PeerId, now: Time) -> bool {
        let dialled = self.is_dialled(peer);
        let seeder = self.seeders.get_mut(&peer).filter(|_| !dialled);
        seeder.is_some_and(|seeder| seeder.followed.follow(now))
    }

    /// A dial came to nothing; whether it was one of these.
    pub(super) fn dial_over(&mut self, dial: DialId, now: Time) -> bool {
        let Some(peer) = self.dials.remove(&dial) else {
            return false;
        };
        self.missed(peer, now);
        true
    }

    /// Somebody could not be had: later, if there have not been too many tries.
    fn missed(&mut self, peer: PeerId, now: Time) {
        let Some(seeder) = self.seeders.get_mut(&peer) else {
            return;
        };
        if !seeder.links.is_empty() {
            return;
        }
        seeder.tries += 1;
        seeder.due = now + FIRST_PAUSE * (1 << seeder.tries.min(TRIES));
        if seeder.tries >= TRIES {
            self.seeders.remove(&peer);
        }
    }

    /// Whom to dial now, if there is room for one more.
    pub(super) fn next_dial(
        &self,
        now: Time,
        rng: &mut ChaCha20Rng,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        let busy = |(peer, seeder): &(&PeerId, &Seeder)| {
            !seeder.links.is_empty() || self.is_dialled(**peer)
        };
        if self.seeders.iter().filter(busy).count() >= AT_ONCE {
            return None;
        }
        let due = |item: &(&PeerId, &Seeder)| item.1.due <= now && !busy(item);
        let due: Vec<_> = self.seeders.iter().filter(due).collect();
        let at = usize::try_from(rng.next_u64())
            .unwrap_or(0)
            .checked_rem(due.len())?;
        let (peer, seeder) = due.get(at)?;
        Some((**peer, seeder.addresses.clone()))
    }

    /// When somebody may be dialled next.
    pub(super) fn dial_due(&self) -> Time {
        let waiting = self
            .seeders
            .iter()
            .filter(|(peer, seeder)| seeder.links.is_empty() && !self.is_dialled(**peer));
        let busy = self.seeders.len() - waiting.clone().count();
        let due = waiting.map(|(_, seeder)| seeder.due).min();
        due.filter(|_| busy < AT_ONCE).unwrap_or(Time::NEVER)
    }

    /// A link to a seeder proved the key.
    pub(super) fn link_up(&mut self, peer: PeerId, link: LinkId) {
        self.dials.retain(|_, dialled| *dialled != peer);
        if let Some(seeder) = self.seeders.get_mut(&peer) {
            seeder.links.insert(link);
            seeder.due = Time::NEVER;
        }
    }

    /// A link to a seeder is gone. Whether it was the last that served.
    pub(super) fn link_down(&mut self, peer: PeerId, link: LinkId, now: Time) -> bool {
        let Some(seeder) = self.seeders.get_mut(&peer) else {
            return false;
        };
        seeder.links.remove(&link);
        let served = seeder.best.take_if(|best| *best == link).is_some();
        if seeder.links.is_empty() {
            self.missed(peer, now);
        }
        served
    }

    /// The links of a seeder, and the one in use.
    pub(super) fn links(&self, peer: PeerId) -> (Vec<LinkId>, Option<LinkId>) {
        let seeder = self.seeders.get(&peer);
        seeder.map_or((Vec::new(), None), |seeder| {
            (seeder.links.iter().copied().collect(), seeder.best)
        })
    }

    /// A seeder is to be asked over this link from now on. Whether it was not asked at all before.
    pub(super) fn choose(&mut self, peer: PeerId, best: Option<LinkId>) -> bool {
        let Some(seeder) = self.seeders.get_mut(&peer) else {
            return false;
        };
        seeder.tries = 0;
        std::mem::replace(&mut seeder.best, best).is_none() && best.is_some()
    }

    /// A seeder has lied: it is forgotten, and not dealt with again. Its links.
    pub(super) fn ban(&mut self, peer: PeerId) -> BTreeSet<LinkId> {
        if self.banned.len() < KNOWN * 4 {
            self.banned.insert(peer);
        }
        self.forget(peer)
    }

    /// A seeder serves other files: it is forgotten, and not dialled for some time. Its links.
    pub(super) fn pause(&mut self, peer: PeerId, now: Time) -> BTreeSet<LinkId> {
        if self.paused.len() < KNOWN * 4 {
            self.paused.insert(peer, now + OTHER_FILES_PAUSE);
        }
        self.forget(peer)
    }

    fn forget(&mut self, peer: PeerId) -> BTreeSet<LinkId> {
        let seeder = self.seeders.remove(&peer);
        seeder.map(|seeder| seeder.links).unwrap_or_default()
    }

    /// Whether a peer has lied here.
    pub(super) fn is_banned(&self, peer: PeerId) -> bool {
        self.banned.contains(&peer)
    }

    /// Pieces of a seeder did not match their root; how many that makes.
    pub(super) fn add_bad(&mut self, peer: PeerId, pieces: u32) -> u32 {
        let seeder = self.seeders.get_mut(&peer);
        seeder.map_or(0, |seeder| {
            seeder.bad += pieces;
            seeder.bad
        })
    }

    /// A seeder says what it has.
    pub(super) fn told_parts(
        &mut self,
        peer: PeerId,
        ranges: &[(u64, u64)],
    ) -> Result<(), Violation> {
        let Some(seeder) = self.seeders.get_mut(&peer) else {
            return Ok(());
        };
        let total = self.parts.total() as u64;
        let mut free = 0;
        for (first, count) in ranges {
            let end = first.checked_add(*count).filter(|end| *end <= total);
            let (Some(end), true) = (end, *first >= free && *count > 0) else {
                return Err(Violation::new("parts that are not there, or out of order"));
            };
            free = end + 1;
            let at = |part: u64| usize::try_from(part).unwrap_or(usize::MAX);
            seeder.has.insert_all(at(*first)..at(end));
        }
        Ok(())
    }

    /// A seeder does not have these after all.
    pub(super) fn lacks(&mut self, peer: PeerId, segments: &[Segment]) {
        let Some(seeder) = self.seeders.get_mut(&peer) else {
            return;
        };
        for segment in segments {
            let group = segment.offset / u64::from(GROUP);
            if let Some(part) = self.parts.part(segment.entry, group) {
                seeder.has.remove(part);
            }
        }
    }

    /// What is asked next of a seeder, or of the sharer, who has everything.
    pub(super) fn next(
        &mut self,
        files: &mut Files,
        seeder: Option<PeerId>,
        size: Size,
        rng: &mut ChaCha20Rng,
    ) -> Option<Vec<Segment>> {
        files.leave_turn();
        for entry in files.take_reopened() {
            self.open.insert_all(self.parts.of_entry(entry));
        }
        let (parts, seeders) = (&self.parts, &self.seeders);
        let has = seeder.map(|peer| seeders.get(&peer).map(|seeder| &seeder.has));
        let has = match has {
            Some(None) => return None,
            Some(Some(has)) => Some(has),
            None => None,
        };
        let has_part = |entry, group| {
            let part = parts.part(entry, group);
            part.is_some_and(|part| has.is_none_or(|has| has.contains(part)))
        };
        if let Some(segment) = files.again_from(size, has_part) {
            return Some(vec![segment]);
        }
        let part = rarest(&mut self.open, has, parts, seeders, files, rng)?;
        let segments = files.take_part(parts.place(part)?, size, has_part);
        (!segments.is_empty()).then_some(segments)
    }
}

/// Of some open parts that a source has, drawn at random, one that the fewest have.
fn rarest(
    open: &mut Bits,
    has: Option<&Bits>,
    parts: &Parts,
    seeders: &BTreeMap<PeerId, Seeder>,
    files: &Files,
    rng: &mut ChaCha20Rng,
) -> Option<usize> {
    let total = parts.total() as u64;
    let mut best: Option<(usize, usize)> = None;
    for _ in 0..DRAWS {
        let mut at = usize::try_from(rng.next_u64().checked_rem(total)?).ok()?;
        for _ in 0..EACH {
            // Behind the last one it goes on with the first.
            let next = next_open(open, has, parts, files, at);
            let next = next.or_else(|| next_open(open, has, parts, files, 0));
            // Nothing at all: another draw finds nothing either.
            let part = next?;
            let serves = |seeder: &&Seeder| seeder.best.is_some() && seeder.has.contains(part);
            let rank = seeders.values().filter(serves).count();
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, part));
            }
            at = part + 1;
        }
        if matches!(best, Some((0, _))) {
            break;
        }
    }
    best.map(|(_, part)| part)
}

fn next_open(
    open: &mut Bits,
    has: Option<&Bits>,
    parts: &Parts,
    files: &Files,
    from: usize,
) -> Option<usize> {
    loop {
        let part = match has {
            Some(has) => open.next_in_both(has, from)?,
            None => open.next(from)?,
        };
        let place = parts.place(part);
        if place.is_some_and(|(entry, group)| files.is_open(entry, group)) {
            return Some(part);
        }
        open.remove(part);
    }
}
