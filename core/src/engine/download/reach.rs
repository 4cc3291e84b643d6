//! How a download comes to its peer, beside the code's own addresses: who is near, whom the DHT knows, what the peer says
//! of itself over a relay, and connections that came up by themselves.

use serde_bytes::ByteBuf;

use super::super::context::Context;
use super::super::{Event, LinkId, LookUpId, PathKind};
use super::Download;
use crate::{Multiaddr, PeerId, dial};

impl Download {
    /// Whether this side may show itself at an address.
    pub(super) fn may_dial(&self, address: &Multiaddr) -> bool {
        !self.options.relayed_only || dial::is_relayed(address)
    }

    /// Somebody is on the local network who may be the peer.
    pub(in super::super) fn nearby(&mut self, cx: &mut Context, peer: PeerId) {
        if self.options.relayed_only {
            return;
        }
        if let Some(search) = &mut self.search {
            search.nearby(cx, self.id, peer);
        }
    }

    /// A look-up has found somebody. What it says of them is anybody's word.
    pub(in super::super) fn found(
        &mut self,
        cx: &mut Context,
        peer: PeerId,
        addresses: &[Multiaddr],
    ) {
        if self.is_ending() || peer == cx.peer {
            return;
        }
        let mut vetted = dial::vet(addresses, self.options.loopback, &cx.limits).dial;
        vetted.retain(|address| self.may_dial(address));
        if let Some(search) = &mut self.search {
            search.found(cx, self.id, peer, &vetted);
        }
    }

    /// A look-up has ended.
    pub(in super::super) fn looked_up(
        &mut self,
        cx: &mut Context,
        lookup: LookUpId,
        reached: bool,
    ) {
        let Some(search) = &mut self.search else {
            return;
        };
        if let Some(reached) = search.looked_up(lookup, reached, cx.now) {
            cx.event(Event::NotFound {
                download: self.id,
                reached,
            });
        }
        self.search_on(cx);
    }

    /// This side can be reached elsewhere now: peers behind relays are told.
    pub(in super::super) fn reachable(&mut self, cx: &mut Context) {
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.tell_addresses(cx, link);
        }
    }

    pub(super) fn tell_addresses(&self, cx: &mut Context, link: LinkId) {
        if !self.options.relayed_only {
            cx.tell_addresses(link, self.options.loopback);
        }
    }

    /// The sharer says over a relay where it can be dialled without one.
    pub(super) fn told_addresses(&mut self, cx: &mut Context, link: LinkId, told: &[ByteBuf]) {
        let wanted = self.wants_link(cx, PathKind::Direct);
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else {
            return;
        };
        if !wanted || self.upgrade.is_some() || self.options.relayed_only {
            return;
        }
        let addresses = cx.vet_told(told, self.options.loopback);
        if !addresses.is_empty() {
            self.upgrade = Some(cx.dial(self.id, Some(peer), addresses));
        }
    }

    /// A connection to the peer came up by itself: this side was called back, or a hole was punched. If that is better
    /// than what is in use, a link is opened over it.
    pub(in super::super) fn path(&mut self, cx: &mut Context, peer: PeerId, path: PathKind) {
        let ours = self.source.peer == Some(peer) && !self.links.is_empty();
        if ours && self.upgrade.is_none() && self.wants_link(cx, path) {
            self.upgrade = Some(cx.dial(self.id, Some(peer), Vec::new()));
        }
    }
}
