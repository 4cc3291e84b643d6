//! What each source of a download has brought: for whoever remembers how good they were.

use std::collections::BTreeMap;

use super::super::context::Context;
use super::super::{DownloadId, Event};
use crate::PeerId;
use crate::time::Time;

/// Sources that are counted at the most.
const MOST: usize = 256;

/// All sources so far.
#[derive(Default)]
pub(super) struct Tally {
    sources: BTreeMap<PeerId, Brought>,
}

struct Brought {
    bytes: u64,
    bad: u32,
    first: Time,
    last: Time,
}

impl Tally {
    /// A source has brought something.
    pub(super) fn brought(&mut self, peer: Option<PeerId>, bytes: u64, bad: u32, now: Time) {
        let Some(peer) = peer else {
            return;
        };
        if self.sources.len() >= MOST && !self.sources.contains_key(&peer) {
            return;
        }
        let source = self.sources.entry(peer).or_insert(Brought {
            bytes: 0,
            bad: 0,
            first: now,
            last: now,
        });
        source.bytes = source.bytes.saturating_add(bytes);
        source.bad = source.bad.saturating_add(bad);
        source.last = now;
    }

    /// Tells of all of them, once.
    pub(super) fn tell(&mut self, cx: &mut Context, download: DownloadId) {
        for (peer, source) in std::mem::take(&mut self.sources) {
            cx.event(Event::Delivered {
                download,
                peer,
                bytes: source.bytes,
                bad: source.bad,
                took: source.last.since(source.first),
            });
        }
    }
}
