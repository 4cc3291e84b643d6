//! The links of a download: those to the sharer, of which one is in use, and those to seeders.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::TransferId;
use super::super::context::Context;
use super::super::remember::{Remembering, Said};
use super::super::{LinkId, PathKind, Violation};
use super::circuit_limit::{is_exhausted, is_limited};
use super::requests::Flow;
use super::transfer::Transfer;
use super::window::Window;
use crate::PeerId;
use crate::limits::{GROUP, LEAF};
use crate::time::Time;

/// One keyed link of a download.
pub(super) struct Fetching {
    pub(super) path: PathKind,
    /// The relay through which it was dialled, if any.
    pub(super) relay: Option<PeerId>,
    /// Set if it is one of several circuits.
    pub(super) circuit: Option<Circuit>,
    /// The peer at the other end, if that is not the sharer.
    pub(super) seeder: Option<PeerId>,
    /// Size in bytes of the manifest announced on this link.
    pub(super) manifest: Option<u64>,
    /// Ranges requested on this link.
    pub(super) flow: Flow,
    /// How the sharer limits requests on this link.
    pub(super) pace: SharerPace,
    /// Since when all requests on this link are unanswered.
    pub(super) waiting: Option<Time>,
    /// Pairing messages exchanged on this link.
    pub(super) said: Said,
}

impl Fetching {
    pub(super) fn new(path: PathKind, relay: Option<PeerId>) -> Self {
        Self {
            path,
            relay,
            circuit: None,
            seeder: None,
            manifest: None,
            flow: Flow::default(),
            pace: SharerPace::default(),
            waiting: None,
            said: Said::default(),
        }
    }
}

/// Times measured for one circuit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circuit {
    pub(super) began: Time,
    /// When the first request was sent on it.
    pub(super) asked: Option<Time>,
}

/// The rate limits that the sharer sets on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SharerPace {
    /// Maximum number of bytes that one request should ask for.
    pub(super) piece: u32,
    /// True if it answers no requests for now.
    pub(super) paused: bool,
}

impl Default for SharerPace {
    fn default() -> Self {
        Self {
            piece: GROUP,
            paused: false,
        }
    }
}

/// All links of a download.
pub(in super::super) struct FetchLinks {
    all: BTreeMap<LinkId, Fetching>,
    /// The link to the sharer that is in use.
    pub(in super::super) best: Option<LinkId>,
    /// The path of the link in use, or of the last one.
    pub(super) last_path: PathKind,
    /// True if the sharer was paused when this was last checked on the link in use.
    sharer_paused: bool,
}

impl Default for FetchLinks {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            best: None,
            last_path: PathKind::Direct,
            sharer_paused: false,
        }
    }
}

impl FetchLinks {
    pub(super) fn get(&self, link: LinkId) -> Option<&Fetching> {
        self.all.get(&link)
    }

    pub(super) fn get_mut(&mut self, link: LinkId) -> Option<&mut Fetching> {
        self.all.get_mut(&link)
    }

    pub(super) fn insert(&mut self, link: LinkId, fetching: Fetching) {
        self.all.insert(link, fetching);
    }

