//! What a download was asked to fetch, and how.

use std::time::Duration;

use super::super::TransferId;
use super::super::context::Context;
use super::super::{
    DownloadId, FetchKey, FetchOptions, FetchSource, LinkId, PathKind, SinkKind, Violation,
};
use crate::dial;
use crate::limits::Limits;
use crate::message::{MAX_TEXT, Message, SecretBytes};
use crate::secret::ShareSecret;
use crate::{Multiaddr, PeerId};

/// A user's order. What is learnt of its source on the way is added: who the sharer is, and its secret.
pub(in super::super) struct Order {
    pub(super) id: DownloadId,
    pub(in super::super) source: FetchSource,
    /// The code names the sharer.
    named: bool,
    pub(super) sink: SinkKind,
    pub(super) options: FetchOptions,
    /// Tells the sharer which links are one download's.
    nonce: u64,
}

impl Order {
    pub(super) fn new(
        id: DownloadId,
        source: FetchSource,
        sink: SinkKind,
        mut options: FetchOptions,
        nonce: u64,
    ) -> Self {
        truncate(&mut options.name, MAX_TEXT);
        Self {
            id,
            named: source.peer.is_some(),
            source,
            sink,
            options,
            nonce,
        }
    }

    /// As what the limits and the memory of all know it.
    pub(super) fn transfer(&self) -> TransferId {
        TransferId::Download(self.id)
    }

    /// Greets the other side of a link that has keys.
    pub(super) fn greet(&self, cx: &mut Context, link: LinkId) {
        let (session, name) = (self.nonce, self.options.name.clone());
        cx.send(link, Message::Hello { session, name });
    }

    /// Tells the other side of a link where this one can be dialled, unless this side hides.
    pub(super) fn tell_addresses(&self, cx: &mut Context, link: LinkId) {
        if !self.options.relayed_only {
            cx.tell_addresses(link, self.options.loopback);
        }
    }

    /// Whether a link over this path may be used: whoever hides only goes through relays.
    pub(super) fn may_use(&self, path: PathKind) -> bool {
        path == PathKind::Relayed || !self.options.relayed_only
    }

    /// Whether the other side does not see where this one is, if that hides, when an address is dialled.
    pub(super) fn hides_at(&self, address: &Multiaddr) -> bool {
        !self.options.relayed_only || dial::is_relayed(address)
    }

    /// Addresses of others as far as they may be dialled.
    pub(super) fn vet(&self, addresses: &[Multiaddr], limits: &Limits) -> Vec<Multiaddr> {
        let mut vetted = dial::vet(addresses, self.options.loopback, limits).dial;
        vetted.retain(|address| self.hides_at(address));
        vetted
    }

    /// Whether this side knows the share's secret, which all do who serve each other.
    pub(super) fn has_secret(&self) -> bool {
        matches!(self.source.key, FetchKey::Secret(_))
    }

    /// The sharer trusts this side with the share's secret: from now on that opens links.
    pub(super) fn told_secret(&mut self, secret: &SecretBytes) -> Result<(), Violation> {
        let told = ShareSecret::from_bytes(secret.0);
        // Two links may have been opened with the code at once.
        if matches!(&self.source.key, FetchKey::Secret(known) if *known != told) {
            return Err(Violation::new("another secret than the share's"));
        }
        self.source.key = FetchKey::Secret(told);
        Ok(())
    }

    /// Whether the DHT is asked for other sources: only by who gives.
    pub(super) fn looks_for_others(&self) -> bool {
        self.options.dht && self.has_secret()
    }

    /// How long anybody is looked for.
    pub(super) fn patience(&self, limits: &Limits) -> Duration {
        self.options.search.unwrap_or(limits.search)
    }

    /// Whether it is known that somebody else than this peer is the sharer.
    pub(super) fn is_other(&self, peer: PeerId) -> bool {
        self.source.peer.is_some_and(|sharer| sharer != peer)
    }

    /// Who answered is not the sharer. If nobody had named that, it may be anybody else.
    pub(super) fn was_not_sharer(&mut self) {
        if !self.named {
            self.source.peer = None;
        }
    }
}

fn truncate(text: &mut String, most: usize) {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}
