//! Bytes delivered by each peer and each relay during one download. Reported at its end, for a record of peers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::Context;
use super::super::{DownloadId, Event};
use crate::PeerId;
use crate::time::Time;

/// Delivery of one peer.
#[derive(Debug)]
struct Delivery {
    bytes: u64,
    /// Number of pieces that did not match their root.
    bad: u32,
    /// From its first request that was answered to its last answer.
    began: Time,
    ended: Time,
}

/// Traffic of one relay.
#[derive(Debug, Default)]
struct Carriage {
    bytes: u64,
    /// Number of links through it that were lost with requests outstanding.
    cuts: u32,
}

/// Maximum number of relays counted per download.
const RELAYS: usize = 64;

/// Deliveries by peer and by relay. Contains only peers that proved the download's key, so the limit on links bounds
/// it.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    by_peer: BTreeMap<PeerId, Delivery>,
    by_relay: BTreeMap<PeerId, Carriage>,
}

impl Delivered {
    /// Counts the answer of a peer to a request made at `asked`.
    pub(super) fn add(&mut self, peer: PeerId, bytes: u64, bad: u32, asked: Time, now: Time) {
        let delivery = self.by_peer.entry(peer).or_insert(Delivery {
            bytes: 0,
            bad: 0,
            began: asked,
            ended: now,
        });
        delivery.bytes = delivery.bytes.saturating_add(bytes);
        delivery.bad = delivery.bad.saturating_add(bad);
        delivery.ended = now;
    }

    /// Counts valid bytes carried by a relay.
    pub(super) fn carried(&mut self, relay: PeerId, bytes: u64) {
        if let Some(carriage) = self.carriage(relay) {
            carriage.bytes = carriage.bytes.saturating_add(bytes);
        }
    }

    /// Counts the loss of a link through a relay while it was in use.
    pub(super) fn cut(&mut self, relay: PeerId) {
        if let Some(carriage) = self.carriage(relay) {
            carriage.cuts = carriage.cuts.saturating_add(1);
        }
    }

    fn carriage(&mut self, relay: PeerId) -> Option<&mut Carriage> {
        let counts = self.by_relay.len() < RELAYS || self.by_relay.contains_key(&relay);
        counts.then(|| self.by_relay.entry(relay).or_default())
    }

    /// Reports everything at the end of the download.
    pub(super) fn tell(&mut self, cx: &mut Context, download: DownloadId) {
        for (peer, delivery) in std::mem::take(&mut self.by_peer) {
            let took: Duration = delivery.ended.since(delivery.began);
            cx.event(Event::Delivered {
                download,
                peer,
                bytes: delivery.bytes,
                bad: delivery.bad,
                took,
            });
        }
        for (relay, carriage) in std::mem::take(&mut self.by_relay) {
            cx.event(Event::Carried {
                download,
                relay,
                bytes: carriage.bytes,
                cuts: carriage.cuts,
            });
        }
    }
}
