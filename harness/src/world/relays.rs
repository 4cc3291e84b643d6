//! Checks on the use of relays with a byte limit per circuit, which belong to third parties: the number of circuits of
//! a download through one relay, and the bytes that a host requests through one.

use handover_core::engine::{LinkId, Segment};
use handover_core::limits::{GROUP, Limits};
use handover_core::time::Time;
use handover_transports::memory::HostId;

use super::links::End;
use super::{Route, World};
use crate::ledger::promise;

/// One byte, in the unit of levels: the nanoseconds of an hour, so that rates per hour stay exact.
const BYTE: i128 = 3_600_000_000_000;

/// Bytes that a host may still request through one relay, in fractions of a byte, and the time of that value.
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

    /// Deducts requested bytes. Returns the remaining bytes, negative if too many were requested.
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
    /// True if the relay accepts no more circuits from this host.
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

    /// Checks the number of circuits when a download has one more link: those to one peer through one relay that states
    /// its limit are bounded.
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
        // A replacement circuit may coincide with those that were being opened when the last one was lost.
        let most = self.host(host).limits.circuits_per_relay + 1;
        promise!(
            Relays,
            circuits <= most,
            "{circuits} circuits of one download through one relay"
        );
    }

    /// Checks the bytes that a host requests through a relay that states its limit.
    pub(super) fn look_at_relays(&mut self, host: HostId, link: LinkId, segments: &[Segment]) {
        let Some(end) = self.ends.get(&link) else {
            return;
        };
        let (Some(relay), Some(_)) = (end.relay, end.allowance.bytes) else {
            return;
        };
        let bytes = segments.iter().map(|segment| u64::from(segment.len)).sum();
        let state = self.host_mut(host);
        // The time as the engine last saw it.
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
