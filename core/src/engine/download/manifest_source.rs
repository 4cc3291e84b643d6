//! The manifest source: a seeder that supplies the manifest, as the sharer signed it, while the sharer is unreachable.
//! It has all or parts of what the sharer shares.
//!
//! Peers that were found or heard of are asked one at a time, until the manifest is here. After that they are sources
//! like all others; see [`seeder_links`](super::seeder_links).

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::Context;
use super::super::{DialId, DownloadId, LinkId};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// Time during which only the sharer is looked for.
const AFTER: Duration = Duration::from_secs(3);
/// Pause before a peer that could not be reached, or whose link was lost, is asked again.
const AGAIN: Duration = Duration::from_secs(8);

/// Maximum number of possible seeders remembered.
const MET: usize = 32;

/// The peer being asked, those asked before, and those that may be asked.
#[derive(Debug, Default)]
pub(super) struct ManifestSource {
    asked: Option<Asked>,
    /// When each peer may be asked again. Never, if it has lied.
    due: BTreeMap<PeerId, Time>,
    /// Possible seeders heard of before the offer is accepted, with their addresses.
    met: BTreeMap<PeerId, Vec<Multiaddr>>,
}

/// The peer being asked, and how far that is.
#[derive(Debug)]
struct Asked {
    peer: PeerId,
    /// The dial under way; after that its link.
    dial: Option<DialId>,
    link: Option<LinkId>,
}

impl ManifestSource {
    /// The peer that this dial is for, if it is to a manifest source.
    pub(super) fn dialled(&self, dial: DialId) -> Option<PeerId> {
        let asked = self.asked.as_ref()?;
        (asked.dial == Some(dial)).then_some(asked.peer)
    }

    /// True if this peer is the manifest source, even while it is being dialled.
    pub(super) fn is(&self, peer: PeerId) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.peer == peer)
    }

    /// True if this link leads to the manifest source.
    pub(super) fn has(&self, link: LinkId) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.link == Some(link))
    }

    /// True if this peer has lied: it is not asked again.
    pub(super) fn has_lied(&self, peer: PeerId) -> bool {
        self.due.get(&peer) == Some(&Time::NEVER)
    }

    /// All peers that have lied.
    pub(super) fn liars(&self) -> impl Iterator<Item = PeerId> {
        let liars = self.due.iter().filter(|(_, due)| **due == Time::NEVER);
        liars.map(|(peer, _)| *peer)
    }

    /// Remembers a possible seeder and its addresses.
    pub(super) fn meet(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.met.len() < MET && !self.has_lied(peer) {
            self.met.insert(peer, addresses);
        }
    }

    /// Takes all possible seeders; none is remembered here afterwards.
    pub(super) fn take_met(&mut self) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        std::mem::take(&mut self.met)
    }

    /// The peers that may be asked, and when. `sought`: since when the sharer is looked for, or `None` if no other peer
    /// may be asked.
    fn next(
        &self,
        sharer: Option<PeerId>,
        sought: Option<Time>,
    ) -> impl Iterator<Item = (PeerId, Time)> {
        let begins = sought.filter(|_| self.asked.is_none());
        let begins = begins.map(|sought| sought + AFTER);
        let others = self.met.keys().filter(move |peer| sharer != Some(**peer));
        others.filter_map(move |peer| {
            let due = self.due.get(peer).copied().unwrap_or_default();
            Some((*peer, due.max(begins?)))
        })
    }

    /// When the next peer may be asked.
    pub(super) fn deadline(&self, sharer: Option<PeerId>, sought: Option<Time>) -> Time {
        let due = self.next(sharer, sought).map(|(_, due)| due);
        due.min().unwrap_or(Time::NEVER)
    }

    /// Asks a peer, if that is due: the one with the best reputation.
    pub(super) fn tick(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
        sharer: Option<PeerId>,
        sought: Option<Time>,
    ) {
        let due = self.next(sharer, sought).filter(|(_, due)| *due <= cx.now);
        let mut due: Vec<_> = due.map(|(peer, _)| peer).collect();
        cx.reputations.sort(&mut due, |peer| *peer);
        let Some(peer) = due.first().copied() else {
            return;
        };
        let addresses = self.met.get(&peer).cloned().unwrap_or_default();
        let dial = cx.dial(download, Some(peer), addresses);
        self.asked = Some(Asked {
            peer,
            dial: Some(dial),
            link: None,
        });
    }

    /// Handles a failed dial. Returns true if it was to the manifest source.
    pub(super) fn failed(&mut self, dial: DialId, now: Time) -> bool {
        self.end(|asked| asked.dial == Some(dial), now + AGAIN)
    }

    /// Handles a keyed link.
    pub(super) fn up(&mut self, link: LinkId) {
        if let Some(asked) = &mut self.asked {
            asked.dial = None;
            asked.link = Some(link);
        }
    }

    /// Handles a lost link. Returns true if it led to the manifest source. The caller then discards the parts of the
    /// manifest that it sent, as other peers may announce another manifest.
    pub(super) fn down(&mut self, link: LinkId, lied: bool, now: Time) -> bool {
        let again = if lied { Time::NEVER } else { now + AGAIN };
        self.end(|asked| asked.link == Some(link), again)
    }

    /// True if this link leads to the manifest source and other peers could be asked.
    pub(super) fn is_one_of_several(&self, link: LinkId) -> bool {
        self.has(link) && self.met.len() > 1
    }

    /// The link to the manifest source.
    pub(super) fn link(&self) -> Option<LinkId> {
        self.asked.as_ref().and_then(|asked| asked.link)
    }

    /// Ends the use of a manifest source. Returns its peer and its link.
    pub(super) fn release(&mut self) -> Option<(PeerId, Option<LinkId>)> {
        let asked = self.asked.take()?;
        Some((asked.peer, asked.link))
    }

    /// Stops asking the peer if `which` is true of it. Returns true if so.
    fn end(&mut self, which: impl Fn(&Asked) -> bool, again: Time) -> bool {
        let over = self.asked.take_if(|asked| which(asked));
        let peer = over.map(|asked| asked.peer);
        self.due.extend(peer.map(|peer| (peer, again)));
        peer.is_some()
    }
}
