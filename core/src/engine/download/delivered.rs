//! Who brought how much of a download: told at its end, for those who keep a record of peers.

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

/// What came, by peer. Only who proved the download's key is in it, so the links bound it.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    by_peer: BTreeMap<PeerId, Delivery>,
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
    }
}
