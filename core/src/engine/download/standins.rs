//! What a download does about who [stands in](super::deputy) for its sharer.

use super::super::context::Context;
use super::super::{Event, LinkId, PathKind, SinkKind, Violation};
use super::links::Fetching;
use super::{Download, Stage};
use crate::limits::Limits;
use crate::message::{Announced, Message};
use crate::time::Time;

impl Download {
    /// Whether somebody else may be asked for the manifest.
    fn needs_deputy(&self) -> bool {
        let missing = matches!(&self.stage, Stage::Offer(offer) if !offer.is_here());
        let knows_whose = self.order.source.peer.is_some();
        let may_ask = self.order.has_secret() && self.order.sink == SinkKind::Folder;
        missing && knows_whose && may_ask && !self.links.has_sharer() && !self.is_ending()
    }

    /// Since when the sharer is looked for, if somebody else may be asked.
    pub(super) fn sought(&self) -> Option<Time> {
        let search = self.finding.search.as_ref();
        search
            .filter(|_| self.needs_deputy())
            .map(|search| search.began())
    }

    /// Whether a link to a deputy is still of use.
    pub(super) fn wants_deputy(&self, path: PathKind) -> bool {
        self.order.may_use(path) && self.needs_deputy()
    }

    /// A link is gone, and what it brought of the manifest with it.
    pub(super) fn deputy_down(&mut self, cx: &Context, link: LinkId, lied: bool) {
        if self.deputy.down(link, lied, cx.now)
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
        if let (Some(link), Stage::Offer(offer)) = (self.deputy.link(), &mut self.stage)
            && let Some(offset) = offer.wants(link)
        {
            cx.send(link, Message::GetManifest { offset });
        }
    }

    /// The sharer is here, or what was asked for: nobody stands in any more. The sharer is looked for again once the offer
    /// is taken.
    pub(super) fn release_deputy(&mut self, cx: &mut Context) {
        let Some((peer, link)) = self.deputy.release() else {
            return;
        };
        let fetching = link.and_then(|link| self.links.remove(link));
        if let Some(link) = link {
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
                peer,
                path,
            });
        }
    }
}
