//! Who brought how much of a download, and which relays carried it: told at its end, for those who keep a record of peers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::context::Context;
use super::super::{DownloadId, Event};
use crate::PeerId;
use crate::time::Time;

/// What one peer brought.
#[derive(Debug)]
struct Delivery {
    bytes: u64,
    /// Pieces that did not match their root.
    bad: u32,
    /// From its first question to its last answer.
    began: Time,
    ended: Time,
}

/// What one relay carried.
#[derive(Debug, Default)]
struct Carriage {
    bytes: u64,
    /// Links through it that were lost while something was asked for on them.
    cuts: u32,
}

/// Relays of one download that are counted.
const RELAYS: usize = 64;

/// What came, by peer. Only who proved the download's key is in it, so the links bound it.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    by_peer: BTreeMap<PeerId, Delivery>,
    by_relay: BTreeMap<PeerId, Carriage>,
}

impl Delivered {
    /// A peer has answered what it was asked at `asked`.
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

    /// A relay has carried so many good bytes.
    pub(super) fn carried(&mut self, relay: PeerId, bytes: u64) {
        if let Some(carriage) = self.carriage(relay) {
            carriage.bytes = carriage.bytes.saturating_add(bytes);
        }
    }

    /// A link through a relay was lost that was in use.
    pub(super) fn cut(&mut self, relay: PeerId) {
        if let Some(carriage) = self.carriage(relay) {
            carriage.cuts = carriage.cuts.saturating_add(1);
        }
    }

    fn carriage(&mut self, relay: PeerId) -> Option<&mut Carriage> {
        let counts = self.by_relay.len() < RELAYS || self.by_relay.contains_key(&relay);
        counts.then(|| self.by_relay.entry(relay).or_default())
    }

    /// The download has ended.
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
