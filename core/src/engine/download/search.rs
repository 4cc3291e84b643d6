//! Looking for the peer: which addresses are dialled when, and when to give up.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::context::Context;
use super::super::{DialId, DownloadId};
use crate::dial::split_by_transport;
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// QUIC is dialled this much later than TCP, unless TCP fails before: where both work TCP moves bytes faster.
const QUIC_AFTER: Duration = Duration::from_millis(250);
/// Pauses between attempts, doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(4);

/// Peers on the local network that one attempt asks, where a code does not say whom.
const NEARBY: usize = 16;

/// Why nobody was dialled.
const NOBODY_NEAR: &str = "nobody was found on the local network, and the code names no address";

/// Why a link was given up whose peer is alive.
pub(super) const NOTHING_CAME: &str = "it was connected, but sent nothing of what it was asked for";

/// A search, from the loss of the last link (or the start) until a link proves the key, and on from there if that link
/// is lost before it brought anything: so a peer that only ever hangs up is dialled ever more rarely, and then given up.
#[derive(Debug)]
pub(super) struct Search {
    tcp: Vec<Multiaddr>,
    quic: Vec<Multiaddr>,
    peer: Option<PeerId>,
    /// When it is given up.
    ends: Time,
    /// When something is due: the second half of an attempt, or the next attempt.
    due: Time,
    attempt: u32,
    quic_dialled: bool,
    dials: BTreeSet<DialId>,
    pause: Duration,
    last_failure: Option<String>,
    /// A link stands: what is left of the patience.
    resting: Option<Duration>,
}

/// How a search goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing new.
    Wait,
    /// Attempt so and so begins.
    Attempt(u32),
    /// Time is over.
    GiveUp(String),
}

impl Search {
    pub(super) fn new(
        addresses: &[Multiaddr],
        peer: Option<PeerId>,
        now: Time,
        patience: Duration,
    ) -> Self {
        let (tcp, quic) = split_by_transport(addresses);
        Self {
            tcp,
            quic,
            peer,
            ends: now + patience,
            due: now,
            attempt: 0,
            quic_dialled: false,
            dials: BTreeSet::new(),
            pause: FIRST_PAUSE,
            last_failure: None,
            resting: None,
        }
    }

    pub(super) fn deadline(&self) -> Time {
        if self.resting.is_some() {
            return Time::NEVER;
        }
        self.due.min(self.ends)
    }

    /// A link proved the key.
    pub(super) fn rest(&mut self, now: Time) {
        self.resting = Some(self.resting.unwrap_or(self.ends.since(now)));
    }

    /// That link was lost, and brought nothing.
    pub(super) fn resume(&mut self, now: Time) {
        if let Some(left) = self.resting.take() {
            self.ends = now + left;
            self.wait(now);
        }
    }

    /// A link stood for so long and nothing came of it: that was no better than looking.
    pub(super) fn charge(&mut self, time: Duration) {
        if let Some(left) = &mut self.resting {
            *left = left.saturating_sub(time);
            self.last_failure = Some(NOTHING_CAME.to_string());
        }
    }

    /// The next attempt comes after a pause.
    fn wait(&mut self, now: Time) {
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        self.quic_dialled = true;
    }

    /// Why the last dial failed.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.last_failure.clone()
    }

    /// A dial failed, or its link did before it proved the key.
    pub(super) fn failed(&mut self, dial: Option<DialId>, reason: String, now: Time) {
        if let Some(dial) = dial {
            self.dials.remove(&dial);
        }
        self.last_failure = Some(reason);
        if !self.dials.is_empty() || self.resting.is_some() {
            return;
        }
        if self.quic_dialled || self.quic.is_empty() {
            self.wait(now);
        } else {
            self.due = now;
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, cx: &mut Context, download: DownloadId) -> Step {
        if self.resting.is_some() {
            return Step::Wait;
        }
        if cx.now >= self.ends {
            let reason = self
                .last_failure
                .clone()
                .unwrap_or_else(|| "no answer".to_string());
            return Step::GiveUp(reason);
        }
        if cx.now < self.due {
            return Step::Wait;
        }
        self.due = Time::NEVER;
        let second_half = self.attempt > 0 && !self.quic_dialled;
        if second_half {
            self.dial(cx, download, self.quic.clone());
            self.quic_dialled = true;
            return Step::Wait;
        }
        self.attempt += 1;
        self.quic_dialled = self.tcp.is_empty() || self.quic.is_empty();
        if !self.tcp.is_empty() {
            self.dial(cx, download, self.tcp.clone());
        } else if !self.quic.is_empty() {
            self.dial(cx, download, self.quic.clone());
        }
        if !self.quic_dialled {
            self.due = cx.now + QUIC_AFTER;
        }
        let near: Vec<_> = cx.nearby.keys().copied().take(NEARBY).collect();
        for peer in near {
            self.nearby(cx, download, peer);
        }
        if self.dials.is_empty() {
            // Nobody to ask yet.
            self.last_failure = Some(NOBODY_NEAR.to_string());
            self.wait(cx.now);
        }
        Step::Attempt(self.attempt)
    }

    /// Somebody is on the local network: dialled, if it is the peer, or if nothing else says who that is.
    pub(super) fn nearby(&mut self, cx: &mut Context, download: DownloadId, peer: PeerId) {
        let anybody = self.peer.is_none() && self.tcp.is_empty() && self.quic.is_empty();
        if self.resting.is_some() || !(anybody || self.peer == Some(peer)) {
            return;
        }
        if let Some(addresses) = cx.nearby.get(&peer).cloned() {
            let dial = cx.dial(download, Some(peer), addresses);
            self.dials.insert(dial);
        }
    }

    fn dial(&mut self, cx: &mut Context, download: DownloadId, addresses: Vec<Multiaddr>) {
        let dial = cx.dial(download, self.peer, addresses);
        self.dials.insert(dial);
    }
}
