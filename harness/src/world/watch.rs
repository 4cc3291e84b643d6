//! Checks on hosts: their requests and buffers, their dials, whom they blame, and what they disclose.

use handover_core::PeerId;
use handover_core::engine::{DownloadId, Event, LinkId, Segment};
use handover_core::limits::{GROUP, LEAF};
use handover_transports::memory::HostId;

use super::links::End;
use super::{Place, World};
use crate::ledger::promise;

/// Maximum number of shares of one host in any scenario.
const SHARES: u64 = 3;

impl World {
    /// Number of a host's links to another one.
    pub(crate) fn links_between(&self, host: HostId, other: HostId) -> usize {
        let between = |end: &super::End| end.place == host && end.across == other && !end.closing;
        self.ends_that(between).len()
    }

    /// True if a host has neither shared nor fetched anything.
    pub(crate) fn is_idle(&self, host: HostId) -> bool {
        self.host(host).events.is_empty()
    }

    /// Checks that a file reported as done is present and complete.
    pub(super) fn look_at_file(&self, host: HostId, download: DownloadId, path: &str) {
        let Place::Host(state) = &self.places[host.0 as usize] else {
            return;
        };
        let stands = state.disk.holds(download, path);
        promise!(
            Kept,
            stands,
            "{path} is reported to be done, and is not there"
        );
    }

    /// Bytes received for a download beyond those needed, and the number of links it lost.
    pub(crate) fn fetched_again(
        &self,
        host: HostId,
        download: DownloadId,
        needed: u64,
    ) -> (u64, u64) {
        let session = self.host(host).sessions.get(&download).copied();
        let key = (host, session.unwrap_or_default());
        let came = self.fetched.get(&key).copied().unwrap_or_default();
        let losses = self.losses.get(&key).copied().unwrap_or_default();
        (came.saturating_sub(needed), losses)
    }

    /// Checks that the addresses of a dial and the number of dials stay within the limits.
    pub(super) fn look_at_dials(&mut self, id: HostId, addresses: usize) {
        let minutes = self.now().as_nanos() / 60_000_000_000;
        let came = self.received(id);
        let host = self.host_mut(id);
        let most = host.limits.addresses;
        promise!(
            Bounded,
            addresses <= most,
            "{addresses} addresses are dialled"
        );
        host.dials += 1;
        // An attempt takes several dials, and there is one immediately after a loss. A transfer may lose many links as
        // it goes on: a circuit that ends after less than a second still brings a leaf.
        let downloads = host.tags.len() as u64;
        let most = downloads * (200 + 60 * minutes) + came / u64::from(LEAF);
        promise!(
            Bounded,
            host.dials <= most,
            "{} dials for {downloads} downloads after {minutes} minutes",
            host.dials
        );
    }

    /// Checks that the data queued for writing stays within the limits.
    pub(super) fn look_at_buffers(&self, id: HostId, link: LinkId) {
        let limits = &self.host(id).limits;
        let wire = &self.ends[&link].wire;
        // At least one request, plus three parts of the manifest.
        let most = limits.send_buffer.max(u64::from(GROUP)) + 3 * u64::from(GROUP);
        promise!(
            Bounded,
            wire.bulk <= most,
            "{} bytes wait for link {link}",
            wire.bulk
        );
        let ends = self.ends.values().filter(|end| end.place == id);
        let (links, total) = ends.fold((0, 0), |(links, total), end| {
            (links + 1, total + end.wire.bulk)
        });
        // A link with nothing in progress has one request read, plus at most a few parts of the manifest.
        let most = SHARES * limits.send_buffer_total + links * 4 * u64::from(GROUP);
        promise!(Bounded, total <= most, "{total} bytes wait in all");
        let idle = usize::try_from(limits.idle_messages).unwrap_or(usize::MAX);
        let most = (idle + 8) * (limits.requests + 2);
        let waiting = wire.waiting();
        promise!(
            Bounded,
            waiting <= most,
            "{waiting} frames wait for link {link}"
        );
    }

    /// Checks a request: no byte range is requested twice at the same time over all links of a download, and each
    /// link's outstanding requests stay within the window plus two groups, because a stream is requested in whole
    /// groups.
    pub(super) fn ask(&mut self, host: HostId, link: LinkId, number: u64, segments: &[Segment]) {
        let session = self.greeted.get(&link);
        let same = |(other, end): &(&LinkId, &End)| {
            end.place == host && !end.closing && self.greeted.get(other) == session
        };
        let ends = self.ends.iter().filter(same);
        let outstanding = ends.flat_map(|(_, end)| end.asked.values().flatten());
        let overlap = |a: &Segment, b: &Segment| {
            let (a_end, b_end) = (a.offset + u64::from(a.len), b.offset + u64::from(b.len));
            a.entry == b.entry && a.offset < b_end && b.offset < a_end
        };
        for asked in outstanding {
            let twice = segments.iter().find(|segment| overlap(segment, asked));
            promise!(
                Once,
                twice.is_none(),
                "{twice:?} is asked for while {asked:?} is awaited"
            );
        }
        let own = self.ends[&link].asked.values().flatten();
        let bytes = own.chain(segments).map(|segment| u64::from(segment.len));
        let bytes: u64 = bytes.sum();
        let most = self.host(host).limits.window + 2 * u64::from(GROUP);
        promise!(
            Bounded,
            bytes <= most,
            "{bytes} bytes are asked for at once"
        );
        let end = self.open_end(link);
        end.asked.insert(number, segments.to_vec());
    }

    /// Checks that a blamed peer is not an honest host, except for one with bit rot.
    pub(super) fn judge_blame(&self, peer: PeerId, violation: &str) {
        let honest = self.places.iter().any(|place| match place {
            Place::Host(host) => host.identity.public().to_peer_id() == peer && !host.rotten,
            Place::Puppet(_) => false,
        });
        promise!(Honest, !honest, "an honest host is blamed: {violation}");
    }

    /// Checks that an event shown to a user contains no secret that was not meant for them.
    pub(super) fn look_for_secrets(&self, event: &Event) {
        let Some(text) = self.trace.last_words() else {
            return;
        };
        let told = self.secrets.iter().find(|secret| text.contains(*secret));
        promise!(Secrets, told.is_none(), "{event:?} tells a secret");
    }

    /// Checks that an unsealed frame contains no share's tag, which would name the share to outsiders.
    pub(super) fn look_for_tags(&self, bytes: &[u8]) {
        let holds = |tag: &[u8; 16]| bytes.windows(tag.len()).any(|part| part == tag);
        let told = self.models.keys().any(holds);
        promise!(Secrets, !told, "a share's tag goes over a link unsealed");
    }

    /// Checks that a peer is dropped after too many detectable lies.
    pub(super) fn look_for_lies(&self, id: HostId) {
        if self.liars == 0 {
            return;
        }
        let most = self.host(id).limits.bad_leaves;
        let ends = self.ends.values();
        for end in ends.filter(|end| end.place == id && end.lies > 0 && !end.closing) {
            promise!(
                Dropped,
                end.lies < most,
                "{} lies came from {:?}, and it is still connected",
                end.lies,
                end.across
            );
        }
    }
}