    pub(super) fn remove(&mut self, link: LinkId) -> Option<Fetching> {
        self.all.remove(&link)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn ids(&self) -> Vec<LinkId> {
        self.all.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LinkId, &Fetching)> {
        self.all.iter().map(|(link, fetching)| (*link, fetching))
    }

    /// Removes all links and returns their IDs.
    pub(super) fn take_all(&mut self) -> Vec<LinkId> {
        self.best = None;
        std::mem::take(&mut self.all).into_keys().collect()
    }

    /// All links to the sharer.
    pub(super) fn to_sharer(&self) -> Vec<LinkId> {
        let own = self
            .iter()
            .filter(|(_, fetching)| fetching.seeder.is_none());
        own.map(|(link, _)| link).collect()
    }

    /// True if there is a link to the sharer.
    pub(super) fn has_sharer(&self) -> bool {
        self.all.values().any(|fetching| fetching.seeder.is_none())
    }

    /// True if a link leads to a peer other than the sharer.
    pub(super) fn is_to_seeder(&self, link: LinkId) -> bool {
        self.get(link)
            .is_some_and(|fetching| fetching.seeder.is_some())
    }

    /// Picks the link to use: the best path, then one that can carry more, then the one in use, then the shortest round
    /// trip. Returns the path if the transfer has moved to another link. Replacing one circuit by another is not
    /// reported.
    pub(super) fn choose(&mut self, cx: &Context, transfer: Option<&Transfer>) -> Option<PathKind> {
        let welcomed = self
            .iter()
            .filter(|(_, fetching)| fetching.manifest.is_some() && fetching.seeder.is_none());
        let best = welcomed
            .filter_map(|(id, _)| {
                let link = cx.links.get(id)?;
                let wear = (self.is_exhausted(cx, id, transfer), is_limited(cx, id));
                let rank = (link.path, wear);
                Some((rank, Some(id) != self.best, link.rtt, id))
            })
            .min()
            .map(|((path, _), _, _, id)| (id, path));
        let before = self.best;
        let relayed = |path| path == PathKind::Relayed;
        let same = relayed(self.last_path) && best.is_some_and(|(_, path)| relayed(path));
        self.best = best.map(|(id, _)| id);
        self.last_path = best.map_or(self.last_path, |(_, path)| path);
        match (before, best) {
            (Some(before), Some((id, path))) if before != id && !same => Some(path),
            _ => None,
        }
    }

    /// True if nothing more can be requested on a link, because its relay is about to end it.
    pub(super) fn is_exhausted(
        &self,
        cx: &Context,
        link: LinkId,
        transfer: Option<&Transfer>,
    ) -> bool {
        let both = self.get(link).zip(transfer);
        both.is_some_and(|(fetching, transfer)| is_exhausted(cx, link, &fetching.flow, transfer))
    }

    /// True if data comes from the sharer over circuits that their relays end.
    pub(super) fn uses_circuits(&self, cx: &Context) -> bool {
        let best = self.best.and_then(|best| cx.links.get(best));
        best.is_some_and(|best| best.path == PathKind::Relayed && best.is_limited())
    }

    /// Links to the sharer through relays.
    pub(super) fn circuits(&self) -> impl Iterator<Item = (LinkId, &Fetching)> {
        let own =
            |fetching: &Fetching| fetching.seeder.is_none() && fetching.path == PathKind::Relayed;
        self.iter().filter(move |(_, fetching)| own(fetching))
    }

    /// Circuits in use besides the best link.
    pub(super) fn other_circuits(&self, cx: &Context) -> Vec<LinkId> {
        if !self.uses_circuits(cx) {
            return Vec::new();
        }
        let used = |(link, fetching): &(LinkId, &Fetching)| {
            let other = Some(*link) != self.best && fetching.manifest.is_some();
            other && is_limited(cx, *link)
        };
        self.circuits().filter(used).map(|(link, _)| link).collect()
    }

    /// True if a link that is not the best is kept because more can be requested on it.
    fn keeps(&self, cx: &Context, link: LinkId, transfer: Option<&Transfer>) -> bool {
        let relayed = self.get(link).map(|link| link.path) == Some(PathKind::Relayed);
        let is_exhausted = || self.is_exhausted(cx, link, transfer);
        relayed && self.uses_circuits(cx) && is_limited(cx, link) && !is_exhausted()
    }

    /// Removes a link, and queues the ranges requested on it to be requested again.
    pub(super) fn give_back(&mut self, link: LinkId, transfer: Option<&mut Transfer>) {
        if let (Some(fetching), Some(transfer)) = (self.remove(link), transfer) {
            transfer.lost(fetching.flow);
        }
    }

    /// The peer a link leads to, if that is not the sharer.
    pub(super) fn seeder_of(&self, link: LinkId) -> Option<PeerId> {
        self.get(link).and_then(|fetching| fetching.seeder)
    }

    /// Links to the sharer that a better one has replaced and on which no request is open.
    pub(super) fn superseded(&self, cx: &Context, transfer: Option<&Transfer>) -> Vec<LinkId> {
        let idle = |(id, fetching): (LinkId, &Fetching)| {
            let own = Some(id) != self.best && fetching.seeder.is_none();
            let over = fetching.manifest.is_some() && fetching.flow.is_idle();
            (own && over && !self.keeps(cx, id, transfer)).then_some(id)
        };
        self.iter().filter_map(idle).collect()
    }

    /// Links to other sources that can't carry more and on which no request is open.
    pub(super) fn exhausted_seeders(
        &self,
        cx: &Context,
        transfer: Option<&Transfer>,
    ) -> Vec<LinkId> {
        let over = |(link, fetching): (LinkId, &Fetching)| {
            let idle = fetching.seeder.is_some() && fetching.flow.is_idle();
            let is_exhausted = || self.is_exhausted(cx, link, transfer);
            (idle && fetching.manifest.is_some() && is_exhausted()).then_some(link)
        };
        self.iter().filter_map(over).collect()
    }

    /// Bytes requested and not yet received, for each link.
    pub(super) fn ahead(&self) -> impl Iterator<Item = u64> {
        self.all.values().map(|fetching| fetching.flow.ahead())
    }

    /// Bytes requested and not yet received, plus those received and not yet on disk.
    pub(super) fn held(&self, transfer: Option<&Transfer>) -> u64 {
        transfer.map_or(0, |transfer| {
            let here = transfer.writes.cost();
            self.ahead().fold(here, u64::saturating_add)
        })
    }

    /// Bytes requested on all links but this one.
    pub(super) fn asked_of_others(&self, link: LinkId) -> u64 {
        let others = self.iter().filter(|(other, _)| *other != link);
        others
            .filter_map(|(_, fetching)| fetching.flow.window.as_ref())
            .map(Window::outstanding)
            .sum()
    }

    /// True if no request is open on any link.
    pub(super) fn are_idle(&self) -> bool {
        self.all.values().all(|fetching| fetching.flow.is_idle())
    }

    /// Maximum number of bytes that one request on this link asks for, without regard to its window.
    pub(super) fn piece(&self, cx: &Context, of: TransferId, link: LinkId) -> u32 {
        let sharer = self.get(link).map_or(GROUP, |link| link.pace.piece);
        let limit = cx.down.piece(of);
        let room = cx.memory.piece(cx.limits.window_total);
        sharer.min(limit).min(room)
    }

    /// Offers pairing to the sharer on a link that it has welcomed.
    pub(super) fn offer_to_remember(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        ours: &Remembering,
    ) -> Result<(), Violation> {
        if let Some(fetching) = self.get_mut(link) {
            fetching.said.ask()?;
            cx.send(link, ours.message());
        }
        Ok(())
    }

    /// Handles the sharer's offer of pairing. Returns the sharer, if the link still exists.
    pub(super) fn remembered(
        &mut self,
        cx: &Context,
        link: LinkId,
    ) -> Result<Option<PeerId>, Violation> {
        let Some(fetching) = self.get_mut(link) else {
            return Ok(None);
        };
        fetching.said.answer()?;
        Ok(cx.links.get(link).map(|link| link.peer))
    }

    /// Handles the sharer's rate limits for a link.
    pub(super) fn told_pace(&mut self, link: LinkId, piece: u32, paused: bool) {
        if let Some(fetching) = self.get_mut(link) {
            let piece = (piece / LEAF).max(1).saturating_mul(LEAF);
            fetching.pace = SharerPace { piece, paused };
        }
    }

    /// Returns whether the sharer is paused, if that has changed.
    pub(super) fn pause_changed(&mut self) -> Option<bool> {
        let paused = self.get(self.best?)?.pace.paused;
        (std::mem::replace(&mut self.sharer_paused, paused) != paused).then_some(paused)
    }

    /// Updates since when answers are owed on each link. `answered`: the link on which one has just arrived.
    pub(super) fn wait(
        &mut self,
        now: Time,
        answered: Option<LinkId>,
        is_owed: impl Fn(LinkId, &Fetching) -> bool,
    ) {
        for (link, fetching) in &mut self.all {
            let since = fetching.waiting.filter(|_| answered != Some(*link));
            let is_owed = is_owed(*link, fetching);
            fetching.waiting = is_owed.then(|| since.unwrap_or(now));
        }
    }

    /// The earliest time since which a link is waiting.
    pub(super) fn waits_since(&self) -> Option<Time> {
        self.all.values().filter_map(|link| link.waiting).min()
    }

    /// A link on which all requests have been unanswered for at least `after`.
    pub(super) fn stalled(&self, now: Time, after: Duration) -> Option<LinkId> {
        let over = |fetching: &Fetching| fetching.waiting.is_some_and(|since| now >= since + after);
        let mut all = self.iter();
        all.find(|(_, fetching)| over(fetching)).map(|(id, _)| id)
    }
}
