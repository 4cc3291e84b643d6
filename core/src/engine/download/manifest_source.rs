//! Who stands in for a sharer that is not to be had: somebody who has what it shares, or parts of it, and with them the
//! manifest as the sharer has signed it.
//!
//! One after the other is asked, of those who were found or heard of, until the manifest is here. After that they are
//! sources like all others; see [`seeder_links`](super::seeder_links).

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::Context;
use super::super::{DialId, DownloadId, LinkId};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// How long the sharer alone is looked for.
const AFTER: Duration = Duration::from_secs(3);
/// How soon somebody is asked again who could not be had.
const AGAIN: Duration = Duration::from_secs(8);

/// How many are remembered who may be asked.
const MET: usize = 32;

/// The one who is asked, those who were, and those who may be.
#[derive(Debug, Default)]
pub(super) struct ManifestSource {
    asked: Option<Asked>,
    /// When others may be asked at the earliest.
    due: BTreeMap<PeerId, Time>,
    /// Who may serve, by what was heard before the offer was taken.
    met: BTreeMap<PeerId, Vec<Multiaddr>>,
}

/// Whom, and how far that is.
#[derive(Debug)]
struct Asked {
    peer: PeerId,
    /// The dial that is under way; then its link.
    dial: Option<DialId>,
    link: Option<LinkId>,
}

impl ManifestSource {
    /// Whether this dial is for one; for whom.
    pub(super) fn dialled(&self, dial: DialId) -> Option<PeerId> {
        let asked = self.asked.as_ref()?;
        (asked.dial == Some(dial)).then_some(asked.peer)
    }

    /// Whether a link to this peer is awaited, or stands.
    pub(super) fn is(&self, peer: PeerId) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.peer == peer)
    }

    /// Whether one is at the other end of this link.
    pub(super) fn has(&self, link: LinkId) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.link == Some(link))
    }

    /// Who has lied is not asked again.
    pub(super) fn has_lied(&self, peer: PeerId) -> bool {
        self.due.get(&peer) == Some(&Time::NEVER)
    }

    /// All who have.
    pub(super) fn liars(&self) -> impl Iterator<Item = PeerId> {
        let liars = self.due.iter().filter(|(_, due)| **due == Time::NEVER);
        liars.map(|(peer, _)| *peer)
    }

    /// Somebody may serve, at these addresses.
    pub(super) fn meet(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.met.len() < MET && !self.has_lied(peer) {
            self.met.insert(peer, addresses);
        }
    }

    /// All who may serve; nobody is remembered here any more.
    pub(super) fn take_met(&mut self) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        std::mem::take(&mut self.met)
    }

    /// Who may be asked, and when. `sought`: since when the sharer is looked for, if somebody else may be asked at all.
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

    /// When somebody may be asked.
    pub(super) fn deadline(&self, sharer: Option<PeerId>, sought: Option<Time>) -> Time {
        let due = self.next(sharer, sought).map(|(_, due)| due);
        due.min().unwrap_or(Time::NEVER)
    }

    /// Asks somebody, if that is due: of several, who has done well.
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

    /// A dial came to nothing; whether that was of one.
    pub(super) fn failed(&mut self, dial: DialId, now: Time) -> bool {
        self.end(|asked| asked.dial == Some(dial), now + AGAIN)
    }

    /// A link proved the key.
    pub(super) fn up(&mut self, link: LinkId) {
        if let Some(asked) = &mut self.asked {
            asked.dial = None;
            asked.link = Some(link);
        }
    }

    /// A link is gone; whether it was one to the manifest source. What it brought of the manifest goes with it then: others may be told
    /// another one.
    pub(super) fn down(&mut self, link: LinkId, lied: bool, now: Time) -> bool {
        let again = if lied { Time::NEVER } else { now + AGAIN };
        self.end(|asked| asked.link == Some(link), again)
    }

    /// Whether a manifest source is at the other end of this link, and others could be asked.
    pub(super) fn is_one_of_several(&self, link: LinkId) -> bool {
        self.has(link) && self.met.len() > 1
    }

    /// The link over which it is asked.
    pub(super) fn link(&self) -> Option<LinkId> {
        self.asked.as_ref().and_then(|asked| asked.link)
    }

    /// Nobody stands in any more: who did, and over which link.
    pub(super) fn release(&mut self) -> Option<(PeerId, Option<LinkId>)> {
        let asked = self.asked.take()?;
        Some((asked.peer, asked.link))
    }

    /// Nobody is asked any more, if it was this one; whether it was.
    fn end(&mut self, which: impl Fn(&Asked) -> bool, again: Time) -> bool {
        let over = self.asked.take_if(|asked| which(asked));
        let peer = over.map(|asked| asked.peer);
        self.due.extend(peer.map(|peer| (peer, again)));
        peer.is_some()
    }
}
