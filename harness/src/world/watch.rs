//! What the world watches of its hosts: what they ask for and buffer, whom they dial and blame, what they tell.

use handover_core::PeerId;
use handover_core::engine::{DownloadId, Event, LinkId, Segment};
use handover_core::limits::{GROUP, LEAF};
use handover_transports::memory::HostId;

use super::links::End;
use super::{Place, World};
use crate::ledger::promise;

/// Shares that one host has in any scene, at the most.
const SHARES: u64 = 3;

impl World {
    /// Links of a host to somebody.
    pub(crate) fn links_between(&self, host: HostId, other: HostId) -> usize {
        let between = |end: &super::End| end.place == host && end.across == other && !end.closing;
        self.ends_that(between).len()
    }

    /// A host had nothing to end: it neither shares nor fetches.
    pub(crate) fn is_idle(&self, host: HostId) -> bool {
        self.host(host).events.is_empty()
    }

    /// A file is reported to be done: it stands there, whole.
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

    /// Content that came in for a download and was not needed, in bytes; and how many links it lost.
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

    /// Nobody is dialled at too many addresses, nor again and again without a pause.
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
        // An attempt is some dials; after a loss there is one at once, and a transfer may lose many links as it goes on:
        // a circuit that ends after less than a second brings a leaf.
        let downloads = host.tags.len() as u64;
        let most = downloads * (200 + 60 * minutes) + came / u64::from(LEAF);
        promise!(
            Bounded,
            host.dials <= most,
            "{} dials for {downloads} downloads after {minutes} minutes",
            host.dials
        );
    }

    /// What waits to be written stays inside the limits.
    pub(super) fn look_at_buffers(&self, id: HostId, link: LinkId) {
        let limits = &self.host(id).limits;
        let wire = &self.ends[&link].wire;
        // One request at least, and three parts of the manifest beside it.
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
        // A link with nothing under way has one request read, and a few parts of the manifest at the most.
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

    /// Watches a request: nothing is asked for twice at once, over all links of a download; nor more than the window
    /// and a group over it, for a stream goes by whole groups.
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

    /// Who is blamed is not honest, or has rotten files and does not know.
    pub(super) fn judge_blame(&self, peer: PeerId, violation: &str) {
        let honest = self.places.iter().any(|place| match place {
            Place::Host(host) => host.identity.public().to_peer_id() == peer && !host.rotten,
            Place::Puppet(_) => false,
        });
        promise!(Honest, !honest, "an honest host is blamed: {violation}");
    }

    /// What users are shown holds no secret that was not meant for them.
    pub(super) fn look_for_secrets(&self, event: &Event) {
        let Some(text) = self.trace.last_words() else {
            return;
        };
        let told = self.secrets.iter().find(|secret| text.contains(*secret));
        promise!(Secrets, told.is_none(), "{event:?} tells a secret");
    }

    /// What goes over a link unsealed names no share to who does not know its secret.
    pub(super) fn look_for_tags(&self, bytes: &[u8]) {
        let holds = |tag: &[u8; 16]| bytes.windows(tag.len()).any(|part| part == tag);
        let told = self.models.keys().any(holds);
        promise!(Secrets, !told, "a share's tag goes over a link unsealed");
    }

    /// Who sends lies that can be seen at once is dropped once there were enough.
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
