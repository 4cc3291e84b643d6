//! What is watched of relays that end each circuit after some bytes, which belong to somebody who was not asked: how many
//! circuits a download has through one, and how much a host asks one to carry.

use handover_core::engine::{LinkId, Segment};
use handover_core::limits::{GROUP, Limits};
use handover_core::time::Time;
use handover_transports::memory::HostId;

use super::links::End;
use super::{Route, World};
use crate::ledger::promise;

/// A byte, as levels count it.
const BYTE: i128 = 3_600_000_000_000;

/// What a host may still ask one relay to carry, in parts of a byte, and when that was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Through {
    level: i128,
    at: Time,
}

impl Through {
    fn new(limits: &Limits, at: Time) -> Self {
        let level = i128::from(limits.relay_at_once) * BYTE;
        Self { level, at }
    }

    /// So many bytes are asked for. What is left, in bytes.
    fn asked(&mut self, bytes: u64, limits: &Limits, now: Time) -> i128 {
        let most = i128::from(limits.relay_at_once) * BYTE;
        let nanos = i128::try_from(now.since(self.at).as_nanos()).unwrap_or(i128::MAX);
        let came = nanos.saturating_mul(limits.relay_an_hour.into());
        self.level = self.level.saturating_add(came).min(most) - i128::from(bytes) * BYTE;
        self.at = now;
        self.level / BYTE
    }
}

impl World {
    /// A relay takes no more circuits of this host.
    pub(super) fn is_full_of(&self, host: HostId, route: &Route) -> bool {
        let Some(relay) = route.relay else {
            return false;
        };
        let Some(most) = self.reach.relays[relay].circuits else {
            return false;
        };
        let of_host = |(link, end): &(&LinkId, &End)| {
            end.place == host && end.relay == Some(relay) && link.0.is_multiple_of(2)
        };
        self.ends.iter().filter(of_host).count() >= most
    }

    /// A download has one more link: not too many of them lead to one peer through one relay that states its limit.
    pub(super) fn look_at_circuits(&self, host: HostId, link: LinkId) {
        let (Some(end), Some(session)) = (self.ends.get(&link), self.greeted.get(&link)) else {
            return;
        };
        if end.allowance.bytes.is_none() {
            return;
        }
        let alike = |(other, there): &(&LinkId, &End)| {
            let same = there.relay == end.relay && there.across == end.across;
            same && there.place == host
                && !there.closing
                && self.greeted.get(other) == Some(session)
        };
        let circuits = self.ends.iter().filter(alike).count();
        // One that is looked for again may come beside those that were being opened when the last was lost.
        let most = self.host(host).limits.circuits_per_relay + 1;
        promise!(
            Relays,
            circuits <= most,
            "{circuits} circuits of one download through one relay"
        );
    }

    /// A host asks for content through a relay that states its limit.
    pub(super) fn look_at_relays(&mut self, host: HostId, link: LinkId, segments: &[Segment]) {
        let Some(end) = self.ends.get(&link) else {
            return;
        };
        let (Some(relay), Some(_)) = (end.relay, end.allowance.bytes) else {
            return;
        };
        let bytes = segments.iter().map(|segment| u64::from(segment.len)).sum();
        let state = self.host_mut(host);
        // As late as the engine was told that it is.
        let now = state.paced.now();
        let limits = &state.limits;
        let through = state.through.entry(relay);
        let through = through.or_insert_with(|| Through::new(limits, now));
        let left = through.asked(bytes, limits, now);
        promise!(
            Relays,
            left >= -i128::from(GROUP),
            "{} bytes too many are asked for through relay {relay}",
            -left
        );
    }
}
