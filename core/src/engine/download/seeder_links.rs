//! How the [other sources](super::swarm) of a download are come by: who is looked up and dialled, and over which link each is
//! asked.

use std::time::Duration;

use super::super::context::{Context, LookUpOwner};
use super::super::{DownloadId, Event, FetchKey, LinkId, LookUpId, PathKind, Place};
use super::links::{FetchLinks, Fetching};
use super::order::Order;
use super::swarm::{AT_ONCE, Swarm};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// How often the DHT is asked for more sources, while there are few; and while what is missing is nowhere.
const LOOK_EVERY: Duration = Duration::from_mins(2);
const LOOK_IN_NEED: Duration = Duration::from_secs(10);

impl Swarm {
    /// Whether a link to a seeder over this path is better than what there is.
    pub(super) fn wants(&self, cx: &Context, peer: PeerId, path: PathKind) -> bool {
        let (links, _) = self.links(peer);
        let links = links.iter().filter_map(|link| cx.links.get(*link));
        let best = links.map(|link| link.path).min();
        self.is_seeder(peer) && best.is_none_or(|best| path < best)
    }

    /// Picks the link to a seeder that is to be used: the best path.
    pub(super) fn choose_link(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
        links: &FetchLinks,
        peer: PeerId,
    ) {
        let welcomed = self.links(peer).0.into_iter().filter(|link| {
            let fetching = links.get(*link);
            fetching.is_some_and(|fetching| fetching.manifest.is_some())
        });
        let best = welcomed
            .filter_map(|link| cx.links.get(link).map(|state| (state.path, link)))
            .min();
        if self.choose(peer, best.map(|(_, link)| link))
            && let Some((path, _)) = best
        {
            cx.event(Event::SourceJoined {
                download,
                peer,
                path,
            });
        }
    }

    /// Closes links to seeders that have a better one, once nothing is asked for on them any more.
    pub(super) fn release(&mut self, cx: &mut Context, links: &mut FetchLinks) {
        let used: Vec<_> = self.bests().collect();
        let idle = |(link, fetching): (LinkId, &Fetching)| {
            let peer = fetching.seeder?;
            let done = fetching.manifest.is_some() && fetching.flow.is_idle();
            (done && !used.contains(&link)).then_some((link, peer))
        };
        let released: Vec<_> = links.iter().filter_map(idle).collect();
        for (link, peer) in released {
            links.remove(link);
            self.link_down(peer, link, cx.now);
            cx.close(link);
        }
    }

    /// Nobody who is there has what is missing, or somebody has.
    pub(super) fn set_starved(&mut self, is_starved: bool, now: Time) {
        if is_starved {
            self.starved.get_or_insert(now);
        } else {
            self.starved = None;
        }
    }

    /// Whether nobody has had what is missing for so long.
    pub(super) fn is_starved(&self, patience: Duration, now: Time) -> bool {
        self.starved.is_some_and(|since| now >= since + patience)
    }

    /// When something is due. `looks`: the DHT is asked for more sources.
    pub(super) fn deadline(&self, patience: Duration, looks: bool, may_dial: bool) -> Time {
        let starved = self.starved.map_or(Time::NEVER, |since| since + patience);
        let look = if looks && self.lookup.is_none() {
            self.look_due
        } else {
            Time::NEVER
        };
        let dial = may_dial.then(|| self.dial_due());
        dial.unwrap_or(Time::NEVER).min(starved).min(look)
    }

    /// Looks for seeders, and dials those who are to be dialled.
    pub(super) fn tick(&mut self, cx: &mut Context, order: &Order, looks: bool) {
        let FetchKey::Secret(secret) = &order.source.key else {
            return;
        };
        if looks && self.lookup.is_none() && cx.now >= self.look_due {
            let in_need = self.starved.is_some();
            self.look_due = cx.now + if in_need { LOOK_IN_NEED } else { LOOK_EVERY };
            if self.sources() < AT_ONCE / 2 {
                let place = Place::Share(secret.meeting_point());
                self.lookup = Some(cx.look_up(LookUpOwner::Download(order.id), place));
            }
        }
        while let Some((peer, addresses)) = self.next_dial(cx.now, cx.rng()) {
            let dial = cx.dial(order.id, Some(peer), addresses);
            self.dials(dial, peer);
        }
    }

    /// A look-up has ended; whether it was for other sources.
    pub(super) fn looked_up(&mut self, lookup: LookUpId) -> bool {
        self.lookup.take_if(|own| *own == lookup).is_some()
    }

    /// Nobody is looked for any more.
    pub(super) fn end(&mut self, cx: &mut Context) {
        if let Some(lookup) = self.lookup.take() {
            cx.end_look_up(lookup);
        }
    }

    /// One more dial of a seeder, if there is none under way.
    pub(super) fn dial(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    ) {
        if !self.is_dialled(peer) {
            let dial = cx.dial(download, Some(peer), addresses);
            self.dials(dial, peer);
        }
    }
}
