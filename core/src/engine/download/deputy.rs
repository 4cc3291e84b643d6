//! Who stands in for a sharer that is not to be had: somebody who has what it shares, or parts of it, and with them the
//! manifest as the sharer has signed it.
//!
//! One after the other is asked, of those who were found or heard of, until the manifest is here. After that they are
//! sources like all others; see [`mates`](super::mates).

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::Context;
use super::super::{DialId, Event, LinkId, PathKind, SinkKind, Violation};
use super::links::Fetching;
use super::{Download, Stage};
use crate::PeerId;
use crate::limits::Limits;
use crate::message::{Announced, Message};
use crate::time::Time;

/// How long the sharer alone is looked for.
const AFTER: Duration = Duration::from_secs(3);
/// How soon somebody is asked again who could not be had.
const AGAIN: Duration = Duration::from_secs(8);

/// The one who is asked, and those who were.
#[derive(Debug, Default)]
pub(super) struct Deputy {
    asked: Option<Asked>,
    /// When others may be asked at the earliest.
    due: BTreeMap<PeerId, Time>,
}

/// Whom, and how far that is.
#[derive(Debug)]
struct Asked {
    peer: PeerId,
    /// The dial that is under way; then its link.
    dial: Option<DialId>,
    link: Option<LinkId>,
}

impl Deputy {
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
    fn has(&self, link: LinkId) -> bool {
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

    /// Nobody is asked any more, if it was this one; whether it was.
    fn end(&mut self, which: impl Fn(&Asked) -> bool, again: Time) -> bool {
        let over = self.asked.take_if(|asked| which(asked));
        let peer = over.map(|asked| asked.peer);
        self.due.extend(peer.map(|peer| (peer, again)));
        peer.is_some()
    }
}

impl Download {
    /// Whether somebody else may be asked for the manifest.
    fn needs_deputy(&self) -> bool {
        let missing = matches!(&self.stage, Stage::Offer(offer) if !offer.is_here());
        let knows_whose = self.order.source.peer.is_some();
        let may_ask = self.order.has_secret() && self.order.sink == SinkKind::Folder;
        missing && knows_whose && may_ask && !self.links.has_sharer() && !self.is_ending()
    }

    /// Who may be asked, and when.
    fn deputies(&self) -> impl Iterator<Item = (PeerId, Time)> {
        let free = self.needs_deputy() && self.deputy.asked.is_none();
        let search = self.finding.search.as_ref().filter(|_| free);
        let begins = search.map(|search| search.began() + AFTER);
        let others = self
            .met
            .keys()
            .filter(|peer| self.order.source.peer != Some(**peer));
        others.filter_map(move |peer| {
            let due = self.deputy.due.get(peer).copied().unwrap_or_default();
            Some((*peer, due.max(begins?)))
        })
    }

    /// When somebody may be asked.
    pub(super) fn deputy_due(&self) -> Time {
        let due = self.deputies().map(|(_, due)| due);
        due.min().unwrap_or(Time::NEVER)
    }

    /// Asks somebody, if that is due: of several, who has done well.
    pub(super) fn seek_deputy(&mut self, cx: &mut Context) {
        let due = self.deputies().filter(|(_, due)| *due <= cx.now);
        let mut due: Vec<_> = due.map(|(peer, _)| peer).collect();
        cx.standings.sort(&mut due, |peer| *peer);
        let Some(peer) = due.first().copied() else {
            return;
        };
        let addresses = self.met.get(&peer).cloned().unwrap_or_default();
        let dial = cx.dial(self.order.id, Some(peer), addresses);
        self.deputy.asked = Some(Asked {
            peer,
            dial: Some(dial),
            link: None,
        });
    }

    /// Whether a link to a deputy is still of use.
    pub(super) fn wants_deputy(&self, path: PathKind) -> bool {
        let may = path == PathKind::Relayed || !self.order.options.relayed_only;
        may && self.needs_deputy()
    }

    /// A dial came to nothing; whether that was of one.
    pub(super) fn deputy_failed(&mut self, cx: &Context, dial: DialId) -> bool {
        let again = cx.now + AGAIN;
        self.deputy.end(|asked| asked.dial == Some(dial), again)
    }

    /// A link proved the key.
    pub(super) fn deputy_up(&mut self, link: LinkId) {
        if let Some(asked) = &mut self.deputy.asked {
            asked.dial = None;
            asked.link = Some(link);
        }
    }

    /// Whether a deputy is at the other end of this link, and others could be asked.
    pub(super) fn is_deputy_of_several(&self, link: LinkId) -> bool {
        self.deputy.has(link) && self.met.len() > 1
    }

    /// A link is gone, and what it brought of the manifest with it: others may be told another one.
    pub(super) fn deputy_down(&mut self, cx: &Context, link: LinkId, lied: bool) {
        let again = if lied { Time::NEVER } else { cx.now + AGAIN };
        let own = |asked: &Asked| asked.link == Some(link);
        if self.deputy.end(own, again)
            && let Stage::Offer(offer) = &mut self.stage
        {
            offer.begin_anew();
        }
    }

    /// A deputy says which manifest it has. Whether it is of use.
    pub(super) fn deputy_welcomes(
        &mut self,
        limits: &Limits,
        link: LinkId,
        manifest: Announced,
    ) -> Result<bool, Violation> {
        let needed = self.needs_deputy();
        let own = self.deputy.has(link);
        let fetching = self.links.get_mut(link).filter(|_| own && needed);
        let (Stage::Offer(offer), Some(fetching)) = (&mut self.stage, fetching) else {
            return Ok(false);
        };
        fetching.manifest = Some(manifest.len);
        offer.begin_anew();
        offer.announced(manifest, limits)?;
        Ok(true)
    }

    /// Asks a deputy for the next part of the manifest.
    pub(super) fn ask_deputy(&mut self, cx: &mut Context) {
        let link = self.deputy.asked.as_ref().and_then(|asked| asked.link);
        if let (Some(link), Stage::Offer(offer)) = (link, &mut self.stage)
            && let Some(offset) = offer.wants(link)
        {
            cx.send(link, Message::GetManifest { offset });
        }
    }

    /// The sharer is here, or what was asked for: nobody stands in any more. The sharer is looked for again once the offer
    /// is taken.
    pub(super) fn release_deputy(&mut self, cx: &mut Context) {
        let Some(asked) = self.deputy.asked.take() else {
            return;
        };
        let fetching = asked.link.and_then(|link| self.links.remove(link));
        if let Some(link) = asked.link {
            cx.close(link);
        }
        let Stage::Offer(offer) = &mut self.stage else {
            return;
        };
        if !offer.is_here() {
            return offer.begin_anew();
        }
        self.finding.end(cx);
        self.seek_due = Some(cx.now);
        if let Some(Fetching { path, .. }) = fetching {
            cx.event(Event::Deputy {
                download: self.order.id,
                peer: asked.peer,
                path,
            });
        }
    }
}
