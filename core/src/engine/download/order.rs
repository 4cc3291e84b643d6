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

/// A user's command to fetch. What is learnt about its source is added: the sharer's peer ID and the share's secret.
pub(in super::super) struct Order {
    pub(super) id: DownloadId,
    pub(in super::super) source: FetchSource,
    /// True if the code names the sharer.
    named: bool,
    pub(super) sink: SinkKind,
    pub(super) options: FetchOptions,
    /// Tells the sharer which links belong to one download.
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

    /// Its ID for the rate limits and the memory budget.
    pub(super) fn transfer(&self) -> TransferId {
        TransferId::Download(self.id)
    }

    /// Greets the other side of a keyed link.
    pub(super) fn greet(&self, cx: &mut Context, link: LinkId) {
        let (session, name) = (self.nonce, self.options.name.clone());
        cx.send(link, Message::Hello { session, name });
    }

    /// Tells the other side of a link where this side can be dialled, unless this side hides its addresses.
    pub(super) fn tell_addresses(&self, cx: &mut Context, link: LinkId) {
        if !self.options.relayed_only {
            cx.tell_addresses(link, self.options.loopback);
        }
    }

    /// True if a link over this path may be used: only a relayed one if this side hides its addresses.
    pub(super) fn may_use(&self, path: PathKind) -> bool {
        path == PathKind::Relayed || !self.options.relayed_only
    }

    /// True if dialling this address does not show the other side an address that this side wants to hide.
    pub(super) fn hides_at(&self, address: &Multiaddr) -> bool {
        !self.options.relayed_only || dial::is_relayed(address)
    }

    /// Returns those of other peers' addresses that may be dialled.
    pub(super) fn vet(&self, addresses: &[Multiaddr], limits: &Limits) -> Vec<Multiaddr> {
        let mut vetted = dial::vet(addresses, self.options.loopback, limits).dial;
        vetted.retain(|address| self.hides_at(address));
        vetted
    }

    /// True if this side knows the share's secret, as all peers do that serve each other.
    pub(super) fn has_secret(&self) -> bool {
        matches!(self.source.key, FetchKey::Secret(_))
    }

    /// Handles the share's secret, which the sharer trusts this side with. It opens links from now on.
    pub(super) fn told_secret(&mut self, secret: &SecretBytes) -> Result<(), Violation> {
        let told = ShareSecret::from_bytes(secret.0);
        // Two links may have been opened with the code at the same time.
        if matches!(&self.source.key, FetchKey::Secret(known) if *known != told) {
            return Err(Violation::new("another secret than the share's"));
        }
        self.source.key = FetchKey::Secret(told);
        Ok(())
    }

    /// True if the DHT may be asked for other sources. The caller also checks that this side serves.
    pub(super) fn looks_for_others(&self) -> bool {
        self.options.dht && self.has_secret()
    }

    /// How long to look for a peer.
    pub(super) fn patience(&self, limits: &Limits) -> Duration {
        self.options.search.unwrap_or(limits.search)
    }

    /// True if a peer other than this one is known to be the sharer.
    pub(super) fn is_other(&self, peer: PeerId) -> bool {
        self.source.peer.is_some_and(|sharer| sharer != peer)
    }

    /// Records that the peer that answered is not the sharer. Unless the code names the sharer, it may be any other
    /// peer.
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
